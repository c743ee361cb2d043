"""A progress bar (tqdm) in terminals and notebooks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lambdamr import events
from lambdamr.errors import InputError


class ProgressBar:
    """An observer that shows partitions done, running and retried, the rate, and the time left."""

    def __init__(self, tqdm: Any) -> None:
        self._tqdm = tqdm
        self._bar: Any = None
        self._running: set[int] = set()
        self._retried = 0

    def __call__(self, event: events.Event) -> None:
        """Show what changed."""
        match event:
            case events.JobStarted():
                self._bar = self._tqdm(
                    total=event.npartitions, unit="partition", dynamic_ncols=True, smoothing=0.1
                )
            case events.Resumed():
                self._bar.update(event.partitions)
            case events.TaskStarted():
                self._running.add(event.task)
            case events.TaskEvent():
                self._running.discard(event.task)
        if isinstance(event, events.TaskFinished):
            self._bar.update(event.partitions)
        if isinstance(event, events.TaskFailed) and event.delay is not None:
            self._retried += 1
        shown = {"running": len(self._running)}
        if self._retried:
            shown["retried"] = self._retried
        self._bar.set_postfix(shown, refresh=False)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


@contextmanager
def bar(wanted: bool | None) -> Iterator[list[events.Observer]]:
    """The bar as a list of observers: empty if nobody looks, unless it is ``wanted``.

    Raises:
        InputError: it is wanted, and tqdm is not installed.
    """
    if wanted is None and not _somebody_looks():
        yield []
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        if wanted:
            raise InputError("progress=True needs tqdm: pip install 'lambdamr[progress]'") from None
        yield []
        return
    observer = ProgressBar(tqdm)
    try:
        yield [observer]
    finally:
        observer.close()


def _somebody_looks() -> bool:
    asked = os.environ.get("LAMBDAMR_PROGRESS")
    if asked is not None:
        return asked.lower() not in ("", "0", "false", "no", "off")
    return sys.stderr.isatty() or "ipykernel" in sys.modules
