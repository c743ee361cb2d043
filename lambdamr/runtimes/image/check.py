"""Says in one line what is wrong with an image, while it is being built.

python check.py base: of the base. python check.py image: of what became of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

# In a process of its own: ROOT prints from C++, and may crash.
_HANDLER = "import worker; assert callable(worker.handler), 'worker.handler cannot be called'"
_GRAPHS = (
    "from PyRDF import warm; warm.start(); warm.warm_up()",
    "from PyRDF import warm; warm.start_python()",  # for graphs that the library does not know
)


def fail(message: str) -> NoReturn:
    """End the build."""
    sys.exit(f"error: {message}")


def check_python(wanted: str) -> None:
    """The base has to have the Python of those who start jobs."""
    here = "{}.{}".format(*sys.version_info)
    if here != wanted:
        fail(f"the base has Python {here}, and the image is to be of {wanted}: name another --base")


def check_handler() -> None:
    """What Lambda calls is there, and finds what it needs: the headers for ROOT, among others."""
    if not Path("/opt/worker/worker.py").exists():
        fail("there is no handler in the image: /opt/worker/worker.py is missing")
    status, said = _run(_HANDLER)
    if status:
        fail(f"the handler of the image does not start: {said[-1]}")


def check_interpreter() -> None:
    """It compiles a graph, without Python and for Python, and prints nothing."""
    for graph in _GRAPHS:
        status, said = _run(graph)
        if status or said:
            fail(f"ROOT's interpreter does not work in the image: {' | '.join(said)[:1000]}")


def _run(code: str) -> tuple[int, list[str]]:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines = [line for line in run.stdout.splitlines() if line.strip()]
    if run.returncode and not lines:
        lines = [f"it ended with status {run.returncode}"]
    return run.returncode, lines


if __name__ == "__main__":
    if sys.argv[1] == "base":
        check_python(os.environ["PYTHON"])
    else:
        check_handler()
        if os.environ["ROOT"]:
            check_interpreter()
