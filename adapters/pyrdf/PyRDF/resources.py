"""What user code needs beside the graph: C++ code, headers, libraries, files, a function.

Files travel beside the graph, each as a part of its own of the job's functions: what one graph has
brought to S3 or to a worker, the next one need not. In a worker they lie under their hash.

A worker that is warm gives what a new one would: what its process has loaded for another setup, and
cannot load anew (C++, a library, what a function did), is gone only with the process.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from PyRDF import codec, interpreter, isolation, remote
from PyRDF.compiler import CompilationError

Role = Literal["header", "library", "file"]
_LIBRARIES = (".so", ".dylib")
_Mentions: TypeAlias = Callable[[Iterable[str]], bool]


@dataclass(frozen=True)
class Resource:
    """A file of the user.

    Attributes:
        name: its path, relative to the folder that holds them all in a worker.
        include: whether a header is declared, or only there to be included by others.
    """

    role: Role
    name: str
    data: bytes
    include: bool = True

    @property
    def is_generic(self) -> bool:
        """Whether it is read by the user's code alone: neither C++ nor a library."""
        return self.role == "file"

    @property
    def is_library(self) -> bool:
        """Whether it is to be loaded; what lies beside a library is not."""
        return self.role == "library" and self.name.endswith(_LIBRARIES)

    @functools.cached_property
    def digest(self) -> bytes:
        """Of its content."""
        return _digest(self.data)

    def __reduce__(self) -> Any:  # so that the data can travel, and be kept, on its own
        return _resource, (self.role, self.name, pickle.PickleBuffer(self.data), self.include)


def _resource(role: Role, name: str, data: Any, include: bool) -> Resource:
    return Resource(role, name, bytes(data), include)


