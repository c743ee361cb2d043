"""What the driver makes of each fault, told by scripts: which invocation meets what."""

import asyncio
import itertools
import math
import operator
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lambdamr import (
    BrokenExecutorError,
    CostLimitError,
    LambdamrError,
    MapperError,
    OutOfMemoryError,
    Partitions,
    PartitionTimeoutError,
    ReducerError,
    ResultError,
    RetryPolicy,
    ThrottledError,
    WorkerLostError,
    amap_reduce,
    events,
)
from lambdamr.retry import (
    Broken,
    Lost,
    OutOfMemory as OutOfMemoryFailure,
    TaskFailed,
    Throttled,
)
from lambdamr.testing import (
    Break,
    Crash,
    DeadlockError,
    Fault,
    Hang,
    Invocation,
    LoseAnswer,
    OutOfMemory,
    Partial,
    Raise,
    SimulatedExecutor,
    SimulatedPool,
    Simulation,
    Slow,
    Throttle,
    TimeOut,
    Twice,
    run,
    simulate,
)
from lambdamr.wire import Answer, Buffer, Ref, Task

ONCE = RetryPolicy(attempts=1)


@pytest.fixture(autouse=True)
def checkpoint_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBDAMR_CHECKPOINT_KEY", "of a test")


def name(partition: int) -> str:
    return str(partition)


def shape(left: str, right: str) -> str:
    """Neither commutative nor associative: the value says how it was folded."""
    return f"({left} {right})"


def job(faults: Any = None, *, n: int = 8, pool: Any = None, **options: Any) -> Simulation:
    """``n`` partitions of a second on eight workers: a task for each, if nothing is said."""
    executor = SimulatedExecutor(faults, **{"workers": 8, "latency": 0.01, **(pool or {})})
    return simulate(name, shape, Partitions(range(n)), executor=executor, **options)


SHAPE = "(((0 1) (2 3)) ((4 5) (6 7)))"


def of(simulation: Simulation, kind: type[Any]) -> list[Any]:
    return [event for event in simulation.events if isinstance(event, kind)]


def invoked(simulation: Simulation, lo: int, hi: int) -> list[Invocation]:
    return [i for i in simulation.invocations if (i.lo, i.hi) == (lo, hi)]


def ends(simulation: Simulation, lo: int, hi: int) -> list[str]:
    return [i.end for i in invoked(simulation, lo, hi)]


# -- planning --------------------------------------------------------------------------------------


def test_the_free_workers_share_all_partitions() -> None:
    simulation = job(pool={"workers": 4})
    assert simulation.value == SHAPE
    assert [(i.lo, i.hi) for i in simulation.invocations] == [
        (0, 2),
        (2, 4),
        (4, 6),
        (6, 8),
        (0, 8),
    ]


def test_one_worker_gets_all_partitions_and_no_merge_is_needed() -> None:
    simulation = job(pool={"workers": 1})
    assert simulation.value == SHAPE
    assert [(i.lo, i.hi) for i in simulation.invocations] == [(0, 8)]


def test_a_thousand_workers_get_a_partition_each() -> None:
    simulation = job(pool={"workers": 1000})
    assert simulation.value == SHAPE
    assert [(i.lo, i.hi) for i in simulation.invocations[:-1]] == [(i, i + 1) for i in range(8)]


@pytest.mark.parametrize(("workers", "n", "seconds"), [(50, 2000, 0.5), (1000, 3000, 5)])
def test_the_first_tasks_are_equal_shares(workers: int, n: int, seconds: float) -> None:
    pool = {"workers": workers, "seconds": seconds, "latency": 1e-3}
    simulation = job(n=n, pool=pool)
    assert simulation.seconds < 1.1 * n * seconds / workers


def test_workers_that_come_during_the_job_are_used() -> None:
    late = job(n=64, pool={"workers": lambda time: 1 if time < 9.0 else 16})
    assert late.seconds < 20
    assert len({i.worker for i in late.invocations}) > 10


def test_places_that_go_during_the_job_are_not_used_again() -> None:
    simulation = job(n=64, pool={"workers": lambda time: 8 if time < 3.0 else 1, "latency": 0.001})
    assert simulation.value
    last = [i for i in simulation.invocations if i.started > 5.0]
    assert last
    assert all(a.ended <= b.started for a, b in itertools.pairwise(last))


def test_an_answer_in_parts_counts_and_the_rest_goes_to_another_task() -> None:
    simulation = job({1: Partial(3)}, pool={"workers": 1})
    assert simulation.value == SHAPE
    assert of(simulation, events.TaskFinished)[0].partitions == 3
    assert sum(e.partitions for e in of(simulation, events.TaskFinished)) == 8


