"""The events of a job as records of `logging`, for those who collect logs.

The logger is ``lambdamr.job``, under ``lambdamr``. A job's start and end, failures and refusals are
of level INFO, tasks of level DEBUG: nothing is said unless asked for. Each record carries what the
event says as attributes, with the prefix ``lambdamr_``: ``lambdamr_job`` in all of them, and
``lambdamr_task``, ``lambdamr_lo`` and ``lambdamr_hi`` (the partitions) in those of tasks.
"""

from __future__ import annotations

import logging
from typing import Any

from lambdamr import events

_log = logging.getLogger("lambdamr.job")


def log(event: events.Event) -> None:
    """Log an event."""
    level, message = _said(event)
    if _log.isEnabledFor(level):
        _log.log(level, "%s", message, extra=_facts(event))


def _said(event: events.Event) -> tuple[int, str]:
    name = f"job {event.job}"
    if isinstance(event, events.TaskEvent):
        alone = event.hi - event.lo == 1
        span = f" {event.lo}" if alone else f"s {event.lo} to {event.hi - 1}"
        name += f", {event.kind} of partition{span}"
    match event:
        case events.JobStarted():
            return logging.INFO, (
                f"{name} starts: {event.npartitions} partitions on {event.executor}, "
                f"{event.capacity} at once"
            )
        case events.Resumed():
            return logging.INFO, f"{name}: {event.partitions} partitions are in the checkpoint"
        case events.JobFinished():
            ended = f"failed: {event.error!r:.200}" if event.error is not None else "is done"
            return logging.INFO, (
                f"{name} {ended}: {event.done} partitions done, {event.failed} failed, "
                f"{event.cost:.6g} USD"
            )
        case events.TaskFailed():
            then = "for good" if event.delay is None else f"again in {event.delay:.3g} s"
            return logging.INFO, f"{name}: {event.failure}: {event.message} ({then})"
        case events.Throttled():
            return logging.INFO, f"{name}: refused, at most {event.limit} at once: {event.message}"
        case events.TaskFinished():
            return logging.DEBUG, f"{name}: done in {event.stats.wall:.3g} s"
        case events.TaskStarted():
            return logging.DEBUG, f"{name}: sent, attempt {event.attempt}"
        case _:
            return logging.DEBUG, f"{name}: {type(event).__name__}"


def _facts(event: events.Event) -> dict[str, Any]:
    """What an event says, as attributes of a log record."""
    facts: dict[str, Any] = {"lambdamr_event": type(event).__name__}
    for kind in type(event).__mro__:
        for name in getattr(kind, "__slots__", ()):
            value = getattr(event, name)
            if name == "stats":
                facts |= {f"lambdamr_{key}": one for key, one in value._asdict().items()}
            else:
                facts[f"lambdamr_{name}"] = value
    return facts
