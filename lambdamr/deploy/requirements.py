"""Wheels that fit the functions, whatever this machine is."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from lambdamr.errors import InputError

OF_PIP = ("RECORD", "REQUESTED", "INSTALLER", "direct_url.json")
"""Files that say how a package came, not what it is."""

_MACHINE = {"x86_64": "x86_64", "arm64": "aarch64"}


def install(
    requirements: Path | Sequence[str],
    target: Path,
    *,
    python: str,
    architecture: str,
    also: Sequence[str] = (),
    glibc: int | None = None,
) -> tuple[str, ...]:
    """Install them, and what they require, as Lambda needs them.

    Args:
        requirements: a file as pip reads it, or requirements.
        target: an empty folder.
        python: minor version of the functions.
        architecture: ``"x86_64"`` or ``"arm64"``.
        also: further requirements.
        glibc: minor version (2.x) of the C library there; default: that of Lambda's own Python.

    Returns:
        What is there now, as ``name==version``, sorted.

    Raises:
        InputError: there is no such file, no pip, or no wheels that fit.
    """
    if importlib.util.find_spec("pip") is None:
        raise InputError(
            "requirements are installed with pip, which is missing here: "
            f"run `{sys.executable} -m ensurepip`"
        )
    there = _environment(python, architecture)
    if isinstance(requirements, Path):
        if not requirements.is_file():
            raise InputError(f"there is no file {requirements}")
        try:
            lines = requirements.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{requirements} cannot be read: {error}") from error
        wanted = ["-r", str(requirements), *map(str, _left_out(lines, there))]
        source = str(requirements)
    else:
        wanted, source = list(requirements), "requirements of the stack"
    wanted += also
    tags = _platforms(glibc or _glibc(python), _MACHINE[architecture])
    options = [f"--platform={tag}" for tag in tags]
    while wanted:
        _pip([*options, f"--python-version={python}", f"--target={target}", *wanted], source)
        wanted = _missing(target, there)
    return tuple(
        sorted(
            f"{canonicalize_name(dist.name)}=={dist.version}"
            for dist in metadata.distributions(path=[str(target)])
        )
    )


def _pip(arguments: Sequence[str], source: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--only-binary=:all:", "--no-compile"]
    command += ["--implementation=cp", "--upgrade", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, *arguments],
        env=os.environ | {"PIP_USER": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        said = "\n  ".join(line.removeprefix("ERROR: ") for line in lines) or done.stderr.strip()
        raise InputError(
            f"{source}: not all of it can be installed for Lambda. pip says:\n  {said}\n"
            "Lambda needs wheels; what exists only as source needs an image (--image-uri)"
        )


def _glibc(python: str) -> int:
    # Lambda's Python 3.11 runs on Amazon Linux 2 (glibc 2.26), later ones on 2023 (glibc 2.34).
    return 26 if python == "3.11" else 34


def _platforms(glibc: int, machine: str) -> list[str]:
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(glibc, 16, -1)]
    older = ["manylinux2010_x86_64", "manylinux1_x86_64"] if machine == "x86_64" else []
    return [*tags, f"manylinux2014_{machine}", *older]


def _environment_here() -> dict[str, str]:
    return {name: str(value) for name, value in default_environment().items()} | {"extra": ""}


def _environment(python: str, architecture: str) -> dict[str, str]:
    return _environment_here() | {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": _MACHINE[architecture],
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }


# pip takes the wheels of another platform, but reads conditions (`; sys_platform == "linux"`) as if
# it were this one (https://github.com/pypa/pip/issues/11664). What it leaves out for that is added.
def _left_out(lines: Iterable[str], there: dict[str, str]) -> Iterator[Requirement]:
    here = _environment_here()
    for line in lines:
        try:
            requirement = Requirement(line.partition(" #")[0])
        except InvalidRequirement:  # an option or a path, which is pip's affair
            continue
        marker, requirement.marker = requirement.marker, None
        if marker is not None and marker.evaluate(there) and not marker.evaluate(here):
            yield requirement


def _missing(target: Path, there: dict[str, str]) -> list[str]:
    found = {
        canonicalize_name(dist.name): dist for dist in metadata.distributions(path=[str(target)])
    }
    required = [line for dist in found.values() for line in dist.requires or ()]
    return [
        str(requirement)
        for requirement in _left_out(required, there)
        if canonicalize_name(requirement.name) not in found
    ]
