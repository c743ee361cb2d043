"""Each sentence of advice: when it is said, when it is not, and that its number is right."""

from dataclasses import replace

import pytest
from recorded import MB, job, large, task

from lambdamr.observers import advice, scaling
from lambdamr.observers.record import FailureRow, ThrottleRow

PRICE = 0.0000166667 / (1 << 30)  # USD for a byte and a second, as on AWS Lambda (x86, 2026-11)


def on_lambda(number, seconds, cpu, memory=1769 * MB, peak=612 * MB, **facts):
    """A task that was billed for memory and seconds."""
    cost = PRICE * memory * (seconds + facts.get("starting", 0))
    facts = {"cpu": cpu, "memory": memory, "peak_memory": peak, "cost": cost} | facts
    return task(number, 0, seconds, **facts)


def failure(kind, number=0, delay=0.0):
    return FailureRow(1.0, number, "map", number, number + 1, kind, "why", "", delay)


def test_every_sentence_is_tested_here():
    tested = {name.removeprefix("test_").partition("__")[0] for name in globals()}
    assert {sentence.__name__ for sentence in advice.SENTENCES} <= tested


def test_nothing_is_said_of_a_job_that_went_well():
    rows = [task(i, 0, 1, memory=700 * MB, peak_memory=600 * MB) for i in range(20)]
    assert advice.advice(job(*rows)) == []


def test_nothing_is_said_of_a_job_without_tasks():
    assert advice.advice(job()) == []


def test_memory_is_too_large():
    record = job(*(on_lambda(i, seconds=1, cpu=0.1) for i in range(4)))
    said = advice.memory_is_too_large(record)
    # A tenth of a second of CPU takes 1769/1024 as long, the rest as long as before.
    saved = 1 - 1024 / 1769 * (0.9 + 0.1 * 1769 / 1024)
    assert round(100 * saved) == 38
    assert said == (
        "Peak memory 612 MB of 1,769 MB: the 1,024 MB rung would cost 38 % less, "
        "and tasks would take 7 % longer."
    )


def test_memory_is_too_large__not_for_work_that_needs_the_cpu():
    record = job(*(on_lambda(i, seconds=1, cpu=1) for i in range(4)))
    assert advice.memory_is_too_large(record) is None


def test_memory_is_too_large__beyond_one_cpu_a_single_thread_gains_nothing():
    record = job(on_lambda(0, seconds=2, cpu=2, memory=7076 * MB))
    said = advice.memory_is_too_large(record)
    assert said == "Peak memory 612 MB of 7,076 MB: the 1,769 MB rung would cost 75 % less."


def test_memory_is_too_large__keeps_headroom():
    record = job(on_lambda(0, seconds=1, cpu=0, peak=900 * MB))  # 1,024 MB is 14 % more
    assert advice.memory_is_too_large(record) is None


def test_memory_is_too_large__not_where_memory_costs_nothing():
    record = job(replace(on_lambda(0, seconds=1, cpu=0), cost=0.0))
    assert advice.memory_is_too_large(record) is None


@pytest.mark.parametrize("memory", [256 * MB, 1024 * MB, 1769 * MB, 3008 * MB])
def test_the_same_memory_takes_the_same_time_and_costs_the_same(memory):
    row = on_lambda(0, seconds=3, cpu=min(2, 3 * memory / scaling.VCPU), memory=memory, starting=1)
    assert scaling.seconds_at(row, memory) == pytest.approx(4)
    assert scaling.cost_at([row], memory) == pytest.approx(row.cost)


def test_threads_use_the_cpus_that_come_with_memory():
    row = on_lambda(0, seconds=1, cpu=2, memory=3538 * MB)
    assert scaling.seconds_at(row, 1769 * MB) == pytest.approx(2)
    assert scaling.seconds_at(row, 7076 * MB) == pytest.approx(1)  # it has but two


def test_what_the_driver_folded_takes_as_long_with_any_memory():
    row = on_lambda(0, seconds=3, cpu=1, memory=0)
    assert scaling.seconds_at(row, 128 * MB) == 3
    assert scaling.cost_at([row], 128 * MB) == 0


def test_memory_is_almost_full():
    record = job(task(0, 0, 1, memory=1000 * MB, peak_memory=950 * MB), task(1, 0, 1))
    said = advice.memory_is_almost_full(record)
    assert said is not None
    assert said.startswith("Peak memory 950 MB of 1,000 MB, 95 %: give workers more")
    fits = job(task(0, 0, 1, memory=1000 * MB, peak_memory=850 * MB))
    assert advice.memory_is_almost_full(fits) is None


