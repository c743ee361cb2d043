"""What a type checker makes of the public names. Checked by mypy --strict, and never run."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, assert_type

import lambdamr
from lambdamr import (
    InlineExecutor,
    LambdamrError,
    LocalExecutor,
    MapperError,
    Outcome,
    PartitionError,
    Partitions,
    RetryPolicy,
    amap_reduce,
    events,
    map_reduce,
    split,
)
from lambdamr.executor import Executor


def count(lines: list[str]) -> Counter[str]:
    return Counter(word for line in lines for word in line.split())


def merge(a: Counter[str], b: Counter[str]) -> Counter[str]:
    a.update(b)
    return a


def returns_the_value(lines: list[str]) -> None:
    assert_type(map_reduce(count, merge, lines), Counter[str])
    assert_type(map_reduce(count, merge, lines, errors="raise"), Counter[str])
    assert_type(map_reduce(count, merge, lines, npartitions=4, fan_in=3), Counter[str])


def returns_an_outcome(lines: list[str]) -> None:
    outcome = map_reduce(count, merge, lines, errors="return")
    assert_type(outcome, Outcome[Counter[str]])
    assert_type(outcome.value, Counter[str])
    assert_type(outcome.failed, tuple[int, ...])
    assert_type(outcome.succeeded, tuple[int, ...])
    assert_type(outcome.failures, tuple[PartitionError, ...])
    assert_type(outcome.remaining, Partitions[Any])


async def async_twin(lines: list[str]) -> None:
    assert_type(await amap_reduce(count, merge, lines), Counter[str])
    assert_type(await amap_reduce(count, merge, lines, errors="return"), Outcome[Counter[str]])


def takes_every_option(lines: list[str], executor: Executor) -> Counter[str]:
    return map_reduce(
        count,
        merge,
        lines,
        npartitions=None,
        executor=executor,
        initial=Counter[str](),
        fan_in=4,
        retry=RetryPolicy(attempts=5, retry_on=(ConnectionError, OSError), straggler_factor=None),
        timeout=1.5,
        checkpoint=Path("kept"),
        errors="raise",
        max_cost=0.25,
        progress=None,
        observers=[print, tell],
    )


def what_is_wrong(lines: list[str]) -> None:
    """Each of these is an error for the type checker as well, or mypy would complain here."""
    map_reduce(count, merge)  # type: ignore[call-overload]
    map_reduce("count", merge, lines)  # type: ignore[call-overload]
    map_reduce(count, lambda a: a, lines)  # type: ignore[arg-type, misc]
    map_reduce(count, merge, lines, workers=4)  # type: ignore[call-overload]
    map_reduce(count, merge, lines, errors="ignore")  # type: ignore[call-overload]
    map_reduce(count, merge, lines, npartitions="32")  # type: ignore[call-overload]
    map_reduce(count, merge, lines, retry=3)  # type: ignore[call-overload]
    map_reduce(count, merge, lines, executor=LocalExecutor)  # type: ignore[call-overload]
    map_reduce(count, merge, lines, observers=tell)  # type: ignore[call-overload]
    RetryPolicy(5)  # type: ignore[call-arg]
    LocalExecutor("2")  # type: ignore[arg-type]


def tell(event: events.Event) -> None:
    if isinstance(event, events.TaskFinished):
        assert_type(event.partitions, int)
        assert_type(event.stats.wall, float)
    elif isinstance(event, events.TaskFailed):
        assert_type(event.delay, float | None)
    elif isinstance(event, events.JobFinished):
        assert_type(event.error, BaseException | None)


class Timeline:
    """An observer with state."""

    def __init__(self) -> None:
        self.events: list[events.Event] = []

    def __call__(self, event: events.Event) -> None:
        self.events.append(event)


def observers(lines: list[str]) -> None:
    timeline = Timeline()
    map_reduce(count, merge, lines, observers=[timeline, timeline.events.append])
    map_reduce(count, merge, lines, observers=(timeline,))
    observer: events.Observer = timeline
    observer(timeline.events[0])


def executors() -> Iterable[Executor]:
    yield InlineExecutor()
    yield LocalExecutor()
    with LocalExecutor(
        2,
        memory=[1 << 30, 2 << 30],
        preload=["json"],
        warm_up=os.getpid,
        max_tasks_per_child=100,
        stay_warm=False,
    ) as local:
        assert_type(local, LocalExecutor)
        yield local


def partitions(paths: list[Path]) -> None:
    parts = Partitions(paths)
    assert_type(parts, Partitions[Path])
    assert_type(parts[0], Path)
    assert_type(list(parts), list[Path])
    assert_type(len(parts), int)
    assert_type(split(b"bytes", 2), Partitions[Any])


def errors(lines: list[str]) -> None:
    try:
        map_reduce(count, merge, lines)
    except MapperError as error:
        assert_type(error.lo, int)
        assert_type(error.attempts, int)
        assert_type(error.remote_traceback, str)
    except lambdamr.InputError as error:
        value_error: ValueError = error
        raise value_error from None
    except LambdamrError:
        raise
