"""How a job goes, while it goes: a line in a terminal (tqdm), a box in a notebook."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lambdamr import events
from lambdamr.errors import InputError
from lambdamr.observers import audience

NARROW = 70
"""Columns of a terminal below which words are short, and there is no bar."""

INTERVAL = 0.1
"""Seconds between two pictures in a terminal, at least; before the first one, too."""

NOTEBOOK_INTERVAL = 0.2
"""The same in a notebook, which draws the first one at once."""


@dataclass(slots=True)
class Tally:
    """What a job did so far, counted from its events."""

    total: int = 0
    done: int = 0
    resumed: int = 0
    retried: int = 0
    throttled: int = 0
    limit: int = 0  # tasks at once that the engine lets us, since it last refused one
    cost: float = 0.0  # USD
    error: str = ""
    ended: bool = False
    running: set[int] = field(default_factory=set)

    def count(self, event: events.Event) -> None:
        """Take an event in."""
        if isinstance(event, events.TaskStarted):
            self.running.add(event.task)
        elif isinstance(event, events.TaskEvent):
            self.running.discard(event.task)
        match event:
            case events.JobStarted():
                self.total = event.npartitions
            case events.Resumed():
                self.done += event.partitions
                self.resumed = event.partitions
            case events.TaskFinished():
                self.done += event.partitions
                self.cost += event.stats.cost
            case events.TaskFailed():
                self.retried += event.delay is not None
            case events.Throttled():
                self.throttled += 1
                self.limit = event.limit
            case events.JobFinished():
                self.ended, self.cost = True, event.cost
                self.error = "" if event.error is None else type(event.error).__name__

    def shown(self) -> dict[str, int | str]:
        """What is worth showing besides the partitions done: what is zero mostly is not."""
        shown: dict[str, int | str] = {"running": len(self.running)}
        if self.retried:
            shown["retried"] = self.retried
        if self.throttled:
            shown["throttled"] = self.throttled
            shown["limit"] = self.limit
        if self.cost:
            shown["cost"] = f"${self.cost:.3g}"
        return shown


class ProgressBar:
    """An observer that shows what is done, how fast, the time left and the cost, in one line.

    A job that ends before the first picture is due leaves none.
    """

    def __init__(self, tqdm: Any) -> None:
        self._tqdm = tqdm
        self._bar: Any = None
        self._tally = Tally()
        self._started = self._drawn = 0.0

    def __call__(self, event: events.Event) -> None:
        """Show what changed, a few times a second, and how it ended."""
        self._tally.count(event)
        now = time.time()  # as tqdm has it
        if isinstance(event, events.JobStarted):
            self._started = self._drawn = now
        elif now - self._drawn >= INTERVAL or (self._tally.ended and self._bar is not None):
            self._drawn = now
            self._draw()

    def _draw(self) -> None:
        tally = self._tally
        if self._bar is None:
            self._bar = self._tqdm(
                total=tally.total,
                unit="part",
                dynamic_ncols=True,
                smoothing=0.1,
                mininterval=0,  # we say when
                miniters=0,
                delay=1e-9,  # or it drew 0 % first
            )
            self._bar.start_t = self._started
        shown = tally.shown()
        if _columns(self._bar) < NARROW:
            short = {"running": "run", "retried": "retry", "throttled": "thr", "limit": "max"}
            words = [f"{short.get(k, '')} {v}".strip() for k, v in shown.items() if k != "limit"]
            self._bar.bar_format = "{n_fmt}/{total_fmt} {remaining}{postfix}"
            self._bar.set_postfix_str(" ".join(words), refresh=False)
        else:
            self._bar.bar_format = (
                "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{remaining}, {rate_fmt}{postfix}]"
            )
            self._bar.set_postfix(shown, refresh=False)
        if tally.ended:
            self._bar.n = tally.done  # for close(), which draws
        else:
            self._bar.update(tally.done - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def _columns(bar: Any) -> int:
    if not callable(bar.dynamic_ncols):
        return 80
    columns, _ = bar.dynamic_ncols(bar.fp)
    return int(columns or 80)


class NotebookBox:
    """An observer that shows the same in a notebook: plain HTML, which is saved with it."""

    def __init__(self, display: Any) -> None:
        self._display = display  # IPython.display.display
        self._handle: Any = None
        self._tally = Tally()
        self._started = self._drawn = 0.0

    def __call__(self, event: events.Event) -> None:
        """Show what changed, a few times a second."""
        self._tally.count(event)
        now = time.monotonic()
        if isinstance(event, events.JobStarted):
            self._started = self._drawn = now
            self._handle = self._display(self._picture(now), raw=True, display_id=True)
        elif self._tally.ended or now - self._drawn >= NOTEBOOK_INTERVAL:
            self._drawn = now
            self._handle.update(self._picture(now), raw=True)

    def close(self) -> None:
        """Leave it as it is."""

    def _picture(self, now: float) -> dict[str, str]:
        """As HTML, and as text for where there is none."""
        tally, seconds = self._tally, now - self._started
        fresh = tally.done - tally.resumed
        words = [f"{tally.done:,} of {tally.total:,} partitions"]
        words += [f"{name} {value}" for name, value in tally.shown().items()]
        if fresh and seconds:
            words.append(f"{fresh / seconds:,.3g}/s")
        if tally.ended:
            words[1] = tally.error or "done"
            words.append(f"took {_clock(seconds)}")
        elif fresh:
            words.append(f"{_clock(seconds * (tally.total - tally.done) / fresh)} left")
        text = " · ".join(words)
        colour = "#d55e00" if tally.error else "#009e73"
        part = 100 * tally.done / max(1, tally.total)
        bar = f"<progress value={part:.1f} max=100 style='accent-color:{colour}'></progress>"
        return {
            "text/plain": text,
            "text/html": f"<div class='lambdamr-progress'>{bar} {html.escape(text)}</div>",
        }


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def bar(wanted: bool | None) -> Iterator[list[events.Observer]]:
    """The display as a list of observers: empty without tqdm, unless it is ``wanted``.

    Raises:
        InputError: it is wanted, and tqdm is not installed.
    """
    observer: ProgressBar | NotebookBox
    if audience.is_notebook():
        from IPython.display import display

        observer = NotebookBox(display)
    else:
        try:
            from tqdm import tqdm
        except ImportError:
            if wanted:
                raise InputError(
                    "progress=True needs tqdm: pip install 'lambdamr[progress]'"
                ) from None
            yield []
            return
        observer = ProgressBar(tqdm)
    try:
        yield [observer]
    finally:
        observer.close()
