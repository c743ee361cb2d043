"""The synchronous face of a coroutine, in a script, in a thread, and in a running loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end; Ctrl-C cancels it, waits until it has cleaned up, and raises.

    Where a loop is running already (a notebook), it runs in a thread with a loop of its own.
    """
    running = None
    with contextlib.suppress(RuntimeError):
        running = asyncio.get_running_loop()
    return _run_aside(coroutine) if running else asyncio.run(coroutine)


def _run_aside(coroutine: Coroutine[Any, Any, T]) -> T:
    runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
    task = runner.get_loop().create_task(coroutine)  # here: from now on it can be cancelled

    def run() -> None:
        with runner:
            runner.run(asyncio.wait([task]))

    with ThreadPoolExecutor(1, "lambdamr") as thread:
        try:
            thread.submit(run).result()
        except KeyboardInterrupt:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has just ended
                runner.get_loop().call_soon_threadsafe(task.cancel)
            raise  # when the thread has ended
    return task.result()
