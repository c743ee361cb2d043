import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import Future

import pytest

from lambdamr import map_reduce, sync

USER = contextvars.ContextVar("USER", default="nobody")


async def answer(value):
    await asyncio.sleep(0)
    return value


async def fail():
    raise LookupError("in the coroutine")


def in_a_running_loop(function, *arguments):
    async def main():
        return function(*arguments)

    return asyncio.run(main())


def directly(function, *arguments):
    return function(*arguments)


def in_a_thread(function, *arguments):
    results = []
    thread = threading.Thread(target=lambda: results.append(function(*arguments)))
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize("where", [directly, in_a_running_loop, in_a_thread])
def test_a_coroutine_runs_to_its_end(where):
    assert where(sync.run, answer(5)) == 5


@pytest.mark.parametrize("where", [directly, in_a_running_loop])
def test_its_exception_comes_out_as_it_is(where):
    with pytest.raises(LookupError, match="in the coroutine"):
        where(sync.run, fail())


@pytest.mark.parametrize("where", [directly, in_a_running_loop])
def test_it_sees_the_context_variables_of_the_caller(where):
    async def read():
        return USER.get()

    token = USER.set("anna")
    try:
        assert where(sync.run, read()) == "anna"
    finally:
        USER.reset(token)


def test_a_running_loop_keeps_its_own_tasks_and_gets_no_others():
    async def main():
        before = asyncio.all_tasks()
        sync.run(answer(1))
        return asyncio.all_tasks() == before

    assert asyncio.run(main())


def test_no_thread_and_no_loop_is_left_behind():
    before = threading.active_count()

    async def main():
        for _ in range(3):
            sync.run(answer(1))
        with pytest.raises(LookupError):
            sync.run(fail())

    asyncio.run(main())
    assert threading.active_count() == before


def test_several_threads_with_running_loops_at_once():
    def job(number):
        return map_reduce(sum, max, range(number, number + 10), executor="inline")

    async def main():
        loop = asyncio.get_running_loop()
        jobs = [loop.run_in_executor(None, job, number) for number in range(8)]
        return await asyncio.gather(*jobs)

    assert asyncio.run(main()) == [number + 9 for number in range(8)]


PROGRAM = """
    import asyncio, sys, threading, time
    import lambdamr

    def tell(event):
        if isinstance(event, lambdamr.events.TaskStarted):
            print("started", flush=True)

    def mapper(partition):
        time.sleep(50)

    def job():
        lambdamr.map_reduce(mapper, max, range(4), observers=[tell])

    async def main():
        job()

    try:
        {call}
    except KeyboardInterrupt:
        print("interrupted;", threading.active_count(), "thread")
"""

CALLS = {
    "script": "job()",
    "running loop": "loop = asyncio.new_event_loop(); loop.run_until_complete(main())",
    "async": "asyncio.run(lambdamr.amap_reduce(mapper, max, range(4), observers=[tell]))",
}


@pytest.mark.parametrize("where", CALLS)
def test_ctrl_c_cancels_cleans_up_and_raises(where):
    program = textwrap.dedent(PROGRAM).format(call=CALLS[where])
    program = program.replace("import lambdamr\n", "import lambdamr, lambdamr.events\n")
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    ) as process:
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        printed, complaints = process.communicate(timeout=30)
    assert printed.splitlines()[-1] == "interrupted; 1 thread"
    assert complaints == ""
    assert process.returncode == 0


def test_ctrl_c_cancels_at_any_moment(monkeypatch):
    async def job():
        await asyncio.Event().wait()

    def interrupted(future, timeout=None):
        raise KeyboardInterrupt  # at once: the thread may not have begun

    monkeypatch.setattr(Future, "result", interrupted)

    async def main():
        for _ in range(20):
            with pytest.raises(KeyboardInterrupt):
                sync.run(job())
        return threading.active_count()

    assert asyncio.run(main()) == threading.active_count()
