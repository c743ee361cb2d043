"""The simulation itself: its clock, its faults, and that it notices broken promises."""

import asyncio
import dataclasses
import doctest
import operator
import random
import subprocess
import sys
import time
from typing import Any

import pytest

import lambdamr.testing
from lambdamr import MapperError, RetryPolicy, events
from lambdamr.driver import Driver
from lambdamr.errors import InputError, InputTypeError, LambdamrError
from lambdamr.retry import Lost
from lambdamr.testing import (
    Crash,
    DeadlockError,
    EndlessError,
    Hang,
    Ledger,
    LoseAnswer,
    OutOfMemory,
    Partial,
    PromiseError,
    Raise,
    Rates,
    SimulatedExecutor,
    Slow,
    Throttle,
    TimeOut,
    Twice,
    VirtualClockLoop,
    faults as faults_module,
    run,
    schedules,
    simulate,
    verdict,
    workloads,
)
from lambdamr.wire import Item, Ref, Task

# -- the clock -------------------------------------------------------------------------------------


def test_a_long_sleep_takes_no_time() -> None:
    async def sleep() -> float:
        await asyncio.sleep(86_400 * 7)
        return asyncio.get_running_loop().time()

    started = time.perf_counter()
    assert run(sleep()) == pytest.approx(86_400 * 7)
    assert time.perf_counter() - started < 60


def test_sleepers_wake_in_the_order_of_their_times() -> None:
    woken = []

    async def sleeper(seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append(seconds)

    async def main() -> None:
        await asyncio.gather(*map(sleeper, (3.0, 1.0, 2.0, 0.0, 0.1 + 0.2, 0.3)))

    run(main())
    assert woken == [0.0, 0.3, 0.1 + 0.2, 1.0, 2.0, 3.0]


def test_a_timer_is_never_early() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for step in range(1, 2000):
            due = loop.time() + 1 / (step * 7)
            woken = loop.create_future()
            loop.call_at(due, woken.set_result, None)
            await woken
            assert loop.time() >= due

    run(main())


def test_a_timeout_is_of_virtual_seconds() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(100):
                await asyncio.sleep(1000)
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(100)


def test_waiting_for_what_never_comes_is_an_error_that_says_who_waits_where() -> None:
    async def waits_for_godot() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError) as caught:
        run(waits_for_godot())
    assert "nothing can happen any more, at 0 virtual seconds" in str(caught.value)
    assert "wait (locks.py" in str(caught.value)


def test_an_endless_loop_of_sleeps_is_an_error() -> None:
    async def polls() -> None:
        while True:  # noqa: ASYNC110  # it is the point
            await asyncio.sleep(1)

    with pytest.raises(EndlessError, match="no end after 100"):
        run(polls(), most_seconds=100)


def test_an_endless_loop_that_never_sleeps_is_an_error() -> None:
    async def spins() -> None:
        while True:  # noqa: ASYNC110  # it is the point
            await asyncio.sleep(0)

    with pytest.raises(EndlessError, match="and 501 steps"):
        run(spins(), most_steps=500)


def test_the_errors_of_the_clock_have_lambdamrs_root() -> None:
    assert issubclass(DeadlockError, LambdamrError)
    assert issubclass(EndlessError, LambdamrError)


