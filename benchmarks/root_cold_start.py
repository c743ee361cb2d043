"""The cold start of ROOT on one core: from the start of a process to the first partial result.

    python -m benchmarks.root_cold_start [--image NAME] [--rounds 5]

The dimuon graph of examples/ over 10,000 events, by PyRDF, as a Lambda runs it: with the packages
as pip leaves them here; with the library of `PyRDF.precompiled`, while Python books the graph; and
while the library does. With --image the last two also in an image of `lambdamr image build`, of
buildah, as root. All take turns; medians. "warm" is a second range in the same process. Needs
`make test-pyrdf` first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EVENTS = 10_000
EXAMPLE = Path(__file__).resolve().parent.parent / "examples/dimuon"
BOOKED = (("python", "graphs booked by Python"), ("native", "by the library"))
RUN_IMAGE = Path(__file__).resolve().parent.parent / "tests/image/run-image"
PARTS = ("process", "imports", "interpreter", "first graph", "total", "warm")


def child(path: str, way: str, started: float) -> dict[str, float]:
    """Seconds of each part, in a fresh process."""
    laps = [("process", time.time() - started)]

    def lap(name: str) -> None:
        laps.append((name, time.time() - started - sum(seconds for _, seconds in laps)))

    from PyRDF import codec, native, precompiled, resources, results, source, warm, worker
    from PyRDF.operations import Operation

    import lambdamr.runtimes.aws_lambda  # noqa: F401

    lap("imports")
    if way == "plain":
        precompiled.available = lambda: False
    elif not precompiled.available():
        sys.exit("the library is missing: python -m PyRDF.precompiled")
    if way == "python":
        native.available = lambda: False
    warm.start()
    lap("interpreter")
    mass = "ROOT::VecOps::InvariantMass(Muon_pt, Muon_eta, Muon_phi, Muon_mass)"
    operations = (
        Operation(1, 0, "Filter", ("nMuon == 2", "two")),
        Operation(2, 1, "Filter", ("Muon_charge[0] != Muon_charge[1]", "opposite")),
        Operation(3, 2, "Define", ("Dimuon_mass", mass)),
        Operation(4, 3, "Histo1D", (("h", "", 30000, 0.25, 300.0), "Dimuon_mass"), kind="merging"),
        Operation(5, 2, "Report", (), kind="report"),
    )
    plan = worker.Plan(source.Files(False, (("Events", path),)), operations, resources.Setup())
    actions = [operation for operation in operations if operation.kind]
    mapper = worker.GraphMapper(codec.dumps(plan), [], codec.dumps(actions), "digest")
    partial = mapper(source.Range(0, 0, 1))
    lap("first graph")
    began = time.time()
    mapper(source.Range(0, 0, 1))
    again = time.time() - began
    assert ("ROOT" in sys.modules) == (way != "native")
    assert results.finish(actions[0], partial.values[0]).GetEntries() > 4000
    return dict(laps) | {"total": sum(seconds for _, seconds in laps), "warm": again}


def run(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    command = ["taskset", "-c", "0", *command, str(time.time())]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def image_environment(name: str) -> list[str]:
    shown = "{{range .OCIv1.Config.Env}}{{println .}}{{end}}"
    inspect = ["buildah", "inspect", "--type=image", "--format", shown, name]
    return subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="lambdamr-bench-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder)
        folder.chmod(0o755)
        path = str(folder / "events.root")
        generate = [sys.executable, "-W", "ignore", str(EXAMPLE / "generate.py")]
        subprocess.run([*generate, str(EVENTS), path], check=True)
        shutil.copy(__file__, folder / "child.py")
        script = [str(folder / "child.py"), "child", path]
        here = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        ways = {
            f"here, {shown}": ([sys.executable, *script, way], here)
            for way, shown in (("plain", "as pip leaves it"), *BOOKED)
        }
        if arguments.image:
            root = mounted(arguments.image, stack)
            environment = image_environment(arguments.image)
            in_image = [str(RUN_IMAGE), root, str(folder), "-i", *environment, "python3", *script]
            for way, shown in BOOKED:
                ways[f"the image, {shown}"] = ([*in_image, way], dict(os.environ))
        taken: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for number in range(arguments.rounds + 1):
            for way, (command, environ) in ways.items():
                measured = run(command, environ)
                if number:  # the first one warms the disk's cache
                    taken[way].append(measured)
    print(f"| seconds, median of {arguments.rounds} | {' | '.join(PARTS)} |")
    print(f"|---|{'---:|' * len(PARTS)}")
    for way, runs in taken.items():
        medians = (statistics.median(each[part] for each in runs) for part in PARTS)
        print(f"| {way} | {' | '.join(f'{median:.2f}' for median in medians)} |")


def mounted(image: str, stack: contextlib.ExitStack) -> str:
    """The root of a container of it, for as long as the stack lives."""
    container = subprocess.check_output(["buildah", "from", image], text=True).strip()
    stack.callback(subprocess.run, ["buildah", "rm", container], capture_output=True)
    return subprocess.check_output(["buildah", "mount", container], text=True).strip()


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        print(json.dumps(child(sys.argv[2], sys.argv[3], float(sys.argv[4]))))
    else:
        main()
