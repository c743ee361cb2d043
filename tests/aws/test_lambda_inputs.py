"""Arguments of `LambdaExecutor` that cannot be used are refused before anything is sent."""

import re
import subprocess
import sys

import pytest

import lambdamr
from lambdamr.executors import aws_prices
from lambdamr.runtimes import failures


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"stack": None}, "stack must be a string"),
        ({"stack": ""}, "stack must be a string"),
        ({"region": 7}, "region must be a string"),
        ({"concurrency": 0}, "from 1 up"),
        ({"concurrency": "4"}, "whole number"),
        ({"concurrency": True}, "whole number"),
        ({"warm": 0}, "from 1 up"),
        ({"warm": "4"}, "whole number"),
        ({"warm": 5, "concurrency": 4}, "warm=5 is more than the concurrency=4"),
        ({"warm": 4001}, "warm=4001 is more than the 4,000, the most"),
        ({"invocation": "sync"}, "auto, request or event"),
        ({"functions": ["f"]}, "go together"),
        ({"bucket": "b"}, "go together"),
        ({"queue_url": "http://q"}, "queue_url goes with functions"),
        ({"stack": "mine", "functions": ["f"], "bucket": "b"}, "the place of stack='mine'"),
        ({"endpoint_url": "localhost:4566"}, "must begin with http://"),
        ({"prices": {"x86_64": 1.0}}, r"prices must be lambdamr\.executors\.aws_prices\.Prices"),
        ({"functions": [], "bucket": "b"}, "names of functions"),
        ({"functions": [1], "bucket": "b"}, "names of functions"),
        ({"secrets": ["TOKEN"]}, "mapping"),
        ({"secrets": {"A B": "ssm:x"}}, "name of a variable"),
    ],
)
def test_it_says_what_is_wrong(settings, said):
    with pytest.raises(lambdamr.InputError, match=said):
        lambdamr.LambdaExecutor(**settings)


def test_prices_of_one_architecture_are_not_enough():
    with pytest.raises(lambdamr.InputError, match="a price for arm64, too"):
        aws_prices.Prices({"x86_64": 0.00001})


def test_by_name_it_is_the_standard_stack(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-nobody")
    with pytest.raises(lambdamr.BrokenExecutorError, match=r"stack 'lambdamr'.*127\.0\.0\.1:9"):
        lambdamr.map_reduce(sum, int.__add__, [1], executor="lambda")


def test_a_region_that_cannot_be():
    executor = lambdamr.LambdaExecutor(functions=["f"], bucket="b", region="us east")
    with pytest.raises(lambdamr.BrokenExecutorError, match=r"'us east'.*Say region="):
        lambdamr.map_reduce(sum, int.__add__, [1], executor=executor)


def test_an_endpoint_of_the_environment_without_http(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-nobody")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:4566")
    with pytest.raises(lambdamr.BrokenExecutorError, match="Check AWS_ENDPOINT_URL"):
        lambdamr.map_reduce(sum, int.__add__, [1], executor="lambda")


def test_without_aiobotocore_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiobotocore.session", None)
    with pytest.raises(lambdamr.BrokenExecutorError, match=r"pip install 'lambdamr\[aws\]'"):
        lambdamr.map_reduce(sum, int.__add__, [1], executor="lambda")


def test_a_cold_function_imports_little():
    """cloudpickle, which brings some of the standard library, and nothing of AWS."""
    program = (
        "import sys, lambdamr.runtimes.aws_lambda\n"
        "print(*{'boto3', 'botocore', 'aiobotocore', 'aiohttp', 'asyncio', 'numpy', 'ROOT'}"
        " & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


REASONS = """
    ConcurrentInvocationLimitExceeded FunctionInvocationRateLimitExceeded
    ReservedFunctionConcurrentInvocationLimitExceeded ReservedFunctionInvocationRateLimitExceeded
    CallerRateLimitExceeded ConcurrentSnapshotCreateLimitExceeded
"""


@pytest.mark.parametrize("reason", REASONS.split())
def test_a_429_of_every_reason_is_throttling(reason):
    verdict = of_response(429, "TooManyRequestsException", "Rate Exceeded.", Reason=reason)
    assert verdict.kind == "Throttled"
    assert reason in verdict.message


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "SlowDown", "Throttled"),
        (502, "EC2ThrottledException", "Throttled"),
        (502, "ENILimitReachedException", "Throttled"),
        (502, "ResourceNotReadyException", "Throttled"),
        (400, "ThrottlingException", "Throttled"),
        (409, "SnapStartNotReadyException", "Throttled"),
        (502, "ENINotReadyException", "Throttled"),
        (400, "KmsThrottled", "Throttled"),
        (500, "ServiceException", "Lost"),
        (500, "InternalError", "Lost"),
        (404, "NoSuchKey", "Lost"),
        (400, "RequestTimeout", "Lost"),
        (404, "ResourceNotFoundException", "Broken"),
        (403, "AccessDenied", "Broken"),
        (403, "403", "Broken"),
        (403, "SignatureDoesNotMatch", "Broken"),
        (403, "UnrecognizedClientException", "Broken"),
        (403, "RequestTimeTooSkewed", "Broken"),
        (400, "ExpiredToken", "Broken"),
        (502, "KMSAccessDeniedException", "Broken"),
        (502, "EC2AccessDeniedException", "Broken"),
        (502, "InvalidZipFileException", "Broken"),
        (301, "PermanentRedirect", "Broken"),
        (400, "WhatIsThis", "Broken"),
    ],
)
def test_errors_of_aws_have_classes(status, code, kind):
    verdict = of_response(status, code, "said")
    assert verdict.kind == kind
    assert verdict.message.startswith(f"where: {code}: said")
    says_what_to_do = re.search(r"\b(Run|Check|Ask|Renew|Set|say) ", verdict.message)
    assert (kind == "Broken") == bool(says_what_to_do)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("operation cannot be performed at this time. ... state: Pending", "Throttled"),
        ("An update is in progress for resource", "Throttled"),
        ("The function is in the Failed state", "Broken"),
    ],
)
def test_a_function_in_the_making_is_waited_for_and_one_that_failed_is_not(said, kind):
    assert of_response(409, "ResourceConflictException", said).kind == kind


@pytest.mark.parametrize(
    ("error", "said", "kind"),
    [
        ("Sandbox.Timedout", "RequestId: 1 Error: Task timed out after 3.00 seconds", "TimedOut"),
        ("", "2026-01-01T00:00:00Z 1 Task timed out after 900.00 seconds", "TimedOut"),
        ("Runtime.OutOfMemory", "Error: Runtime exited with error: signal: killed", "OutOfMemory"),
        ("Runtime.ExitError", "Error: Runtime exited with error: signal: killed", "OutOfMemory"),
        ("MemoryError", "", "OutOfMemory"),
        ("Runtime.ExitError", "Runtime exited with error: signal: segmentation fault", "Lost"),
        ("Runtime.ExitError", "Runtime exited with error: exit status 3", "Lost"),
        ("Runtime.ImportModuleError", "Unable to import module", "Broken"),
        ("Runtime.HandlerNotFound", "Handler 'x' missing", "Broken"),
        ("ZeroDivisionError", "division by zero", "Lost"),
    ],
)
def test_functions_that_gave_no_answer_have_classes(error, said, kind):
    assert failures.of_function(error, said, "f").kind == kind


def test_what_is_no_error_of_aws_has_no_verdict():
    assert failures.of_exception(ZeroDivisionError(), "where") is None


def of_response(status, code, message, **more):
    error = Exception()
    error.response = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
        **more,
    }
    return failures.of_exception(error, "where")
