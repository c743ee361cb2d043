"""Large values between the processes of one machine: files in shared memory, mapped, not copied."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os

from lambdamr.wire import Buffer, Task, frame_size

_TRIES = 100

LOCK = "lock"
"""The file in a folder that its users hold locked."""

_ROOM = 0.9  # of the free space of a folder is used at most


class LocalStore:
    """Frames as files in folders: the first that has room is used.

    Args:
        folders: where to write; see `lambdamr.executors.local_folders`.
        inline: frames up to so many bytes travel inline, in the messages.
    """

    def __init__(self, folders: list[str], inline: int) -> None:
        self.inline = inline
        self._folders = folders

    def read(self, key: str) -> Buffer:
        """The frame under a key: a private, writable map of the file."""
        with open(key, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))

    def write(self, task: Task, lo: int, hi: int, frame: list[Buffer]) -> str:
        """Keep a frame; the key is the path of a new file."""
        # The pid, since a mapper may fork: its child must not write into the parent's file.
        return self.keep(f"{task.job}-{task.id}-{lo}-{hi}-{os.getpid()}", frame)

    def keep(self, name: str, frame: list[Buffer]) -> str:
        """Keep a frame under a name of its own.

        Raises:
            OSError: no folder has room for it.
        """
        size = frame_size(frame)
        for folder in self._folders[:-1]:
            with contextlib.suppress(OSError):  # full, after all
                if _has_room(folder, size):
                    return _write(os.path.join(folder, name), frame)
        try:
            return _write(os.path.join(self._folders[-1], name), frame)
        except OSError as error:
            raise OSError(
                error.errno,
                f"no room for a value of {size >> 20} MiB in {' or '.join(self._folders)} "
                f"({error.strerror}). Make room, or set TMPDIR to a folder that has it",
            ) from error

    def remove(self, key: str) -> None:
        """Forget a frame, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(key)

    def clear(self) -> None:
        """Forget all frames."""
        for folder in self._folders:
            for name in os.listdir(folder):
                if name != LOCK:
                    self.remove(os.path.join(folder, name))

    def remove_folders(self) -> None:
        """Remove everything."""
        remove_folders(self._folders)


def _has_room(folder: str, size: int) -> bool:
    space = os.statvfs(folder)
    return size <= space.f_bavail * space.f_frsize * _ROOM


def _write(path: str, frame: list[Buffer]) -> str:
    try:
        with open(path, "wb", buffering=0) as file:
            for part in frame:
                view = memoryview(part).cast("B")
                while view:
                    view = view[file.write(view) :]
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        raise
    return path


def remove_folders(folders: list[str]) -> None:
    """Remove the folders of a store, which are ours, and all that is in them."""
    for folder in folders:
        for _ in range(_TRIES):
            try:
                remove_folder(folder)
                break
            except OSError as error:  # a driver that sweeps made a lock in it just now
                if error.errno != errno.ENOTEMPTY:
                    raise


def remove_folder(folder: str) -> None:
    """Remove a folder and all that is in it, if it is there.

    Raises:
        OSError: something was put into it meanwhile.
    """
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)
