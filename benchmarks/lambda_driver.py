"""How many invocations a second the Lambda executor makes, beside a bare aiobotocore loop.

    python -m benchmarks.lambda_driver [--calls 1000] [--rounds 7]

A stub in a process of its own answers each Invoke after 200 ms with what the handler answers to a
task of one empty partition. The bare loop sends one payload of lambdamr again and again, so that
the stub does the same for both. Both have all calls in flight at once, and take turns, so that what
else the machine does hits both; what is printed are medians. It needs the ``aws`` extra.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import pickle
import resource
import statistics
import sys
import time
from typing import Any

import lambdamr
from lambdamr import events
from lambdamr.runtimes import envelope
from lambdamr.runtimes.seal import seal, unseal
from lambdamr.wire import Answer, Item, Ref, Stats, encode

LATENCY = 0.2  # seconds
LONG_LATENCY = 10.0  # seconds, to see how many are in flight
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "stub",
    "AWS_SECRET_ACCESS_KEY": "stub",
    "AWS_DEFAULT_REGION": "us-east-1",
}
LEAST_THROUGHPUT, MOST_CPU = 0.8, 1.25  # relative to the bare loop

Sample = tuple[float, float]  # calls a second, CPU seconds a call


class Stub(asyncio.Protocol):
    """A server that knows one request."""

    latency = LATENCY
    now = most = 0
    last = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self.data = b""
        if body.startswith(b'{"latency"'):
            self.answer(self.command(json.loads(body)))
            return
        Stub.now += 1
        Stub.most = max(Stub.most, Stub.now)
        Stub.last = body
        asyncio.get_running_loop().call_later(Stub.latency, self.finish, evaluate(body))

    def command(self, event: dict[str, float]) -> bytes:
        said = {"last": Stub.last.decode(), "most": Stub.most}
        Stub.latency, Stub.most = event["latency"], 0
        return json.dumps(said).encode()

    def finish(self, reply: bytes) -> None:
        Stub.now -= 1
        self.answer(reply)

    def answer(self, reply: bytes) -> None:
        self.transport.write(HEAD % len(reply) + reply)


def evaluate(body: bytes) -> bytes:
    """The reply of the handler, without the work."""
    event = json.loads(body)
    key = envelope.from_text(event["key"])
    task = pickle.loads(unseal(key, "task", envelope.from_text(event["task"])))  # noqa: TID251  # ours
    value = b"".join(encode(1))
    item = Item(task.lo, task.hi, Ref(len(value), value))
    answer = Answer((item,), task.hi, None, Stats("stub", LATENCY))
    meter = {
        "seconds": LATENCY,
        "init": 0.0,
        "memory": 1769,
        "arch": "x86_64",
        "puts": 0,
        "gets": 0,
    }
    sealed = b"".join(seal(key, f"answer/{task.id}", [pickle.dumps(answer, 5)]))
    reply = {"protocol": envelope.PROTOCOL, "answer": envelope.to_text(sealed), "meter": meter}
    return json.dumps(reply).encode()


def serve(ports: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Stub, "127.0.0.1", 0, backlog=8192)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def client(url: str, calls: int) -> Any:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession

    config = AioConfig(
        max_pool_connections=calls, retries={"total_max_attempts": 1}, read_timeout=900
    )
    return AioSession().create_client("lambda", endpoint_url=url, config=config)


async def tell(url: str, latency: float) -> dict[str, Any]:
    """Set the latency; what the stub has seen since the last time."""
    async with client(url, 1) as made:
        payload = json.dumps({"latency": latency}).encode()
        response = await made.invoke(FunctionName="f", Payload=payload)
        said: dict[str, Any] = json.loads(await response["Payload"].read())
        return said


async def bare(url: str, calls: int, payload: bytes) -> Sample:
    """What anybody would write."""
    async with client(url, calls) as made:

        async def call() -> None:
            response = await made.invoke(FunctionName="f", Payload=payload)
            json.loads(await response["Payload"].read())

        started, used = time.perf_counter(), cpu()
        await asyncio.gather(*(call() for _ in range(calls)))
        return calls / (time.perf_counter() - started), (cpu() - used) / calls


async def ours(url: str, calls: int) -> Sample:
    """A whole job, from the start of its driver."""
    begun: list[tuple[float, float]] = []

    def observe(event: events.Event) -> None:
        if isinstance(event, events.JobStarted):
            begun.append((time.perf_counter(), cpu()))

    await lambdamr.amap_reduce(
        len,
        max,
        range(calls),
        executor=lambdamr.LambdaExecutor(
            functions=["f"], bucket="b", endpoint_url=url, concurrency=calls, invocation="request"
        ),
        retry=lambdamr.RetryPolicy(straggler_factor=None),
        progress=False,
        observers=[observe],
    )
    ((started, used),) = begun
    return calls / (time.perf_counter() - started), (cpu() - used) / calls


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    os.environ.update(CREDENTIALS)
    context = multiprocessing.get_context("spawn")
    ports = context.Queue()
    stub = context.Process(target=serve, args=(ports,), daemon=True)
    stub.start()
    url = f"http://127.0.0.1:{ports.get(timeout=30)}"
    try:
        return compare(url, options.calls, options.rounds)
    finally:
        stub.kill()
        stub.join()


def compare(url: str, calls: int, rounds: int) -> int:
    asyncio.run(ours(url, 10))  # imports, and a payload
    payload = asyncio.run(tell(url, LATENCY))["last"].encode()
    samples: dict[str, list[Sample]] = {"aiobotocore": [], "lambdamr": []}
    for _ in range(rounds):
        samples["aiobotocore"].append(asyncio.run(bare(url, calls, payload)))
        samples["lambdamr"].append(asyncio.run(ours(url, calls)))
    asyncio.run(tell(url, LONG_LATENCY))
    asyncio.run(ours(url, calls))
    in_flight = asyncio.run(tell(url, LATENCY))["most"]
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in samples.items()
    }
    print(
        f"{calls} calls at once of {len(payload)} bytes, answered after {LATENCY} s; "
        f"{rounds} rounds"
    )
    for name, (speed, used) in medians.items():
        print(f"{name:12} {speed:7.0f} calls/s {1e6 * used:7.0f} us CPU a call")
    (speed, used), (bare_speed, bare_used) = medians["lambdamr"], medians["aiobotocore"]
    print(f"{'relative':12} {speed / bare_speed:7.2f}         {used / bare_used:7.2f}")
    print(f"in flight at once, answered after {LONG_LATENCY} s: {in_flight}")
    good = speed >= LEAST_THROUGHPUT * bare_speed and used <= MOST_CPU * bare_used
    return 0 if good and in_flight == calls else 1


if __name__ == "__main__":
    sys.exit(main())