def test_an_exception_of_the_coroutine_comes_out() -> None:
    async def fails() -> None:
        await asyncio.sleep(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(fails())


def test_it_works_where_a_loop_is_running_already() -> None:
    async def sleep() -> str:
        await asyncio.sleep(1000)
        return "done"

    async def notebook() -> str:
        return run(sleep())

    async def failing_notebook() -> None:
        run(asyncio.Event().wait())

    assert asyncio.run(notebook()) == "done"
    with pytest.raises(DeadlockError):
        asyncio.run(failing_notebook())


def test_loops_can_be_made_by_the_thousand() -> None:
    async def sleep() -> None:
        await asyncio.sleep(1)

    for _ in range(1000):
        run(sleep())


def test_a_loop_of_ones_own_can_be_used_with_asyncios_runner() -> None:
    async def sleep() -> float:
        await asyncio.sleep(5)
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        assert runner.run(sleep()) == pytest.approx(5)
        assert runner.run(sleep()) == pytest.approx(10)


# -- simulate --------------------------------------------------------------------------------------


def test_the_examples_of_the_documentation_work() -> None:
    results = doctest.testmod(lambdamr.testing)
    assert results.attempted > 5
    assert results.failed == 0


def told(simulation: Any) -> list[Any]:
    """The events, but for what is different each time: the job's name, and the date."""
    return [
        dataclasses.replace(event, job="", **({"wall_time": 0.0} if "wall_time" in named else {}))
        for event in simulation.events
        for named in [{field.name for field in dataclasses.fields(event)}]
    ]


RATES = Rates(crash=0.1, throttle=0.2, slow=0.2, lose_answer=0.1, partial=0.1, twice=0.1)


def test_the_same_seed_gives_the_same_schedule() -> None:
    one, same = (simulate(sum, operator.add, range(40), rates=RATES, seed=5) for _ in range(2))
    assert told(one) == told(same)
    assert one.invocations == same.invocations
    assert one.seconds == same.seconds


def test_another_seed_gives_another_schedule() -> None:
    one, other = (simulate(sum, operator.add, range(40), rates=RATES, seed=s) for s in (5, 6))
    assert told(one) != told(other)
    assert one.value == other.value == 780


def test_the_simulated_job_takes_the_time_of_its_slowest_worker() -> None:
    executor = SimulatedExecutor(workers=2, seconds=10.0, merge_seconds=0.5, latency=0.1)
    simulation = simulate(sum, operator.add, range(2), executor=executor)
    assert simulation.seconds == pytest.approx(10.1 + 1.1)


def test_an_error_of_the_job_is_kept_and_raised_by_value() -> None:
    simulation = simulate(sum, operator.add, ["a"])
    assert isinstance(simulation.error, MapperError)
    assert simulation.result is None
    with pytest.raises(MapperError):
        _ = simulation.value


def test_a_wrong_call_is_an_error_of_the_job_without_invocations() -> None:
    simulation = simulate(sum, operator.add, 5)
    assert isinstance(simulation.error, InputTypeError)
    assert simulation.invocations == ()
    assert simulation.events == ()


def test_faults_are_given_to_simulate_or_to_the_executor_but_not_to_both() -> None:
    with pytest.raises(InputError, match="pass the faults to the executor"):
        simulate(sum, operator.add, [1], faults={1: Crash()}, executor=SimulatedExecutor())


def test_a_hang_without_a_timeout_is_a_deadlock_not_a_hang() -> None:
    with pytest.raises(DeadlockError):
        simulate(sum, operator.add, range(4), faults=lambda task, nth: Hang())


def test_a_cancelled_driver_leaves_nothing_running() -> None:
    simulation = simulate(sum, operator.add, range(40), cancel_after=2.5)
    assert isinstance(simulation.error, asyncio.CancelledError)
    assert simulation.seconds == pytest.approx(2.5)
    assert simulation.invocations[-1].end == "cancelled"
    assert simulation.invocations[-1].ended == pytest.approx(2.5)


def test_the_executor_works_on_a_real_event_loop_too() -> None:
    executor = SimulatedExecutor({1: Crash()}, seconds=0.001, latency=0.001)
    value = lambdamr.map_reduce(sum, operator.add, range(8), executor=executor, progress=False)
    assert value == 28


# -- scripts ---------------------------------------------------------------------------------------


def task(lo: int, hi: int, number: int = 1, items: tuple[Item, ...] = (), rung: int = 0) -> Task:
    return Task("j", number, lo, hi, 100, 2, Ref(0, b""), "", items=items, rung=rung)


def test_a_script_finds_a_task_by_number_or_by_partitions_and_try() -> None:
    find = faults_module.as_function({7: Hang(), (0, 4): Crash(), (4, 8, 2): Throttle()})
    assert find(task(0, 1, number=7), 1) == Hang()
    assert find(task(0, 4), 1) == find(task(0, 4), 3) == Crash()
    assert find(task(4, 8), 1) is None
    assert find(task(4, 8), 2) == Throttle()
    assert find(task(4, 8), 3) is None


def test_a_script_may_be_a_function_of_the_task() -> None:
    def merges_crash_once(task: Task, nth: int) -> Crash | None:
        return Crash() if task.items and nth == 1 else None

    simulation = simulate(sum, operator.add, range(8), faults=merges_crash_once)
    assert simulation.value == 28
    assert [i.end for i in simulation.invocations if i.is_merge] == ["Lost", "answered"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ({1: "crash"}, "a fault must be an object such as Crash(), not 'crash'"),
        ({1: Crash}, "a fault must be an object such as Crash(), not <class"),
        ({"1": Crash()}, "faults are listed by task number, (lo, hi) or (lo, hi, n), not '1'"),
        ({(0, "x"): Crash()}, "not (0, 'x')"),
        ([Crash()], "faults must be a mapping or a function, not [Crash"),
    ],
)
def test_a_script_that_makes_no_sense_is_refused(script: Any, message: str) -> None:
    with pytest.raises(InputTypeError) as caught:
        SimulatedExecutor(script)
    assert message in str(caught.value)


