"""What a record keeps of a job, and that nothing is lost on the way to a file and back."""

import csv
import json
import operator
from dataclasses import fields, replace

import pyarrow.parquet
import pytest
from recorded import job, task

import lambdamr
from lambdamr import InputError, events, map_reduce
from lambdamr.observers.record import FORMAT, VERSION, Record, Recorder, TaskRow
from lambdamr.testing import Crash, Rates, SimulatedExecutor, Throttle, simulate
from lambdamr.wire import Stats


def recorded(mapper=sum, data=range(40), faults=None, **options) -> Record:
    """The record of a simulated job."""
    recorder = Recorder()
    executor = options.pop("executor", None) or SimulatedExecutor(faults)
    simulate(mapper, operator.add, data, executor=executor, observers=[recorder], **options)
    (record,) = recorder.records()
    return record


def no_zero(partition) -> int:
    if 0 in partition:
        raise ValueError("no")
    return sum(partition)


def test_a_job_is_recorded_from_its_start_to_its_end() -> None:
    record = recorded(npartitions=20)
    assert (record.executor, record.npartitions, record.fan_in) == ("SimulatedExecutor", 20, 2)
    assert (record.done, record.failed, record.error) == (20, 0, "")
    assert sum(row.partitions for row in record.tasks) == 20
    assert record.seconds == max(row.ended for row in record.tasks)
    assert all(0 <= row.started <= row.ended for row in record.tasks)
    assert {row.end for row in record.tasks} == {"finished"}
    assert {row.worker for row in record.tasks} == {f"simulated {i}" for i in range(1, 5)}


def test_each_end_of_a_task_is_told_apart() -> None:
    record = recorded(no_zero, faults={1: Throttle(), 2: Crash(at=0.5)}, errors="return")
    ends = {row.task: row.end for row in record.tasks}
    assert ends[1] == "throttled"
    assert ends[2] == "failed"
    failures = {row.failure: row for row in record.failures}
    assert set(failures) == {"mapper", "lost"}
    assert record.throttles[0].task == 1
    (partly,) = [row for row in record.tasks if row.failure == "mapper"]
    assert partly.end == "finished"
    assert (record.done, record.failed) == (39, 1)
    assert "ValueError: no" in failures["mapper"].traceback


def test_a_job_that_fails_says_why_in_a_line() -> None:
    record = recorded(no_zero)
    assert record.error.startswith("MapperError: partition 0 of 40 failed")
    assert "\n" not in record.error


def test_what_runs_when_a_job_ends_is_abandoned() -> None:
    record = recorded(cancel_after=0.5)
    assert {row.end for row in record.tasks} == {"abandoned"}
    assert record.error == "CancelledError"


def test_partitions_of_a_checkpoint_are_counted(tmp_path) -> None:
    recorder = Recorder()
    for _ in range(2):
        map_reduce(sum, max, range(8), executor="inline", checkpoint=tmp_path / "c",
                   observers=[recorder])  # fmt: skip
    assert [record.resumed for record in recorder.records()] == [0, 8]


def test_two_jobs_at_once_are_kept_apart() -> None:
    recorder = Recorder()
    for job_id in ("a", "b"):
        recorder(events.JobStarted(1.0, job_id, 1, 2, "Inline", 1, 0.0))
        recorder(events.TaskStarted(1.5, job_id, 1, "map", 0, 1, 1, False))
    recorder(events.TaskFinished(2.0, "b", 1, "map", 0, 1, 1, Stats(wall=0.5)))
    a, b = recorder.records()
    assert (a.tasks[0].end, b.tasks[0].end) == ("running", "finished")
    assert recorder.take("a") == a
    assert recorder.records() == (b,)


@pytest.mark.parametrize("seed", range(5))
def test_json_gives_the_same_record_back(seed: int) -> None:
    rates = Rates(crash=0.1, throttle=0.1, slow=0.1, lose_answer=0.1)
    executor = SimulatedExecutor(rates=rates, seed=seed, price=1e-5, cold_start=1.0)
    record = recorded(executor=executor, timeout=60)
    assert record.failures or record.throttles
    assert Record.from_json(record.to_json()) == record


def test_the_format_is_the_documented_one(docs) -> None:
    document = json.loads(recorded().to_json())
    assert (document["format"], document["version"]) == (FORMAT, VERSION)
    page = (docs / "report.md").read_text()
    for name in [*document["job"], *document["tasks"], *document["failures"]]:
        assert f"`{name}`" in page, f"docs/report.md does not tell what {name} is"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is no record of a job"),
        ("[]", "is no record of a job"),
        ('{"format": "other"}', "format is 'other'"),
        ("\x00", "is no record of a job"),
    ],
)
def test_what_is_no_record_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        Record.from_json(text)


def test_torn_columns_are_refused() -> None:
    document = json.loads(job(task(0, 0, 1), task(1, 0, 1)).to_json())
    document["tasks"]["lo"].pop()
    with pytest.raises(InputError, match="columns of the lengths"):
        Record.from_json(json.dumps(document))


def test_a_later_version_says_what_to_install() -> None:
    document = json.loads(job(task(0, 0, 1)).to_json()) | {"version": 99, "lambdamr": "7.0"}
    with pytest.raises(InputError, match=r"install lambdamr 7\.0 or newer"):
        Record.from_json(json.dumps(document))


def test_a_file_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*gone\.json"):
        Record.read(tmp_path / "gone.json")


def test_csv_and_parquet_have_a_row_for_each_task(tmp_path) -> None:
    rows = (task(0, 0, 1.5, cost=1e-6), replace(task(1, 0, 1), end="failed", failure="lost"))
    report = lambdamr.Report(tmp_path / "job.csv", tmp_path / "job.parquet")
    from lambdamr.observers.report import write

    for path in report.paths:
        write(job(*rows), path)
    with (tmp_path / "job.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    names = [one.name for one in fields(TaskRow)]
    assert list(read[0]) == names
    assert [(row["task"], row["end"], row["failure"]) for row in read] == [
        ("0", "finished", ""),
        ("1", "failed", "lost"),
    ]
    table = pyarrow.parquet.read_table(tmp_path / "job.parquet")
    assert table.column_names == names
    assert [TaskRow(**row) for row in table.to_pylist()] == list(rows)
