"""What driver, template and workers of the local executor say to each other, and how.

Orders to the template are 9 bytes: ``F`` or ``K`` and the number of a worker; with ``F`` comes the
worker's end of its socket. All else are pickles, each after its length: the settings of the
template, with the locks of the store's folders, its reports, tasks, and answers.
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import NamedTuple

ORDER = struct.Struct("<cQ")
LENGTH = struct.Struct("<Q")


class CrewSettings(NamedTuple):
    """What a template process is made from."""

    preload: tuple[str, ...]
    warm_up: bytes | None  # a pickled function
    inline: int  # bytes


def framed(value: object) -> bytes:
    """A pickle after its length."""
    pickled = pickle.dumps(value, protocol=5)
    return LENGTH.pack(len(pickled)) + pickled


def receive(connection: socket.socket) -> bytearray:
    """One pickle.

    Raises:
        EOFError: the other side closed the connection.
    """
    (length,) = LENGTH.unpack(exactly(connection, LENGTH.size))
    return exactly(connection, length)


def exactly(connection: socket.socket, size: int) -> bytearray:
    """So many bytes.

    Raises:
        EOFError: the other side closed the connection.
    """
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if count == 0:
            raise EOFError
        view = view[count:]
    return data
