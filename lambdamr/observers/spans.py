"""A job and its tasks as OpenTelemetry spans, for those who trace.

The span ``lambdamr.map_reduce`` is a child of the one that is current at the call; its children are
a span for each task, ``lambdamr.map`` or ``lambdamr.merge``. Attributes have the prefix
``lambdamr.``. Which provider takes them, the user decides.
"""

from __future__ import annotations

from opentelemetry import trace

import lambdamr
from lambdamr import events


class Spans:
    """An observer of one job."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("lambdamr", lambdamr.__version__)
        self._job: trace.Span = trace.INVALID_SPAN
        self._tasks: dict[int, trace.Span] = {}

    def __call__(self, event: events.Event) -> None:
        """Begin or end a span."""
        match event:
            case events.JobStarted():
                self._job = self._tracer.start_span(
                    "lambdamr.map_reduce",
                    attributes={
                        "lambdamr.job": event.job,
                        "lambdamr.executor": event.executor,
                        "lambdamr.partitions": event.npartitions,
                        "lambdamr.fan_in": event.fan_in,
                    },
                )
            case events.TaskStarted():
                self._tasks[event.task] = self._tracer.start_span(
                    f"lambdamr.{event.kind}",
                    context=trace.set_span_in_context(self._job),
                    attributes={
                        "lambdamr.job": event.job,
                        "lambdamr.task": event.task,
                        "lambdamr.lo": event.lo,
                        "lambdamr.hi": event.hi,
                        "lambdamr.attempt": event.attempt,
                        "lambdamr.speculative": event.speculative,
                    },
                )
            case events.TaskEvent():
                self._end_task(event)
            case events.JobFinished():
                self._job.set_attribute("lambdamr.done", event.done)
                self._job.set_attribute("lambdamr.failed", event.failed)
                self._job.set_attribute("lambdamr.cost", event.cost)
                if event.error is not None:
                    self._job.record_exception(event.error)
                    self._job.set_status(trace.StatusCode.ERROR, type(event.error).__name__)
                self._job.end()

    def _end_task(self, event: events.TaskEvent) -> None:
        span = self._tasks.pop(event.task, None)
        match event:
            case events.TaskFinished() if span is not None:
                for name, value in event.stats._asdict().items():
                    span.set_attribute(f"lambdamr.{name}", value)
            case events.TaskFailed():
                facts: dict[str, str | int | bool] = {
                    "lambdamr.failure": event.failure,
                    "lambdamr.lo": event.lo,
                    "lambdamr.hi": event.hi,
                    "lambdamr.again": event.delay is not None,
                }
                # A part of a task that finished: its own span has ended.
                (span or self._job).add_event(event.message, facts)
                if span is not None:
                    span.set_status(trace.StatusCode.ERROR, event.message)
            case events.Throttled() if span is not None:
                span.set_status(trace.StatusCode.ERROR, "throttled")
            case events.TaskAbandoned() if span is not None:
                span.set_attribute("lambdamr.abandoned", True)
        if span is not None:
            span.end()
