"""Whether somebody looks at what a job shows while it runs. Imports little: each job asks."""

from __future__ import annotations

import os
import sys


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
