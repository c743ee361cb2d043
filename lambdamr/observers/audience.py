"""Who looks at a job, or listens, though it was not told to. Imports little: each job asks."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lambdamr.events import Observer


@contextmanager
def audience(progress: bool | None) -> Iterator[list[Observer]]:
    """Logging and OpenTelemetry, where the user has asked them to listen, and the progress bar.

    Args:
        progress: whether to show one; None: where somebody looks.
    """
    listeners: list[Observer] = []
    if logging.getLogger("lambdamr.job").isEnabledFor(logging.INFO):
        listeners.append(importlib.import_module("lambdamr.observers.logs").log)
    if "opentelemetry.trace" in sys.modules:  # or nobody has set up a provider
        listeners.append(importlib.import_module("lambdamr.observers.spans").Spans())
    if progress or (progress is None and looks()):
        bar = importlib.import_module("lambdamr.observers.progress").bar
        with bar(progress) as shown:
            yield [*listeners, *shown]
    else:
        yield listeners


def looks() -> bool:
    """Whether ``LAMBDAMR_PROGRESS`` says so; without it, in a terminal and in a notebook."""
    asked = os.environ.get("LAMBDAMR_PROGRESS")
    if asked is not None:
        return asked.lower() not in ("", "0", "false", "no", "off")
    return _is_terminal() or is_notebook()


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is none (2>&-), or it is closed
        return False


def is_notebook() -> bool:
    """Whether this is the process of a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
