"""One emulator, one deployed stack and one gateway for all tests here.

Each test gets a gateway that is clean. The stack is made by the installed `lambdamr deploy`, and
removed by `lambdamr destroy`; if that leaves anything, the last test has an error.
"""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

for folder in (Path(__file__).parent, Path(__file__).parent.parent / "contract"):
    sys.path.insert(0, str(folder))
pytest.register_assert_rewrite("suite")

import stack  # noqa: E402  # from next door
from emulator import emulator  # noqa: E402
from gateway import ENVIRONMENTS, Gateway  # noqa: E402


@pytest.fixture(scope="session")
def _cloud(tmp_path_factory):
    """The emulator, and in it what `lambdamr deploy` makes. In the end `destroy` leaves nothing."""
    folder = tmp_path_factory.mktemp("emulator")
    with (
        pytest.MonkeyPatch.context() as patch,
        Gateway() as gateway,
        emulator(folder, seen_by_functions=gateway.url) as gateway.upstream,  # ends first
    ):
        standard_credentials(patch)
        elsewhere = tmp_path_factory.mktemp("empty")
        with stack.deployed(gateway.url, elsewhere, "--timeout", "60") as outputs:
            stack.publish(gateway.url, outputs["FunctionNames"], ENVIRONMENTS)
            yield SimpleNamespace(
                gateway=gateway,
                url=gateway.url,
                bucket=outputs["BucketName"],
                function=outputs["FunctionNames"],
                queue=outputs["QueueUrl"],
                log_group=outputs["LogGroupName"],
                code=stack.function_zip(),
                log=folder / "emulator.log",
            )
            while gateway.running:  # what hangs would make its log group anew when it ends
                time.sleep(0.05)
        assert stack.remains(gateway.url) == {}
        assert list(elsewhere.iterdir()) == []


@pytest.fixture
def cloud(_cloud, monkeypatch):
    """The emulator behind the gateway, with nothing counted yet and no faults."""
    standard_credentials(monkeypatch)
    # A copy of a task that nobody needs may take long on a busy machine; what it writes once its
    # job has ended would stay until it expires, and every later test would find it.
    monkeypatch.setattr("lambdamr.executors.aws_pool.GRACE", 30)
    _cloud.gateway.reset()
    yield _cloud
    _cloud.gateway.reset()


@pytest.fixture
def function(cloud):
    """Makes functions, which are gone after the test."""
    made = []

    def make(**settings):
        name = f"lambdamr-of-a-test-{len(made)}"
        settings = {"code": cloud.code, "environments": 8, "log_group": cloud.log_group} | settings
        stack.create_function(cloud.url, name, cloud.bucket, **settings)
        cloud.gateway.free[name][:] = [str(i) for i in range(settings["environments"], 0, -1)]
        made.append(name)
        return name

    yield make
    for name in made:
        stack.client("lambda", cloud.url).delete_function(FunctionName=name)


def standard_credentials(patch):
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
        patch.delenv(name, raising=False)
    patch.setenv("AWS_ACCESS_KEY_ID", "000000000000")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
    patch.setenv("AWS_DEFAULT_REGION", stack.REGION)
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("AWS_CONFIG_FILE", "/dev/null")
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