def test_memory_ran_out():
    record = job(
        task(0, 0, 1, end="failed", failure="memory", worker="", partitions=0),
        task(0, 1, 1, attempt=2, memory=2048 * MB, peak_memory=1500 * MB),
        failures=(failure("memory"),),
    )
    assert advice.memory_ran_out(record) == (
        "1 task ran out of memory: cut the data into more partitions, start at 2,048 MB, "
        "which was enough."
    )
    assert advice.memory_is_almost_full(record) is None


def test_workers_start_cold():
    rows = [task(i, 0, 5.9, starting=4.1, cold=True) for i in range(8)]
    said = advice.workers_start_cold(job(*rows))
    assert said is not None
    assert said.startswith("41 % of billed time is cold start: use fewer, larger partitions")
    assert advice.workers_start_cold(large()) is None


def test_tasks_are_too_small():
    rows = [task(i, i, 1, wall=0.4) for i in range(10)]
    said = advice.tasks_are_too_small(job(*rows, capacity=2))
    assert said == (
        "60 % of the tasks' time passed on the way to the workers and back, 600 ms for each: "
        "use fewer, larger partitions."
    )
    assert advice.tasks_are_too_small(job(*rows, capacity=10)) is None  # they are few already


def test_partitions_are_too_few():
    rows = [task(i, 0, 5) for i in range(8)]
    assert advice.partitions_are_too_few(job(*rows, capacity=32)) == (
        "8 partitions for 32 places: 24 had nothing to do. Use npartitions=64 or more."
    )
    assert advice.partitions_are_too_few(job(*rows, capacity=8)) is None


def test_the_end_is_uneven():
    rows = [*(task(i, 0, 6) for i in range(9)), task(9, 0, 10)]
    assert advice.the_end_is_uneven(job(*rows, capacity=10)) == (
        "In the last 4 s (40 % of the job) less than half of the places were busy: "
        "cut the data into smaller partitions, say npartitions=40."
    )
    assert advice.the_end_is_uneven(job(*rows[:9], capacity=9)) is None


def test_attempts_are_wasted():
    record = job(
        task(0, 0, 3, end="failed", failure="lost", worker="", partitions=0),
        task(1, 0, 1, end="abandoned", worker="", partitions=0),
        task(2, 0, 6),
        failures=(failure("lost"),),
    )
    assert advice.attempts_are_wasted(record) == (
        "40 % of the tasks' time went into attempts that did not count (lost 1, second copies 1)."
    )
    assert advice.attempts_are_wasted(job(task(0, 0, 1))) is None


def test_the_engine_refuses():
    rows = [task(i, 0, 1) for i in range(10)]
    refusals = tuple(ThrottleRow(1.0, i, limit, "429") for i, limit in enumerate((70, 49)))
    assert advice.the_engine_refuses(job(*rows, capacity=100, throttles=refusals)) == (
        "The engine refused tasks 2 times, and concurrency fell to 49 of 100: "
        "ask for a higher limit, or use fewer, larger partitions."
    )
    assert advice.the_engine_refuses(job(*rows)) is None


def test_values_are_large():
    rows = [task(i, 0, 2, storing=1, fetching=0.5, bytes_out=20 * MB) for i in range(4)]
    assert advice.values_are_large(job(*rows)) == (
        "50 % of the workers' time is reading and writing values of up to 20 MB: "
        "return less from the mapper, or use fewer partitions."
    )
    assert advice.values_are_large(large()) is None


def test_the_reducer_dominates():
    fold = task(9, 2, 6, kind="merge", lo=0, hi=2, partitions=0)
    said = advice.the_reducer_dominates(job(task(0, 0, 1), task(1, 0, 1), fold))
    assert said is not None
    assert said.startswith("75 % of the workers' time is the reducer, outside of map tasks")
    assert advice.the_reducer_dominates(large()) is None


def test_workers_wait():
    rows = [task(i, 0, 2, cpu=0.5) for i in range(4)]
    assert advice.workers_wait(job(*rows)) == (
        "The mapper used the CPU for 25 % of its time, and waited for the rest: "
        "4 times as many workers would do more at once."
    )
    assert advice.workers_wait(job(task(0, 0, 2))) is None
    assert advice.workers_wait(job(on_lambda(0, seconds=2, cpu=0.5))) is None  # see the rung
