"""What goes wrong on AWS: each case has its class of failure, and says what to do."""

import base64
import json
import operator
import os
import time

import numpy as np
import pytest
import stack
from aiohttp import web
from gateway import Cut, error, s3_error

import lambdamr
from lambdamr import events

PROMPT = lambdamr.RetryPolicy(base_delay=0, straggler_factor=None)
LARGE = 100_000  # float64: a value of 800 kB, which goes to S3


@pytest.fixture
def executor(cloud):
    return of(cloud)


@pytest.fixture(autouse=True)
def _nothing_is_left(cloud):
    yield
    while cloud.gateway.recent:
        time.sleep(0.01)
    cloud.gateway.faults.clear()
    assert stack.keys(cloud.url, cloud.bucket, "jobs/") == []


def of(cloud, *functions, **settings):
    settings = {"concurrency": 4, "endpoint_url": cloud.url, **settings}
    return lambdamr.LambdaExecutor(
        functions=functions or [cloud.function], bucket=cloud.bucket, **settings
    )


def total(executor, **options):
    options = {"retry": PROMPT, **options}
    return lambdamr.map_reduce(sum, operator.add, range(8), executor=executor, **options)


def arrays(executor, n=8, **options):
    return lambdamr.map_reduce(
        lambda part: np.full(LARGE, float(part[0])),
        operator.iadd,
        range(n),
        executor=executor,
        retry=PROMPT,
        **options,
    )


def failures(seen):
    return [event.failure for event in seen if isinstance(event, events.TaskFailed)]


def once(fault, times=1):
    """The fault, so many times."""
    left = [times]

    def wrapped(when, service, request, body):
        if left[0] and (response := fault(when, service, request, body)) is not None:
            left[0] -= 1
            if response is Cut:
                raise Cut
            return response
        return None

    return wrapped


def by(side, request):
    return ("lambdamr" in request.headers.get("User-Agent", "")) == (side == "driver")


# -- the function ends badly -----------------------------------------------------------------------


def test_a_function_that_raises_is_lost(cloud, function):
    name = function(
        code=stack.zip_of("def handler(e, c): raise OSError(5)"), handler="main.handler"
    )
    with pytest.raises(lambdamr.WorkerLostError, match=name):
        total(of(cloud, name))


def test_an_exit_is_lost(executor):
    with pytest.raises(lambdamr.WorkerLostError, match=r"Runtime\.ExitError"):
        lambdamr.map_reduce(
            lambda part: os._exit(3), operator.add, [1], executor=executor, retry=PROMPT
        )


def test_a_function_that_exceeds_its_time_is_timed_out(cloud, function):
    name = function(timeout=1)
    with pytest.raises(lambdamr.PartitionTimeoutError, match=r"timed out after 1\.00 s.*raise tim"):
        lambdamr.map_reduce(
            lambda part: time.sleep(20), operator.add, [1], executor=of(cloud, name), retry=PROMPT
        )


def test_a_task_ends_before_the_time_of_its_function_does(cloud, function):
    """A task of many partitions gives back what it has, in time."""
    seen = []

    def mapper(part):
        time.sleep(0.5)
        return part[0]

    got = lambdamr.map_reduce(
        mapper,
        operator.add,
        range(10),
        executor=of(cloud, function(timeout=3), concurrency=1),
        retry=PROMPT,
        observers=[seen.append],
    )
    assert got == 45
    assert failures(seen) == []


def test_a_task_that_needs_more_memory_goes_up_the_ladder_alone(cloud, function):
    small, large = function(memory=250), function(memory=1500)

    def mapper(part):
        data = b"x" * (400 << 20 if part[0] == 3 else 1)
        time.sleep(0.2)
        return len(data)

    got = lambdamr.map_reduce(
        mapper, operator.add, range(8), executor=of(cloud, small, large), retry=PROMPT
    )
    assert got == (400 << 20) + 7
    assert cloud.gateway.invocations[large] == 1


