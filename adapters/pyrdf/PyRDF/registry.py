"""What the user has registered in this session: found, checked, and kept for the jobs to come."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from PyRDF import codec
from PyRDF.errors import InputError
from PyRDF.resources import Resource, Role, Setup

_HEADERS = (".h", ".hh", ".hpp", ".hxx", ".h++", ".cuh")
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)


def collect(paths: str | Iterable[str], role: Role) -> dict[Path, Resource]:
    """The files of the user at these paths; of a folder all that is in it.

    With headers go those that they include by a path relative to themselves.

    Raises:
        InputError: there is nothing at one of them.
    """
    found: dict[Path, Resource] = {}
    for given in [paths] if isinstance(paths, (str, os.PathLike)) else paths:
        path = Path(os.path.abspath(os.path.expandvars(os.path.expanduser(given))))
        if not path.exists():
            raise InputError(f"there is no file or folder {given!s} (looked from {Path.cwd()})")
        if path.is_dir():
            files = [file for file in sorted(path.rglob("*")) if _visible(file, path)]
        else:
            files = [path]
        declared = {file for file in files if role != "header" or _is_header(file) or file == path}
        included = _included(sorted(declared)) if role == "header" else []
        beside = dict.fromkeys([*files, *included])
        base = _base(beside, path if path.is_dir() else path.parent)
        for file in beside:
            name = str(file.relative_to(base))
            found[file] = Resource(role, name, file.read_bytes(), file in declared)
            if role == "library":  # its dictionary lies beside it
                for pcm in sorted(file.parent.glob(f"{file.stem}*_rdict.pcm")):
                    name = str(pcm.relative_to(base))
                    found[pcm] = Resource(role, name, pcm.read_bytes())
    return found


def _visible(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.is_file() and not hidden


def _is_header(file: Path) -> bool:
    return file.suffix.lower() in _HEADERS


def _included(headers: Iterable[Path]) -> list[Path]:
    """The files that these include by a path relative to themselves, and those that they do."""
    found: dict[Path, None] = {}
    left = list(headers)
    while left:
        file = left.pop()
        for name in _INCLUDE.findall(file.read_text(errors="replace")):
            other = Path(os.path.abspath(file.parent / name))
            if other.is_file() and other not in found:
                found[other] = None
                left.append(other)
    return list(found)


def _base(files: Iterable[Path], root: Path) -> Path:
    """What names are relative to: the notebook's folder if all are in there, so that paths stay."""
    here = Path.cwd()
    if all(file.is_relative_to(here) for file in files):
        return here
    return Path(os.path.commonpath([root, *(file.parent for file in files)]))


class Registry:
    """What was registered in this session."""

    def __init__(self) -> None:
        self._resources: dict[tuple[str, str], Resource] = {}
        self._code: list[str] = []
        self._begin: Callable[[], object] | None = None

    def check(self, found: Mapping[Path, Resource]) -> None:
        """Refuse what would take the place of something else in the workers, or cannot.

        Raises:
            InputError: two files have one name there; or C++ or a library has changed.
        """
        generic_first = sorted(self._resources.values(), key=lambda each: not each.is_generic)
        known = {each.name: each for each in generic_first}
        paths: dict[str, Path] = {}
        for path, resource in found.items():
            twin = paths.setdefault(resource.name, path)
            if found[twin].data != resource.data:
                raise InputError(
                    f"{twin} and {path} would both be {resource.name} in the workers: go to a "
                    f"folder above both, or give one another name"
                )
            before = known.get(resource.name, resource)
            replaceable = before.is_generic and resource.is_generic
            if before.data != resource.data and not replaceable:
                raise InputError(
                    f"{path}: {resource.name} was registered before (as a {before.role}) with "
                    f"other content, and C++ and libraries cannot be loaded anew: start a fresh "
                    f"kernel, or give it another name"
                )

    def add(self, resources: Iterable[Resource]) -> None:
        """Files for the workers; a generic file of the same name replaces the one before."""
        for resource in resources:
            self._resources[resource.role, resource.name] = resource

    def mentions(self, names: Iterable[str]) -> bool:
        """Whether C++ that was registered has one of these words."""
        headers = [each for each in self._resources.values() if each.role == "header"]
        texts = [*self._code, *(each.data.decode(errors="replace") for each in headers)]
        return any(re.search(rf"\b{re.escape(n)}\b", text) for text in texts for n in names)

    def add_code(self, code: str) -> None:
        """C++ for the workers."""
        if code not in self._code:
            self._code.append(code)

    def begin_with(self, function: Callable[[], object]) -> None:
        """A function that workers call first."""
        self._begin = function

    def setup(self) -> Setup:
        """For a job that starts now."""
        begin = None
        if self._begin is not None:
            try:
                begin = codec.dumps(self._begin)
            except Exception as error:  # pickling runs the user's code
                raise InputError(f"the function of initialize() cannot be sent: {error}") from error
        return Setup(tuple(self._resources.values()), tuple(self._code), begin)


REGISTRY = Registry()