@dataclass(frozen=True)
class Setup:
    """What a worker does before it builds a graph, once.

    Attributes:
        resources: files.
        code: C++ to declare.
        begin: a pickled function without arguments, and None.
    """

    resources: tuple[Resource, ...] = ()
    code: tuple[str, ...] = ()
    begin: bytes | None = None

    @property
    def loads(self) -> bool:
        """Whether a process keeps some of it, beside files on its disk."""
        files_alone = all(each.is_generic for each in self.resources)
        return bool(self.code) or self.begin is not None or not files_alone

    def apply(self, *, replaceable: bool = False) -> None:
        """Make it so in this process, in the place that `entered` goes to.

        Args:
            replaceable: where this process has loaded more than this or something else, end it,
                and a fresh one tries again.

        Raises:
            RuntimeError: C++ does not compile, or a library cannot be loaded, or a file has
                changed since this process loaded what may have read it.
        """
        before = _applied[-1] if _applied else Setup()
        if not self.loads or self._within(before):
            return
        if replaceable and not (before._within(self) and _failed in ([], [self])):
            os._exit(isolation.OUTDATED)
        if self._contradicts(before):
            raise RuntimeError(_CHANGED)
        try:
            self._apply(replaceable)
        except BaseException as error:  # a function of the user raises anything
            if _applied and replaceable and isinstance(error, RuntimeError):
                os._exit(isolation.OUTDATED)
            _failed[:] = [self]
            raise
        _applied[:] = [self._joined(before)]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Be where relative paths are those of the notebook, and files as they were registered.

        A worker serves several notebooks in turn, and on this machine it sees the user's own
        files, which may have changed since: so it looks each time. Afterwards it is where it was,
        though a function of the user went elsewhere.
        """
        files = [each for each in self.resources if each.is_generic]
        if not files and self.begin is None:
            yield
            return
        here = all(_is_at(Path(each.name), each) for each in files)
        with contextlib.chdir(Path.cwd() if here else materialise(self.resources)):
            yield

    def _within(self, other: Setup) -> bool:
        """Whether a process that has loaded the other has loaded this, too.

        With the files, since C++ that is declared, and a function that is called, may read them.
        """
        return (
            set(self.resources) <= set(other.resources)
            and set(self.code) <= set(other.code)
            and self.begin in (None, other.begin)
        )

    def _contradicts(self, other: Setup) -> bool:
        """Whether there are files of the same names with other contents."""
        contents = {(each.role, each.name): each.data for each in other.resources}
        return any(contents.get((r.role, r.name), r.data) != r.data for r in self.resources)

    def _joined(self, other: Setup) -> Setup:
        return Setup(
            tuple(dict.fromkeys((*other.resources, *self.resources))),
            tuple(dict.fromkeys((*other.code, *self.code))),
            self.begin or other.begin,
        )

    def _apply(self, own: bool) -> None:
        if self.resources:
            folder = materialise(self.resources)
            interpreter.add_include_path(folder)
            interpreter.add_library_path(folder)
            for resource in self.resources:
                path = folder / resource.name
                if resource.role == "header" and resource.include:
                    _include(path, resource)
            _load({folder / each.name: each for each in self.resources if each.is_library})
        for code in self.code:
            declare(code, "the code of DistributeCppCode")
        if self.begin is not None and self.begin not in [each.begin for each in _applied]:
            codec.loads(self.begin)()
        if own:
            interpreter.use_one_thread()


_applied: list[Setup] = []  # one at most: all that this process has loaded
_failed: list[Setup] = []  # one at most: of this it has loaded a part
_loaded: set[Resource] = set()
_known: set[str] = set()  # what the user has declared to ROOT alone
_CHANGED = (
    "a file that was registered has changed, and this process keeps what it has loaded since then, "
    "which may have read it: restart it (the kernel; for Dask client.restart())"
)


def apply_here(found: Mapping[Path, Resource], mentions: _Mentions) -> None:
    """Declare headers and load libraries in the user's process, from where they are.

    Raises:
        RuntimeError: one does not compile, or cannot be loaded.
    """
    for path, resource in found.items():
        interpreter.add_include_path(path.parents[len(Path(resource.name).parts) - 1])
        if resource.role == "header" and resource.include:
            _include(path, resource, mentions=mentions)
    _load({path: each for path, each in found.items() if each.is_library})


def _include(path: Path, resource: Resource, *, mentions: _Mentions | None = None) -> None:
    interpreter.add_include_path(path.parent)
    content = resource.name.encode() + b"\0" + resource.data
    declare(f'#include "{path}"', resource.name, content, mentions=mentions)


def _load(libraries: Mapping[Path, Resource]) -> None:
    """Load libraries, whichever of them needs which; each once.

    Raises:
        RuntimeError: one cannot be loaded.
    """
    left = [path for path, each in libraries.items() if each not in _loaded]
    while left:
        failed = [path for path in left if not interpreter.load(path, quiet=True)]
        if len(failed) == len(left):
            for path in failed:
                interpreter.load(path)  # says why
            raise RuntimeError(
                f"the library {left[0].name} cannot be loaded; what ROOT said is above, or in the "
                f"log. Were the libraries that it needs sent, too?"
            )
        left = failed
    _loaded.update(libraries.values())


def declare(
    code: str, what: str, content: bytes | None = None, *, mentions: _Mentions | None = None
) -> None:
    """Compile C++ in this process, once.

    Args:
        code: what to compile.
        what: to call it in a message.
        content: what it is once for, wherever it lies; default: the code.
        mentions: in the user's process: whether C++ that was registered has one of these names.
            If none has, the user has declared the same to ROOT before, and only workers lack it.

    Raises:
        RuntimeError: it does not compile.
    """
    guard = "PYRDF_" + hashlib.blake2b(content or code.encode(), digest_size=12).hexdigest()
    if guard in _known:
        return
    try:
        interpreter.declare(f"#ifndef {guard}\n#define {guard}\n{code}\n#endif")
    except RuntimeError as error:
        redefined = error.redefined if isinstance(error, CompilationError) else []
        if mentions is not None and redefined and not mentions(redefined):
            _known.add(guard)
            return
        advice = ". C++ cannot be declared anew: start a fresh kernel, or give it another name"
        raise RuntimeError(
            f"{what} does not compile: {error}{advice if redefined else ''}"
        ) from error


def materialise(resources: Iterable[Resource]) -> Path:
    """A folder that holds these files; found again if this machine has it.

    What was changed or removed there meanwhile, by code of the user or whoever cleans the disk, is
    as it was.
    """
    resources = tuple(resources)
    hashed = hashlib.blake2b(digest_size=12)
    for resource in resources:
        for part in (os.fsencode(resource.name), resource.digest):
            hashed.update(len(part).to_bytes(8, "little") + part)
    home = remote.home()
    folder = home / hashed.hexdigest()
    for resource in resources:
        path = folder / resource.name
        if _is_at(path, resource):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, new = tempfile.mkstemp(dir=home)
        try:
            with open(descriptor, "wb") as file:
                file.write(resource.data)
            os.replace(new, path)  # others may be reading it, or writing the same
        except BaseException:
            os.unlink(new)
            raise
    return folder


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=12).digest()


def _is_at(path: Path, resource: Resource) -> bool:
    """Whether a file has the content of a resource."""
    try:
        state = path.stat()
        if state.st_size != len(resource.data):
            return False
        changed = state.st_ino, state.st_mtime_ns, state.st_ctime_ns
        return _digest_at(os.path.abspath(path), changed) == resource.digest
    except OSError:
        return False


@functools.lru_cache(4096)
def _digest_at(path: str, changed: tuple[int, ...]) -> bytes:
    """Of the content of a file, which is read again only if it has changed."""
    return _digest(Path(path).read_bytes())