def test_memory_that_is_not_enough_on_the_last_rung_is_named(cloud, function):
    def mapper(part):
        data = b"x" * (400 << 20)
        time.sleep(0.2)
        return len(data)

    with pytest.raises(lambdamr.OutOfMemoryError, match=r"signal: killed.*more memory"):
        lambdamr.map_reduce(
            mapper,
            operator.add,
            [1],
            executor=of(cloud, function(memory=250)),
            retry=PROMPT,
        )


# -- sizes -----------------------------------------------------------------------------------------


def test_a_request_of_7_mb_goes_through_s3(cloud, executor):
    part = os.urandom(7_000_000)
    parts = lambdamr.Partitions([part])
    assert lambdamr.map_reduce(len, operator.add, parts, executor=executor) == len(part)
    assert cloud.gateway.calls["s3 PUT"] == cloud.gateway.calls["s3 GET"] - 1 == 1  # and a LIST


def test_a_request_that_aws_finds_too_large_goes_through_s3(cloud, executor):
    cloud.gateway.request_limit = 50_000
    parts = lambdamr.Partitions([os.urandom(100_000)] * 3)
    seen = []
    got = lambdamr.map_reduce(len, operator.add, parts, executor=executor, observers=[seen.append])
    assert got == 300_000
    assert failures(seen) == []


def test_an_answer_of_7_mb_goes_through_s3(cloud):
    """Of many values, each of which travels inline."""

    def mapper(part):
        return [os.urandom(60_000)]

    got = lambdamr.map_reduce(
        mapper, operator.add, range(240), fan_in=240, executor=of(cloud, concurrency=2)
    )
    assert len(got) == 240
    assert cloud.gateway.calls["s3 PUT"] > 0


# -- what is deployed ------------------------------------------------------------------------------


def test_a_function_that_is_gone_ends_the_job(cloud):
    with pytest.raises(lambdamr.BrokenExecutorError, match=r"no-such-function.*`lambdamr deploy`"):
        total(of(cloud, "no-such-function"))


def test_a_function_that_does_not_start_ends_the_job(cloud, function):
    name = function(handler="nothing.here")
    with pytest.raises(lambdamr.BrokenExecutorError, match=r"does not start.*`lambdamr deploy`"):
        total(of(cloud, name))


def test_a_function_of_somebody_else_ends_the_job(cloud, function):
    name = function(code=stack.zip_of("def handler(e, c): return [1]"), handler="main.handler")
    with pytest.raises(lambdamr.BrokenExecutorError, match="no function of lambdamr"):
        total(of(cloud, name))


def test_a_function_with_another_python_ends_the_job(cloud, function):
    other = """
from lambdamr.runtimes import envelope
real = envelope.versions()
envelope.versions = lambda: real | {"python": "3.99"}
from lambdamr.runtimes.aws_lambda import handler
"""
    name = function(code=stack.zip_of(other), handler="main.handler")
    with pytest.raises(
        lambdamr.BrokenExecutorError, match=r"it has python 3\.99, and here is python 3.*deploy`"
    ):
        total(of(cloud, name))
    assert cloud.gateway.invocations[name] <= 4


def test_a_function_that_is_being_made_is_waited_for(cloud, executor):
    cloud.gateway.faults.append(
        once(
            lambda when, service, *_: (
                error(
                    409,
                    "ResourceConflictException",
                    "The operation cannot be performed at this time. The function is currently "
                    "in the following state: Pending",
                )
                if service == "lambda"
                else None
            ),
            times=5,
        )
    )
    seen = []
    assert total(executor, observers=[seen.append]) == 28
    assert any(isinstance(event, events.Throttled) for event in seen)
    assert failures(seen) == []


# -- who asks, and where ---------------------------------------------------------------------------


def test_a_caller_without_permission_is_told_so(cloud, executor):
    refuse(cloud, "lambda", 403, "AccessDeniedException", "not authorized: lambda:InvokeFunction")
    with pytest.raises(lambdamr.BrokenExecutorError, match=r"lambda:InvokeFunction.*permission"):
        total(executor)


