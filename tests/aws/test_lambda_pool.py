"""What a job on AWS Lambda asks of the services: how often, how much at once, and for how much."""

import asyncio
import itertools
import operator
import time

import numpy as np
import pytest
import stack
from gateway import Cut

import lambdamr
from lambdamr import events, wire
from lambdamr.executors import aws_prices
from lambdamr.runtimes import s3 as worker_store
from lambdamr.runtimes.seal import digest

MIB = 1 << 20


def of(cloud, **settings):
    settings = {
        "concurrency": 4,
        "endpoint_url": cloud.url,
        "functions": [cloud.function],
    } | settings
    return lambdamr.LambdaExecutor(bucket=cloud.bucket, **settings)


def s3(cloud):
    return {call: n for call, n in cloud.gateway.calls.items() if call.startswith("s3")}


# -- requests --------------------------------------------------------------------------------------


def test_a_thousand_empty_partitions_ask_s3_for_nothing(cloud):
    got = lambdamr.map_reduce(
        lambda part: None, lambda a, b: None, range(1000), executor=of(cloud, concurrency=16)
    )
    assert got is None
    assert s3(cloud) == {}
    assert cloud.gateway.invocations[cloud.function] >= 16


def test_a_partial_of_8_mb_is_written_once_and_read_once(cloud):
    got = lambdamr.map_reduce(
        lambda part: np.full(MIB, float(part[0])),
        operator.iadd,
        range(100),
        executor=of(cloud, concurrency=16),
    )
    assert got[0] == got[-1] == 4950
    counted = s3(cloud)
    assert counted["s3 PUT"] <= 2 * 100
    assert counted["s3 GET"] <= 2 * 100 + 2  # and two LISTs, before all is deleted
    assert stack.keys(cloud.url, cloud.bucket, "jobs/") == []


def test_functions_are_uploaded_once_for_a_content(cloud):
    table = bytes(range(256)) * 1000

    def job():
        return lambdamr.map_reduce(
            lambda part: table[part[0]], operator.add, range(100), executor=of(cloud)
        )

    assert job() == job() == 4950
    assert cloud.gateway.calls["s3 PUT"] == 1
    assert len(stack.keys(cloud.url, cloud.bucket, "functions/")) >= 1


