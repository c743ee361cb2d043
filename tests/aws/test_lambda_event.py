"""Asynchronous invocations: the answer comes through a queue, or through the bucket."""

import asyncio
import concurrent.futures
import json
import operator
import os
import time

import numpy as np
import pytest
import stack

import lambdamr
from lambdamr import events
from lambdamr.executors import aws_completions, aws_pool, aws_prices

PROMPT = lambdamr.RetryPolicy(base_delay=0, straggler_factor=None)


@pytest.fixture
def executor(cloud):
    return of(cloud)


def of(cloud, **settings):
    settings = {"invocation": "event", "queue_url": cloud.queue, "concurrency": 4} | settings
    return lambdamr.LambdaExecutor(
        functions=[cloud.function], bucket=cloud.bucket, endpoint_url=cloud.url, **settings
    )


@pytest.fixture(autouse=True)
def _nothing_is_left(cloud):
    yield
    assert stack.keys(cloud.url, cloud.bucket, "jobs/") == []
    # A job that failed may leave tasks behind, whose words are swept in a quarter of an hour.
    while cloud.gateway.background:
        time.sleep(0.01)
    stack.client("sqs", cloud.url).purge_queue(QueueUrl=cloud.queue)


def total(executor, n=8, **options):
    return lambdamr.map_reduce(
        sum, operator.add, range(n), executor=executor, retry=PROMPT, **options
    )


def test_answers_come_through_the_queue(cloud, executor):
    assert total(executor, 100) == 4950
    assert cloud.gateway.events > 0
    assert not [call for call in cloud.gateway.calls if call.startswith("s3")]
    assert stack.messages(cloud.url, cloud.queue) == 0


def test_what_the_queue_costs_is_on_the_bill(cloud):
    prices = aws_prices.Prices({"x86_64": 0, "arm64": 0}, request=0, put=0, get=0, message=1.0)
    seen = []
    got = lambdamr.map_reduce(
        lambda part: [os.urandom(60_000)],  # base64 makes it 80 kB, which SQS bills twice
        operator.add,
        [1],
        executor=of(cloud, prices=prices),
        observers=[seen.append],
    )
    assert len(got) == 1
    assert seen[-1].cost >= 2 + 2 + 1  # sent, received, deleted


def test_a_large_event_costs_more_than_one_request():
    prices = aws_prices.Prices()
    assert prices.of_event(256 << 10) == 0
    assert prices.of_event((256 << 10) + 1) == prices.request
    assert prices.of_event(1_000_000) == 12 * prices.request


@pytest.mark.parametrize("size", [40_000, 1_000_000])
def test_values_of_any_size_come_back(executor, size):
    got = lambdamr.map_reduce(
        lambda part: [os.urandom(size)], operator.add, range(12), fan_in=12, executor=executor
    )
    assert [len(value) for value in got] == [size] * 12


def test_a_task_of_3_mb_goes_through_s3(executor):
    data = np.random.default_rng(1).random(400_000)
    got = lambdamr.map_reduce(
        lambda part: float(part.sum()), operator.add, data, npartitions=1, executor=executor
    )
    assert got == float(data.sum())


