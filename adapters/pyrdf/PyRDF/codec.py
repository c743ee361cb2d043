"""Pickling of C++ objects, safe in a process that has seen none of them yet."""

from __future__ import annotations

import functools
import io
import pickle
import sys
from typing import Any

import cloudpickle


def dumps(value: object, buffers: list[pickle.PickleBuffer] | None = None) -> bytes:
    """The pickle of a value that may hold objects of ROOT and functions of a notebook.

    Args:
        value: what to pickle.
        buffers: receives the memory of large arrays; default: they are in the pickle.
    """
    stream = io.BytesIO()
    callback = None if buffers is None else buffers.append
    _Pickler(stream, 5, buffer_callback=callback).dump(value)
    return stream.getvalue()


def loads(pickled: bytes | memoryview, buffers: Any = ()) -> Any:
    """The value of `dumps`, which this job wrote."""
    return pickle.loads(pickled, buffers=buffers)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def reducer_override(self, obj: Any) -> Any:
        kind: Any = type(obj)
        if "cppyy" in sys.modules and issubclass(kind, _instance()):
            name = kind.__cpp_name__
            if name == "std::string":
                return _string, (str(obj),)
            if obj.__smartptr__() is not None:
                raise pickle.PicklingError(f"a {name} cannot be sent")
            _, (data, cpp_name) = obj.__reduce__()
            return expand, (cpp_name.decode(), bytes(data))
        return super().reducer_override(obj)


@functools.cache
def _instance() -> type:
    import cppyy

    base: type = cppyy._backend.CPPInstance
    return base


def _string(text: str) -> Any:
    import ROOT

    return ROOT.std.string(text)


def expand(name: str, data: bytes) -> Any:
    """An object of a class of ROOT, from the bytes of ROOT I/O.

    ROOT 6.40 crashes (a null class in ``_CPPInstance__expand__``) where cppyy has not met the class
    before, as in a fresh process: so it is looked up first.
    """
    import cppyy
    import ROOT
    from ROOT.libROOTPythonizations import _CPPInstance__expand__

    ROOT.TClass.GetClass(name)
    scope: Any = cppyy.gbl
    cppyy.gbl.std.string  # noqa: B018  # wakes cppyy up
    if "<" not in name:
        for part in name.split("::"):
            scope = getattr(scope, part)
    return _CPPInstance__expand__(data, name.encode())
