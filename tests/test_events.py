"""What observers are told, and that they cannot hurt the job."""

import dataclasses
import logging
import operator
from typing import Any

import pytest

from lambdamr import LocalExecutor, MapperError, events, map_reduce
from lambdamr.testing import Crash, Raise, SimulatedExecutor, simulate

FACTS: dict[str, Any] = {
    "time": 0.0,
    "job": "j",
    "npartitions": 1,
    "fan_in": 2,
    "executor": "InlineExecutor",
    "capacity": 1,
    "wall_time": 0.0,
}
START = events.JobStarted(**FACTS)


def test_an_event_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        START.time = 1.0  # type: ignore[misc]


def test_each_observer_is_told_each_event_in_order() -> None:
    first: list[events.Event] = []
    second: list[events.Event] = []
    tell = events.Observers([first.append, second.append])
    tell("JobStarted", **FACTS)
    tell("Resumed", time=1.0, job="j", partitions=1)
    assert first == second == [START, events.Resumed(1.0, "j", 1)]


def test_an_observer_that_raises_is_logged_once_and_the_others_are_still_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[events.Event] = []

    def broken(event: events.Event) -> None:
        raise ZeroDivisionError("in the observer")

    tell = events.Observers([broken, told.append])
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            tell("JobStarted", **FACTS)
    assert told == [START] * 3
    assert len(caplog.records) == 1
    assert "in the observer" in caplog.text


def test_a_job_with_an_observer_that_always_raises_has_its_value(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(event: events.Event) -> None:
        raise ZeroDivisionError("in the observer")

    value = simulate(sum, operator.add, range(40), faults={1: Crash()}, observers=[broken]).value
    assert value == 780
    assert len(caplog.records) == 1


def test_an_observer_that_is_not_told_to_wait_sees_the_job_from_start_to_end() -> None:
    seen: list[events.Event] = []
    assert (
        map_reduce(sum, operator.add, range(10), executor="inline", observers=[seen.append]) == 45
    )
    start, *_, end = seen
    assert isinstance(start, events.JobStarted)
    assert (start.npartitions, start.fan_in, start.executor) == (10, 2, "InlineExecutor")
    assert isinstance(end, events.JobFinished)
    assert (end.done, end.failed, end.error) == (10, 0, None)
    assert len({event.job for event in seen}) == 1
    assert [e.time for e in seen] == sorted(e.time for e in seen)


def test_the_last_event_has_the_error_that_the_user_sees() -> None:
    simulation = simulate(sum, operator.add, range(4), faults={1: Raise(ValueError("no"))})
    end = simulation.events[-1]
    assert isinstance(end, events.JobFinished)
    assert end.error is simulation.error
    assert isinstance(simulation.error, MapperError)


@pytest.mark.parametrize("errors", ["raise", "return"])
def test_a_failure_for_good_is_told_with_its_traceback_and_no_delay(errors: Any) -> None:
    simulation = simulate(
        sum, operator.add, range(4), faults={(0, 1): Raise(ValueError("no"))}, errors=errors
    )
    told = [event for event in simulation.events if isinstance(event, events.TaskFailed)]
    assert [(e.kind, e.lo, e.hi, e.failure, e.delay) for e in told] == [
        ("map", 0, 1, "mapper", None)
    ]
    assert told[0].message == "ValueError: no"
    assert "ValueError: no" in told[0].traceback


def test_a_task_tells_the_memory_that_its_worker_was_given_and_what_reading_took() -> None:
    told: list[events.Event] = []
    with LocalExecutor(1, memory=[1 << 30, 2 << 30]) as executor:
        map_reduce(_grown, max, range(2), executor=executor, observers=[told.append])
    (stats, *_) = [event.stats for event in told if isinstance(event, events.TaskFinished)]
    assert stats.memory == 1 << 30
    assert 0 < stats.peak_memory < stats.memory
    assert 0 <= stats.fetching <= stats.storing <= stats.wall


def _grown(partition: range) -> int:
    return len(partition)


def test_a_cold_worker_tells_how_long_its_start_took() -> None:
    executor = SimulatedExecutor(workers=2, cold_start=3.0)
    simulation = simulate(sum, operator.add, range(40), executor=executor)
    stats = [e.stats for e in simulation.events if isinstance(e, events.TaskFinished)]
    assert {one.starting for one in stats if one.cold} == {3.0}
    assert {one.starting for one in stats if not one.cold} == {0.0}