def test_an_exception_of_the_mapper_travels(executor):
    with pytest.raises(lambdamr.MapperError, match="ZeroDivisionError"):
        lambdamr.map_reduce(lambda part: 1 // 0, operator.add, range(4), executor=executor)


def test_what_was_taken_from_the_queue_is_deleted_though_the_job_ends():
    deleted = []

    class Queue:
        async def receive_message(self, **_):
            body = json.dumps({"lambdamr": "jobs/1/", "number": 7, "reply": {}})
            return {"Messages": [{"Body": body, "ReceiptHandle": "handle"}]}

        async def delete_message_batch(self, **request):
            await asyncio.sleep(0.05)
            deleted.extend(entry["ReceiptHandle"] for entry in request["Entries"])

    async def job():
        completions = aws_completions.Completions(connect, "https://queue", "jobs/1/")
        with completions.expect(7) as report:
            assert await report == {}
        await completions.close()

    async def connect():
        return Queue()

    asyncio.run(job())
    assert deleted == ["handle"]


@pytest.mark.parametrize(("age", "hidden"), [(-5, 1), (0, 1), (19, 1), (205, 20)])
def test_what_is_for_another_job_comes_back_the_older_the_later(age, hidden):
    put_back = []

    class Queue:
        async def receive_message(self, **request):
            assert (
                request["VisibilityTimeout"] >= 30
            )  # in less, a busy machine may not delete what it took
            job = 1 if put_back else 2
            body = json.dumps({"lambdamr": f"jobs/{job}/", "number": 7, "reply": {}})
            sent = {"SentTimestamp": str(int((time.time() - age) * 1000))}
            return {"Messages": [{"Body": body, "ReceiptHandle": f"of {job}", "Attributes": sent}]}

        async def change_message_visibility_batch(self, **request):
            put_back.extend(request["Entries"])

        async def delete_message_batch(self, **request):
            assert [entry["ReceiptHandle"] for entry in request["Entries"]] == ["of 1"]

    async def connect():
        return Queue()

    async def job():
        completions = aws_completions.Completions(connect, "https://queue", "jobs/1/")
        with completions.expect(7) as report:
            assert await report == {}
        await completions.close()
        assert completions.requests == 5  # two answers, each settled; and what the worker sent

    asyncio.run(job())
    assert put_back == [{"Id": "0", "ReceiptHandle": "of 2", "VisibilityTimeout": hidden}]


def test_an_error_that_nobody_expects_ends_the_job():
    class Queue:
        async def receive_message(self, **_):
            raise ZeroDivisionError

    async def connect():
        return Queue()

    async def job():
        completions = aws_completions.Completions(connect, "https://queue", "jobs/1/")
        with completions.expect(7) as report, pytest.raises(ZeroDivisionError):
            await report
        await completions.close()

    asyncio.run(job())


def test_two_jobs_share_the_queue(cloud):
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda n: total(of(cloud), n), [40, 50])) == [780, 1225]
    assert stack.messages(cloud.url, cloud.queue) == 0


def test_what_is_stale_is_swept_from_the_queue(cloud, executor, monkeypatch):
    monkeypatch.setattr(aws_completions, "_STALE", -1)
    sqs = stack.client("sqs", cloud.url)
    sqs.send_message(QueueUrl=cloud.queue, MessageBody='{"lambdamr": "jobs/gone/", "number": 1}')
    for body in ("no JSON", "[]", "null"):
        sqs.send_message(QueueUrl=cloud.queue, MessageBody=body)
    assert total(executor) == 28
    assert stack.messages(cloud.url, cloud.queue) == 0


def test_an_invocation_that_failed_is_reported_by_lambda_itself(cloud, executor):
    """The stack's functions have the queue as the destination of failures."""
    cloud.gateway.destinations[cloud.function] = stack.failures_to(cloud.url, cloud.queue)
    with pytest.raises(lambdamr.WorkerLostError, match=r"Runtime\.ExitError|died"):
        lambdamr.map_reduce(
            lambda part: os._exit(3), operator.add, [1], executor=executor, retry=PROMPT
        )


def test_an_invocation_of_which_nothing_is_heard_is_lost(cloud, executor, monkeypatch):
    monkeypatch.setattr(aws_pool, "COMPLETIONS_LIMIT", 1)
    with pytest.raises(lambdamr.WorkerLostError, match="no word of it on the queue for 1 s"):
        lambdamr.map_reduce(
            lambda part: time.sleep(4),
            operator.add,
            [1],
            executor=executor,
            retry=lambdamr.RetryPolicy(attempts=1),
        )
    while cloud.gateway.recent:
        time.sleep(0.01)


def test_tasks_that_take_long_are_invoked_asynchronously(cloud, monkeypatch):
    monkeypatch.setattr(aws_pool, "LONG", 0.2)

    def mapper(part):
        time.sleep(0.3)
        return part[0]

    executor = of(cloud, invocation="auto", concurrency=2)
    policy = lambdamr.RetryPolicy(straggler_factor=None)
    seen = []
    got = lambdamr.map_reduce(
        mapper, operator.add, range(12), executor=executor, retry=policy, observers=[seen.append]
    )
    assert got == 66
    finished = [event for event in seen if isinstance(event, events.TaskFinished)]
    assert 0 < cloud.gateway.events < len(finished)


def test_without_a_queue_it_says_what_to_do(cloud):
    with pytest.raises(lambdamr.BrokenExecutorError, match="queue_url"):
        total(of(cloud, queue_url=None))


def test_a_queue_that_is_gone_ends_the_job(cloud):
    with pytest.raises(lambdamr.BrokenExecutorError, match=r"NonExistentQueue|QueueDoesNotExist"):
        total(of(cloud, queue_url=cloud.queue + "-gone"))
