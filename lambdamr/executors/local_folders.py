"""The folders of the local store: private, locked while in use, swept when left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import sys

from lambdamr.executors.local_store import LOCK, remove_folder, remove_folders

_MEMORY = "/dev/shm"
_PREFIX = f"lambdamr-{os.getuid()}-" if hasattr(os, "getuid") else "lambdamr-"
_FOLDER = re.compile(re.escape(_PREFIX) + r"\d+-[0-9a-f]{8}")


def make_folders() -> tuple[list[str], list[int]]:
    """New private folders, in shared memory and on disk, and the locks that say they are in use.

    First removes what drivers left that were killed: folders that nobody has locked.
    """
    folders: list[str] = []
    locks: list[int] = []
    disk = _temporary_folder()
    for root in (_MEMORY, disk):
        try:
            _sweep(root)
            folder, lock = _make_folder(root)
        except OSError:
            if root == disk:
                release_folders(folders, locks)
                raise
            continue  # there is no shared memory here, or it is full
        folders.append(folder)
        locks.append(lock)
    return folders, locks


def release_folders(folders: list[str], locks: list[int]) -> None:
    """Remove folders, and first let go of their locks: to list a folder takes a descriptor."""
    for lock in locks:
        os.close(lock)
    remove_folders(folders)


def _temporary_folder() -> str:
    """What `tempfile.gettempdir` says, mostly without its import, for which all workers waited."""
    named = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    usual = os.path.abspath(next(filter(None, named), "/tmp"))
    if "tempfile" not in sys.modules and os.access(f"{usual}/", os.W_OK | os.X_OK):
        return usual
    import tempfile

    return tempfile.gettempdir()


def _make_folder(root: str) -> tuple[str, int]:
    while True:
        folder = os.path.join(root, f"{_PREFIX}{os.getpid()}-{os.urandom(4).hex()}")
        os.mkdir(folder, 0o700)
        try:
            lock = _open_lock(folder)
        except FileNotFoundError:  # swept away by another driver before it was locked
            continue
        except OSError:
            os.rmdir(folder)
            raise
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return folder, lock
        os.close(lock)  # swept away, just before


def _sweep(root: str) -> None:
    with os.scandir(root) as entries:
        folders = [entry for entry in entries if _FOLDER.fullmatch(entry.name)]
    for folder in folders:
        with contextlib.suppress(OSError):  # it went, or is in use
            status = folder.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
                _remove_unlocked(folder.path)


def _remove_unlocked(folder: str) -> None:
    lock = _open_lock(folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_folder(folder)  # once: by now another may have it
    finally:
        os.close(lock)


def _open_lock(folder: str) -> int:
    flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(os.path.join(folder, LOCK), flags, 0o600)
