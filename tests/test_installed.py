"""`make test` tests the wheel that users install: these fail when another lambdamr is in front."""

import os
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

import lambdamr

pytestmark = pytest.mark.skipif(
    os.environ.get("LAMBDAMR_TEST_INSTALLED") != "1", reason="only `make test` installs the wheel"
)


def test_the_lambdamr_under_test_is_the_installed_one():
    assert Path(lambdamr.__file__).is_relative_to(sysconfig.get_path("purelib"))


def test_a_subprocess_finds_the_same_lambdamr():
    program = "import lambdamr; print(lambdamr.__file__)"
    found = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert Path(found.strip()) == Path(lambdamr.__file__)


def test_the_wheel_brings_one_typed_package_one_command_and_nothing_else():
    files = [file.as_posix() for file in metadata.files("lambdamr") or ()]
    assert "lambdamr/py.typed" in files
    outside = [file for file in files if file.startswith("../")]
    assert [Path(file).name for file in outside] == ["lambdamr"]
    files = [file for file in files if file not in outside]
    assert {file.split("/")[0] for file in files} == {
        "lambdamr",
        f"lambdamr-{lambdamr.__version__}.dist-info",
    }
