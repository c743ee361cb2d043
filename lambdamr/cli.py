"""The command `lambdamr`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, if what it needs is installed."""
    try:
        from lambdamr.deploy.commands import app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("lambdamr"):
            raise
        sys.exit(f"lambdamr: {error.name} is missing; run: pip install 'lambdamr[aws]'")
    app()
