"""The container image of the functions: what goes into it, building it, and pushing it to ECR."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import cloudpickle

import lambdamr
from lambdamr.deploy import requirements as wheels
from lambdamr.deploy.engines import Engine
from lambdamr.errors import InputError

NAME = "lambdamr"
"""What images are called on this machine; the tag says what is in them."""

GLIBC = 36
"""Minor version of the C library of the default base (Debian 12); other bases: no older."""

_SCRIPTS = ("Dockerfile", "build.sh", "check.py", "trim.py")
_OURS = ("awslambdaric>=3", "botocore>=1.35")
_HANDLERS = {False: "lambdamr.runtimes.aws_lambda", True: "PyRDF.aws_lambda"}
_NOT_SENT = ("__pycache__", "deploy", "*.so")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What an image is to be.

    Attributes:
        python: minor version; the base has to have it.
        architecture: ``"x86_64"`` or ``"arm64"``.
        root: version of ROOT on PyPI; "" is plain Python.
        base: an image of Debian or Ubuntu with that Python; "" is Docker's own of Python.
        requirements: what mappers import, as a file that pip reads.
        headers: files and folders for ROOT's interpreter, which finds them by name.
    """

    python: str
    architecture: str = "x86_64"
    root: str = ""
    base: str = ""
    requirements: Path | None = None
    headers: tuple[Path, ...] = ()

    def __str__(self) -> str:
        kind = f"ROOT {self.root}" if self.root else "plain Python"
        return f"{kind}, Python {self.python} on {self.architecture}"


@dataclass(frozen=True, slots=True)
class Image:
    """An image on this machine.

    Attributes:
        reference: ``lambdamr:<tag>``; the tag is a digest of all that went into it.
        built: now; False if it was here.
        size: bytes, unpacked; None if the engine does not say.
    """

    reference: str
    built: bool
    size: int | None

    @property
    def tag(self) -> str:
        """What comes after the colon."""
        return self.reference.rpartition(":")[2]


def root_here() -> str:
    """The version of the ROOT package here; "" if there is none, or no PyRDF to use it."""
    if importlib.util.find_spec("PyRDF") is None:
        return ""
    try:
        return metadata.version("root")
    except metadata.PackageNotFoundError:
        return ""


def build(recipe: Recipe, engine: Engine) -> Image:
    """Build it, unless an image of the same contents is here.

    Raises:
        InputError: a requirement or a header is not there, or the build refused: says why.
    """
    with tempfile.TemporaryDirectory(prefix="lambdamr-") as folder:
        context = Path(folder)
        _write_context(context, recipe)
        arguments = {"PYTHON": recipe.python, "ROOT": recipe.root}
        if recipe.base:
            arguments["BASE"] = recipe.base
        digest = _digest(context, [recipe.architecture, *map(str, sorted(arguments.items()))])
        reference = f"{NAME}:{digest}"
        built = not engine.has(reference)
        if built:
            engine.build(context, reference, recipe.architecture, arguments)
    return Image(reference, built, engine.size(reference))


def _write_context(context: Path, recipe: Recipe) -> None:
    for header in recipe.headers:
        if not header.exists():
            raise InputError(f"--header: there is no file or folder {header}")
    if recipe.headers and not recipe.root:
        raise InputError("--header is for ROOT's interpreter, and the image is without: say --root")
    scripts = Path(lambdamr.__file__).parent / "runtimes/image"
    for name in _SCRIPTS:
        shutil.copyfile(scripts / name, context / name)
    site = context / "site"
    site.mkdir()
    ours = [*_OURS, *([f"root=={recipe.root}"] if recipe.root else [])]
    wheels.install(
        recipe.requirements or (),
        site,
        python=recipe.python,
        architecture=recipe.architecture,
        also=ours,
        glibc=GLIBC,
    )
    for package in _sources(bool(recipe.root)):
        target = site / package.name
        shutil.rmtree(target, ignore_errors=True)  # the client's, whatever pip brought
        shutil.copytree(package, target, ignore=shutil.ignore_patterns(*_NOT_SENT))
    handler = _HANDLERS[bool(recipe.root)]
    (site / "worker.py").write_text(
        f'"""What Lambda calls."""\n\nfrom {handler} import handler\n\n__all__ = ["handler"]\n'
    )
    for header in recipe.headers:
        include = site / "ROOT/include"
        if header.is_dir():
            shutil.copytree(header, include, dirs_exist_ok=True)
        else:
            shutil.copyfile(header, include / header.name)


def _sources(root: bool) -> Iterator[Path]:
    for module in (lambdamr, cloudpickle):
        yield Path(module.__file__ or "").parent
    if root:
        found = importlib.util.find_spec("PyRDF")
        if found is None or found.origin is None:
            raise InputError("an image with ROOT needs PyRDF here: pip install ./adapters/pyrdf")
        yield Path(found.origin).parent


def _digest(context: Path, words: Sequence[str]) -> str:
    digest = hashlib.sha256("\0".join(words).encode())
    for file in sorted(context.rglob("*")):
        how_it_came = file.parent.suffix == ".dist-info" and file.name in wheels.OF_PIP
        if file.is_file() and not how_it_came:
            name = file.relative_to(context).as_posix()
            mode = "x" if os.access(file, os.X_OK) else "-"
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{name}\0{mode}{content}\0".encode())
    return digest.hexdigest()[:16]