def test_a_role_without_permission_ends_the_job(cloud, executor):
    def fault(when, service, request, body):
        if service == "s3" and by("worker", request):
            return s3_error(403, "AccessDenied", "Access Denied")
        return None

    cloud.gateway.faults.append(fault)
    with pytest.raises(
        lambdamr.BrokenExecutorError, match=f"{cloud.function}.*AccessDenied.*docto"
    ):
        arrays(executor)


def test_a_wrong_region_is_named(cloud):
    with pytest.raises(lambdamr.BrokenExecutorError, match=r"eu-west-3.*`lambdamr deploy`"):
        total(of(cloud, region="eu-west-3"))
    executor = lambdamr.LambdaExecutor(region="eu-west-3", endpoint_url=cloud.url)
    with pytest.raises(lambdamr.BrokenExecutorError, match=r"no stack 'lambdamr' in eu.*region="):
        total(executor)


def test_no_region_at_all_is_named(cloud, monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(lambdamr.BrokenExecutorError, match=r"region=.*AWS_REGION"):
        total(of(cloud))


def test_no_credentials_are_named(cloud, executor, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(lambdamr.BrokenExecutorError, match=r"no AWS credentials.*AWS_PROFILE"):
        total(executor)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "000000000000")  # for what is looked at afterwards
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")


def test_an_unknown_profile_is_named(cloud):
    with pytest.raises(lambdamr.BrokenExecutorError, match=r"nobody.*profile="):
        total(of(cloud, profile="nobody"))


@pytest.mark.parametrize("code", ["ExpiredTokenException", "ExpiredToken"])
def test_expired_credentials_say_how_to_renew_them(cloud, executor, code):
    refuse(cloud, "lambda", 403, code, "The security token included in the request is expired")
    with pytest.raises(lambdamr.BrokenExecutorError, match=r"expired.*aws sso login.*checkpoint"):
        total(executor)


def test_a_service_that_does_not_answer_at_all_is_lost(cloud):
    with pytest.raises(lambdamr.WorkerLostError, match=f"{cloud.function}: the connection failed"):
        total(of(cloud, endpoint_url="http://127.0.0.1:9"))
    executor = lambdamr.LambdaExecutor(endpoint_url="http://127.0.0.1:9")
    with pytest.raises(lambdamr.BrokenExecutorError, match="connection failed"):
        total(executor)


def refuse(cloud, service, status, code, message):
    cloud.gateway.faults.append(
        lambda when, to, *_: error(status, code, message) if to == service else None
    )


# -- the connection --------------------------------------------------------------------------------


def cut_answer(when, service, request, body):
    return Cut if when == "after" and service == "lambda" else None


def test_a_small_result_that_was_cut_off_is_made_again(cloud, executor):
    cloud.gateway.faults.append(once(cut_answer, times=2))
    seen = []
    assert total(executor, observers=[seen.append]) == 28
    assert failures(seen) == ["lost"] * 2


def test_a_large_result_that_was_cut_off_is_found(cloud, executor):
    """The worker had stored it: nothing runs twice."""
    cloud.gateway.faults.append(once(cut_answer, times=2))
    seen = []
    assert arrays(executor, n=4, observers=[seen.append])[0] == 6
    assert failures(seen) == []
    started = [event for event in seen if isinstance(event, events.TaskStarted)]
    assert len(started) == cloud.gateway.invocations[cloud.function]


def test_an_answer_that_is_cut_short_is_made_again(cloud, executor):
    def fault(when, service, request, response):
        if when == "after" and service == "lambda":
            return web.Response(body=response.body[:-20])
        return None

    cloud.gateway.faults.append(once(fault))
    assert total(executor) == 28


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_service_that_stumbles_is_asked_again(cloud, executor, status):
    def fault(when, service, request, body):
        return error(status, "ServiceException", "oops") if service == "lambda" else None

    cloud.gateway.faults.append(once(fault, times=2))
    seen = []
    assert total(executor, observers=[seen.append]) == 28
    assert failures(seen) == ["lost"] * 2


@pytest.mark.parametrize("side", ["worker", "driver"])
@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_s3_may_stumble(cloud, executor, side, method):
    def fault(when, service, request, body):
        if service == "s3" and request.method == method and by(side, request):
            return s3_error(500, "InternalError", "We encountered an internal error.")
        return None

    cloud.gateway.faults.append(once(fault, times=2))
    data = np.arange(2_000_000.0)
    got = lambdamr.map_reduce(
        lambda part: part * 2,
        lambda a, b: np.concatenate([a, b]),
        data,
        npartitions=4,
        executor=executor,
        retry=PROMPT,
    )
    assert np.array_equal(got, data * 2)


def test_s3_that_fails_for_good_ends_the_job(cloud, executor):
    def fault(when, service, request, body):
        if service == "s3" and request.method == "PUT" and by("worker", request):
            return s3_error(500, "InternalError", "We encountered an internal error.")
        return None

    cloud.gateway.faults.append(fault)
    with pytest.raises(lambdamr.WorkerLostError, match="InternalError"):
        arrays(executor)


def test_s3_that_is_too_busy_throttles(cloud, executor):
    def fault(when, service, request, body):
        if service == "s3" and request.method == "PUT" and by("worker", request):
            return s3_error(503, "SlowDown", "Please reduce your request rate.")
        return None

    cloud.gateway.faults.append(once(fault, times=12))  # botocore tries three times in each worker
    seen = []
    assert arrays(executor, observers=[seen.append])[0] == 28
    assert failures(seen) == []
    assert any(isinstance(event, events.Throttled) for event in seen)


# -- integrity -------------------------------------------------------------------------------------


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def cut(data):
    return data[:-1]


def almost_empty(data):
    return data[:5]


@pytest.mark.parametrize("change", [flipped, cut, almost_empty])
@pytest.mark.parametrize("side", ["worker", "driver"])
def test_an_object_that_was_changed_ends_the_job(cloud, executor, change, side):
    def fault(when, service, request, response):
        if when == "after" and is_value(service, request) and by(side, request):
            return web.Response(body=change(bytes(response.body)))
        return None

    cloud.gateway.faults.append(fault)
    with pytest.raises(lambdamr.BrokenExecutorError, match="is not what this job wrote"):
        arrays(executor, n=12)


def test_an_object_in_the_place_of_another_ends_the_job(cloud, executor):
    first = []

    def fault(when, service, request, response):
        if when == "after" and is_value(service, request):
            first.append(bytes(response.body))
            return web.Response(body=first[0])
        return None

    cloud.gateway.faults.append(fault)
    with pytest.raises(lambdamr.BrokenExecutorError, match="is not what this job wrote"):
        arrays(executor, n=12)


def is_value(service, request):
    return service == "s3" and request.method == "GET" and "/jobs/" in request.path


def test_an_answer_that_was_changed_ends_the_job(cloud, executor):
    def fault(when, service, request, response):
        if when == "after" and service == "lambda":
            reply = json.loads(response.body)
            reply["answer"] = base64.b64encode(flipped(base64.b64decode(reply["answer"]))).decode()
            return web.json_response(reply)
        return None

    cloud.gateway.faults.append(fault)
    with pytest.raises(lambdamr.BrokenExecutorError, match="is not what this job wrote"):
        total(executor)


def test_functions_that_were_changed_in_the_bucket_end_the_job(cloud, executor):
    def fault(when, service, request, response):
        if when == "after" and "/functions/" in request.path and request.method == "GET":
            return web.Response(body=flipped(bytes(response.body)))
        return None

    cloud.gateway.faults.append(fault)
    table = os.urandom(100_000)
    with pytest.raises(lambdamr.BrokenExecutorError, match="not what its name says"):
        lambdamr.map_reduce(
            lambda part: len(table), operator.add, range(8), executor=executor, retry=PROMPT
        )
