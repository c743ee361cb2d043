"""Secrets by reference: fetched in the worker, there for as long as a task runs, then gone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

FILE = "file:"
"""Before a reference: the variable gets the path of a file with the secret, not the secret."""

SERVICES = ("secretsmanager", "ssm")


@contextlib.contextmanager
def materialised(
    references: Mapping[str, str], folder: str, client: Callable[[str], Any]
) -> Iterator[None]:
    """Set environment variables to secrets, and set them back.

    Args:
        references: by the name of the variable: ``[file:]secretsmanager:<id>`` or
            ``[file:]ssm:<name>``.
        folder: where files go; somebody removes it.
        client: makes the client of a service.
    """
    before = {name: os.environ.get(name) for name in references}
    try:
        for name, reference in references.items():
            value = fetch(reference.removeprefix(FILE), client)
            if reference.startswith(FILE):
                path = os.path.join(folder, name)
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(value)
                os.environ[name] = path
            else:
                os.environb[os.fsencode(name)] = value
        yield
    finally:
        for name, value_before in before.items():
            if value_before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value_before


def fetch(reference: str, client: Callable[[str], Any]) -> bytes:
    """The secret itself."""
    service, _, name = reference.partition(":")
    if service == "ssm":
        answer = client("ssm").get_parameter(Name=name, WithDecryption=True)
        return str(answer["Parameter"]["Value"]).encode()
    answer = client("secretsmanager").get_secret_value(SecretId=name)
    binary: bytes | None = answer.get("SecretBinary")
    return binary if binary is not None else str(answer["SecretString"]).encode()
