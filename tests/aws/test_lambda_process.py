"""What a job on AWS Lambda and the process that it runs in do to each other."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import threading
import time

import pytest
import stack
from aiohttp import web

from lambdamr.runtimes import aws_lambda

LIMIT = 60  # seconds a script may take


def script(text, *arguments):
    """A driver in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", text, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# -- Ctrl-C ----------------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, sys, time
import numpy as np
import lambdamr
from lambdamr import events

url, function, bucket, marker = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)

def mapper(part):
    if part < 6:
        return np.full(100_000, float(part))  # goes to S3
    while not os.path.exists(marker):
        time.sleep(0.01)
    os._exit(1)  # or it would store what it has, of which nobody knows any more

def observe(event):
    if isinstance(event, events.TaskFinished):
        print("finished", flush=True)

lambdamr.map_reduce(
    mapper, lambda a, b: a, lambdamr.Partitions(range(10)), observers=[observe], progress=False,
    executor=lambdamr.LambdaExecutor(
        functions=[function], bucket=bucket, endpoint_url=url, concurrency=2
    ),
)
"""


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_ends_the_job_and_leaves_no_object(cloud, tmp_path, times):
    marker = tmp_path / "go on"
    with script(INTERRUPTED, cloud.url, cloud.function, cloud.bucket, marker) as driver:
        try:
            while not stack.keys(cloud.url, cloud.bucket, "jobs/"):
                assert driver.poll() is None, driver.stderr.read()
            assert driver.stdout.readline() == "finished\n"
            invocations = cloud.gateway.calls["lambda POST"]
            driver.send_signal(signal.SIGINT)
            if times == 2:
                time.sleep(0.2)  # it waits for what it invoked: the second one is to end that
                driver.send_signal(signal.SIGINT)
            _, said = driver.communicate(timeout=LIMIT)
        finally:
            driver.kill()
            marker.touch()  # what is invoked cannot be stopped; it would keep its environment busy
    assert driver.returncode == -signal.SIGINT, said
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert "never retrieved" not in said
    assert "Unclosed" not in said
    assert stack.keys(cloud.url, cloud.bucket, "jobs/") == []
    while cloud.gateway.recent:
        time.sleep(0.01)
    assert cloud.gateway.calls["lambda POST"] <= invocations + 2  # those were under way
    assert stack.keys(cloud.url, cloud.bucket, "jobs/") == []


# -- descriptors -----------------------------------------------------------------------------------

CONNECTIONS = """
import resource, sys
url, number, soft, hard = sys.argv[1], *map(int, sys.argv[2:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
import lambdamr
from lambdamr import events

seen = []
got = lambdamr.map_reduce(
    len, lambda a, b: a + b, range(number), observers=[seen.append],
    executor=lambdamr.LambdaExecutor(
        functions=["f"], bucket="b", endpoint_url=url, concurrency=number, invocation="request"
    ),
    retry=lambdamr.RetryPolicy(straggler_factor=None, base_delay=0.01), progress=False,
)
throttled = [event for event in seen if isinstance(event, events.Throttled)]
failed = [event for event in seen if isinstance(event, events.TaskFailed)]
print(got, len(throttled), len(failed), throttled[0].message if throttled else "")
"""


class Crowd:
    """A stand-in for Lambda that answers when so many invocations are there, or after a while."""

    def __init__(self, size, patience):
        self.size, self.patience = size, patience
        self.most = self.now = 0

    @contextlib.contextmanager
    def serving(self):
        ready, loop = threading.Event(), asyncio.new_event_loop()

        async def serve():
            self.all_here = asyncio.Event()
            runner = web.AppRunner(application(self.answer), access_log=None, shutdown_timeout=0)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
            await site.start()
            self.url = "http://127.0.0.1:{1}".format(*site._server.sockets[0].getsockname())
            self.stop = asyncio.Event()
            ready.set()
            await self.stop.wait()
            await runner.cleanup()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        try:
            assert ready.wait(LIMIT)
            yield self
        finally:
            loop.call_soon_threadsafe(self.stop.set)
            thread.join()
            loop.close()

    async def answer(self, request):
        event = json.loads(await request.read())
        self.now += 1
        self.most = max(self.most, self.now)
        if self.now == self.size:
            self.all_here.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.all_here.wait(), self.patience)
        self.now -= 1
        return web.json_response(aws_lambda.handler(event, None))


def application(handler):
    made = web.Application()
    made.router.add_post("/{path:.*}", handler)
    return made


@pytest.fixture
def of_nobody(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-nobody")
    monkeypatch.setenv("AWS_DEFAULT_REGION", stack.REGION)
    monkeypatch.setenv("LAMBDAMR_BUCKET", "b")


def run(crowd, number, soft, hard):
    driver = script(CONNECTIONS, crowd.url, number, soft, hard)
    said, errors = driver.communicate(timeout=LIMIT)
    assert driver.returncode == 0, errors
    value, throttled, failed, message = said.rstrip("\n").split(" ", 3)
    return int(value), int(throttled), int(failed), message


def test_the_soft_limit_of_open_files_is_no_limit_of_concurrency(of_nobody):
    with Crowd(size=300, patience=LIMIT).serving() as crowd:
        assert run(crowd, 300, 64, 1000) == (300, 0, 0, "")
        assert crowd.most == 300


def test_without_descriptors_there_are_fewer_at_once_and_no_attempt_is_spent(of_nobody):
    with Crowd(size=300, patience=0.1).serving() as crowd:
        value, throttled, failed, message = run(crowd, 300, 64, 64)
        assert (value, failed) == (300, 0)
        assert throttled > 0
        assert "no file descriptors left. Raise `ulimit -n`" in message
        assert crowd.most < 64
