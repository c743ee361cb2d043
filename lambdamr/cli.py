"""The command `lambdamr`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, if what it needs is installed."""
    alone = sys.argv[1:2] == ["report"]  # which needs nothing of AWS
    try:
        from lambdamr.observers.commands import app, report

        if not alone:
            from lambdamr.deploy.commands import app

            app.command()(report)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("lambdamr"):
            raise
        extra = "report" if alone else "aws"
        sys.exit(f"lambdamr: {error.name} is missing; run: pip install 'lambdamr[{extra}]'")
    app()
