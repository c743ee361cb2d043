"""Environments that are started before a job needs them."""

import asyncio
import json
import operator
import os
import time

import pytest
import stack
from aiohttp import web
from gateway import Cut

import lambdamr
from lambdamr import events
from lambdamr.executors import aws_lambda, aws_prices, aws_warm
from lambdamr.runtimes.aws_lambda import handler

A_REQUEST = aws_prices.Prices({"x86_64": 0, "arm64": 0}, request=1.0, put=0, get=0)


@pytest.fixture
def of(cloud, function):
    """Makes executors on a function where nobody was before."""
    name = function()

    def make(warm=4, **settings):
        settings = {"concurrency": 8, "functions": [name]} | settings
        return lambdamr.LambdaExecutor(
            bucket=cloud.bucket, endpoint_url=cloud.url, warm=warm, **settings
        )

    make.function = name
    return make


def meeting(folder, n):
    """A mapper of partitions that wait until all of them are under way."""

    def mapper(part):
        (folder / str(part[0])).touch()
        deadline = time.monotonic() + 20
        while len(os.listdir(folder)) < n and time.monotonic() < deadline:
            time.sleep(0.01)
        return {os.getpid()}

    return mapper


def job(executor, n=4, mapper=lambda part: time.sleep(0.3) or {os.getpid()}, **options):
    """Partitions that run at once; what each task says of itself, and what all have cost."""
    seen = []
    places = lambdamr.map_reduce(
        mapper,
        operator.or_,
        range(n),
        executor=executor,
        observers=[seen.append],
        retry=lambdamr.RetryPolicy(straggler_factor=None),
        **options,
    )
    tasks = [event.stats for event in seen if isinstance(event, events.TaskFinished)]
    return places, [stats for stats in tasks if stats.worker != "driver"], seen[-1].cost


def warm_ups(cloud):
    """The payloads of those to come."""
    seen = []

    def note(when, service, request, body):
        if when == "before" and service == "lambda" and b'"warm"' in body:
            seen.append(json.loads(body))

    cloud.gateway.faults.append(note)
    return seen


def test_without_it_the_first_tasks_start_cold(of):
    _, tasks, _ = job(of(warm=None))
    assert [stats.cold for stats in tasks] == [True] * 4
    assert all(stats.starting > 0 for stats in tasks)


def test_the_first_tasks_find_environments_that_are_awake(cloud, of):
    places, tasks, _ = job(of())
    assert len(places) == 4
    assert [stats.cold for stats in tasks] == [False] * 4
    assert [stats.starting for stats in tasks] == [0] * 4
    assert cloud.gateway.invocations[of.function] == 4 + 4
    assert not [call for call in cloud.gateway.calls if call.startswith("s3")]


def test_more_tasks_than_environments_do_not_wait(of):
    places, tasks, _ = job(of(warm=2))
    assert len(places) == 4
    assert sorted(stats.cold for stats in tasks) == [False, False, True, True]


def test_as_many_are_awake_as_were_asked_for_though_they_answer_at_once(of):
    executor = of(warm=8)
    woken = asyncio.run(executor.wake())
    assert (woken.environments, woken.cold, woken.error) == (8, 8, None)
    again = asyncio.run(executor.wake())
    assert (again.environments, again.cold, again.error) == (8, 0, None)
    assert 0 < again.cost < woken.cost


def test_each_holds_its_environment_until_the_last_was_sent(cloud, of):
    sent = warm_ups(cloud)
    asyncio.run(of(warm=8).wake())
    holds = sorted(event["warm"] for event in sent)
    assert holds == pytest.approx([aws_warm.HOLD + i * aws_warm.PACE for i in range(8)])
    reply = handler({**sent[0], "warm": 0.2}, None)
    assert reply["meter"]["seconds"] >= 0.2


def test_what_it_costs_is_on_the_bill(cloud, of):
    _, _, cost = job(of(prices=A_REQUEST))
    assert cost == cloud.gateway.invocations[of.function] == 8


def test_what_is_prepared_is_not_woken_again_and_is_paid_once(cloud, of):
    executor = of(prices=A_REQUEST)
    sent = warm_ups(cloud)
    executor.prepare()
    executor.prepare()
    _, tasks, cost = job(executor)
    assert [stats.cold for stats in tasks] == [False] * 4
    assert cost == 4 + 4
    _, _, cost = job(executor)
    assert cost == 4
    assert len(sent) == 4


def test_after_some_minutes_they_are_woken_again(cloud, of, monkeypatch):
    executor = of()
    sent = warm_ups(cloud)
    job(executor)
    job(executor)
    assert len(sent) == 4
    monkeypatch.setattr(aws_lambda, "STAY", 0)
    job(executor)
    assert len(sent) == 8


@pytest.fixture
def hanging(cloud):
    """The first warm-up gets no answer in this test: an event of the gateway's loop, not set."""
    over = []

    async def hang(when, service, request, body):
        if when == "before" and b'"warm"' in body and not over:
            over.append(asyncio.Event())
            await over[0].wait()
            raise Cut

    cloud.gateway.faults.append(hang)
    yield over
    cloud.gateway._loop.call_soon_threadsafe(over[0].set)


def test_a_job_ends_though_a_warm_up_does_not(hanging, of, tmp_path):
    places, _, cost = job(of(warm=3, prices=A_REQUEST), n=2, mapper=meeting(tmp_path, 2))
    assert len(places) == 2
    assert not hanging[0].is_set()
    assert cost == 3 + 2  # what is under way is on the bill so far


def test_throttling_leaves_the_rest_to_the_tasks(cloud, of, caplog):
    limit = {"FunctionName": of.function}
    client = stack.client("lambda", cloud.url)
    client.put_function_concurrency(**limit, ReservedConcurrentExecutions=2)
    try:
        woken = asyncio.run(of().wake())
        assert woken.environments == woken.cold == 2
        assert "Rate Exceeded" in woken.error
        assert len(caplog.records) == 1
        places, _, _ = job(of())
        assert 1 <= len(places) <= 2
    finally:
        client.delete_function_concurrency(**limit)
        del cloud.gateway.reserved[of.function]


def test_a_function_that_is_missing_is_said_by_the_job(cloud, of):
    with pytest.raises(lambdamr.BrokenExecutorError, match="lambdamr deploy"):
        job(of(functions=["no-such-function"]))


def test_a_function_that_knows_no_warm_up_does_its_tasks(cloud, of, caplog):
    meter = {"seconds": 0.1, "init": 0, "memory": 1769, "arch": "x86_64", "puts": 0, "gets": 0}

    def old(when, service, request, body):
        if when == "before" and b'"warm"' in body:
            return web.json_response(
                {"protocol": 1, "failed": "Lost", "message": "KeyError", "meter": meter}
            )
        return None

    cloud.gateway.faults.append(old)
    places, _, _ = job(of())
    assert len(places) == 4
    assert "KeyError. Is its lambdamr another? `lambdamr deploy`" in caplog.text


def test_the_command_wakes_those_of_the_stack(cloud, tmp_path):
    arguments = ("warm", "3", "--endpoint-url", cloud.url)
    said = stack.lambdamr_command(*arguments, folder=tmp_path)
    assert said.startswith("3 of 3 environments are awake, ")
    said = stack.lambdamr_command(*arguments, folder=tmp_path)
    assert said.startswith("3 of 3 environments are awake, 0 of them were not before: 0.000")


def test_how_many_is_needed_for_waking():
    with pytest.raises(lambdamr.InputError, match="warm=50"):
        asyncio.run(lambdamr.LambdaExecutor().wake())
