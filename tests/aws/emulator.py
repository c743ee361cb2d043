"""Starts the emulator of AWS (ministack) on a free port, and ends it with all its functions."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

SANDBOX = Path(__file__).parent / "sandbox"
START = 60  # seconds it may take


def free_port():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@contextlib.contextmanager
def emulator(folder, seen_by_functions=None):
    """The URL of a fresh emulator; ``folder`` gets its log.

    Its functions see AWS at another URL, if one is given.
    """
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "GATEWAY_PORT": str(port),
        "PYTHONPATH": str(SANDBOX),
        "LAMBDA_STATE_TRANSITION_SECONDS": "0",
        "TMPDIR": str(folder),
        **({"AWS_ENDPOINT_URL": seen_by_functions} if seen_by_functions else {}),
    }
    with open(folder / "emulator.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ministack"],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{url}/_ministack/health", process, folder / "emulator.log")
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(url, process, log):
    end = time.monotonic() + START
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.05)
    raise AssertionError(f"no answer from {url}: {log.read_text()}")


def wait_for_port(port, process, log):
    end = time.monotonic() + START
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}: {log.read_text()}")
