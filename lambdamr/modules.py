"""Local modules that travel: imported in the worker from the source that came with the job."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TypeAlias

Source: TypeAlias = "tuple[str, str, bool]"
"""File name, text, and whether it is a package."""


class _Finder:
    """Finds and loads the modules of the present job.

    No subclass of those in `importlib.abc`: importing them takes a third of a worker's start.
    """

    def __init__(self) -> None:
        self.sources: Mapping[str, Source] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.sources:
            return None
        filename, _, is_package = self.sources[fullname]
        spec = importlib.machinery.ModuleSpec(
            fullname,
            self,  # type: ignore[arg-type]  # has all that a loader needs
            origin=filename,
            is_package=is_package,
        )
        spec.has_location = True  # so that the module knows its __file__
        return spec

    def get_source(self, fullname: str) -> str:
        return self.sources[fullname][1]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """The default one will do."""

    def exec_module(self, module: ModuleType) -> None:
        filename, text, _ = self.sources[module.__name__]
        exec(compile(text, filename, "exec", dont_inherit=True), module.__dict__)


_finder = _Finder()


def install(sources: Mapping[str, Source]) -> None:
    """Make these modules importable, instead of those of the job before.

    A module that was imported from another text is forgotten, so that it is imported again;
    one that did not come with a job (preloaded, installed) stays as it is.
    """
    if sources is _finder.sources:
        return
    for name, module in list(sys.modules.items()):
        if getattr(module, "__loader__", None) is _finder and (
            sources.get(name) != _finder.sources.get(name)
        ):
            del sys.modules[name]
    _finder.sources = sources
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
