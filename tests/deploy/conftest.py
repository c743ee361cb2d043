"""An emulator of AWS for all tests here; each test finds it empty, and leaves it so."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from types import SimpleNamespace

import botocore.session
import pytest
from typer.testing import CliRunner

from lambdamr.deploy.commands import app

REGION = "us-east-1"
SERVICES = ("cloudformation", "iam", "lambda", "logs", "s3", "sqs")


@pytest.fixture(scope="session")
def emulator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("emulator")
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port = made.getsockname()[1]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ministack"],
            env={
                **{name: value for name, value in os.environ.items() if name[:4] != "AWS_"},
                "GATEWAY_PORT": str(port),
                "TMPDIR": str(folder),
            },
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its functions end with it
        )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 60
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, "the emulator does not answer"
            with contextlib.suppress(OSError), urllib.request.urlopen(url + "/_ministack/health"):
                break
            time.sleep(0.05)
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def no_aws(monkeypatch, tmp_path):
    """Nothing known of AWS: no region, no credentials."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def aws(emulator, no_aws, monkeypatch):
    """Clients of the emulator; what a test leaves there fails it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", emulator)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "000000000000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
    session = botocore.session.get_session()
    found = SimpleNamespace(**{name: session.create_client(name) for name in SERVICES})
    found.url = emulator
    yield found
    assert remains(found) == {}


def remains(aws):
    """All that a deployment could have left."""
    found = {
        "buckets": aws.s3.list_buckets()["Buckets"],
        "functions": getattr(aws, "lambda").list_functions()["Functions"],
        "log groups": aws.logs.describe_log_groups()["logGroups"],
        "policies": aws.iam.list_policies(Scope="Local")["Policies"],
        "queues": aws.sqs.list_queues().get("QueueUrls", []),
        "roles": aws.iam.list_roles()["Roles"],
        "stacks": aws.cloudformation.describe_stacks()["Stacks"],
    }
    return {kind: things for kind, things in found.items() if things}


@pytest.fixture
def command():
    """Runs `lambdamr ...` here; asserts its exit code; what it said, in one line."""

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())

    return run


@pytest.fixture
def outputs(aws):
    """The outputs of a stack."""

    def read(name="lambdamr"):
        [stack] = aws.cloudformation.describe_stacks(StackName=name)["Stacks"]
        return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}

    return read
