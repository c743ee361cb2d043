"""The report as one HTML file that needs no network: numbers, charts, failures, advice."""

from __future__ import annotations

import base64
import functools
import gzip
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lambdamr
from lambdamr.errors import InputError
from lambdamr.observers import figures
from lambdamr.observers.advice import advice
from lambdamr.observers.charts import SHORTEST, charts
from lambdamr.observers.record import FailureRow, Record

FOLDER = Path(__file__).parent / "templates"

_BOKEH = "BOKEHJS"

MOST_FAILURES = 50
"""Kinds of failure that are shown; the rest is counted."""


def page(records: Sequence[Record], names: Sequence[str] = ()) -> bytes:
    """A page about one job, or about several, side by side; in UTF-8.

    Args:
        records: of the jobs, at least one.
        names: what to call them; default their ids.

    Raises:
        InputError: jinja2 or bokeh is not installed.
    """
    check_installed()
    names = names or [record.job for record in records]
    text = _template().render(
        jobs=[_job(*pair) for pair in zip(records, names, strict=True)],
        rows=rows(records),
        version=lambdamr.__version__,
        style=_asset("report.css"),
        script=_asset("report.js"),
        bokeh=_BOKEH,
    )
    # It is a hundred times the size of the rest, and always the same: the template never sees it.
    # What users wrote comes before it, so the last one is ours.
    head, _, tail = str(text).rpartition(_BOKEH)
    return b"".join([head.encode(), _bokeh(), tail.encode()])


def rows(records: Sequence[Record]) -> list[tuple[str, list[str], str]]:
    """The summary: name, value for each record, and the last relative to the first.

    What is zero for all of them is left out.
    """
    table = []
    for name, number, written in figures.FIGURES:
        values = [number(record) for record in records]
        if any(values):
            ratio = f"{values[-1] / values[0]:.3g}×" if len(values) > 1 and values[0] else ""
            table.append((name, [written(value) for value in values], ratio))
    return table


@functools.cache  # what is missing is looked for again
def check_installed() -> None:
    """Whether a page can be made here.

    Raises:
        InputError: a package is missing.
    """
    missing = [name for name in ("jinja2", "bokeh") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"an HTML report needs {' and '.join(missing)}: pip install 'lambdamr[report]' "
            f"(a .json report needs nothing, and `lambdamr report` makes a page of it elsewhere)"
        )


@dataclass(frozen=True, slots=True)
class _Failures:
    """Failures that are alike."""

    first: FailureRow
    count: int
    where: str
    again: int  # how many of them were tried again


def _job(record: Record, name: str) -> dict[str, Any]:
    parts = figures.cost_by_part(record)
    groups, drawn = _grouped(record.failures), charts(record)
    shortest = drawn["shortest"]
    return {
        "record": record,
        "name": name,
        "state": figures.state(record),
        "began": figures.moment(record.wall_time),
        "took": figures.duration(record.seconds),
        "advice": advice(record),
        "stragglers": [
            {
                "row": row,
                "seconds": figures.duration(figures.seconds_of_partition(row)),
                "factor": f"{factor:.1f}×",
            }
            for row, factor in figures.stragglers(record)
        ],
        "failures": groups[:MOST_FAILURES],
        "more_failures": len(groups[MOST_FAILURES:]),
        "cost": [
            (part, figures.dollars(usd), figures.share(usd, record.cost))
            for part, usd in parts.items()
        ],
        "data": _as_script(drawn),
        "shortest": figures.duration(shortest) if shortest > SHORTEST else "",
    }


def _grouped(failures: Sequence[FailureRow]) -> list[_Failures]:
    groups: dict[tuple[str, ...], list[FailureRow]] = {}
    for row in failures:
        groups.setdefault((row.kind, row.failure, row.message, row.traceback), []).append(row)
    return [
        _Failures(
            first=alike[0],
            count=len(alike),
            where=_spans(alike),
            again=sum(row.delay is not None for row in alike),
        )
        for alike in groups.values()
    ]


def _spans(alike: list[FailureRow], most: int = 12) -> str:
    spans = sorted({(row.lo, row.hi) for row in alike})
    shown = [str(lo) if hi - lo == 1 else f"{lo} to {hi - 1}" for lo, hi in spans[:most]]
    return ", ".join(shown) + (f" and {len(spans) - most:,} more" if len(spans) > most else "")


def _as_script(data: object) -> str:
    """JSON that may stand in a script element: no text of a user can end it."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


@functools.cache
def _template() -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(FOLDER)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html")


@functools.cache
def _asset(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@functools.cache
def _bokeh() -> bytes:
    """BokehJS and its plotting API, from the package, which is not imported for it; packed."""
    spec = importlib.util.find_spec("bokeh")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / "server" / "static" / "js"
    scripts = [(folder / f"{name}.min.js").read_bytes() for name in ("bokeh", "bokeh-api")]
    return base64.b64encode(gzip.compress(b"\n".join(scripts), mtime=0))
