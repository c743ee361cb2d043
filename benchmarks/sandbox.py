"""One sample in a child of its own, in a scratch folder of its own, with nothing left behind.

The child's HOME and TMPDIR are the scratch folder: no peer reads this user's settings, and what
it forgets is found and removed. Every process that descends from the child carries a marker in its
environment, which survives a new session and the death of the parent.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

HOME = Path(__file__).absolute().parent.parent  # where `benchmarks` is; no link is followed
MARKER = "LAMBDAMR_BENCH_SAMPLE"
GRACE_SECONDS = 3.0
SHARED_MEMORY = Path("/dev/shm")
LOG_LINES = 40


class SampleFailed(Exception):
    """The child ended without an answer: the end of what it printed, or why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a sample measured, and what the peer forgot."""

    values: dict[str, float]
    processes_left: tuple[str, ...]
    files_left: int


def run(command: Sequence[str], *, timeout: float) -> Answer:
    """Runs `python *command ANSWER_FILE` and returns what it wrote there.

    :param timeout: seconds, after which the child is killed.
    :raises SampleFailed: it failed, or took too long.
    """
    with _scratch_folder() as scratch:
        answer, log = scratch / "answer.json", scratch / "log"
        home, temporary = scratch / "home", scratch / "tmp"
        home.mkdir()
        temporary.mkdir()
        mark = secrets.token_hex(8)
        # a first result is measured with compiled imports, as an installed package has them
        inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment = inherited | {
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(HOME), inherited.get("PYTHONPATH")))),
            MARKER: mark,
        }
        with log.open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, *command, str(answer)],
                cwd=HOME,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            code = child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise SampleFailed(f"{_last_lines(log)}\nno answer in {timeout:.0f} s") from None
        finally:
            child.kill()
            child.wait()
            processes_left = _end_processes(mark)
            shared_left = _remove_shared_memory(child.pid)
        if code != 0 or not answer.exists():
            raise SampleFailed(_last_lines(log) or f"exit status {code}")
        files_left = shared_left + sum(path.is_file() for path in temporary.rglob("*"))
        return Answer(json.loads(answer.read_text()), processes_left, files_left)


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    scratch = Path(tempfile.mkdtemp(prefix="lambdamr-bench-"))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _end_processes(mark: str) -> tuple[str, ...]:
    """Waits for what the child started to end by itself; what does not is ended, and named."""
    left = _wait_for_end(mark)
    names = tuple(sorted(_name(process) for process in left))
    while left:
        for process in left:
            with _tolerating_the_dead():
                process.kill()
        left = _wait_for_end(mark)
    return names


def _wait_for_end(mark: str) -> list[psutil.Process]:
    """The processes with this mark that are still there after the grace."""
    deadline = time.monotonic() + GRACE_SECONDS
    while (left := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _remove_shared_memory(driver: int) -> int:
    """Removes what is named after the driver's process: others use /dev/shm at the same time."""
    left = [
        path
        for path in SHARED_MEMORY.glob(f"*{driver}*")
        if str(driver) in re.findall(r"\d+", path.name)
    ]
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(left)


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with _tolerating_the_dead():
            if process.environ().get(MARKER) == mark:
                found.append(process)
    return found


def _name(process: psutil.Process) -> str:
    with _tolerating_the_dead():
        words = process.cmdline()
        if words:  # a zombie has none
            return " ".join([Path(words[0]).name, *words[1:]])[:120]
    return f"process {process.pid}"


def _tolerating_the_dead() -> AbstractContextManager[None]:
    """One that ended meanwhile, a zombie, another user's: no environment to read, none of ours."""
    return suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError)


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").strip().splitlines()[-LOG_LINES:])
