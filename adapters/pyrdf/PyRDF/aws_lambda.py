"""The handler of the ROOT image: lambdamr's, with a ROOT that started while Lambda initialised."""

from __future__ import annotations

from PyRDF import warm

warm.start()

from lambdamr.runtimes.aws_lambda import handler  # noqa: E402  # it measures how long that took

__all__ = ["handler"]
