"""What a job did, task by task: recorded from its events, kept as JSON, CSV or Parquet.

``docs/report.md`` describes the format for those who read it with other tools.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import lambdamr
from lambdamr import events
from lambdamr.errors import InputError

FORMAT = "lambdamr-record"
VERSION = 1
"""Of the format. It grows when a reader of the last version would misread the next one."""

Row = TypeVar("Row", bound="TaskRow | FailureRow | ThrottleRow")


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One attempt at a task. Times in seconds since the job began, sizes in bytes, cost in USD.

    What comes after ``failure`` is told by the worker with its answer, and zero without one; see
    `lambdamr.wire.Stats`.

    Attributes:
        end: "finished", "failed", "throttled", "abandoned" (another copy was faster, or the job
            ended), or "running" (when the record was taken).
        partitions: that were mapped; fewer than ``hi - lo`` if the task stopped after its budget.
        failure: its class if the task failed, in whole or in part; else "".
    """

    task: int
    kind: Literal["map", "merge"]
    lo: int
    hi: int
    attempt: int
    speculative: bool
    started: float
    ended: float
    end: str = "running"
    partitions: int = 0
    failure: str = ""
    worker: str = ""
    wall: float = 0.0
    cpu: float = 0.0
    storing: float = 0.0
    fetching: float = 0.0
    starting: float = 0.0
    peak_memory: int = 0
    memory: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    cold: bool = False
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class FailureRow:
    """A failure of a task, or of a part of one."""

    time: float
    task: int
    kind: Literal["map", "merge"]
    lo: int
    hi: int
    failure: str
    message: str
    traceback: str
    delay: float | None  # seconds until it was tried again; None: it was not


@dataclass(frozen=True, slots=True)
class ThrottleRow:
    """The engine refused a task; at most ``limit`` ran at once from then on."""

    time: float
    task: int
    limit: int
    message: str


@dataclass(frozen=True, slots=True)
class Record:
    """A job, from its start to its end.

    Attributes:
        wall_time: when it began, in seconds since 1970.
        seconds: that it took.
        resumed: partitions whose values came from a checkpoint.
        error: what ended it, as one line; "" if it has a value.
    """

    job: str
    executor: str
    npartitions: int
    fan_in: int
    capacity: int
    wall_time: float
    seconds: float = 0.0
    done: int = 0
    failed: int = 0
    resumed: int = 0
    cost: float = 0.0
    error: str = ""
    tasks: tuple[TaskRow, ...] = ()
    failures: tuple[FailureRow, ...] = ()
    throttles: tuple[ThrottleRow, ...] = ()

    def to_json(self) -> str:
        """The record as JSON; rows as columns, which is a quarter of the size."""
        document = {"format": FORMAT, "version": VERSION, "lambdamr": lambdamr.__version__}
        job = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in _ROWS}
        rows = {name: _columns(kind, getattr(self, name)) for name, kind in _ROWS.items()}
        return json.dumps({**document, "job": job, **rows}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, where: str = "the record") -> Record:
        """The record that `to_json` wrote.

        Raises:
            InputError: it is none, or one of a later version.
        """
        try:
            document = json.loads(text)
            if document["format"] != FORMAT:
                raise ValueError(f"format is {document['format']!r:.40}")
            if document["version"] > VERSION:
                raise InputError(
                    f"{where} is of version {document['version']}, and this lambdamr "
                    f"({lambdamr.__version__}) reads up to {VERSION}: install lambdamr "
                    f"{document.get('lambdamr', '')} or newer"
                )
            rows: dict[str, Any] = {
                name: _rows(kind, document[name]) for name, kind in _ROWS.items()
            }
            return cls(**document["job"], **rows)
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{where} is no record of a job ({error}); lambdamr.Report('job.json') writes one"
            ) from error

    @classmethod
    def read(cls, path: str | Path) -> Record:
        """The record in a file.

        Raises:
            InputError: there is none.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {path}: {error}") from error
        return cls.from_json(text, str(path))

    def write_csv(self, path: Path) -> None:
        """The tasks, a row each."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            names = [one.name for one in fields(TaskRow)]
            writer.writerow(names)
            writer.writerows([getattr(row, name) for name in names] for row in self.tasks)

    def write_parquet(self, path: Path) -> None:
        """The same as a Parquet file; needs pyarrow."""
        import pyarrow as pa
        import pyarrow.parquet

        kinds: dict[Any, Any] = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
        columns = [(one.name, kinds.get(one.type, pa.string())) for one in fields(TaskRow)]
        schema = pa.schema(columns)
        table = pa.table(_columns(TaskRow, self.tasks), schema=schema)
        pyarrow.parquet.write_table(table, path)