def test_an_array_of_functions_is_uploaded_and_fetched_once_though_their_code_changes(cloud):
    table = np.random.default_rng(1).random(100_000)
    sent, fetched = [], []

    def note(when, service, request, body):
        if when == "before" and service == "s3" and "/functions/" in request.path:
            if request.method == "PUT":
                sent.append(len(body))
            elif request.method == "GET":
                fetched.append(request.path)

    cloud.gateway.faults.append(note)
    for factor in (1, 2):
        got = lambdamr.map_reduce(
            lambda part, factor=factor: factor * float(table[part[0]]),
            operator.add,
            range(4),
            executor=of(cloud, concurrency=1),
            retry=lambdamr.RetryPolicy(straggler_factor=None),
        )
        assert got == pytest.approx(factor * table[:4].sum())
    assert [size > table.nbytes // 2 for size in sorted(sent)] == [False, False, True]
    assert len(fetched) == len(set(fetched)) == 3


def test_a_worker_keeps_functions_by_content_up_to_a_limit(monkeypatch):
    contents, fetched = {}, []

    def key_of(content):
        contents[key := worker_store.FUNCTIONS + digest([content])] = content
        return key

    def get(self, key):
        fetched.append(key)
        return bytearray(contents[key])

    monkeypatch.setattr(worker_store.Store, "_get", get)
    monkeypatch.setattr(worker_store, "_KEPT", 25_000)
    store = worker_store.Store()
    a, b, c = (key_of(letter * 10_000) for letter in (b"a", b"b", b"c"))
    ab, ba, c_alone = (key_of(b"".join(wire.encode(ps))) for ps in ([a, b], [b, b"-", a], [c]))
    for whole, missing in (
        (ab, [ab, a, b]),
        (ba, [ba]),
        (ba, []),
        (c_alone, [c_alone, c]),
        (ab, [ab, b]),
    ):
        fetched.clear()
        parts = wire.decode(contents[whole])
        assert store.read(whole) == b"".join(contents.get(part, part) for part in parts)
        assert fetched == missing


def test_values_that_compress_are_compressed(cloud):
    sizes = []

    def note(when, service, request, body):
        if when == "before" and service == "s3" and request.method == "PUT":
            sizes.append(len(body))

    cloud.gateway.faults.append(note)
    for make, most in ((np.zeros, 100_000), (lambda n: np.random.default_rng(1).random(n), 10**7)):
        sizes.clear()
        got = lambdamr.map_reduce(
            lambda part, make=make: make(MIB), operator.iadd, [1, 2], executor=of(cloud)
        )
        assert got.shape == (MIB,)
        assert sizes
        assert max(sizes) < most


# -- at once ---------------------------------------------------------------------------------------


def test_reserved_concurrency_is_found_and_costs_no_attempt(cloud):
    """4 at once, of which nobody told the driver."""
    stack.client("lambda", cloud.url).put_function_concurrency(
        FunctionName=cloud.function, ReservedConcurrentExecutions=4
    )
    seen = []

    def mapper(part):
        time.sleep(0.3)  # much longer than what lies between two, on a busy machine too
        return [part[0]]

    try:
        got = lambdamr.map_reduce(
            mapper,
            operator.add,
            range(200),
            executor=of(cloud, concurrency=None),
            observers=[seen.append],
        )
    finally:
        stack.client("lambda", cloud.url).delete_function_concurrency(FunctionName=cloud.function)
    assert got == list(range(200))
    assert [event for event in seen if isinstance(event, events.TaskFailed)] == []
    assert any(isinstance(event, events.Throttled) for event in seen)
    level = settled(cloud.gateway.history)
    print(
        f"in flight on average, after the first third: {level:.2f}; refused {cloud.gateway.refused}"
    )
    assert 3 <= level <= 5


def settled(history):
    """The average number that ran at once, over time, without the first third and the end."""
    start, end = history[0][0], history[-1][0]
    start, end = start + (end - start) / 3, end - (end - start) / 10
    area = 0.0
    for (since, running), (until, _) in itertools.pairwise(history):
        area += running * max(0.0, min(until, end) - max(since, start))
    return area / (end - start)


# -- cost ------------------------------------------------------------------------------------------


def test_each_answer_says_what_it_cost(cloud, function):
    seen = []
    lambdamr.map_reduce(
        lambda part: time.sleep(0.3),
        lambda a, b: None,
        range(8),
        executor=of(cloud, concurrency=8, functions=[function()]),  # where nobody was before
        observers=[seen.append],
    )
    (finished,) = (event for event in seen if isinstance(event, events.JobFinished))
    tasks = [event.stats for event in seen if isinstance(event, events.TaskFinished)]
    mapped = [stats for stats in tasks if stats.worker != "driver"]
    assert {stats.memory for stats in mapped} == {1769 << 20}
    assert all(stats.starting > 0 for stats in mapped)
    assert len(mapped) == 8
    prices = aws_prices.prices(stack.REGION)
    seconds = sum(stats.wall + stats.starting for stats in mapped)
    least = 8 * prices.request + seconds * 1769 / 1024 * prices.gb_second["x86_64"]
    assert least <= finished.cost <= 4 * least  # what the handler takes is on the bill, too
    assert finished.cost == pytest.approx(sum(stats.cost for stats in tasks))


def test_prices_may_be_given(cloud):
    free = aws_prices.Prices({"x86_64": 0, "arm64": 0}, request=1.0, put=0, get=0)
    seen = []
    lambdamr.map_reduce(
        sum, operator.add, range(8), executor=of(cloud, prices=free), observers=[seen.append]
    )
    assert seen[-1].cost == cloud.gateway.invocations[cloud.function]


def test_a_job_stops_before_it_costs_too_much(cloud):
    free = aws_prices.Prices({"x86_64": 0, "arm64": 0}, request=1.0, put=0, get=0)
    with pytest.raises(lambdamr.CostLimitError):
        lambdamr.map_reduce(
            lambda part: time.sleep(0.01),
            lambda a, b: None,
            range(1000),
            executor=of(cloud, prices=free),
            max_cost=3.5,
        )
    assert cloud.gateway.invocations[cloud.function] <= 4


def test_what_was_lost_is_paid_for_as_well(cloud):
    seen = []

    prices = aws_prices.Prices({"x86_64": 0, "arm64": 0}, request=1.0, put=0, get=0)
    left = [2]

    def fault(when, service, request, body):
        if when == "after" and service == "lambda" and left[0]:
            left[0] -= 1
            raise Cut

    cloud.gateway.faults.append(fault)
    got = lambdamr.map_reduce(
        sum,
        operator.add,
        range(8),
        executor=of(cloud, prices=prices),
        observers=[seen.append],
        retry=lambdamr.RetryPolicy(base_delay=0, straggler_factor=None),
    )
    assert got == 28
    assert seen[-1].cost == cloud.gateway.invocations[cloud.function]


def test_jobs_of_one_executor_do_not_meet(cloud):
    async def main():
        executor = of(cloud)
        return await asyncio.gather(
            *(
                lambdamr.amap_reduce(
                    lambda part, n=n: np.full(50_000, float(n)),
                    operator.iadd,
                    range(6),
                    executor=executor,
                )
                for n in range(3)
            )
        )

    assert [value[0] for value in asyncio.run(main())] == [0, 6, 12]
