"""The handler of the Lambda functions: evaluates one task, and returns what came of it as data.

It never raises: an exception of the user's functions is in the answer, and everything else is a
class of failure with a message. It logs one line of JSON for each task, without values, messages
of exceptions, or secrets.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lambdamr.errors import IntegrityError
from lambdamr.runtimes import completion, envelope, failures
from lambdamr.runtimes.s3 import Store, client
from lambdamr.runtimes.seal import seal, unseal
from lambdamr.runtimes.secret import materialised
from lambdamr.wire import Answer, Task
from lambdamr.worker import Worker

warm_up: Callable[[], object] | None = None
"""What a first task would otherwise do for all that follow; called once, if there is a warm-up."""

_SHARE = 0.5  # of the time that is left: the last partition may need the other half
_FUNCTION = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "function")
_STREAM = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME", "")
_ENVIRONMENT = os.urandom(8).hex()
_LONGEST = 60.0  # seconds that a warm-up may be told to take


def handler(event: dict[str, Any], context: Any) -> dict[str, Any] | None:
    """Evaluate the task of an event (see `lambdamr.runtimes.envelope`)."""
    started = time.perf_counter()
    reply = _reply(event, context)
    reply["meter"] = _meter(time.perf_counter() - started)
    if event.get("reply") != "queue":
        return reply
    completion.send(os.environ["LAMBDAMR_QUEUE_URL"], event, reply, client)
    return None


def _reply(event: dict[str, Any], context: Any) -> dict[str, Any]:
    reply: dict[str, Any] = {"protocol": envelope.PROTOCOL}
    _store.puts = _store.gets = 0
    try:
        if mismatch := _mismatch(event):
            return reply | {"mismatch": mismatch}
        if "warm" in event:
            return reply | _wake(float(event["warm"]))
        return reply | _evaluate(event, context)
    except MemoryError:
        return reply | _failed("OutOfMemory", f"{_FUNCTION}: out of memory")
    except IntegrityError as error:
        return reply | _failed("Broken", str(error))
    except Exception as error:
        verdict = failures.of_exception(error, _FUNCTION)
        if verdict is not None:
            return reply | _failed(*verdict)
        return reply | _failed("Lost", f"{_FUNCTION}: {type(error).__name__}: {error}")


def _evaluate(event: dict[str, Any], context: Any) -> dict[str, Any]:
    key = envelope.from_text(event["key"])
    _store.bind(os.environ["LAMBDAMR_BUCKET"], event["prefix"], key)
    body = event.get("task")
    if body is None:
        task: Task = pickle.loads(_store.read(event["task_key"]))
    else:
        task = pickle.loads(unseal(key, "task", envelope.from_text(body)))
    if task.budget is not None:
        left = context.get_remaining_time_in_millis() / 1000
        task = task._replace(budget=min(task.budget, _SHARE * left))
    with _own_folder() as folder, materialised(event.get("secrets", {}), folder, client):
        answer = _worker.evaluate(task)
        _worker.forget(everything=True)
    _log(event, task, answer)
    if _store.failed is not None:
        raise _store.failed
    pickled = pickle.dumps(answer, protocol=5)
    sealed = b"".join(seal(key, f"answer/{task.id}", [pickled]))
    most = envelope.MESSAGE_BODY if event.get("reply") == "queue" else envelope.BODY
    if len(sealed) <= most:
        return {"answer": envelope.to_text(sealed)}
    _store.keep(f"{event['prefix']}{task.id}/answer", [pickled])
    return {}


def _wake(hold: float) -> dict[str, Any]:
    """Be ready, and keep this environment busy for so many seconds: the next gets another one."""
    started = time.perf_counter()
    cold, _worker.cold = _worker.cold, False
    if cold and warm_up is not None:
        warm_up()
    time.sleep(max(0.0, min(hold, _LONGEST) - (time.perf_counter() - started)))
    return {"environment": _ENVIRONMENT, "cold": cold}


def _mismatch(event: dict[str, Any]) -> dict[str, str]:
    """What this function has, if it is not what the driver has."""
    have, want = envelope.versions(), dict(event.get("versions", {}))
    if "root" in want and (root := envelope.root_version(imported_only=False)) is not None:
        have["root"] = root
    else:
        want.pop("root", None)  # the functions of the job may do without
    return {} if have == want and event.get("protocol") == envelope.PROTOCOL else have


def _failed(kind: failures.Kind, message: str) -> dict[str, Any]:
    return {"failed": kind, "message": message}


@contextmanager
def _own_folder() -> Iterator[str]:
    """A folder for temporary files, which is gone afterwards; and the working directory stays."""
    before, variable, here = tempfile.tempdir, os.environ.get("TMPDIR"), os.getcwd()
    folder = tempfile.mkdtemp(prefix="lambdamr-")
    tempfile.tempdir = os.environ["TMPDIR"] = folder
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        if variable is None:
            os.environ.pop("TMPDIR", None)
        else:
            os.environ["TMPDIR"] = variable
        os.chdir(here)
        shutil.rmtree(folder, ignore_errors=True)


def _meter(seconds: float) -> envelope.Meter:
    global _init
    init, _init = _init, 0.0
    return {
        "seconds": math.ceil(seconds * 1e6) / 1e6,
        "init": round(init, 6),
        "memory": int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")),
        "arch": "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64",
        "puts": _store.puts,
        "gets": _store.gets,
    }


def _log(event: dict[str, Any], task: Task, answer: Answer) -> None:
    stats, failure = answer.stats, answer.failure
    line = {
        "lambdamr": "task",
        "job": task.job,
        "task": task.id,
        "lo": task.lo,
        "hi": task.hi,
        "stopped": answer.stopped,
        "kind": "map" if task.chunk is not None else "merge",
        "wall": round(stats.wall, 6),
        "cpu": round(stats.cpu, 6),
        "storing": round(stats.storing, 6),
        "peak_memory": stats.peak_memory,
        "bytes_in": stats.bytes_in,
        "bytes_out": stats.bytes_out,
        "cold": stats.cold,
        "failure": failure and f"{failure.kind}: {failure.types[0]}",
        "prefix": event["prefix"],
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _seconds_since_start() -> float:
    """How long this process lives; what a cold start took, when it is asked at the end of it."""
    try:
        with open("/proc/self/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])  # field 22: proc(5)
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):  # no Linux: not on Lambda
        return time.process_time()


_store = Store()
_worker = Worker(_store, f"{_FUNCTION}/{_STREAM[-8:]}" if _STREAM else _FUNCTION)
_init = _seconds_since_start()
