"""Small merges, in a thread of the driver: a Lambda would cost more than the work."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from lambdamr.wire import Answer, Ref, Task
from lambdamr.worker import Worker

LARGEST = 2 << 20
"""Bytes of the values of one merge, together."""

_LONG = 1.0  # seconds; a reducer that takes longer would hold up the driver


class Merger:
    """Folds values one merge at a time, until one of them took too long.

    Args:
        local: the frame of a ref, if it is in this process.
    """

    def __init__(self, local: Callable[[Ref], bytes | None]) -> None:
        self._local = local
        self._worker = Worker(None, "driver", imports=False)
        self._turn = asyncio.Lock()
        self._willing = True

    async def run(self, task: Task) -> Answer | None:
        """The answer; None if this task is better done elsewhere."""
        small = self._willing and task.chunk is None and self._inlined(task)
        if not small:
            return None
        async with self._turn:
            if not self._willing:  # the one before took too long
                return None
            self._willing = False  # should this be cancelled, its thread has the worker
            started = time.perf_counter()
            answer = await self._in_thread(small)
            self._willing = time.perf_counter() - started < _LONG
        if answer.failure is not None and answer.failure.kind in ("loading", "memory"):
            return None
        return answer

    def _inlined(self, task: Task) -> Task | None:
        """The task with all its values in it, if they are here and small."""
        refs = [item.ref for item in task.items if item.ref is not None]
        refs += [task.initial] if task.initial is not None else []
        if sum(ref.size for ref in refs) > LARGEST or any(ref.key for ref in refs):
            return None
        functions = self._local(task.functions)
        if functions is None:
            return None
        return task._replace(functions=Ref(len(functions), data=functions))

    async def _in_thread(self, task: Task) -> Answer:
        """A thread of its own, for which nobody waits at exit: a reducer may hang."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Answer] = loop.create_future()

        def finish(answer: Answer | None, error: BaseException | None) -> None:
            if done.done():  # cancelled
                return
            if answer is not None:
                done.set_result(answer)
            elif error is not None:
                done.set_exception(error)

        def work() -> None:
            answer = caught = None
            try:
                answer = self._worker.evaluate(task)
                self._worker.forget(everything=True)
            except BaseException as error:  # noqa: BLE001  # it belongs to who waits
                caught = error
            try:
                loop.call_soon_threadsafe(finish, answer, caught)
            except RuntimeError:  # the loop is closed: nobody waits
                return

        threading.Thread(target=work, name="lambdamr-merge", daemon=True).start()
        return await done
