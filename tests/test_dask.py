"""What is special about Dask: its clients, its cluster, and workers that take values with them."""

import asyncio
import builtins
import contextlib
import logging
import operator
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import distributed
import numpy as np
import pytest

import lambdamr
from lambdamr import events
from lambdamr.executors import dask as executors_dask
from lambdamr.partition import as_chunk
from lambdamr.retry import Lost
from lambdamr.travel.functions import encode_chunk, encode_functions
from lambdamr.wire import Answer, Task, decode

PROMPT = lambdamr.RetryPolicy(base_delay=0, straggler_factor=None)
LONG = 30  # seconds; more than any test may take


@pytest.fixture(scope="module", autouse=True)
def _workers_are_always_replaced():
    """LocalCluster gives up a worker that is just being replaced 15 s after one that died."""
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"}):
        yield


def local_cluster(**settings):
    settings = {"n_workers": 2, "threads_per_worker": 1, **settings}
    return distributed.LocalCluster(
        dashboard_address=":0", silence_logs=logging.CRITICAL, **settings
    )


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes."""
    with local_cluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as client:
        client.wait_for_workers(2, timeout=LONG)
        yield client


@pytest.fixture
def executor(client):
    return lambdamr.DaskExecutor(client)


@pytest.fixture
def threads():
    """A client of a cluster whose workers are threads of this process."""
    with local_cluster(processes=False) as cluster, distributed.Client(cluster) as client:
        yield client


def first_time(marker):
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


async def until(condition):
    """Wait for what Dask tells nobody of; `condition` may be a coroutine function."""
    async with asyncio.timeout(LONG):
        while True:
            value = condition()
            if await value if asyncio.iscoroutine(value) else value:
                return
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def job(executor, mapper, reducer, npartitions):
    """A pool, and a function that makes tasks of one job for it."""
    chunk = as_chunk(range(npartitions), npartitions)
    async with executor.open() as pool:
        functions = await pool.put(encode_functions(mapper, reducer))

        async def run(number, lo, hi, *, items=(), budget=None):
            ref = None if items else await pool.put(encode_chunk(chunk.part(lo, hi)))
            return await pool.run(
                Task(
                    job=str(id(mapper)),
                    id=number,
                    lo=lo,
                    hi=hi,
                    npartitions=npartitions,
                    fan_in=2,
                    functions=functions,
                    chunk=ref,
                    items=tuple(items),
                    budget=budget,
                )
            )

        yield pool, run


# -- clients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, "tcp://127.0.0.1:8786", distributed.Client, object()])
def test_what_is_no_client_is_refused_with_what_to_write_instead(wrong):
    with pytest.raises(lambdamr.InputTypeError, match=r"distributed.Client\("):
        lambdamr.DaskExecutor(wrong)


def test_a_cluster_is_no_client(cluster):
    with pytest.raises(lambdamr.InputTypeError, match="not LocalCluster"):
        lambdamr.DaskExecutor(cluster)


@pytest.mark.parametrize("patience", ["60", None, True])
def test_patience_is_a_number(client, patience):
    with pytest.raises(lambdamr.InputTypeError, match="patience"):
        lambdamr.DaskExecutor(client, patience=patience)


def test_the_name_alone_is_not_enough():
    with pytest.raises(lambdamr.InputError, match=r"DaskExecutor\(client\)"):
        lambdamr.map_reduce(sum, operator.add, [1], executor="dask")


def test_lambdamr_does_not_import_dask():
    program = (
        "import lambdamr, sys; lambdamr.map_reduce(sum, max, [1, 2], executor='inline');"
        "assert not {'dask', 'distributed'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_dask_the_error_says_what_to_install():
    program = (
        "import sys; sys.modules['distributed'] = None; import lambdamr; lambdamr.DaskExecutor"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'lambdamr[dask]'" in done.stderr


def test_a_closed_client_is_a_broken_executor(cluster):
    client = distributed.Client(cluster)
    client.close()
    with pytest.raises(lambdamr.BrokenExecutorError, match="closed"):
        lambdamr.map_reduce(sum, operator.add, [1], executor=lambdamr.DaskExecutor(client))


def test_an_asynchronous_client_is_used_in_its_own_loop(cluster):
    async def main():
        async with distributed.Client(cluster.scheduler_address, asynchronous=True) as client:
            executor = lambdamr.DaskExecutor(client)
            return await lambdamr.amap_reduce(sum, operator.add, range(100), executor=executor)

    assert asyncio.run(main()) == 4950


def test_an_asynchronous_client_is_used_while_its_loop_stands_still(cluster):
    """In a notebook: the synchronous face is called in the loop of the client."""

    async def main():
        async with distributed.Client(cluster.scheduler_address, asynchronous=True) as client:
            executor = lambdamr.DaskExecutor(client)
            return lambdamr.map_reduce(sum, operator.add, range(100), executor=executor)

    assert asyncio.run(main()) == 4950


def test_a_client_that_was_not_awaited_is_a_broken_executor(cluster):
    async def main():
        client = distributed.Client(cluster.scheduler_address, asynchronous=True)
        try:
            with pytest.raises(lambdamr.BrokenExecutorError, match="awaited"):
                async with lambdamr.DaskExecutor(client).open():
                    pass
        finally:
            await client
            await client.close()

    asyncio.run(main())


def test_a_scheduler_in_the_loop_that_stands_still_is_an_error_and_no_hang():
    async def main():
        cluster = local_cluster(asynchronous=True, processes=False)
        async with cluster, distributed.Client(cluster, asynchronous=True) as client:
            executor = lambdamr.DaskExecutor(client)
            with (
                dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
                pytest.raises(lambdamr.BrokenExecutorError, match="await amap_reduce"),
            ):
                lambdamr.map_reduce(sum, operator.add, range(100), executor=executor)
            return await lambdamr.amap_reduce(sum, operator.add, range(100), executor=executor)

    assert asyncio.run(main()) == 4950


def test_the_users_own_futures_are_left_alone(client, executor):
    future = client.submit(np.ones, 100_000)
    lambdamr.map_reduce(lambda p: np.ones(100_000), operator.iadd, range(9), executor=executor)
    assert future.result().sum() == 100_000
    assert client.futures.keys() == {future.key}


def test_workers_that_are_threads_of_this_process_do(threads):
    executor = lambdamr.DaskExecutor(threads)
    value = lambdamr.map_reduce(
        lambda p: np.full(50_000, p[0]), operator.iadd, range(20), executor=executor
    )
    assert (value == 190).all()


# -- the cluster ---------------------------------------------------------------------------------


def test_every_thread_of_a_worker_evaluates_a_task_at_a_time():
    def mapper(part):
        barrier = vars(builtins).setdefault("lambdamr_barrier", threading.Barrier(3))
        return {barrier.wait(LONG)}

    with (
        local_cluster(n_workers=1, threads_per_worker=3) as cluster,
        distributed.Client(cluster) as client,
    ):
        executor = lambdamr.DaskExecutor(client)
        got = lambdamr.map_reduce(mapper, operator.or_, range(3), executor=executor)
    assert got == {0, 1, 2}


def test_the_mapper_may_ask_dask_for_its_worker(client, executor):
    def mapper(part):
        return {distributed.get_worker().address}

    workers = lambdamr.map_reduce(mapper, operator.or_, range(20), executor=executor)
    assert workers <= set(client.nthreads())


def test_capacity_follows_the_workers():
    async def main():
        async with (
            local_cluster(
                n_workers=1, threads_per_worker=2, processes=False, asynchronous=True
            ) as cluster,
            distributed.Client(cluster, asynchronous=True) as client,
            lambdamr.DaskExecutor(client).open() as pool,
        ):
            seen = [pool.capacity]
            for workers in (3, 1):
                cluster.scale(workers)
                await until(lambda workers=workers: pool.capacity == 2 * workers)
                seen.append(pool.capacity)
            return seen

    assert asyncio.run(main()) == [2, 6, 2]


def test_a_late_answer_about_workers_undoes_no_newer_one():
    """Answers overtake each other on a busy machine."""

    class Client:
        def __init__(self):
            self.workers, self.asked = 1, 0

        async def nthreads(self):
            self.asked += 1
            threads = dict.fromkeys(range(self.workers), 2)
            await asyncio.sleep(0.05 / self.asked)  # the first is the slowest
            return threads

    async def main():
        client = Client()
        pool = executors_dask.DaskPool(client, patience=1)
        event = 0.0, {"action": "add-worker"}
        heard = [asyncio.create_task(pool._hear(event))]
        await asyncio.sleep(0)
        client.workers = 3
        heard.append(asyncio.create_task(pool._hear(event)))
        await asyncio.gather(*heard)
        return pool.capacity

    assert asyncio.run(main()) == 6


def test_a_cluster_that_gets_no_worker_breaks_the_job():
    with local_cluster(n_workers=0) as cluster, distributed.Client(cluster) as client:
        executor = lambdamr.DaskExecutor(client, patience=0.2)
        with pytest.raises(lambdamr.BrokenExecutorError, match=r"cluster\.scale"):
            lambdamr.map_reduce(sum, operator.add, range(100), executor=executor)


def test_a_job_waits_for_the_first_worker():
    with (
        local_cluster(n_workers=0, processes=False) as cluster,
        distributed.Client(cluster) as client,
    ):

        def observe(event):
            if isinstance(event, events.TaskStarted):
                cluster.scale(1)

        got = lambdamr.map_reduce(
            sum,
            operator.add,
            range(100),
            executor=lambdamr.DaskExecutor(client),
            observers=[observe],
        )
    assert got == 4950


def test_a_scheduler_that_goes_breaks_the_job():
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        local_cluster(processes=False) as cluster,
        distributed.Client(cluster) as client,
    ):

        def observe(event):
            if isinstance(event, events.TaskStarted):
                threading.Thread(target=cluster.close).start()

        with pytest.raises(lambdamr.BrokenExecutorError, match="scheduler broke"):
            lambdamr.map_reduce(
                lambda part: time.sleep(3),
                operator.add,
                range(2),
                executor=lambdamr.DaskExecutor(client),
                observers=[observe],
            )


def test_a_restart_by_somebody_else_ends_no_job(client, executor, tmp_path):
    marker = str(tmp_path / "marker")

    def mapper(part):
        if part[0] == 3 and first_time(marker):
            time.sleep(LONG)
        return part[0]

    async def main():
        job = asyncio.create_task(
            lambdamr.amap_reduce(mapper, operator.add, range(10), executor=executor, retry=PROMPT)
        )
        await until(lambda: os.path.exists(marker))
        await asyncio.to_thread(client.restart)
        return await job

    assert asyncio.run(main()) == 45


def test_a_driver_that_is_killed_leaves_nothing_with_the_scheduler(client, cluster, tmp_path):
    marker = tmp_path / "marker"
    program = f"""
