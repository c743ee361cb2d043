"""Invokes a function, and reads its reply."""

from __future__ import annotations

import json
from typing import Any

from lambdamr import retry
from lambdamr.executors.aws_session import failed, translated
from lambdamr.runtimes import failures


async def invoke(client: Any, function: str, payload: bytes) -> dict[str, Any]:
    """What a function of ours replies.

    Raises:
        TaskFailed: one of the classes in `lambdamr.retry`, by what went wrong.
    """
    with translated(function):
        response = await client.invoke(FunctionName=function, Payload=payload)
        said = await response["Payload"].read()
    try:
        reply = json.loads(said)
    except ValueError as error:
        raise retry.Lost(f"{function}: the answer is cut after {said[-60:]!r}") from error
    if "FunctionError" in response:
        about = reply if isinstance(reply, dict) else {}
        kind, message = about.get("errorType"), about.get("errorMessage")
        raise failed(failures.of_function(str(kind or ""), str(message or ""), function))
    if not isinstance(reply, dict) or "protocol" not in reply:
        raise retry.Broken(
            f"{function} is no function of lambdamr: it answered {said[:60]!r}. Run "
            f"`lambdamr deploy`, or name another function"
        )
    return reply
