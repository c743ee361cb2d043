"""The handler of the ROOT image: lambdamr's, with a ROOT that started while Lambda initialised."""

from __future__ import annotations

from pathlib import Path

from PyRDF import native, warm

if not (Path("/usr/include/stdlib.h").exists() and any(Path("/usr/include/c++").glob("*/vector"))):
    raise ImportError(  # ROOT starts without them, and goes wrong later
        "the C and C++ headers are missing, which ROOT's interpreter reads: the image has to have "
        "libc6-dev and libstdc++-dev (g++ brings both; `lambdamr image build` sees to it)"
    )

warm.start()

from lambdamr.runtimes import aws_lambda, envelope  # noqa: E402  # the former measures how long that took

if native.started():
    envelope.ask_root = native.version
aws_lambda.warm_up = warm.first_graph
handler = aws_lambda.handler

__all__ = ["handler"]
