"""An emulator of AWS for all tests here; each test finds it empty, and leaves it so."""

import functools
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import botocore.loaders
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "aws"))

import stack as aws_stack  # from the tests of the executor
from emulator import emulator as started

from lambdamr.deploy import stack as stacks
from lambdamr.deploy.commands import app

create_loader = functools.cache(botocore.loaders.create_loader)
REGION = aws_stack.REGION
SERVICES = ("cloudformation", "iam", "lambda", "logs", "s3", "sqs")


@pytest.fixture(scope="session")
def emulator(tmp_path_factory):
    with started(tmp_path_factory.mktemp("emulator")) as url:
        yield url


@pytest.fixture(autouse=True)
def _prompt(monkeypatch):
    """The emulator is quick, and each command would read the models of all services again."""
    monkeypatch.setattr(stacks, "_POLL", (0.02, 0.2))
    monkeypatch.setattr("botocore.session.create_loader", create_loader)


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
    found = SimpleNamespace(**{name: aws_stack.client(name, emulator) for name in SERVICES})
    found.url = emulator
    yield found
    assert aws_stack.remains(emulator) == {}


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
