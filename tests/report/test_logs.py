"""Logs and spans: said where somebody listens, and nowhere else."""

import logging
import operator
import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import lambdamr
from lambdamr import map_reduce
from lambdamr.testing import Crash, SimulatedExecutor, Throttle, simulate


def test_each_record_has_the_job_and_those_of_tasks_the_partitions(caplog):
    with caplog.at_level(logging.DEBUG, "lambdamr"):
        executor = SimulatedExecutor({1: Throttle(), 2: Crash(at=0.5)})
        simulate(sum, operator.add, range(8), executor=executor)
    records = [record for record in caplog.records if record.name == "lambdamr.job"]
    assert len({record.lambdamr_job for record in records}) == 1
    kinds = {record.lambdamr_event for record in records}
    assert {"JobStarted", "TaskStarted", "TaskFinished", "TaskFailed", "Throttled",
            "JobFinished"} <= kinds  # fmt: skip
    for record in records:
        if record.lambdamr_event.startswith("Task"):
            assert 0 <= record.lambdamr_lo < record.lambdamr_hi <= 8
    (lost,) = [record for record in records if record.lambdamr_event == "TaskFailed"]
    assert lost.levelno == logging.INFO
    assert "lost: " in lost.getMessage()
    assert "again in" in lost.getMessage()
    finished = [record for record in records if record.lambdamr_event == "TaskFinished"]
    assert all(record.lambdamr_wall > 0 for record in finished)


def test_at_level_info_tasks_that_went_well_are_not_logged(caplog):
    with caplog.at_level(logging.INFO, "lambdamr"):
        map_reduce(sum, operator.add, range(8), executor="inline")
    assert [record.lambdamr_event for record in caplog.records] == ["JobStarted", "JobFinished"]
    assert "8 partitions on InlineExecutor, 1 at once" in caplog.records[0].getMessage()
    assert "is done: 8 partitions done, 0 failed, 0 USD" in caplog.records[1].getMessage()


def test_nothing_is_logged_unless_asked_for():
    program = (
        "import lambdamr\n"
        "def bad(p): raise ValueError\n"
        "out = lambdamr.map_reduce(bad, max, range(4), executor='inline', errors='return')\n"
        "import sys; print(len(out.failures), 'lambdamr.observers.logs' in sys.modules,"
        " 'opentelemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"4 False False\n", b"")


@pytest.fixture(scope="module")
def exporter():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)  # can be done once in a process
    return exporter


def test_a_job_is_a_span_and_its_tasks_are_its_children(exporter):
    exporter.clear()
    with trace.get_tracer("user").start_as_current_span("analysis") as analysis:
        map_reduce(sum, operator.add, range(8), executor="inline")
    *tasks, job, _ = exporter.get_finished_spans()
    assert job.name == "lambdamr.map_reduce"
    assert job.parent.span_id == analysis.get_span_context().span_id
    assert dict(job.attributes) | {"lambdamr.job": "?"} == {
        "lambdamr.job": "?",
        "lambdamr.executor": "InlineExecutor",
        "lambdamr.partitions": 8,
        "lambdamr.fan_in": 2,
        "lambdamr.done": 8,
        "lambdamr.failed": 0,
        "lambdamr.cost": 0.0,
    }
    assert {task.name for task in tasks} == {"lambdamr.map"}
    assert all(task.parent.span_id == job.context.span_id for task in tasks)
    assert (
        sum(task.attributes["lambdamr.hi"] - task.attributes["lambdamr.lo"] for task in tasks) == 8
    )
    assert all(task.attributes["lambdamr.worker"] == "inline" for task in tasks)


def test_failures_are_in_the_spans_and_every_span_ends(exporter):
    exporter.clear()

    def bad(partition):
        raise ValueError("no such muon")

    with pytest.raises(lambdamr.MapperError):
        map_reduce(bad, operator.add, range(8), executor="inline")
    *_, job = exporter.get_finished_spans()
    assert job.name == "lambdamr.map_reduce"
    assert job.status.status_code is trace.StatusCode.ERROR
    names = [event.name for event in job.events]
    assert "exception" in names
    assert any("no such muon" in name for name in names)
    simulate(sum, operator.add, range(8), faults={1: Throttle(), 2: Crash(at=0.5)})
    failed = [
        s for s in exporter.get_finished_spans() if not s.status.is_ok and s.status.description
    ]
    assert {"throttled"} < {span.status.description for span in failed}
