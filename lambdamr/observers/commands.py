"""The command `lambdamr report`: a report again, from the record of a job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lambdamr.errors import LambdamrError
from lambdamr.observers import report as reports
from lambdamr.observers.record import Record

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _lambdamr() -> None:
    """Keeps `report` a word of its own."""


@app.command()
def report(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="JOB.json... [REPORT]",
            help="Records, as lambdamr.Report('job.json') leaves them; and, to make a file instead "
            "of printing, its name: .html, or .csv or .parquet of one job.",
        ),
    ],
    compare: Annotated[bool, typer.Option("--compare", help="Lay jobs side by side.")] = False,
) -> None:
    """Print the summary and the advice of a job, or make its report again."""
    try:
        _report(files, compare)
    except LambdamrError as error:
        sys.exit(f"lambdamr: {error}")


def _report(files: list[Path], compare: bool) -> None:
    paths = [path for path in files if path.suffix.lower() == ".json"]
    others = [path for path in files if path not in paths]
    if len(paths) != (2 if compare else 1) or len(others) > 1:
        sys.exit(
            "lambdamr: give two records to compare, and at most one report to make: "
            "lambdamr report --compare a.json b.json both.html"
            if compare
            else "lambdamr: give one record, and at most one report to make: "
            "lambdamr report job.json job.html"
        )
    records = [Record.read(path) for path in paths]
    names = [path.stem for path in paths] if len({path.stem for path in paths}) > 1 else None
    names = names or ([str(path) for path in paths] if compare else [records[0].job])
    if not others:
        typer.echo(reports.as_text(records, names))
    elif compare:
        reports.compare(records, names, others[0])
    else:
        reports.write(records[0], others[0])
