"""`Report`: an observer that leaves a report of the job; and the same from a kept record."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from lambdamr import events
from lambdamr.errors import InputError, InputTypeError
from lambdamr.observers import figures, page
from lambdamr.observers.advice import advice
from lambdamr.observers.record import Record, Recorder

_log = logging.getLogger(__name__)

PATIENCE = 0.01
"""Seconds between the end of a job and the writing of its report: threads take turns of 5 ms, and
the job has yet to close its pool and to return its value."""


class Report:
    """An observer that writes a report when a job ends, however it ends.

    ``map_reduce(..., observers=[lambdamr.Report("job.html")])``

    The value does not wait for its report: a thread writes it, some milliseconds later, and a
    program that ends waits for it. `wait` does so at once. What keeps a report from being written
    is logged.

    Args:
        path: of the file, which is replaced; its ending says what it becomes. ``.html``: a page
            to look at, in one file that needs no network (needs ``lambdamr[report]``). ``.json``:
            the whole record, for ``lambdamr report`` and other tools. ``.csv`` or ``.parquet``: a
            row for each task. ``{job}`` in the name becomes the id of the job, for several jobs.
        more: more files of the same job.

    Raises:
        InputError: a path cannot be used, or a package for it is missing.
    """

    def __init__(self, path: str | os.PathLike[str], *more: str | os.PathLike[str]) -> None:
        self.paths = tuple(_checked(one) for one in (path, *more))
        self._recorder = Recorder()
        self._written: Future[None] | None = None

    def __call__(self, event: events.Event) -> None:
        """Note what happened; write, if the job ended."""
        self._recorder(event)
        if isinstance(event, events.JobFinished):
            here = ""  # where the program is now: it may go elsewhere before they are written
            with contextlib.suppress(FileNotFoundError):  # it was deleted
                here = os.getcwd()
            self._written = _writer(os.getpid()).submit(self._write, event.job, here)

    def wait(self) -> None:
        """Return when the reports of all jobs that have ended are written."""
        if self._written is not None:
            self._written.result()

    def _write(self, job: str, folder: str) -> None:
        time.sleep(PATIENCE)
        record = self._recorder.take(job)
        for path in (Path(folder, path) for path in self.paths):
            try:
                write(record, path.with_name(path.name.replace("{job}", job)))
            except Exception:  # noqa: BLE001  # nobody asks the thread
                _log.exception("the report of job %s could not be written to %s", job, path)

    def __repr__(self) -> str:
        return f"Report({', '.join(repr(str(path)) for path in self.paths)})"


@functools.lru_cache(1)
def _writer(process: int) -> ThreadPoolExecutor:  # a fork has no threads
    """The thread that writes for all: one takes long to start, and the last job's is the last."""
    return ThreadPoolExecutor(1, "lambdamr-report")


def write(record: Record, path: str | os.PathLike[str]) -> None:
    """Write a report of a record; the ending of the path says which. See `Report`.

    Raises:
        InputError: the path cannot be used, or a package for it is missing.
    """
    path = _checked(path)
    _replace(path, lambda new: _WRITERS[path.suffix.lower()](record, new))


def compare(records: Sequence[Record], names: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Write a page that lays jobs side by side.

    Raises:
        InputError: the path is not one of an HTML file, or cannot be used.
    """
    path = _checked(path)
    if path.suffix.lower() != ".html":
        raise InputError(f"jobs are compared in a page: {path.name} must end with .html")
    _replace(path, lambda new: new.write_bytes(page.page(records, names)))


def as_text(records: Sequence[Record], names: Sequence[str]) -> str:
    """The summary of one job, or of several side by side, and the advice; for a terminal."""
    table = [["", *names, "ratio"]] if len(records) > 1 else [["", *names]]
    for name, values, ratio in page.rows(records):
        table.append([name, *values, ratio] if len(records) > 1 else [name, *values])
    states = [figures.state(record) for record in records]
    table.insert(1, ["ended", *states, ""] if len(records) > 1 else ["ended", *states])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in table
    ]
    for record, name in zip(records, names, strict=True):
        lines += [f"\n{name}: {record.error}"] if record.error else []
        lines += [f"\n{name}: {sentence}" for sentence in advice(record)]
    return "\n".join(lines)


_WRITERS: dict[str, Callable[[Record, Path], object]] = {
    ".html": lambda record, path: path.write_bytes(page.page([record])),
    ".json": lambda record, path: path.write_text(record.to_json(), encoding="utf-8"),
    ".csv": Record.write_csv,
    ".parquet": Record.write_parquet,
}


def _replace(path: Path, write_to: Callable[[Path], object]) -> None:
    """A reader sees the old file or the new one, and never half of one."""
    new = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        write_to(new)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _checked(path: object) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise InputTypeError(f"a report needs the path of a file, not {path!r:.60}")
    name = os.fsdecode(path)
    folder, kind = os.path.dirname(name), os.path.splitext(name)[1].lower()
    if kind not in _WRITERS:
        raise InputError(f"a report is an .html, .json, .csv or .parquet file; {name!r} is none")
    if not os.path.isdir(folder or os.curdir):
        raise InputError(f"there is no folder {folder!r} for the report; make it first")
    if os.path.isdir(name):
        raise InputError(f"{name!r} is a folder; a report needs the path of a file")
    if kind == ".html":
        page.check_installed()
    elif kind == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InputError("a .parquet report needs pyarrow: pip install 'lambdamr[parquet]'")
    return Path(name)