def test_faults_are_data() -> None:
    assert Crash(0.5) == Crash(at=0.5)
    assert len({Hang(), Hang(), Throttle()}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        Crash().at = 1.0  # type: ignore[misc]


def test_rates_are_shares_of_one() -> None:
    with pytest.raises(InputError, match="together at most 1"):
        Rates(crash=0.6, hang=0.6)
    with pytest.raises(InputError, match="together at most 1"):
        Rates(crash=-0.1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("crash", Crash),
        ("lose_answer", LoseAnswer),
        ("hang", Hang),
        ("throttle", Throttle),
        ("slow", Slow),
        ("partial", Partial),
        ("twice", Twice),
        ("out_of_memory", OutOfMemory),
        ("time_out", TimeOut),
        ("raises", Raise),
    ],
)
def test_each_rate_draws_its_fault(name: str, kind: type[object]) -> None:
    always = Rates(**{name: 1.0})  # type: ignore[arg-type]
    assert type(always.draw(random.Random(1), task(0, 4))) is kind
    assert Rates().draw(random.Random(1), task(0, 4)) is None


def test_a_partition_meets_at_most_so_many_faults_that_cost_an_attempt() -> None:
    simulation = simulate(
        sum, operator.add, range(20), rates=Rates(crash=1.0, most=2), retry=RetryPolicy(attempts=3)
    )
    assert simulation.value == 190
    singles = [i for i in simulation.invocations if i.hi - i.lo == 1 and not i.is_merge]
    assert max(i.nth for i in singles) == 3


# -- what each fault looks like --------------------------------------------------------------------


def ends(simulation: Any, lo: int, hi: int) -> list[str]:
    return [i.end for i in simulation.invocations if (i.lo, i.hi) == (lo, hi)]


@pytest.mark.parametrize(
    ("fault", "end"),
    [
        (Crash(0.0), "Lost"),
        (Crash(1.0), "Lost"),
        (LoseAnswer(stored=True), "Lost"),
        (Throttle(), "Throttled"),
        (TimeOut(), "TimedOut"),
        (OutOfMemory(), "OutOfMemory"),
        (Twice(), "answered"),
        (Slow(2.0), "answered"),
        (Partial(1), "answered"),
    ],
)
def test_a_fault_ends_its_invocation_as_it_says(fault: Any, end: str) -> None:
    executor = SimulatedExecutor({1: fault}, workers=1)
    simulation = simulate(sum, operator.add, range(8), executor=executor)
    assert simulation.value == 28
    assert simulation.invocations[0].end == end
    assert simulation.invocations[0].fault == fault


def test_a_hang_ends_when_it_is_cancelled() -> None:
    simulation = simulate(sum, operator.add, range(4), faults={2: Hang()}, timeout=5)
    assert simulation.value == 6
    assert ends(simulation, 1, 2) == ["cancelled", "answered"]


def test_the_reducer_of_a_map_can_raise_too() -> None:
    executor = SimulatedExecutor({1: Raise(ValueError("no"), in_reducer=True)}, workers=1)
    outcome = simulate(sum, operator.add, range(4), executor=executor, errors="return").value
    assert outcome.failed == (0, 1)
    assert outcome.value == 5


def test_a_stored_answer_is_found_and_an_unstored_one_is_computed_again() -> None:
    stored = simulate(sum, operator.add, range(4), faults={2: LoseAnswer(stored=True)})
    gone = simulate(sum, operator.add, range(4), faults={2: LoseAnswer(stored=False)})
    assert stored.value == gone.value == 6
    assert ends(stored, 1, 2) == ["Lost"]
    assert ends(gone, 1, 2) == ["Lost", "answered"]