import lambdamr, distributed, time, pathlib
def mapper(part):
    pathlib.Path({str(marker)!r}).touch()
    time.sleep({LONG})
client = distributed.Client({cluster.scheduler_address!r})
lambdamr.map_reduce(mapper, max, range(9), executor=lambdamr.DaskExecutor(client))
"""

    def tasks(dask_scheduler):
        return [key for key in map(str, dask_scheduler.tasks) if "lambdamr" in key]

    async def main():
        driver = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
        try:
            await until(marker.exists)
            assert await asyncio.to_thread(client.run_on_scheduler, tasks)
        finally:
            driver.kill()
            await driver.wait()
        await until(lambda: not client.run_on_scheduler(tasks))

    asyncio.run(main())


# -- versions ------------------------------------------------------------------------------------


def test_another_lambdamr_on_the_workers_breaks_the_job(executor, monkeypatch):
    monkeypatch.setattr(executors_dask, "_OURS", ("99.0", sys.version_info[:2]))
    with pytest.raises(lambdamr.BrokenExecutorError, match=r"99\.0.*Install the same lambdamr"):
        lambdamr.map_reduce(sum, operator.add, range(10), executor=executor)


def test_another_python_on_the_workers_breaks_the_job(executor, monkeypatch):
    monkeypatch.setattr(executors_dask, "_OURS", (lambdamr.__version__, (3, 99)))
    with pytest.raises(lambdamr.BrokenExecutorError, match="functions cannot be sent"):
        lambdamr.map_reduce(sum, operator.add, range(10), executor=executor)


def test_workers_without_lambdamr_break_the_job():
    def forget():
        for name in [name for name in sys.modules if name.startswith("lambdamr")]:
            del sys.modules[name]
        sys.modules["lambdamr"] = None

    with local_cluster(n_workers=1) as cluster, distributed.Client(cluster) as client:
        client.run(forget)
        with pytest.raises(lambdamr.BrokenExecutorError, match="Install the same lambdamr"):
            lambdamr.map_reduce(
                sum, operator.add, range(10), executor=lambdamr.DaskExecutor(client)
            )


# -- values --------------------------------------------------------------------------------------


def test_large_values_do_not_pass_through_the_driver(executor, monkeypatch):
    gathered = []

    class Client(distributed.Client):
        async def _gather(self, *arguments, **options):
            value = await super()._gather(*arguments, **options)
            gathered.append(value)
            return value

    monkeypatch.setattr(executors_dask, "Client", Client)
    finished = []
    value = lambdamr.map_reduce(
        lambda part: np.full(200_000, float(part[0])),
        operator.iadd,
        range(40),
        executor=executor,
        observers=[finished.append],
    )
    assert (value == 780).all()
    answers = [value for value in gathered if isinstance(value, Answer)]
    assert any(answer.items[0].ref.key for answer in answers)
    assert sum(e.kind == "merge" for e in finished if isinstance(e, events.TaskFinished)) >= 1
    (frame,) = [value for value in gathered if not isinstance(value, Answer)]
    assert len(frame) < value.nbytes + 1000


def test_what_is_discarded_is_released(client, executor):
    async def main():
        async with job(executor, lambda p: np.ones(100_000), operator.add, 4) as (pool, run):
            answer = await run(1, 0, 4)
            ref = answer.items[0].ref
            assert len(await pool.get(ref)) == ref.size
            assert ref.key in str(await asyncio.to_thread(client.has_what))
            pool.discard([ref])
            await until(lambda: ref.key not in str(client.has_what()))

    asyncio.run(main())


@pytest.mark.parametrize("goes_on", [False, True])
def test_values_that_died_with_their_worker_are_made_again(client, executor, tmp_path, goes_on):
    """Also if the task, when it is done again, stops at another partition than at first."""
    marker = str(tmp_path / "marker")

    def mapper(part):
        if part[0] == 5 and (first_time(marker) == goes_on):
            time.sleep(1.5)
        return np.full(50_000, part[0])

    async def main():
        async with job(executor, mapper, operator.iadd, 16) as (pool, run):
            first = await run(1, 0, 8, budget=1.0)
            assert first.stopped == (6 if goes_on else 8)
            rest = await run(2, first.stopped, 16)
            items = (*first.items, *rest.items)
            for process in (await asyncio.to_thread(client.run, os.getpid)).values():
                os.kill(process, signal.SIGKILL)
            for number in (3, 4, 5):  # Dask may send the first to a worker that is dead
                with contextlib.suppress(Lost):
                    answer = await run(number, 0, 16, items=items)
                    break
            (item,) = answer.items
            assert (decode(await pool.get(item.ref)) == sum(range(16))).all()

    asyncio.run(main())


def test_a_value_is_got_although_workers_die_while_they_make_it_again(client, executor, tmp_path):
    log = tmp_path / "log"

    def mapper(part):
        with open(log, "a") as file:
            file.write("started\n")
        time.sleep(0.5)
        return np.full(50_000, part[0])

    def kill():
        for process in client.run(os.getpid).values():
            os.kill(process, signal.SIGKILL)

    async def main():
        async with job(executor, mapper, operator.iadd, 8) as (pool, run):
            (item,) = (await run(1, 3, 4)).items
            await asyncio.to_thread(kill)
            getting = [asyncio.create_task(pool.get(item.ref)) for _ in range(2)]
            await until(lambda: log.read_text().count("started") == 2)
            await asyncio.to_thread(kill)
            for frame in await asyncio.gather(*getting):
                assert (decode(frame) == 3).all()

    asyncio.run(main())


def test_dask_is_kept_from_trying_again_what_killed_its_worker(executor, tmp_path):
    """By itself it would, three times for each attempt; it may have begun the first of them."""
    log = tmp_path / "log"

    def mapper(part):
        with open(log, "a") as file:
            file.write("started\n")
        os._exit(1)

    policy = lambdamr.RetryPolicy(attempts=2, base_delay=0, straggler_factor=None)
    with pytest.raises(lambdamr.WorkerLostError) as caught:
        lambdamr.map_reduce(mapper, operator.add, [1], executor=executor, retry=policy)
    assert caught.value.attempts == 2
    assert "died" in str(caught.value)
    assert 2 <= Path(log).read_text().count("started") <= 4


# -- cancelling ----------------------------------------------------------------------------------


def test_a_mapper_that_loops_for_ever_is_stopped(client, executor):
    def mapper(part):
        while True:
            pass

    with pytest.raises(lambdamr.PartitionTimeoutError):
        lambdamr.map_reduce(
            mapper,
            operator.add,
            range(2),
            executor=executor,
            timeout=0.3,
            retry=lambdamr.RetryPolicy(attempts=1, straggler_factor=None),
        )

    def looping():
        frames = sys._current_frames().values()
        return any(frame.f_code.co_name == "mapper" for frame in frames)

    async def nobody_loops():
        return not any((await asyncio.to_thread(client.run, looping)).values())

    asyncio.run(until(nobody_loops))
