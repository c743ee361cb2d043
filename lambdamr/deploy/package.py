"""The zip of the functions: lambdamr, cloudpickle and the user's requirements, by content."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cloudpickle

import lambdamr
from lambdamr.deploy import requirements as wheels
from lambdamr.errors import InputError

LIMIT = 262_144_000
"""Bytes of a function, unpacked (250 MB: Lambda quotas; not found again in 2026-11)."""

_OWN = ("lambdamr", "cloudpickle")  # the client's, whatever the requirements say: pickles must fit
_WHEN = (1980, 1, 1, 0, 0, 0)  # of every file: the bytes depend on nothing but the contents


@dataclass(frozen=True, slots=True)
class Package:
    """A zip of the functions.

    Attributes:
        path: where it is.
        key: where it goes in the bucket; the same contents have the same key.
        size, unpacked: bytes, as a zip and in the function.
        requirements: what it holds besides lambdamr, as ``name==version``.
    """

    path: Path
    key: str
    size: int
    unpacked: int
    requirements: tuple[str, ...]


def build(
    path: Path,
    *,
    python: str,
    architecture: str,
    requirements: Path | Sequence[str] = (),
) -> Package:
    """Write the zip.

    Args:
        path: where to.
        python: minor version of the functions.
        architecture: ``"x86_64"`` or ``"arm64"``.
        requirements: a file as pip reads it, or requirements.

    Raises:
        InputError: the requirements cannot be installed, or it is too large for Lambda.
    """
    with tempfile.TemporaryDirectory(prefix="lambdamr-") as folder:
        target = Path(folder)
        pinned: tuple[str, ...] = ()
        if requirements:
            pinned = wheels.install(requirements, target, python=python, architecture=architecture)
        pinned = tuple(pin for pin in pinned if pin.partition("==")[0] not in _OWN)
        files = dict(_files(target))
        unpacked = _check_size(files)
        digest = _write(path, files)
    return Package(path, f"code/{digest}.zip", path.stat().st_size, unpacked, pinned)


def _files(target: Path) -> Iterator[tuple[str, Path]]:
    for file in _below(target):
        name = file.relative_to(target).as_posix()
        top = name.partition("/")[0]
        if top != "bin" and top.partition("-")[0] not in _OWN and file.name not in wheels.OF_PIP:
            yield name, file
    for module in (lambdamr, cloudpickle):
        package = Path(module.__file__ or "").parent
        for file in _below(package):
            yield file.relative_to(package.parent).as_posix(), file


def _below(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file


def _check_size(files: dict[str, Path]) -> int:
    sizes: Counter[str] = Counter()
    for name, file in files.items():
        sizes[name.partition("/")[0]] += file.stat().st_size
    total = sizes.total()
    if total > LIMIT:
        largest = ", ".join(f"{name} {size >> 20} MB" for name, size in sizes.most_common(5))
        raise InputError(
            f"the functions would be {total >> 20} MB unpacked, and Lambda takes {LIMIT >> 20} MB. "
            f"The largest are {largest}. Leave out what the mappers do not need, or use an image "
            "(--image-uri), which may have 10 GB"
        )
    return total


def _write(path: Path, files: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in sorted(files.items()):
            data = file.read_bytes()
            digest.update(f"{name}\0{hashlib.sha256(data).hexdigest()}\0".encode())
            entry = zipfile.ZipInfo(name, _WHEN)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16  # Lambda has to be able to read it
            archive.writestr(entry, data)
    return digest.hexdigest()[:32]