def test_a_long_task_answers_after_its_budget_so_that_progress_is_seen() -> None:
    simulation = job(n=500, pool={"workers": 1, "latency": 0.01})
    first = of(simulation, events.TaskFinished)[0]
    assert (first.lo, first.hi) == (0, 500)
    assert first.partitions < 20


def test_the_initial_value_comes_first() -> None:
    assert job(n=4, initial="start").value == "(start ((0 1) (2 3)))"


def test_the_value_does_not_depend_on_how_many_work() -> None:
    values = {job(n=37, fan_in=3, pool={"workers": workers}).value for workers in (1, 2, 3, 5, 37)}
    assert len(values) == 1


# -- lost workers ----------------------------------------------------------------------------------


def test_a_lost_tall_task_is_tried_again_in_pieces_and_costs_no_attempt() -> None:
    simulation = job({1: Crash()}, pool={"workers": 1}, retry=ONCE)
    assert simulation.value == SHAPE
    assert [(i.lo, i.hi, i.end) for i in simulation.invocations][:3] == [
        (0, 8, "Lost"),
        (0, 1, "answered"),
        (1, 2, "answered"),
    ]


def test_a_lost_partition_is_tried_until_its_attempts_are_spent() -> None:
    simulation = job({(3, 4): Crash()})
    error = simulation.error
    assert isinstance(error, WorkerLostError)
    assert (error.lo, error.hi, error.attempts) == (3, 4, 3)
    assert "partition 3 of 8 failed after 3 attempts" in str(error)
    assert isinstance(error.__cause__, Lost)
    assert ends(simulation, 3, 4) == ["Lost"] * 3


def test_other_tasks_are_cancelled_when_a_partition_fails_for_good() -> None:
    simulation = job({(3, 4): Crash(0.1), (5, 6): Slow(100.0)}, retry=ONCE)
    assert isinstance(simulation.error, WorkerLostError)
    assert ends(simulation, 5, 6) == ["cancelled"]
    assert simulation.seconds < 1
    assert len(of(simulation, events.TaskAbandoned)) == 7


def test_recover_is_asked_before_a_lost_task_is_tried_again() -> None:
    simulation = job({(2, 3): LoseAnswer(stored=True)}, retry=ONCE)
    assert simulation.value == SHAPE
    assert ends(simulation, 2, 3) == ["Lost"]
    assert not of(simulation, events.TaskFailed)


def test_an_answer_that_is_lost_and_not_stored_is_computed_again() -> None:
    simulation = job({(2, 3, 1): LoseAnswer(stored=False)})
    assert simulation.value == SHAPE
    assert ends(simulation, 2, 3) == ["Lost", "answered"]


def test_a_lost_merge_is_tried_again_and_its_values_are_still_there() -> None:
    simulation = job({(0, 8): Crash()}, pool={"inline": 0}, retry=RetryPolicy(attempts=2))
    error = simulation.error
    assert isinstance(error, WorkerLostError)
    assert "partitions 0 to 7 of 8" in str(error)
    assert job({(0, 8, 1): Crash(1.0)}, pool={"inline": 0}).value == SHAPE


def test_an_answer_that_comes_twice_counts_once() -> None:
    simulation = job({(2, 3): Twice(0.5), (0, 8): Twice(0.0)}, pool={"inline": 0})
    assert simulation.value == SHAPE
    assert sum(e.partitions for e in of(simulation, events.TaskFinished)) == 8


def test_the_waits_between_attempts_have_full_jitter() -> None:
    policy = RetryPolicy(attempts=6, base_delay=0.5, max_delay=4.0)
    delays: dict[int, list[float]] = {}
    for seed in range(60):
        executor = SimulatedExecutor({(1, 2): Crash()}, workers=4, seed=seed)
        data = range(2)
        simulation = simulate(sum, operator.add, data, executor=executor, retry=policy, seed=seed)
        for nth, event in enumerate(of(simulation, events.TaskFailed)[:-1], 1):
            delays.setdefault(nth, []).append(event.delay)
    for nth, seen in delays.items():
        longest = min(4.0, 0.5 * 2 ** (nth - 1))
        assert 0 <= min(seen) < 0.2 * longest
        assert 0.8 * longest < max(seen) <= longest
    assert sorted(delays) == [1, 2, 3, 4, 5]


# -- time ------------------------------------------------------------------------------------------


