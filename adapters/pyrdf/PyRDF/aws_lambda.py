"""The handler of the ROOT image: lambdamr's, with a ROOT that started while Lambda initialised."""

from __future__ import annotations

from PyRDF import warm

try:
    warm.start()
except Exception as error:  # ROOT says it in ten lines
    said = (str(error).splitlines() or [type(error).__name__])[0]
    raise ImportError(
        f"ROOT does not start ({said}): the image needs the C and C++ headers, libc6-dev and "
        "libstdc++-dev, and `lambdamr image build` sees to it"
    ) from error

from lambdamr.runtimes import aws_lambda  # it measures how long that took

aws_lambda.warm_up = warm.warm_up
handler = aws_lambda.handler

__all__ = ["handler"]
