"""What is in the zip."""

import subprocess
import sys
import zipfile

import cloudpickle
import pytest

from lambdamr.deploy import package, requirements
from lambdamr.deploy.settings import HERE
from lambdamr.errors import InputError


def build(folder, name="a.zip", python=HERE, architecture="x86_64", wanted=()):
    return package.build(
        folder / name, python=python, architecture=architecture, requirements=wanted
    )


def test_the_same_contents_are_the_same_bytes(tmp_path):
    first, second = build(tmp_path), build(tmp_path, "b.zip")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.key == second.key


def test_other_contents_have_another_key(tmp_path, monkeypatch):
    first = build(tmp_path)

    def install(wanted, target, **_):
        (target / "six.py").write_text("x = 1")
        return ("six==1",)

    monkeypatch.setattr(requirements, "install", install)
    second = build(tmp_path, "b.zip", wanted=["six"])
    assert second.key != first.key
    assert second.requirements == ("six==1",)


def test_the_handler_is_imported_from_the_zip_alone(tmp_path):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import lambdamr.runtimes.aws_lambda as a; "
        "print(a.__file__, callable(a.handler))"
    )
    made = build(tmp_path)
    found = subprocess.check_output(
        [sys.executable, "-I", "-S", "-c", program, str(made.path)], text=True
    )
    assert found.split() == [f"{made.path}/lambdamr/runtimes/aws_lambda.py", "True"]


def test_wheels_fit_the_function_and_not_this_machine(tmp_path):
    (tmp_path / "requirements.txt").write_text(
        "markupsafe==3.0.2\n"
        'six==1.16.0; platform_machine == "aarch64"  # which this machine may not be\n'
        "cloudpickle==3.0.0  # that of the client goes, since its pickles have to be read\n"
    )
    made = build(
        tmp_path, python="3.13", architecture="arm64", wanted=tmp_path / "requirements.txt"
    )
    assert made.requirements == ("markupsafe==3.0.2", "six==1.16.0")
    with zipfile.ZipFile(made.path) as file:
        names = file.namelist()
        cloud = file.read("cloudpickle/__init__.py").decode()
    assert "markupsafe/_speedups.cpython-313-aarch64-linux-gnu.so" in names
    assert "six.py" in names
    assert f'__version__ = "{cloudpickle.__version__}"' in cloud
    assert not [name for name in names if "cloudpickle-" in name or "__pycache__" in name]


def test_a_requirement_of_a_requirement_that_only_the_function_has_is_not_lost(tmp_path):
    # pip leaves it out: it reads the condition as if it were this machine.
    info = tmp_path / "there-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: there\nVersion: 1\n"
        'Requires-Dist: only-there>=2; python_version >= "4.0"\n'
        'Requires-Dist: only-here; python_version < "4.0"\n'
        'Requires-Dist: optional; extra == "more"\n'
    )
    environment = requirements._environment("4.1", "arm64")
    assert requirements._missing(tmp_path, environment) == ["only-there>=2"]


@pytest.mark.parametrize(("python", "newest"), [("3.11", 26), ("3.12", 34), ("3.14", 34)])
def test_wheels_ask_for_no_newer_libc_than_the_function_has(python, newest):
    tags = requirements._platforms(requirements._glibc(python), "x86_64")
    assert tags[0] == f"manylinux_2_{newest}_x86_64"
    assert "manylinux2014_x86_64" in tags


def test_without_pip_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(requirements.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="-m ensurepip"):
        build(tmp_path, wanted=["six"])
