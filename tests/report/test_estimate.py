"""Estimates, against the real run and against arithmetic."""

import operator
import time

import pytest
from recorded import MB, job, task

import lambdamr
from lambdamr import InputError, estimate, map_reduce
from lambdamr.observers.estimate import _error, _scaled
from lambdamr.observers.record import ThrottleRow
from lambdamr.testing import SimulatedExecutor


def nap(partition):
    time.sleep(0.01 + 0.0001 * (partition[0] % 100))  # some take twice as long as others
    return len(partition)


@pytest.fixture(params=["inline", "local"])
def executor(request):
    if request.param == "inline":
        yield lambdamr.InlineExecutor()
        return
    with lambdamr.LocalExecutor(4) as executor:
        map_reduce(nap, operator.add, range(8), executor=executor)  # its workers are there
        yield executor


def test_the_whole_takes_what_was_said(executor):
    for last in (False, False, True):  # the machine may get busy in between
        told = estimate(nap, operator.add, range(400), executor=executor)
        started = time.perf_counter()
        assert map_reduce(nap, operator.add, range(400), executor=executor) == 400
        real = time.perf_counter() - started
        print(f"{told}\nreal: {real:.3g} s")
        if last or told.seconds == pytest.approx(real, rel=0.25):
            break
    assert told.seconds == pytest.approx(real, rel=0.25)
    assert told.npartitions == 400
    assert 16 <= told.sampled <= 100
    assert 0.01 < told.error < 0.2


def test_the_cost_of_the_whole_is_what_was_said():
    executor = SimulatedExecutor(seconds=0.02, price=0.5, workers=4)
    told = estimate(len, operator.add, range(100), executor=executor, sample=20)
    costs = []
    map_reduce(len, operator.add, range(100), executor=executor, observers=[costs.append])
    assert told.cost == pytest.approx(costs[-1].cost, rel=0.25)
    assert told.spent == pytest.approx(costs[-1].cost / 5, rel=0.25)


def test_a_job_of_few_partitions_is_tried_as_a_whole_and_known_exactly():
    told = estimate(nap, operator.add, range(8), executor="inline")
    assert (told.sampled, told.error) == (8, 0.0)


def test_the_sample_is_spread_over_the_data(tmp_path):
    def note(partition):
        (tmp_path / str(partition[0])).touch()

    estimate(note, lambda a, b: None, range(100), executor="inline", sample=4)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [12, 37, 62, 87]


def test_seconds_and_cost_scale_with_workers_and_memory():
    # Four places, a cold start of 1 s, and partitions of 2 s: half CPU, half waiting.
    rows = [
        task(i, 0, 3, wall=2.0, cpu=1.0, starting=1.0, cold=True, memory=1769 * MB,
             peak_memory=300 * MB, cost=3e-4, worker=f"w{i}")
        for i in range(4)
    ]  # fmt: skip
    told = _scaled(job(*rows), [2.0] * 4, opening=0.5, npartitions=400)
    assert told.seconds == pytest.approx(0.5 + 1 + 400 * 2 / 4)
    assert told.cost == pytest.approx(400 * 2e-4 + 4 * 1e-4)
    at = {(one.workers, one.memory): one for one in told.choices}
    assert at[16, 1769 * MB].seconds == pytest.approx(1.5 + 400 * 2 / 16)
    assert at[16, 1769 * MB].cost == pytest.approx(400 * 2e-4 + 16 * 1e-4)
    small = at[4, 512 * MB]  # the CPU's second takes 1769/512 as long; starting and waiting do not
    slower = (2 + 1769 / 512) / 3
    assert small.seconds == pytest.approx(1.5 + slower * 200)
    assert small.cost == pytest.approx(told.cost * slower * 512 / 1769)
    assert min(memory for _, memory in at) == 512 * MB  # 300 MB and a quarter


def test_the_error_is_that_of_a_sample_without_replacement():
    seconds = [1.0, 2.0, 3.0] * 10
    deviation = (20 / 29) ** 0.5
    expected = 2.045 * (70 / 99) ** 0.5 * deviation / 30**0.5 / 2  # t of 29 degrees of freedom
    assert _error(seconds, 100) == pytest.approx(expected, rel=0.01)


def test_no_more_work_at_once_than_the_engine_let_work():
    rows = [task(i, 0, 1) for i in range(4)]
    refused = (ThrottleRow(0.1, 8, 40, "full"), ThrottleRow(0.2, 9, 2, "full"))
    told = _scaled(
        job(*rows, capacity=100, throttles=refused), [1.0] * 4, opening=0.0, npartitions=400
    )
    assert told.seconds == pytest.approx(400 * 1.0 / 2)


def test_it_is_written_for_people():
    rows = [task(0, 0, 1, wall=1.0, memory=1769 * MB, peak_memory=300 * MB, cost=3e-5)]
    text = str(_scaled(job(*rows), [1.0, 1.1], opening=0.0, npartitions=100))
    assert text.startswith("100 partitions, by 2 of them: ")
    assert " workers of 512 MB: " in text
    assert " USD" in text


@pytest.mark.parametrize("sample", [0, 1, 2.5, "many"])
def test_a_sample_that_is_none_is_refused(sample):
    with pytest.raises(InputError, match="sample must be a whole number from 2 up"):
        estimate(nap, operator.add, range(8), sample=sample)


def test_empty_data_is_refused():
    with pytest.raises(lambdamr.EmptyDataError):
        estimate(nap, operator.add, [])