def test_a_hung_worker_times_out_and_its_partition_is_tried_again() -> None:
    simulation = job({(3, 4, 1): Hang()}, timeout=5, retry=RetryPolicy(straggler_factor=None))
    assert simulation.value == SHAPE
    assert ends(simulation, 3, 4) == ["cancelled", "answered"]
    assert [e.failure for e in of(simulation, events.TaskFailed)] == ["timeout"]
    assert "no answer within 5 s" in of(simulation, events.TaskFailed)[0].message


def test_a_partition_that_always_hangs_is_an_error_in_the_end() -> None:
    policy = RetryPolicy(straggler_factor=None)
    simulation = job({(3, 4): Hang()}, timeout=5, retry=policy)
    error = simulation.error
    assert isinstance(error, PartitionTimeoutError)
    assert (error.lo, error.hi, error.attempts) == (3, 4, 3)
    assert simulation.seconds == pytest.approx(15, abs=0.5)


def test_without_a_timeout_a_hang_is_for_ever() -> None:
    with pytest.raises(DeadlockError):
        job({(3, 4): Hang()}, retry=RetryPolicy(straggler_factor=None))


def test_the_timeout_is_of_a_partition_not_of_a_task() -> None:
    simulation = job(n=60, pool={"workers": 1}, timeout=1.5, retry=ONCE)
    assert simulation.value
    assert not of(simulation, events.TaskFailed)
    assert max(i.ended - i.started for i in simulation.invocations) > 1.5


def test_the_timeout_of_a_merge_is_of_each_of_its_folds() -> None:
    simulation = job(n=20, pool={"workers": 20, "merge_seconds": 1.0}, timeout=1.5, retry=ONCE)
    assert simulation.value
    assert simulation.seconds > 15


def test_the_engines_own_time_limit_splits_a_tall_task() -> None:
    simulation = job({1: TimeOut()}, pool={"workers": 1}, retry=ONCE)
    assert simulation.value == SHAPE
    assert [(i.lo, i.hi, i.end) for i in simulation.invocations][:2] == [
        (0, 8, "TimedOut"),
        (0, 1, "answered"),
    ]


# -- memory ----------------------------------------------------------------------------------------


def test_only_the_task_that_ran_out_of_memory_goes_up_the_ladder() -> None:
    simulation = job({(2, 3): OutOfMemory(below=2)})
    assert simulation.value == SHAPE
    assert [(i.rung, i.end) for i in invoked(simulation, 2, 3)] == [
        (0, "OutOfMemory"),
        (1, "OutOfMemory"),
        (2, "answered"),
    ]
    assert {i.rung for i in simulation.invocations if (i.lo, i.hi) != (2, 3)} == {0}


def test_a_tall_task_that_ran_out_of_memory_is_tried_in_pieces_first() -> None:
    simulation = job({1: OutOfMemory()}, pool={"workers": 1}, retry=ONCE)
    assert simulation.value == SHAPE
    assert {i.rung for i in simulation.invocations} == {0}


def test_a_partition_that_never_has_enough_memory_is_an_error_with_advice() -> None:
    error = job({(2, 3): OutOfMemory(below=99)}).error
    assert isinstance(error, OutOfMemoryError)
    assert "more memory" in str(error)


def test_a_memory_error_of_the_mapper_goes_up_the_ladder_too() -> None:
    simulation = job({(2, 3, 1): Raise(MemoryError())})
    assert simulation.value == SHAPE
    assert [i.rung for i in invoked(simulation, 2, 3)] == [0, 1]


# -- throttling ------------------------------------------------------------------------------------


def test_being_refused_costs_no_attempt() -> None:
    refused = {number: Throttle() for number in range(1, 30)}
    simulation = job(refused, retry=ONCE)
    assert simulation.value == SHAPE
    assert len(of(simulation, events.Throttled)) == 29
    assert not of(simulation, events.TaskFailed)


def test_concurrency_follows_what_the_engine_takes() -> None:
    simulation = job(n=400, pool={"workers": 400, "limit": 10, "latency": 1e-3})
    assert simulation.value
    refused = of(simulation, events.Throttled)
    first = [event for event in refused if event.time < 1.0]
    assert len(first) > 300  # all at once, until the engine says how it is
    limits = [event.limit for event in refused]
    assert limits == sorted(limits, reverse=True) or min(limits) < 12
    after = [event for event in refused if event.time > 5.0]
    assert len(after) < 120  # a probe now and then
    used = [i for i in simulation.invocations if i.end == "answered" and i.started > 5.0]
    busy = sum(i.ended - i.started for i in used) / (simulation.seconds - 5.0)
    assert busy > 9  # of the ten that it takes


