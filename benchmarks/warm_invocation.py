"""What a warm invocation costs beyond the mapper's own time, through Lambda's runtime interface.

    python -m benchmarks.warm_invocation [--image NAME] [--calls 200]

The handler runs under AWS's runtime client and runtime interface emulator (`make test-setup` brings
both), as here, and in an image of `lambdamr image build` (buildah's; needs root). A job's own
payload is recorded, and sent again and again, one at a time. From each round trip the time is
taken that the mapper says it took; "handler" is what Lambda would bill of the rest. An empty
handler shows what the emulator and the client take themselves. Medians and 95th percentiles.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.client
import http.server
import json
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
for folder in ("tests/aws", "tests/image", "examples/dimuon"):
    sys.path.insert(0, str(PROJECT / folder))
os.environ.setdefault("LAMBDAMR_TEST_RIE", str(Path(sys.prefix) / ".rie"))

import building  # noqa: E402
import interface_emulator  # noqa: E402

import lambdamr  # noqa: E402
from lambdamr.runtimes import envelope  # noqa: E402
from lambdamr.runtimes.seal import unseal  # noqa: E402
from lambdamr.wire import decode  # noqa: E402

EVENTS = 10_000
TARGET = 10.0  # ms
PATH = "/2015-03-31/functions/function/invocations"
VARIABLES = {
    "AWS_ACCESS_KEY_ID": "of-nobody",
    "AWS_SECRET_ACCESS_KEY": "of-nobody",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_LAMBDA_FUNCTION_NAME": "f",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
    "AWS_LAMBDA_FUNCTION_TIMEOUT": "300",
    "LAMBDAMR_BUCKET": "b",
}
EMPTY = "def handler(event, context):\n    return None\n"

Mapper = Callable[[Any], Any]
Sample = tuple[float, float, float]  # ms: the round trip, the handler, the mapper


def timed(mapper: Mapper) -> Mapper:
    """The mapper, which says how long it took beside its value."""

    def call(piece: Any) -> list[Any]:
        started = time.perf_counter()
        value = mapper(piece)
        return [time.perf_counter() - started, value]

    return call


def nothing(piece: Any) -> None:
    """A mapper."""


def dimuon(path: str) -> tuple[Mapper, Any]:
    """The mapper of the dimuon graph, and its range; a histogram small enough to travel inline."""
    from PyRDF import codec, resources, source, worker
    from PyRDF.operations import Operation

    mass = "ROOT::VecOps::InvariantMass(Muon_pt, Muon_eta, Muon_phi, Muon_mass)"
    model = ("h", "", 1000, 0.25, 300.0)
    operations = (
        Operation(1, 0, "Filter", ("nMuon == 2", "two")),
        Operation(2, 1, "Filter", ("Muon_charge[0] != Muon_charge[1]", "opposite")),
        Operation(3, 2, "Define", ("Dimuon_mass", mass)),
        Operation(4, 3, "Histo1D", (model, "Dimuon_mass"), kind="merging"),
    )
    plan = worker.Plan(source.Files(False, (("Events", path),)), operations, resources.Setup())
    actions = [operation for operation in operations if operation.kind]
    mapper = worker.GraphMapper(codec.dumps(plan), [], codec.dumps(actions), "digest")
    return mapper, source.Range(0, 0, 1)


def invoke(url: str, payload: bytes) -> bytes:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=300)
    with contextlib.closing(connection):
        connection.request("POST", PATH, payload)
        return connection.getresponse().read()


@contextlib.contextmanager
def recording(url: str) -> Iterator[tuple[str, list[bytes]]]:
    """An address that passes invocations on, and the list of their payloads."""
    payloads: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # as the library has it
            payloads.append(self.rfile.read(int(self.headers["Content-Length"])))
            reply = invoke(url, payloads[-1])
            self.send_response(200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield "http://127.0.0.1:{1}".format(*server.server_address), payloads
        finally:
            server.shutdown()
            thread.join()


def payload_of(url: str, mapper: Mapper, piece: Any) -> bytes:
    """What a job of one partition sends; afterwards the function is warm."""
    with recording(url) as (address, payloads):
        executor = lambdamr.LambdaExecutor(functions=["f"], bucket="b", endpoint_url=address)
        lambdamr.map_reduce(
            timed(mapper), list.__add__, lambdamr.Partitions([piece]), executor=executor
        )
        [payload] = payloads
    return payload


def measured(url: str, payload: bytes, calls: int) -> list[Sample]:
    """The same invocation again and again."""
    event = json.loads(payload)
    key = envelope.from_text(event["key"])
    task = pickle.loads(unseal(key, "task", envelope.from_text(event["task"])))  # noqa: TID251  # ours
    samples = []
    for _ in range(calls):
        started = time.perf_counter()
        said = invoke(url, payload)
        taken = time.perf_counter() - started
        reply = json.loads(said)
        sealed = envelope.from_text(reply["answer"])
        answer = pickle.loads(unseal(key, f"answer/{task.id}", sealed))  # noqa: TID251  # ours
        mapper = decode(answer.items[0].ref.data)[0]
        samples.append((1e3 * taken, 1e3 * reply["meter"]["seconds"], 1e3 * mapper))
    return samples


def empty(url: str, calls: int) -> list[Sample]:
    """The round trips of a handler that does nothing."""
    samples = []
    for _ in range(calls):
        started = time.perf_counter()
        assert invoke(url, b"{}") == b"null"
        samples.append((1e3 * (time.perf_counter() - started), 0.0, 0.0))
    return samples


@contextlib.contextmanager
def here(handler: str, folder: Path) -> Iterator[str]:
    """The URL of a handler with the packages that are installed here."""
    runtime = [sys.executable, "-P", "-m", "awslambdaric", handler]
    environment = {**os.environ, **VARIABLES, "PYTHONPATH": f"{PROJECT}:{folder}"}
    with interface_emulator.serving(
        lambda addresses: [str(interface_emulator.binary()), *addresses, *runtime],
        folder,
        env=environment,
        cwd=folder,
    ) as url:
        yield url


@contextlib.contextmanager
def in_image(name: str, folder: Path) -> Iterator[str]:
    """The URL of an image's handler."""
    program = shutil.copy(interface_emulator.binary(), folder / "aws-lambda-rie")
    config = json.loads(building.buildah("inspect", "--type=image", name))["OCIv1"]["config"]
    runtime = [*config["Entrypoint"], *config["Cmd"]]
    with building.mounted(name) as root:
        command = functools.partial(
            building.in_image,
            SimpleNamespace(name=name, root=root),
            folder,
            str(program),
            **VARIABLES,
        )
        with interface_emulator.serving(
            lambda addresses: command(*addresses, *runtime), folder
        ) as url:
            yield url


