"""The main job, as `make demo` runs it: count words, and survive a murder.

A text of two million words is counted on this machine's processes; then a sum of floats, which
depends on its order to the last bit, is taken inline, on workers, and on workers of which one
kills itself in the middle. No ``if __name__ == "__main__"`` is needed anywhere.
"""

import collections
import os
import random
import signal
import struct
import tempfile
import time
from pathlib import Path

import lambdamr

WORDS = 2_000_000
FOLDER = Path("build")  # of the repository, which `make demo` runs in
FOLDER.mkdir(exist_ok=True)


def write_text(size: int) -> list[str]:
    """Lines of a text whose words follow Zipf's law, the same each time."""
    dice = random.Random(2021)
    words = [f"word{rank}" for rank in range(1, 5_000)]
    weights = [1 / rank for rank in range(1, 5_000)]
    drawn = dice.choices(words, weights, k=size)
    return [" ".join(drawn[i : i + 10]) for i in range(0, size, 10)]


def count_words(lines: list[str]) -> collections.Counter[str]:
    return collections.Counter(word for line in lines for word in line.split())


def merge_counts(a: collections.Counter[str], b: collections.Counter[str]) -> object:
    a.update(b)  # a reducer may change and return its first argument
    return a


lines = write_text(WORDS)
with lambdamr.LocalExecutor() as executor:
    print(f"counting {WORDS:,} words on {executor}")
    told = lambdamr.estimate(count_words, merge_counts, lines, executor=executor)
    report = lambdamr.Report(FOLDER / "demo.html", FOLDER / "demo.json")
    start = time.perf_counter()
    counts = lambdamr.map_reduce(
        count_words, merge_counts, lines, executor=executor, observers=[report]
    )
    seconds = time.perf_counter() - start
    print(
        f"  estimated from {told.sampled} of {told.npartitions} partitions: {told.seconds:.2f} s "
        f"± {100 * told.error:.0f} %; it took {seconds:.2f} s"
    )
    print(f"  {WORDS / seconds / 1e6:.1f} million words/s; most frequent: {counts.most_common(3)}")
    assert counts == count_words(lines)

    numbers = [random.Random(i).uniform(-1, 1) * 10 ** (i % 30) for i in range(100_000)]
    marker = Path(tempfile.mkdtemp(prefix="demo-")) / "murdered"

    def add_up(part: list[float]) -> float:
        return sum(part)

    def add_up_once_from_the_grave(part: list[float]) -> float:
        if part[0] == numbers[50_000] and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return sum(part)

    def plus(a: float, b: float) -> float:
        return a + b

    print("adding floats, whose sum depends on the order:")
    sums = {
        "inline": lambdamr.map_reduce(add_up, plus, numbers, executor="inline"),
        "on workers": lambdamr.map_reduce(add_up, plus, numbers, executor=executor),
        "with a worker killed": lambdamr.map_reduce(
            add_up_once_from_the_grave, plus, numbers, executor=executor
        ),
    }
    assert marker.exists(), "no worker was killed"
    marker.unlink()
    marker.parent.rmdir()
    for how, value in sums.items():
        print(f"  {how:22} {value!r:24} {struct.pack('>d', value).hex()}")
    assert len({struct.pack("d", value) for value in sums.values()}) == 1
print("the same bits everywhere.")
report.wait()
print("what the workers did: " + " and ".join(map(str, report.paths)))