def test_what_the_engine_takes_is_used() -> None:
    """After a refusal concurrency is soon back near where it was refused."""
    simulation = job(n=1000, pool={"workers": 200, "limit": 32, "latency": 0.02})
    start, end = simulation.seconds / 3, 0.9 * simulation.seconds
    answered = [i for i in simulation.invocations if i.end == "answered"]
    busy = sum(max(0, min(i.ended, end) - max(i.started, start)) for i in answered)
    assert busy / (end - start) > 0.94 * 32


def test_concurrency_grows_again_when_the_engine_has_room() -> None:
    limit = {"limit": lambda time: 2 if time < 20 else 64}
    simulation = job(n=300, pool={"workers": 64, "latency": 1e-3, **limit})
    assert simulation.value
    late = [i for i in simulation.invocations if i.end == "answered" and i.started > 30]
    together = max(sum(a.started <= b.started < a.ended for a in late) for b in late)
    assert together > 6


def test_one_refusal_of_many_at_once_is_one_decrease() -> None:
    simulation = job({number: Throttle() for number in range(1, 9)}, pool={"workers": 8})
    limits = {event.limit for event in of(simulation, events.Throttled)}
    assert limits == {int(8 * 0.7)}


def test_an_engine_that_refuses_everything_is_an_error_when_patience_ends() -> None:
    simulation = job(lambda task, nth: Throttle(), retry=RetryPolicy(patience=60, max_delay=5))
    assert isinstance(simulation.error, ThrottledError)
    assert "refused every task for 60 s" in str(simulation.error)
    assert 60 < simulation.seconds < 60 + 5 + 1


@pytest.mark.timeout(20)  # or it spins
def test_an_engine_that_refuses_at_once_is_not_asked_without_a_pause() -> None:
    class Full(SimulatedPool):
        async def run(self, task: Task) -> Answer:
            raise Throttled("no room")

    simulation = odd(OddExecutor(Full), retry=RetryPolicy(base_delay=0, patience=1.0))
    assert isinstance(simulation.error, ThrottledError)


def test_an_answer_now_and_then_is_enough_for_patience() -> None:
    def mostly_full(task: Task, nth: int) -> Fault | None:
        return Throttle() if nth <= 5 else None

    policy = RetryPolicy(patience=20, base_delay=2.0, max_delay=4.0)
    simulation = job(mostly_full, n=16, pool={"workers": 2}, retry=policy)
    assert simulation.value
    assert simulation.seconds > 20


# -- broken engines --------------------------------------------------------------------------------


def test_a_broken_deployment_ends_the_job_at_once_and_says_why() -> None:
    simulation = job({2: Break("no permission to invoke"), 3: Hang()})
    assert isinstance(simulation.error, BrokenExecutorError)
    assert "no permission to invoke" in str(simulation.error)
    assert isinstance(simulation.error.__cause__, Broken)
    assert simulation.seconds < 1


def test_functions_that_cannot_be_loaded_end_the_job_and_are_not_tried_again() -> None:
    simulation = simulate(Unloadable(), shape, Partitions(range(4)))
    assert isinstance(simulation.error, BrokenExecutorError)
    assert "no such module here" in str(simulation.error)
    assert all(i.nth == 1 for i in simulation.invocations)


def _load() -> Any:
    raise ImportError("no such module here")


class Unloadable:
    def __call__(self, partition: Any) -> Any:
        raise AssertionError("never called")

    def __reduce__(self) -> Any:
        return _load, ()


class OddPool(SimulatedPool):
    """Does what no pool should, the first time."""

    odd: BaseException

    async def run(self, task: Task) -> Answer:
        if task.id == 1:
            await asyncio.sleep(1)
            raise self.odd
        return await super().run(task)


class ForgetfulPool(SimulatedPool):
    """Keeps values, and loses them."""

    async def get(self, ref: Ref) -> Buffer:
        raise Lost("the worker that kept it is gone")


class OddExecutor(SimulatedExecutor):
    def __init__(self, pool: type[SimulatedPool], odd: BaseException | None = None) -> None:
        super().__init__(workers=4)
        self._pool = type("Pool", (pool,), {"odd": odd})

    @asynccontextmanager
    async def open(self) -> AsyncIterator[SimulatedPool]:
        pool = self._pool(self)
        self.watch(pool)
        try:
            yield pool
        finally:
            pool.close()