def row(name: str, samples: list[Sample]) -> float:
    """Print one; the median of what is not the mapper's, in ms."""
    trips, _, mappers = zip(*samples, strict=True)
    overhead = [trip - mapper for trip, _, mapper in samples]
    billed = [handler - mapper for _, handler, mapper in samples]
    high = statistics.quantiles(overhead, n=20)[-1]
    middle = statistics.median(overhead)
    columns = map(statistics.median, (trips, mappers, overhead, billed))
    shown = " | ".join(f"{value:.1f}" for value in columns)
    print(f"| {name} | {shown} | {high:.1f} |")
    return middle


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--image", help="with ROOT")
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    os.environ.update(VARIABLES)
    folder = Path(tempfile.mkdtemp(prefix="lambdamr-bench-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "empty.py").write_text(EMPTY)
    print("| ms | round trip | mapper | overhead | of it handler | overhead, 95 % |")
    print("|---|---:|---:|---:|---:|---:|")
    overheads = []
    try:
        with here("empty.handler", folder) as url:
            empty(url, 10)
            row("an empty handler", empty(url, options.calls))
        with here("lambdamr.runtimes.aws_lambda.handler", folder) as url:
            payload = payload_of(url, nothing, 0)
            overheads.append(row("plain Python", measured(url, payload, options.calls)))
        if options.image:
            path = str(folder / "events.root")
            script = str(PROJECT / "examples/dimuon/generate.py")
            subprocess.run([sys.executable, "-W", "ignore", script, str(EVENTS), path], check=True)
            with in_image(options.image, folder) as url:
                payload = payload_of(url, nothing, 0)
                overheads.append(row("the ROOT image", measured(url, payload, options.calls)))
                payload = payload_of(url, *dimuon(path))
                samples = measured(url, payload, options.calls)
                overheads.append(row("the same, a range of dimuons", samples))
    finally:
        shutil.rmtree(folder)
    return 0 if max(overheads) < TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
