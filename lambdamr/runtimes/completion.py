"""Tells the driver, through its queue, that an asynchronous invocation ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def send(
    queue: str, event: dict[str, Any], reply: dict[str, Any], client: Callable[[str], Any]
) -> None:
    """Put what the driver waits for on the queue; a large answer is in the bucket already."""
    body = json.dumps({"lambdamr": event["prefix"], "number": event["number"], "reply": reply})
    client("sqs").send_message(QueueUrl=queue, MessageBody=body)