def odd(executor: OddExecutor, **options: Any) -> Simulation:
    return simulate(name, shape, Partitions(range(8)), executor=executor, **options)


def test_a_task_that_the_engine_cancels_is_lost_and_tried_again() -> None:
    simulation = odd(OddExecutor(OddPool, asyncio.CancelledError()))
    assert simulation.value == SHAPE
    assert "the engine cancelled it" in of(simulation, events.TaskFailed)[0].message


def test_a_worker_that_answers_nothing_spends_attempts() -> None:
    class Silent(SimulatedPool):
        async def run(self, task: Task) -> Answer:
            answer = await super().run(task)
            return answer if task.items else Answer((), task.lo)

    simulation = odd(OddExecutor(Silent))
    assert isinstance(simulation.error, WorkerLostError)
    assert "answered nothing" in str(simulation.error)


@pytest.mark.parametrize("timeout", [None, 100])
def test_a_timeout_error_of_the_engine_is_a_timeout(timeout: Any) -> None:
    simulation = odd(OddExecutor(OddPool, TimeoutError()), timeout=timeout)
    assert simulation.value == SHAPE
    assert of(simulation, events.TaskFailed)[0].failure == "timeout"


class NodeLost(Lost):
    """Of an executor that tells more of a failure than its class."""


class NodeFull(OutOfMemoryFailure):
    """The same."""


@pytest.mark.parametrize(
    ("failure", "kind"),
    [(NodeLost("n7"), "lost"), (NodeFull("n7"), "memory"), (TaskFailed("n7"), "lost")],
)
def test_an_executor_may_have_classes_of_failure_of_its_own(failure: Any, kind: str) -> None:
    simulation = odd(OddExecutor(OddPool, failure))
    assert simulation.value == SHAPE
    assert of(simulation, events.TaskFailed)[0].failure == kind


def test_a_bug_in_an_executor_ends_the_job_with_that_exception() -> None:
    simulation = odd(OddExecutor(OddPool, ZeroDivisionError("a bug")))
    assert isinstance(simulation.error, ZeroDivisionError)
    assert isinstance(simulation.events[-1], events.JobFinished)


def test_a_result_that_the_pool_has_lost_is_an_error_of_ours() -> None:
    simulation = odd(OddExecutor(ForgetfulPool))
    assert isinstance(simulation.error, LambdamrError)
    assert "the worker that kept it is gone" in str(simulation.error)


def test_a_store_that_stumbles_over_the_value_is_asked_again() -> None:
    class Stumbles(SimulatedPool):
        gets = 0

        async def get(self, ref: Ref) -> Buffer:
            self.gets += 1
            if self.gets < 3:
                raise (Lost, Throttled)[self.gets - 1]("internal error")
            return await super().get(ref)

    simulation = odd(OddExecutor(Stumbles))
    assert simulation.value == SHAPE
    assert of(simulation, events.TaskFailed) == []


def test_a_value_that_is_gone_before_it_is_in_the_checkpoint_is_computed_again(
    tmp_path: Path,
) -> None:
    class Once(SimulatedPool):
        gets = 0

        async def get(self, ref: Ref) -> Buffer:
            self.gets += 1
            if self.gets == 1:
                raise Lost("the worker that kept it is gone")
            return await super().get(ref)

    simulation = odd(OddExecutor(Once), checkpoint=tmp_path / "c")
    assert simulation.value == SHAPE
    assert [e.failure for e in of(simulation, events.TaskFailed)] == ["lost"]
    assert simulation.left == ()


# -- stragglers ------------------------------------------------------------------------------------


def test_a_straggler_gets_a_copy_and_the_faster_one_wins() -> None:
    simulation = job({(7, 8, 1): Slow(1000)})
    assert simulation.value == SHAPE
    assert ends(simulation, 7, 8) == ["cancelled", "answered"]
    assert [e.speculative for e in of(simulation, events.TaskStarted) if e.lo == 7] == [False, True]
    assert len(of(simulation, events.TaskAbandoned)) == 1
    assert simulation.seconds < 10


def test_an_answer_counts_although_the_job_is_cancelled_while_its_copy_is_abandoned() -> None:
    def cancel(event: events.Event) -> None:
        if isinstance(event, events.TaskAbandoned):
            owner = asyncio.current_task()
            assert owner is not None
            owner.cancel()

    simulation = job({(7, 8, 1): Slow(1000)}, observers=[cancel])  # or PromiseError: no end
    assert isinstance(simulation.error, asyncio.CancelledError)


