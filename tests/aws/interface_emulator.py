"""AWS's own runtime interface emulator: a binary of the aws-sam-cli wheel, which make unpacks."""

import contextlib
import os
import platform
import signal
import subprocess
from pathlib import Path

from emulator import free_port, wait_for_port

ARCH = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"


def binary():
    """Where it is."""
    assert "LAMBDAMR_TEST_RIE" in os.environ, "make test says where it is; or set it to the folder"
    return Path(os.environ["LAMBDAMR_TEST_RIE"]) / f"aws-lambda-rie-{ARCH}"


@contextlib.contextmanager
def serving(command, folder, **options):
    """The URL of a handler behind it.

    Args:
        command: makes the whole of it from the addresses that the emulator is to be told.
        folder: for its log.
        options: of the process.
    """
    port, api = free_port(), free_port()
    addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
    addresses += ["--runtime-api-address", f"127.0.0.1:{api}"]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            command(addresses),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
    try:
        wait_for_port(port, process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