def test_a_crash_takes_its_share_of_the_time() -> None:
    executor = SimulatedExecutor({1: Crash(at=0.25)}, workers=1, seconds=4.0, latency=0.5)
    crashed = simulate(sum, operator.add, [1], executor=executor).invocations[0]
    assert crashed.ended - crashed.started == pytest.approx(0.5 + 1.0)


def test_a_partial_answer_has_the_first_partitions() -> None:
    executor = SimulatedExecutor({1: Partial(3)}, workers=1)
    simulation = simulate(sum, operator.add, range(8), executor=executor)
    assert simulation.value == 28
    first = next(e for e in simulation.events if isinstance(e, events.TaskFinished))
    assert (first.lo, first.hi, first.partitions) == (0, 8, 3)


def test_the_budget_is_of_the_workers_clock() -> None:
    def first_answer(skew: float) -> int:
        executor = SimulatedExecutor(workers=1, seconds=1.0, latency=0.01, skew=skew, seed=1)
        simulation = simulate(sum, operator.add, range(100), executor=executor)
        assert simulation.value == 4950
        return next(e.partitions for e in simulation.events if isinstance(e, events.TaskFinished))

    assert first_answer(1.0) == 11  # the partition in which the budget of 10 s ends is finished
    assert first_answer(5.0) != 11


def test_more_tasks_than_the_hidden_limit_are_refused() -> None:
    executor = SimulatedExecutor(workers=8, limit=3)
    simulation = simulate(sum, operator.add, range(8), executor=executor)
    assert simulation.value == 28
    assert [i.end for i in simulation.invocations[:8]].count("Throttled") == 5


def test_values_above_the_inline_size_are_stored_and_all_are_discarded() -> None:
    executor = SimulatedExecutor(inline=0)
    simulation = simulate(sum, operator.add, range(40), executor=executor)
    assert simulation.value == 780
    assert simulation.left == ()


# -- promises --------------------------------------------------------------------------------------


def test_a_driver_that_counts_an_answer_twice_is_found_out(monkeypatch: Any) -> None:
    settle = Driver._settle_answered

    def twice(self: Driver, attempt: Any, answer: Any) -> None:
        settle(self, attempt, answer)
        if attempt.number == 1:
            self._event("TaskFinished", attempt, partitions=1, stats=answer.stats)

    monkeypatch.setattr(Driver, "_settle_answered", twice)
    with pytest.raises(PromiseError, match="the end of a task that does not run"):
        simulate(sum, operator.add, range(8))


def test_a_driver_that_discards_what_it_still_needs_is_found_out(monkeypatch: Any) -> None:
    accept = Driver._accept

    def careless(self: Driver, work: Any, answer: Any) -> None:
        accept(self, work, answer)
        self._discard(answer.items[:1])

    monkeypatch.setattr(Driver, "_accept", careless)
    with pytest.raises(PromiseError, match="was read after it was discarded"):
        simulate(sum, operator.add, range(8), executor=SimulatedExecutor(inline=0))


def test_a_driver_that_discards_nothing_is_found_out(monkeypatch: Any) -> None:
    monkeypatch.setattr(Driver, "_discard", lambda self, items: None)
    assert simulate(sum, operator.add, range(8), executor=SimulatedExecutor(inline=0)).left


def test_a_driver_that_starts_too_much_is_found_out(monkeypatch: Any) -> None:
    monkeypatch.setattr(Driver, "_seats", lambda self: 6)
    with pytest.raises(PromiseError, match="5 at once, above capacity"):
        simulate(sum, operator.add, range(60), executor=SimulatedExecutor(workers=4))


def test_a_driver_that_does_not_slow_down_is_found_out(monkeypatch: Any) -> None:
    monkeypatch.setattr("lambdamr.pace.Pace.cut", lambda *_: None)
    executor = SimulatedExecutor(workers=8, limit=2)
    simulation = simulate(sum, operator.add, range(40), executor=executor)
    refused = [i for i in simulation.invocations if i.end == "Throttled"]
    assert len(refused) > 20  # it goes on and on; AIMD needs far fewer


def test_a_driver_that_tries_too_often_is_found_out() -> None:
    ledger = Ledger(attempts=2, capacity=lambda: 4)
    ledger(events.JobStarted(0, "j", 1, 2, "", 4, 0))
    ledger(events.TaskStarted(0, "j", 1, "map", 0, 1, attempt=3, speculative=False))
    assert "more than 2 attempts" in ledger.broken[0]


