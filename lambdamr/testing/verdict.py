"""What must come of a random schedule, however it went: the inline value, or the right error."""

from __future__ import annotations

import os
import random
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from lambdamr import errors, events
from lambdamr.outcome import Outcome
from lambdamr.testing.schedules import ERRORS, NO_VALUE, PERMANENT, Schedule, draw, draw_pool
from lambdamr.testing.simulation import Simulation
from lambdamr.testing.workloads import MISSING, Mapper, Refused, reference


class ScheduleError(AssertionError):
    """A job did not end as it must; the message begins with a line that repeats it."""


def check(seed: int) -> Schedule:
    """Run the schedule of a seed.

    Raises:
        ScheduleError: it did not end as it must.
    """
    schedule = draw(seed)
    try:
        if schedule.ending == "death":
            _check_death(schedule)
        else:
            simulation = schedule.run()
            _check_end(schedule, simulation)
    except Exception as error:
        raise ScheduleError(
            f"python -m lambdamr.testing --start {seed} --seeds 1  "
            f"# {type(error).__name__}: {error}\n{schedule}"
        ) from error
    return schedule


def _check_death(schedule: Schedule) -> None:
    """The driver dies again and again, at any moment; then it is left alone."""
    lot = random.Random(f"death {schedule.seed}")
    longest = replace(schedule, options=schedule.options | {"checkpoint": None}).run().seconds
    with tempfile.TemporaryDirectory(prefix="lambdamr-schedule-") as folder:
        path = Path(folder, "checkpoint")
        finished = 0
        for life in range(lot.randint(1, 3)):
            simulation = schedule.run(
                seed=schedule.seed + life,
                checkpoint=path,
                cancel_after=lot.uniform(0, 1.1) * longest,
            )
            finished = max(finished, _finished(simulation))
            if lot.random() < 0.3:
                finished = 0
                os.truncate(path, max(0, path.stat().st_size - lot.randint(1, 200)))
        pool = draw_pool(lot, schedule.options["retry"].attempts)  # another machine, say
        simulation = replace(schedule, pool=pool).run(checkpoint=path)
        _check_end(schedule, simulation)
    resumed = sum(e.partitions for e in simulation.events if isinstance(e, events.Resumed))
    _must(resumed >= finished, f"{finished} partitions were finished, {resumed} are resumed")
    again = {
        partition
        for invocation in simulation.invocations
        if not invocation.is_merge
        for partition in range(invocation.lo, invocation.hi)
    }
    npartitions = _npartitions(schedule)
    _must(len(again) == npartitions - resumed, f"{resumed} resumed, but {sorted(again)} mapped")


def _finished(simulation: Simulation) -> int:
    counts = (events.TaskFinished, events.Resumed)
    return sum(event.partitions for event in simulation.events if isinstance(event, counts))


def _npartitions(schedule: Schedule) -> int:
    return int(schedule.options.get("npartitions") or len(schedule.data))


def _check_end(schedule: Schedule, simulation: Simulation) -> None:
    ending, error = schedule.ending, simulation.error
    if ending in NO_VALUE:
        _must(type(error) is NO_VALUE[ending][1], f"ended with {error!r}")
        return
    if ending == "cost" and isinstance(error, errors.CostLimitError):
        return
    marked: frozenset[int] = frozenset()
    if ending in ERRORS and not ending.startswith("reducer"):
        marked = schedule.marked
    values = [
        MISSING if partition in marked else Mapper(schedule.mapper.kind)(partition)
        for partition in range(_npartitions(schedule))
    ]
    expected, refused = reference(values, schedule.options["fan_in"], schedule.reducer)
    if "initial" in schedule.options:
        initial = schedule.options["initial"]
        try:
            expected = (
                [schedule.reducer(Mapper(schedule.mapper.kind)(1000), *expected)]
                if expected
                else []
            )
        except Refused:
            refused.append((0, len(values)))
            expected = []
        expected = expected or [initial]
    failed = marked.union(*(range(lo, hi) for lo, hi in refused))
    if failed and schedule.options["errors"] == "raise":
        _check_error(schedule, error, refused)
        return
    if error is not None:
        raise error
    _must(not simulation.left, f"values are left behind: {simulation.left}")
    if schedule.options["errors"] == "raise":
        _must(_same(simulation.result, expected[0]), f"{simulation.result} is not {expected[0]}")
        return
    outcome: Outcome[Any] = simulation.result
    _must(outcome.failed == tuple(sorted(failed)), f"failed {outcome.failed}, not {failed}")
    _must(bool(outcome._values) == bool(expected), f"{outcome._values} is not {expected}")
    if expected:
        _must(_same(outcome.value, expected[0]), f"{outcome.value} is not {expected[0]}")
    for failure in outcome.failures:
        _check_error(schedule, failure, refused)


def _check_error(
    schedule: Schedule, error: BaseException | None, refused: list[tuple[int, int]]
) -> None:
    """Whether this error is one that the schedule had to end with."""
    expected, attempts = ERRORS[schedule.ending], schedule.options["retry"].attempts
    if error is None or type(error) is not expected:
        raise ScheduleError(f"ended with {error!r}, not {expected.__name__}") from error
    assert isinstance(error, errors.PartitionError)
    span = (error.lo, error.hi)
    if schedule.ending.startswith("reducer"):
        _must(span in refused, f"the reducer refused {refused}, not {span}")
    else:
        _must(error.lo in schedule.marked and error.hi == error.lo + 1, f"{span} did not fail")
    if schedule.ending in PERMANENT or schedule.ending.endswith(" again"):
        _must(error.attempts == attempts, f"{error.attempts} attempts, not {attempts}")
    else:
        _must(1 <= error.attempts <= attempts, f"{error.attempts} attempts of {attempts}")


def _same(value: Any, expected: Any) -> bool:
    if isinstance(value, float):
        return value.hex() == float(expected).hex()
    return bool(value == expected) and type(value) is type(expected)


def _must(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ScheduleError(otherwise)