_ROWS: dict[str, Any] = {"tasks": TaskRow, "failures": FailureRow, "throttles": ThrottleRow}


def _columns(kind: Any, rows: Iterable[Any]) -> dict[str, list[Any]]:
    return {one.name: [getattr(row, one.name) for row in rows] for one in fields(kind)}


def _rows(kind: Callable[..., Row], columns: dict[str, list[Any]]) -> tuple[Row, ...]:
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        raise ValueError(f"columns of the lengths {sorted(lengths)}")
    names = tuple(columns)
    return tuple(
        kind(**dict(zip(names, row, strict=True))) for row in zip(*columns.values(), strict=True)
    )


@dataclass(slots=True)
class Recorder:
    """An observer that records one job, or several at a time."""

    _jobs: dict[str, _Recording] = field(default_factory=dict)

    def __call__(self, event: events.Event) -> None:
        """Note what happened."""
        if isinstance(event, events.JobStarted):
            self._jobs[event.job] = _Recording(event)
        else:
            self._jobs[event.job].note(event)

    def records(self) -> tuple[Record, ...]:
        """A record for each job, in the order in which they began."""
        return tuple(recording.record() for recording in self._jobs.values())

    def take(self, job: str) -> Record:
        """The record of a job, which is forgotten."""
        return self._jobs.pop(job).record()


class _Recording:
    """What was told of one job so far. Rows are made at the end: the job should not wait."""

    def __init__(self, start: events.JobStarted) -> None:
        self._start = start
        self._now = start.time
        self._head = Record(
            job=start.job,
            executor=start.executor,
            npartitions=start.npartitions,
            fan_in=start.fan_in,
            capacity=start.capacity,
            wall_time=start.wall_time,
        )
        self._tasks: dict[int, list[events.TaskEvent]] = {}
        self._failures: list[events.TaskFailed] = []
        self._throttles: list[events.Throttled] = []

    def note(self, event: events.Event) -> None:
        self._now = event.time
        if isinstance(event, events.TaskEvent):
            self._tasks.setdefault(event.task, []).append(event)
            if isinstance(event, events.TaskFailed):
                self._failures.append(event)
            elif isinstance(event, events.Throttled):
                self._throttles.append(event)
        elif isinstance(event, events.Resumed):
            self._head = replace(self._head, resumed=event.partitions)
        elif isinstance(event, events.JobFinished):
            error = "" if event.error is None else _line(event.error)
            facts = {"done": event.done, "failed": event.failed, "cost": event.cost}
            self._head = replace(self._head, error=error, **facts)  # type: ignore[arg-type]  # by name

    def record(self) -> Record:
        return replace(
            self._head,
            seconds=self._since(self._now),
            tasks=tuple(self._task(events) for events in self._tasks.values()),
            failures=tuple(
                FailureRow(
                    self._since(e.time),
                    *(e.task, e.kind, e.lo, e.hi),
                    *(e.failure, e.message, e.traceback, e.delay),
                )
                for e in self._failures
            ),
            throttles=tuple(
                ThrottleRow(self._since(e.time), e.task, e.limit, e.message)
                for e in self._throttles
            ),
        )

    def _since(self, time: float) -> float:
        return round(time - self._start.time, 6)

    def _task(self, told: list[events.TaskEvent]) -> TaskRow:
        facts: dict[str, Any] = {"end": "running", "ended": self._since(self._now)}
        for event in told:
            if isinstance(event, events.TaskStarted):
                facts |= {
                    "task": event.task,
                    "kind": event.kind,
                    "lo": event.lo,
                    "hi": event.hi,
                    "attempt": event.attempt,
                    "speculative": event.speculative,
                    "started": self._since(event.time),
                }
                continue
            facts["ended"] = self._since(event.time)
            if isinstance(event, events.TaskFinished):
                facts |= event.stats._asdict() | {"end": "finished", "partitions": event.partitions}
            elif isinstance(event, events.TaskAbandoned):
                facts["end"] = "abandoned"
            elif isinstance(event, events.Throttled):
                facts["end"] = "throttled"
            elif isinstance(event, events.TaskFailed):
                facts["failure"] = event.failure
                if facts["end"] != "finished":  # or only a part of it failed
                    facts["end"] = "failed"
        for name in ("wall", "cpu", "storing", "fetching", "starting"):
            facts[name] = round(facts.get(name, 0.0), 6)
        return TaskRow(**facts)


def _line(error: BaseException) -> str:
    """An exception as one line."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
