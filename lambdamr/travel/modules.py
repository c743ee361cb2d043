"""Local modules that travel: imported in the worker from the source that came with the job.

The modules of one project belong together: what one imported from another stays what it was. So
when a job brings a changed one, all that came before are forgotten, and imported again.
"""

from __future__ import annotations

import importlib.machinery
import sys
import threading
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TypeAlias

Source: TypeAlias = "tuple[str, str, tuple[str, ...] | None]"
"""File name, text, and the folders of a package (None for what is no package)."""


class _Finder:
    """Finds and loads the modules that came.

    No subclass of those in `importlib.abc`: importing them takes a third of a worker's start.
    """

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.sources:
            return None
        filename, _, folders = self.sources[fullname]
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=filename)  # type: ignore[arg-type]  # has all that a loader needs
        spec.has_location = True  # so that the module knows its __file__
        if folders is not None:  # where they exist, they may have modules that did not travel
            spec.submodule_search_locations = list(folders)
        return spec

    def get_source(self, fullname: str) -> str:
        return self.sources[fullname][1]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """The default one will do."""

    def exec_module(self, module: ModuleType) -> None:
        filename, text, _ = self.sources[module.__name__]
        exec(compile(text, filename, "exec", dont_inherit=True), module.__dict__)


_lock = threading.Lock()
_finder = _Finder()
_elsewhere: set[str] = set()  # modules that were here before the first job: preloaded, say
_generation = 0


def install(sources: Mapping[str, Source]) -> int:
    """Make these modules importable.

    Returns:
        The generation of modules. When it is another one than it was, modules were forgotten, and
        functions that were loaded before refer to modules that nobody imports any more.
    """
    global _generation
    with _lock:
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
            _elsewhere.update(sys.modules)
        known = _finder.sources
        new = {name for name, source in sources.items() if known.get(name) != source}
        if any(name in known or name in sys.modules for name in new - _elsewhere):
            for name in [name for name in sys.modules if _came(name, known.keys() | new)]:
                del sys.modules[name]
            known.clear()
            _generation += 1
        known.update(sources)
        return _generation


def _came(name: str, sources: set[str]) -> bool:
    """Whether a module came with a job, or lies in a package that did."""
    if name in _elsewhere:
        return False
    while name and name not in sources:
        name = name.rpartition(".")[0]
    return bool(name)
