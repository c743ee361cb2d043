"""The handler under AWS's own runtime client (awslambdaric) and runtime interface emulator."""

import os
import sys
import urllib.request

import pytest
import stack
from interface_emulator import binary, serving
from suite import ExecutorContract

import lambdamr
from lambdamr.runtimes import envelope

FUNCTION = "lambdamr-rie"


def behind_it(handler, folder, **variables):
    """The URL of a handler, behind AWS's programs."""
    environment = {
        **os.environ,
        "AWS_REGION": stack.REGION,
        "AWS_LAMBDA_FUNCTION_NAME": FUNCTION,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "60",
        "TMPDIR": str(folder),
        "PYTHONPATH": str(folder),
        **variables,
    }
    runtime = [sys.executable, "-P", "-m", "awslambdaric", handler]
    return serving(
        lambda addresses: [str(binary()), *addresses, *runtime],
        folder,
        env=environment,
        cwd=folder,
    )


@pytest.fixture(scope="module")
def rie(_cloud, tmp_path_factory):
    variables = {"AWS_ENDPOINT_URL": _cloud.url, "LAMBDAMR_BUCKET": _cloud.bucket}
    with behind_it(stack.HANDLER, tmp_path_factory.mktemp("rie"), **variables) as url:
        _cloud.gateway.free[FUNCTION] = ["1"]  # one invocation at a time
        _cloud.gateway.elsewhere[FUNCTION] = url
        yield


# Sizes and kinds of what travels; what happens to workers is not this emulator's affair.
SIZES = """
    bytes_of_any_size_come_back
    arrays_of_any_size_come_back
    values_around_the_inline_boundary_come_back
    arrays_of_every_layout_come_back
    data_of_20_mb_reaches_the_workers
    a_closure_may_hold_20_mb
    an_exception_of_the_mapper_says_all_there_is_to_know
    a_task_stops_after_its_budget_and_answers_with_what_it_has
"""


class TestRuntimeInterface(ExecutorContract):
    inline = envelope.INLINE

    for name in vars(ExecutorContract):
        if name.startswith("test_") and name.removeprefix("test_") not in SIZES.split():
            locals()[name] = None

    @pytest.fixture
    def executor(self, cloud, rie):
        return lambdamr.LambdaExecutor(
            functions=[FUNCTION], bucket=cloud.bucket, endpoint_url=cloud.url, concurrency=1
        )

    @pytest.fixture(autouse=True)
    def _remember(self, cloud):
        self.cloud = cloud

    def left_behind(self, executor):
        return stack.keys(self.cloud.url, self.cloud.bucket, "jobs/")


def test_it_is_the_emulator_of_aws_and_has_its_limit(tmp_path):
    """Or the sizes above would prove nothing."""
    (tmp_path / "main.py").write_text("def handler(event, context): return 'x' * event")
    with behind_it("main.handler", tmp_path) as url:
        url += "/2015-03-31/functions/function/invocations"
        assert invoke(url, 6_000_000) == b'"%s"' % (b"x" * 6_000_000)
        assert b"ResponseSizeTooLarge" in invoke(url, 6_300_000)


def invoke(url, event):
    try:
        with urllib.request.urlopen(url, data=b"%d" % event, timeout=30) as response:
            return response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.read()
