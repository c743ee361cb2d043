"""The handler of the ROOT image: lambdamr's, with a ROOT that started while Lambda initialised."""

from __future__ import annotations

from PyRDF import warm

warm.start()

from lambdamr.runtimes import aws_lambda  # noqa: E402  # it measures how long that took

aws_lambda.warm_up = warm.warm_up
handler = aws_lambda.handler

__all__ = ["handler"]
