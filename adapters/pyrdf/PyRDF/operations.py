"""What can be said to a distributed RDataFrame, and as what it travels."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from PyRDF.errors import InputError, UnsupportedError

TRANSFORMATIONS = frozenset(
    [
        "Alias",
        "DefaultValueFor",
        "Define",
        "DefinePerSample",
        "Filter",
        "FilterAvailable",
        "FilterMissing",
        "Redefine",
        "RedefinePerSample",
        "Vary",
    ]
)
"""Operations that give another node; ROOT 6.40 itself has no RedefinePerSample."""

ACTIONS = frozenset(
    [
        "AsNumpy",
        "Count",
        "Graph",
        "GraphAsymmErrors",
        "Histo1D",
        "Histo2D",
        "Histo3D",
        "HistoND",
        "HistoNSparseD",
        "Max",
        "Mean",
        "Min",
        "Profile1D",
        "Profile2D",
        "Report",
        "Snapshot",
        "Stats",
        "StdDev",
        "Sum",
        "Take",
    ]
)
"""Operations that give a result. Take is missing in ROOT 6.40's own table."""

_MODELS = {"Histo1D": 1, "Histo2D": 2, "Histo3D": 3, "Profile1D": 1, "Profile2D": 2}  # axes
_UNBINNED = "an axis without limits"


@dataclass(frozen=True)
class Operation:
    """One node of a graph, as it travels.

    Attributes:
        number: of the node, unique in its graph.
        parent: the number of the node that it hangs on; 0 is the dataset.
        name: a method of RDataFrame; "VariationsFor" hangs on an action.
        arguments, keywords: of the call.
        kind: how its results are collected and merged (`PyRDF.results`); "" for transformations.
        template: the template argument of Take.
        final: in a worker, where the file of a Snapshot goes when it is whole.
    """

    number: int
    parent: int
    name: str
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] | None = None
    kind: str = ""
    template: str = ""
    final: str = ""

    @property
    def text(self) -> str:
        """The call, to be read by a person."""
        shown = [f"{argument!r:.60}" for argument in self.arguments]
        return f"{self.name}({', '.join(shown)})"


def kind_of(name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> str:
    """How the results of an action are merged.

    Raises:
        InputError: they cannot be.
    """
    if name in _MODELS and not _has_limits(name, arguments, keywords):
        if name == "Histo1D":
            return "fills"
        raise InputError(
            f"{name} has {_UNBINNED}: what it becomes would depend on how the entries are split. "
            f"Give the limits of every axis in the model"
        )
    if name.startswith(("Histo", "Profile")) or name == "Stats":
        return "merging"
    if name in ("Graph", "GraphAsymmErrors"):
        return "merging"
    return {"Count": "sum"}.get(name, name.lower())


_INSTEAD = {
    "Aggregate": "Histo1D, Sum, AsNumpy or Take",
    "Book": "Histo1D, Sum, AsNumpy or Take",
    "Cache": "Snapshot, which gives a dataframe of what it wrote; results are kept anyway",
    "Fill": "Histo1D and its like",
    "Foreach": "Define, Histo1D, AsNumpy or Snapshot: workers share no variables with this process",
    "ForeachSlot": "Define, Histo1D, AsNumpy or Snapshot",
    "Range": "Filter('rdfentry_ < 1000') for the first entries of the dataset",
    "Reduce": "Sum, Min, Max, AsNumpy or Take",
}
"""What to use, by what physicists look for."""


def unsupported(name: str, more: Iterable[str] = ()) -> UnsupportedError:
    """The error for a method that is not one of ours, where ``more`` are."""
    known = sorted({*TRANSFORMATIONS, *ACTIONS, *more})
    by_letters = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_letters, 1, 0.8)
    if name in _INSTEAD:
        advice = f" Use {_INSTEAD[name]}."
    elif near:
        advice = f" Did you mean {by_letters[near[0]]!r}?"
    else:
        advice = ""
    return UnsupportedError(
        f"a distributed RDataFrame has no {name!r}.{advice} It can do: {', '.join(known)}; "
        f"for the rest use ROOT.RDataFrame"
    )


def model_of(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """The model of a histogram or profile, or None."""
    if "model" in keywords:
        return keywords["model"]
    first = arguments[0] if arguments else None
    return None if first is None or isinstance(first, str) or _is_string(first) else first


def _is_string(value: object) -> bool:
    return getattr(type(value), "__cpp_name__", "") in ("std::string", "std::string_view")


def _has_limits(name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    model = model_of(arguments, keywords)
    if model is None:
        return False
    if not isinstance(model, tuple):
        axes = _limits_of_object(model)
    else:
        axes = _limits_of_tuple(model[2:], _MODELS[name])
    return all(low < high for low, high in axes)


def _limits_of_tuple(model: tuple[Any, ...], count: int) -> list[tuple[float, float]]:
    """Each axis is its number of bins and then either limits or edges."""
    axes, at = [], 0
    for _ in range(count):
        if at + 1 < len(model) and hasattr(model[at + 1], "__len__"):
            edges = model[at + 1]
            axes.append((float(edges[0]), float(edges[len(edges) - 1])))
            at += 2
        elif at + 2 < len(model):
            axes.append((float(model[at + 1]), float(model[at + 2])))
            at += 3
        else:  # edges of which Python sees an address only, or no limits at all
            axes.append((0.0, 0.0) if at + 1 >= len(model) else (0.0, 1.0))
            at += 2
    return axes


def _limits_of_object(model: Any) -> list[tuple[float, float]]:
    found = []
    for axis in "XYZ":
        edges = getattr(model, f"fBin{axis}Edges", None)
        if edges is not None and len(edges) > 1:
            found.append((edges[0], edges[-1]))
        elif hasattr(model, f"f{axis}Low") and not (axis == "Y" and not hasattr(model, "fNbinsY")):
            found.append((getattr(model, f"f{axis}Low"), getattr(model, f"f{axis}Up")))
    return found
