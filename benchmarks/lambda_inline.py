"""What it costs the driver that a value travels inline, by its size.

    python -m benchmarks.lambda_inline

A worker's value that is not larger than `lambdamr.runtimes.envelope.INLINE` comes back in the
answer: sealed (compressed, if that pays), in base64, in JSON. This measures both ends of that way
in one thread; what the network adds is computed. Medians; Markdown on standard output.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable

import numpy as np

from lambdamr.executors.aws_prices import Prices
from lambdamr.runtimes import envelope
from lambdamr.runtimes.seal import new_key, seal, unseal

SIZES = [1 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20]
LINE = 100e6 / 8  # bytes a second of the driver's connection
WORKERS = 1000
ROUNDS = 15
KEY = new_key()


def sent(value: bytes) -> bytes:
    """What the worker does."""
    sealed = b"".join(seal(KEY, "answer/1", [value]))
    return json.dumps({"answer": envelope.to_text(sealed)}).encode()


def received(body: bytes) -> bytes:
    """What the driver does."""
    return bytes(unseal(KEY, "answer/1", envelope.from_text(json.loads(body)["answer"])))


def milliseconds(function: Callable[[bytes], bytes], argument: bytes) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        function(argument)
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def histogram(size: int) -> bytes:
    """Counts, mostly small: what physics returns."""
    counts = np.random.default_rng(1).poisson(3.0, size // 8)
    return counts.astype(np.float64).tobytes()


def main() -> None:
    prices = Prices()
    stored = prices.put + prices.get
    rate = prices.gb_second["x86_64"] * 1769 / 1024
    print(f"A PUT and a GET cost as much as {stored / rate:.2f} s of a function of 1,769 MB.\n")
    print("| value | kind | in the answer | worker, ms | driver, ms | 1,000 workers, s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for size in SIZES:
        for kind, value in (("random", os.urandom(size)), ("histogram", histogram(size))):
            body = sent(value)
            assert received(body) == value
            ours, theirs = milliseconds(sent, value), milliseconds(received, body)
            total = WORKERS * (theirs / 1e3 + len(body) / LINE)
            print(
                f"| {size >> 10:,} KiB | {kind} | {len(body) >> 10:,} KiB | {ours:.2f} "
                f"| {theirs:.2f} | {total:.1f} |"
            )


if __name__ == "__main__":
    main()