def test_a_straggler_that_is_faster_than_its_copy_wins() -> None:
    simulation = job({(7, 8, 1): Slow(5), (7, 8, 2): Hang()})
    assert simulation.value == SHAPE
    assert ends(simulation, 7, 8) == ["answered", "cancelled"]


def test_a_copy_is_made_when_the_task_took_the_factor_of_what_was_expected() -> None:
    simulation = job({(7, 8, 1): Slow(1000)}, retry=RetryPolicy(straggler_factor=4.0))
    original, copy = invoked(simulation, 7, 8)
    assert copy.started - original.started == pytest.approx(4.0 * (1.0 + 10 * 0.01), rel=0.01)


def test_stragglers_are_left_alone_if_the_policy_says_so() -> None:
    simulation = job({(7, 8, 1): Slow(50)}, retry=RetryPolicy(straggler_factor=None))
    assert simulation.value == SHAPE
    assert ends(simulation, 7, 8) == ["answered"]


def test_a_straggler_has_at_most_one_copy() -> None:
    simulation = job({(7, 8): Slow(50)})
    assert simulation.value == SHAPE
    assert len(invoked(simulation, 7, 8)) == 2


def test_a_copy_that_is_lost_costs_nothing_and_the_straggler_goes_on() -> None:
    simulation = job({(7, 8, 1): Slow(20), (7, 8, 2): Crash()}, retry=ONCE)
    assert simulation.value == SHAPE
    assert ends(simulation, 7, 8) == ["answered", "Lost"]


def test_a_copy_that_is_refused_is_not_tried_again_and_again() -> None:
    simulation = job({(7, 8, nth): Throttle() for nth in range(2, 99)} | {(7, 8, 1): Slow(30)})
    assert simulation.value == SHAPE
    assert sorted(ends(simulation, 7, 8)) == ["Throttled", "answered"]


def test_a_lost_straggler_leaves_its_copy_to_win() -> None:
    simulation = job({(7, 8, 1): TimeOut(at=3.5), (7, 8, 2): Slow(3)}, retry=ONCE)
    assert simulation.value == SHAPE
    assert ends(simulation, 7, 8) == ["TimedOut", "answered"]


def test_no_copies_are_made_before_most_is_done() -> None:
    slow = {(i, i + 1, 1): Slow(20) for i in range(4)}
    simulation = job(slow)
    assert simulation.value == SHAPE
    assert not any(e.speculative for e in of(simulation, events.TaskStarted))


def test_a_merge_that_hangs_gets_a_copy_too() -> None:
    simulation = job({(0, 8, 1): Hang()})
    assert simulation.value == SHAPE
    assert ends(simulation, 0, 8) == ["cancelled", "answered"]


@pytest.mark.parametrize("way", ["stops", "lingers", "answers", "goes on"])
def test_what_a_cancelled_copy_still_does_is_not_in_the_value_and_leaves_nothing(way: Any) -> None:
    simulation = job({(7, 8, 1): Slow(1000, when_cancelled=way)}, pool={"inline": 0})
    assert simulation.value == SHAPE
    assert simulation.left == ()
    assert sum(e.partitions for e in of(simulation, events.TaskFinished)) == 8


# -- the user's exceptions -------------------------------------------------------------------------


def test_a_user_error_is_not_tried_again_and_says_where_and_what() -> None:
    simulation = job({(5, 6): Raise(ValueError("bad record"))})
    error = simulation.error
    assert isinstance(error, MapperError)
    assert (error.lo, error.hi, error.attempts) == (5, 6, 1)
    assert "partition 5 of 8 failed after 1 attempt in the mapper" in str(error)
    assert "ValueError: bad record" in error.remote_traceback
    assert isinstance(error.__cause__, ValueError)
    assert ends(simulation, 5, 6) == ["answered"]


def test_a_user_error_in_a_tall_task_costs_only_its_own_partition() -> None:
    fault = {1: Raise(ValueError("bad record"), call=5)}
    outcome = job(fault, pool={"workers": 1}, errors="return").value
    assert outcome.failed == (5,)
    assert outcome.value == "(((0 1) (2 3)) (4 (6 7)))"


def test_a_user_error_that_the_policy_names_is_tried_again() -> None:
    policy = RetryPolicy(retry_on=(OSError,))
    simulation = job({(5, 6, 1): Raise(ConnectionResetError("by peer"))}, retry=policy)
    assert simulation.value == SHAPE
    assert len(invoked(simulation, 5, 6)) == 2