def test_a_driver_that_gives_one_more_attempt_than_agreed_is_found_out() -> None:
    ledger = Ledger(attempts=2, capacity=lambda: 4)
    ledger(events.JobStarted(0, "j", 1, 2, "", 4, 0))
    for number in (1, 2):
        ledger(events.TaskStarted(0, "j", number, "map", 0, 1, attempt=1, speculative=False))
        ledger(events.TaskFailed(0, "j", number, "map", 0, 1, "lost", "", "", delay=1.0))
    assert "2 of 2 attempts spent" in ledger.broken[0]


START = events.JobStarted(0, "j", 2, 2, "", 4, 0)
ONE = events.TaskStarted(0, "j", 1, "map", 0, 1, attempt=1, speculative=False)


@pytest.mark.parametrize(
    ("story", "broken"),
    [
        ([ONE], "a job starts with JobStarted"),
        ([START, START], "a job starts with JobStarted"),
        ([START, ONE, ONE], "a task number is used twice"),
        ([START, dataclasses.replace(ONE, speculative=True)], "a copy of what does not run"),
        ([START, ONE, dataclasses.replace(ONE, task=2)], "the same partitions are under way twice"),
        ([START, events.TaskAbandoned(0, "j", 9, "map", 0, 1)], "the end of a task that does not"),
        ([dataclasses.replace(START, time=5), ONE], "time runs backwards"),
        ([START, ONE, events.JobFinished(0, "j", 2, 0, 0, None)], "started, but never ended"),
        ([START, events.JobFinished(0, "j", 1, 0, 0, None)], "done and failed partitions are not"),
        ([START, events.JobFinished(0, "j", 2, 0, 0, None)], "0 partitions counted"),
        ([START, events.JobFinished(0, "j", 2, 0, 0, Lost()), ONE], "nothing comes after"),
    ],
)
def test_a_story_that_cannot_be_true_is_noticed(story: list[Any], broken: str) -> None:
    ledger = Ledger(attempts=3, capacity=lambda: 4)
    for event in story:
        ledger(event)
    assert broken in "\n".join(ledger.broken)


# -- random schedules ------------------------------------------------------------------------------


def test_a_schedule_that_fails_says_how_to_repeat_it(monkeypatch: Any) -> None:
    monkeypatch.setattr(verdict, "reference", lambda *_: (["another value"], []))
    with pytest.raises(verdict.ScheduleError, match=r"python -m lambdamr.testing --start 0 --s"):
        verdict.check(0)


def test_schedules_differ_and_all_kinds_of_them_occur() -> None:
    drawn = [schedules.draw(seed) for seed in range(2000)]
    assert {schedule.ending for schedule in drawn} >= {
        *("well", "death", "cost", "mapper", "reducer", "result", "broken", "always full"),
        *("mapper again", "reducer again"),
        *("crash", "hang", "time out", "out of memory"),
    }
    assert {schedule.mapper.kind for schedule in drawn} == {"shape", "floats", "list", "block"}
    assert {schedule.options["fan_in"] for schedule in drawn} == {2, 3, 4, 8}
    assert {schedule.options["errors"] for schedule in drawn} == {"raise", "return"}


def test_the_reference_is_the_tree_level_by_level() -> None:
    add = workloads.Reducer("shape")
    assert workloads.reference(list("abcde"), 2, add) == (["(((a b) (c d)) e)"], [])
    assert workloads.reference(list("abcde"), 3, add) == (["(((a b) c) (d e))"], [])
    assert workloads.reference(["a", workloads.MISSING, "c"], 2, add) == (["(a c)"], [])
    assert workloads.reference([workloads.MISSING], 2, add) == ([], [])


def test_float_sums_of_schedules_depend_on_the_order() -> None:
    values = [workloads.Mapper("floats")(i) for i in range(40)]
    add = workloads.Reducer("floats")
    sums = {tuple(workloads.reference(values, fan_in, add)[0]) for fan_in in (2, 3, 4, 8, 40)}
    assert len(sums) >= 4


def test_the_command_runs_schedules_and_counts_them() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lambdamr.testing", "--seeds", "30", "--start", "7"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("30 schedules in ")
    assert "0 of them failed" in done.stdout
