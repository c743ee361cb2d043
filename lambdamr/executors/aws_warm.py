"""Wakes environments of a function before the tasks of a job need them.

An environment serves one invocation at a time. So Lambda starts as many as there are invocations at
once, if each holds its environment until the last of them has been sent.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from lambdamr import retry
from lambdamr.executors.aws_invoke import invoke
from lambdamr.executors.aws_prices import UNKNOWN, Prices
from lambdamr.runtimes import envelope

_log = logging.getLogger(__name__)

HOLD = 0.1
"""Seconds for which the invocation that is sent last holds its environment: requests overtake each
other on their way."""

PACE = 0.004
"""Seconds between two invocations, at most: a driver sends 500 a second (benchmarks/README.md)."""

STAY = 240
"""Seconds after which environments are woken again. Lambda keeps idle ones for some minutes, and
promises nothing."""


@dataclass(frozen=True, slots=True)
class Woken:
    """What a warm-up did.

    Attributes:
        environments: that are awake.
        cold: those of them that were not before.
        cost: USD.
        error: why there are fewer than were asked for, or None.
    """

    environments: int
    cold: int
    cost: float
    error: str | None = None


class Warm(Protocol):
    """What the tasks of a job wait for."""

    async def turn(self) -> None:
        """Return as soon as a task finds an environment that is awake, or never will."""

    def owed(self) -> float:
        """USD that are on no bill yet."""

    async def close(self) -> None:
        """Wait no longer; what was invoked goes on there."""


class WarmUp:
    """Invocations that wake environments, all sent at once; made in the loop that uses it.

    Args:
        client: of Lambda.
        function: whose environments.
        number: of them.
        prices: what it costs.
    """

    def __init__(self, client: Any, function: str, number: int, prices: Prices) -> None:
        self._client = client
        self._function = function
        self._prices = prices
        self._asked = 0
        self._ended = asyncio.Semaphore(0)
        self._since: dict[int, float] = {}  # of those under way
        self._spent = self._billed = 0.0
        self._environments: dict[str, bool] = {}  # whether it was cold
        self._error: str | None = None
        self._number = number
        self._tasks = [asyncio.create_task(self._wake(i)) for i in range(number)]

    async def turn(self) -> None:
        """Each of the first tasks waits for one warm-up, and takes its environment."""
        self._asked += 1
        if self._asked <= self._number:
            await self._ended.acquire()

    def owed(self) -> float:
        """USD that are on no bill yet; of those under way, as if they had ended now."""
        now = time.monotonic()
        under_way = sum(self._price(now - since) for since in self._since.values())
        owed = max(0.0, self._spent + under_way - self._billed)
        self._billed += owed
        return owed

    async def finish(self) -> Woken:
        """Wait for all of them."""
        await asyncio.gather(*self._tasks)
        cold = sum(self._environments.values())
        return Woken(len(self._environments), cold, self._spent, self._error)

    async def close(self) -> None:
        """Wait no longer; what was invoked goes on there."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _wake(self, i: int) -> None:
        self._since[i] = since = time.monotonic()
        hold = HOLD + (self._number - 1 - i) * PACE
        event = {
            "protocol": envelope.PROTOCOL,
            "versions": envelope.versions(),
            "warm": hold,
        }
        try:
            reply = await invoke(self._client, self._function, json.dumps(event).encode())
            self._spent += self._prices.of(reply.get("meter", UNKNOWN))
            if "environment" in reply:
                self._environments[reply["environment"]] = bool(reply["cold"])
            else:
                said = reply.get("message", "it does not fit this client")
                self._fail(f"{self._function}: {said}. Is its lambdamr another? `lambdamr deploy`")
        except (retry.Lost, retry.OutOfMemory, retry.TimedOut) as error:
            self._spent += self._price(time.monotonic() - since)
            self._fail(str(error))
        except retry.TaskFailed as error:  # refused; the tasks will be told the same
            self._fail(str(error))
        finally:
            del self._since[i]
            self._ended.release()

    def _fail(self, why: str) -> None:
        """Environments that are not awake are started by tasks: the first reason is enough."""
        if self._error is None:
            self._error = why
            _log.warning("not all environments were woken: %s", why)

    def _price(self, seconds: float) -> float:
        return self._prices.of(UNKNOWN | {"seconds": seconds})


class Preparation:
    """A warm-up in a thread of its own, which began before the job did."""

    def __init__(self, wake: Callable[[], Coroutine[Any, Any, Woken]]) -> None:
        self._wake = wake
        self._billed = False
        self.began = time.monotonic()
        self.result: concurrent.futures.Future[Woken] = concurrent.futures.Future()
        threading.Thread(target=self._run, name="lambdamr-warm-up", daemon=True).start()

    def _run(self) -> None:
        try:
            self.result.set_result(asyncio.run(self._wake()))
        except BaseException as error:  # noqa: BLE001  # the job will find the same, and say it
            self.result.set_exception(error)

    async def turn(self) -> None:
        """All tasks wait for the end of it."""
        if not self.result.done():
            await asyncio.wait([asyncio.wrap_future(self.result)])

    def owed(self) -> float:
        """USD, once."""
        if self._billed or not self.result.done() or self.result.exception() is not None:
            return 0.0
        self._billed = True
        return self.result.result().cost

    async def close(self) -> None:
        """It goes on, for the next job."""