def test_a_user_error_that_the_policy_names_is_not_tried_for_ever() -> None:
    policy = RetryPolicy(retry_on=(OSError,), attempts=4)
    simulation = job({(5, 6): Raise(ConnectionResetError("by peer"))}, retry=policy)
    assert isinstance(simulation.error, MapperError)
    assert simulation.error.attempts == len(invoked(simulation, 5, 6)) == 4


def test_a_reducer_that_raises_in_a_tall_task_names_the_range() -> None:
    simulation = simulate(name, refuses_3, Partitions(range(8)), executor=one_worker())
    error = simulation.error
    assert isinstance(error, ReducerError)
    assert (error.lo, error.hi) == (2, 4)
    assert "partitions 2 to 3 of 8 failed after 1 attempt in the reducer" in str(error)


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_a_reducer_that_raises_costs_the_same_partitions_wherever_it_runs(workers: int) -> None:
    executor = SimulatedExecutor(workers=workers)
    data = Partitions(range(8))
    outcome = simulate(name, refuses_3, data, executor=executor, errors="return").value
    assert outcome.failed == (2, 3)
    assert outcome.value == "((0 1) ((4 5) (6 7)))"


def refuses_3(left: str, right: str) -> str:
    if right == "3":
        raise ValueError("no threes")
    return shape(left, right)


def one_worker() -> SimulatedExecutor:
    return SimulatedExecutor(workers=1)


def test_a_merge_whose_reducer_fails_once_is_tried_again_if_the_policy_says_so() -> None:
    policy = RetryPolicy(retry_on=(ConnectionError,))
    simulation = job({(0, 8, 1): Raise(ConnectionError("x"), call=2)}, retry=policy)
    assert simulation.value == SHAPE


def unpicklable_3(partition: int) -> Any:
    return [lambda: None, open] if partition == 3 else [partition]


class NoPickle:
    def __reduce__(self) -> Any:
        raise TypeError("it holds a socket")


def holds_a_socket_3(partition: int) -> Any:
    return [NoPickle()] if partition == 3 else [partition]


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_a_value_that_cannot_be_sent_costs_only_its_own_partition(workers: int) -> None:
    executor = SimulatedExecutor(workers=workers)
    data = Partitions(range(8))
    outcome = simulate(
        holds_a_socket_3, operator.add, data, executor=executor, errors="return"
    ).value
    assert outcome.failed == (3,)
    assert outcome.value == [0, 1, 2, 4, 5, 6, 7]
    assert isinstance(outcome.failures[0], ResultError)
    assert "it holds a socket" in str(outcome.failures[0])


def test_functions_as_values_can_be_sent() -> None:
    assert len(simulate(unpicklable_3, operator.add, Partitions(range(8))).value) == 9


# -- errors="return" -------------------------------------------------------------------------------


def test_what_failed_is_listed_and_the_rest_is_folded_as_the_tree_says() -> None:
    faults = {(1, 2): Crash(), (4, 5): Raise(ValueError("x")), (6, 7): OutOfMemory(below=99)}
    simulation = job(faults, errors="return")
    outcome = simulation.value
    assert outcome.failed == (1, 4, 6)
    assert outcome.succeeded == (0, 2, 3, 5, 7)
    assert outcome.value == "((0 (2 3)) (5 7))"
    assert list(outcome.remaining) == [1, 4, 6]
    kinds = {type(error) for error in outcome.failures}
    assert kinds == {WorkerLostError, MapperError, OutOfMemoryError}
    end = simulation.events[-1]
    assert isinstance(end, events.JobFinished)
    assert (end.done, end.failed, end.error) == (5, 3, None)


def test_if_everything_failed_there_is_no_value_but_an_outcome() -> None:
    outcome = job(lambda task, nth: Crash(), errors="return", n=3, retry=ONCE).value
    assert outcome.failed == (0, 1, 2)
    with pytest.raises(LambdamrError, match="no partition succeeded"):
        _ = outcome.value


def test_if_everything_failed_the_value_is_the_initial_one() -> None:
    outcome = job(lambda task, nth: Crash(), errors="return", n=3, retry=ONCE, initial="i").value
    assert outcome.failed == (0, 1, 2)
    assert outcome.value == "i"


def test_a_broken_engine_ends_the_job_even_so() -> None:
    assert isinstance(job({2: Break()}, errors="return").error, BrokenExecutorError)


def test_a_merge_that_is_lost_for_good_costs_its_partitions_and_is_told() -> None:
    simulation = job({(0, 8): Crash()}, errors="return")
    assert simulation.value.failed == tuple(range(8))
    end = simulation.events[-1]
    assert isinstance(end, events.JobFinished)
    assert (end.done, end.failed) == (0, 8)


