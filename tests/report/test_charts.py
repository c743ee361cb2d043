"""What is drawn is what happened."""

import pytest
from recorded import MB, job, large, task

from lambdamr.observers import charts, figures


def test_a_worker_has_a_lane_and_its_phases_follow_each_other():
    row = task(0, 1, 4, wall=2.0, storing=0.5, fetching=0.2, starting=1.0, cold=True)
    drawn = charts.charts(job(row))
    assert drawn["lanes"] == ["worker 0"]
    spans = {name: (phase["from"][0], phase["to"][0]) for name, phase in drawn["phases"].items()}
    assert spans == {
        "queued": (1, 2),
        "cold start": (2, 3),
        "fetch": (3, 3.2),
        "map": (3.2, 4.7),
        "store": (4.7, 5),
    }


def test_where_the_engine_does_not_tell_its_start_a_cold_wait_is_the_start():
    drawn = charts.charts(job(task(0, 0, 3, wall=1.0, cold=True)))
    assert set(drawn["phases"]) == {"cold start", "map"}


def test_tasks_without_an_answer_share_lanes_but_never_at_the_same_time():
    lost = {"worker": "", "end": "failed", "partitions": 0}
    rows = [task(0, 0, 2, **lost), task(1, 1, 2, **lost), task(2, 2, 1, **lost), task(3, 0, 1)]
    drawn = charts.charts(job(*rows))
    assert drawn["lanes"] == ["worker 3", "no answer", "no answer"]
    assert drawn["tasks"]["lane"] == [1, 2, 1, 0]


def test_the_tree_counts_the_folds_under_each_task():
    rows = [task(i, i, 1) for i in range(4)]
    rows.append(task(4, 4, 1, kind="merge", lo=0, hi=2, partitions=0))
    rows.append(task(5, 5, 1, kind="merge", lo=0, hi=4, partitions=0))
    assert charts.charts(job(*rows))["tree"]["level"] == [0, 0, 0, 0, 1, 2]


def test_a_task_that_stopped_early_covers_what_it_mapped():
    drawn = charts.charts(job(task(0, 0, 1, hi=10, partitions=4)))
    assert (drawn["tasks"]["lo"], drawn["tasks"]["hi"]) == ([0], [4])


def test_concurrency_is_counted_from_each_moment_on():
    times, counts = figures.concurrency(job(task(0, 0, 2), task(1, 1, 2)))
    assert list(zip(times, counts, strict=True)) == [(0, 1), (1, 2), (2, 1), (3, 0)]


def test_the_histogram_counts_every_partition():
    rows = [task(i, 0, 0.1 * (i + 1), lo=10 * i, hi=10 * i + 10, partitions=10) for i in range(9)]
    drawn = charts.charts(job(*rows))["durations"]
    assert sum(drawn["count"]) == 90
    assert drawn["left"][0] == pytest.approx(0.01)
    assert drawn["right"][-1] == pytest.approx(0.09)


def test_of_very_many_tasks_short_phases_join_the_work_and_no_time_is_lost():
    record = large()
    drawn = charts.charts(record)
    assert drawn["shortest"] == pytest.approx(record.seconds / 125)
    boxes = [(i, a, b) for phase in drawn["phases"].values() for i, a, b in zip(*phase.values())]  # noqa: B905  # three columns
    assert len(boxes) < 1.5 * len(record.tasks)
    total = sum(b - a for _, a, b in boxes)
    assert total == pytest.approx(sum(row.ended - row.started for row in record.tasks), rel=1e-4)
    assert {index for index, _, _ in boxes} == set(range(len(record.tasks)))


def test_the_parts_of_the_cost_add_up():
    row = task(0, 0, 4, wall=3.0, starting=1.0, storing=0.5, fetching=0.25, cost=4e-6)
    parts = figures.cost_by_part(job(row, cost=5e-6))
    assert parts == {
        "cold start": pytest.approx(1e-6),
        "fetch": pytest.approx(0.25e-6),
        "map": pytest.approx(2.5e-6),
        "store": pytest.approx(0.25e-6),
        "other": pytest.approx(1e-6),
    }


def test_stragglers_are_at_least_twice_as_slow_as_the_median():
    rows = [task(i, 0, 1) for i in range(9)] + [task(9, 0, 5), task(10, 0, 1.9)]
    assert [(row.task, factor) for row, factor in figures.stragglers(job(*rows))] == [(9, 5.0)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "12.3 ms"), (0.9996, "1 s"), (3.456, "3.46 s"), (99.96, "1 min 40 s"),
     (3599.6, "1 h 0 min"), (7380, "2 h 3 min")],
)  # fmt: skip
def test_durations_are_written_for_people(seconds, text):
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (1000, "1,000 B"), (1023.6, "1 kB"), (20 * MB, "20 MB"), (1 << 40, "1.0 TB")],
)
def test_sizes_are_written_for_people(nbytes, text):
    assert figures.size(nbytes) == text