# -- cost ------------------------------------------------------------------------------------------


def priced(most: float | None, n: int = 100, **pool: Any) -> Simulation:
    settings = {"workers": 2, "price": 1.0, "latency": 0.001, "seconds": 1.0, **pool}
    return job(n=n, pool=settings, max_cost=most)


def test_a_job_stops_before_it_costs_too_much() -> None:
    simulation = priced(10.0)
    assert isinstance(simulation.error, CostLimitError)
    assert "max_cost=10 USD" in str(simulation.error)
    end = simulation.events[-1]
    assert isinstance(end, events.JobFinished)
    assert 5 < end.cost <= 10.5
    assert f"{end.done} of 100 partitions are done" in str(simulation.error)


def test_a_job_that_costs_less_than_the_cap_is_left_alone() -> None:
    free, capped = priced(None), priced(1000.0)
    assert free.value == capped.value
    assert [i.task for i in free.invocations] == [i.task for i in capped.invocations]
    end = capped.events[-1]
    assert isinstance(end, events.JobFinished)
    assert end.cost == pytest.approx(100, rel=0.05)


def test_what_runs_when_the_cap_is_near_is_let_finish() -> None:
    simulation = priced(10.0)
    assert {i.end for i in simulation.invocations} == {"answered"}


def test_after_the_cap_a_second_call_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    def call(most: float | None) -> Simulation:
        pool = {"workers": 2, "price": 1.0, "latency": 0.001}
        return job(n=40, pool=pool, max_cost=most, checkpoint=tmp_path / "c")

    first = call(10.0)
    assert isinstance(first.error, CostLimitError)
    second = call(None)
    assert second.value == job(n=40).value
    done = sum(e.partitions for e in of(first, events.TaskFinished))
    assert [e.partitions for e in of(second, events.Resumed)] == [done]


# -- the end of the driver -------------------------------------------------------------------------


def test_a_cancelled_job_cancels_its_tasks_and_tells_so() -> None:
    simulation = job(cancel_after=0.5)
    assert isinstance(simulation.error, asyncio.CancelledError)
    assert {i.end for i in simulation.invocations} == {"cancelled"}
    assert len(of(simulation, events.TaskAbandoned)) == 8
    end = simulation.events[-1]
    assert isinstance(end, events.JobFinished)
    assert isinstance(end.error, asyncio.CancelledError)


@pytest.mark.parametrize("cancel_after", [0.5, 1.005, 1.5, 3.0, 7.7, 20.0])
def test_a_second_call_maps_only_what_the_first_did_not_finish(
    tmp_path: Path, cancel_after: float
) -> None:
    def call(**options: Any) -> Simulation:
        return job(n=40, fan_in=3, pool={"workers": 3}, checkpoint=tmp_path / "c", **options)

    first, second = call(cancel_after=cancel_after), call()
    finished = sum(e.partitions for e in of(first, events.TaskFinished))
    assert second.value == job(n=40, fan_in=3).value
    assert sum(e.partitions for e in of(second, events.Resumed)) == finished
    again = {p for i in second.invocations if not i.is_merge for p in range(i.lo, i.hi)}
    assert len(again) == 40 - finished


def test_a_finished_job_is_not_computed_again(tmp_path: Path) -> None:
    first, second = (job(checkpoint=tmp_path / "c") for _ in range(2))
    assert second.value == first.value == SHAPE
    assert second.invocations == ()


def test_partitions_that_failed_are_tried_again_by_the_second_call(tmp_path: Path) -> None:
    first = job({(3, 4): Crash()}, checkpoint=tmp_path / "c", errors="return")
    assert first.value.failed == (3,)
    second = job(checkpoint=tmp_path / "c", errors="return")
    assert second.value.failed == ()
    assert second.value.value == SHAPE
    assert {p for i in second.invocations if not i.is_merge for p in range(i.lo, i.hi)} == {3}


def test_the_driver_waits_for_no_clock_but_the_loops() -> None:
    async def main() -> float:
        executor = SimulatedExecutor({(0, 1): Crash()}, workers=1)
        policy = RetryPolicy(attempts=50, base_delay=1e6, max_delay=1e6, patience=math.inf)
        with pytest.raises(WorkerLostError):
            await amap_reduce(
                name, shape, Partitions([0]), executor=executor, retry=policy, progress=False
            )
        return asyncio.get_running_loop().time()

    assert run(main(), most_seconds=1e9) > 1e6
