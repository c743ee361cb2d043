"""Runs at the start of every Python of the emulator: makes those of functions more like Lambda.

- What user code writes to file descriptor 1 is logged; the emulator would take it for an answer.
- A function that uses more than its memory is killed; the emulator has no such limit.
- botocore is imported by who needs it; the emulator would import it before each function.
"""

import os
import sys
import threading
import time

KILLED = "emulator: signal: killed"


def watch_memory(limit):
    page = os.sysconf("SC_PAGE_SIZE")
    while True:
        with open("/proc/self/statm", "rb") as file:
            if int(file.read().split()[1]) * page > limit:
                os.write(2, f"{KILLED}\n".encode())
                time.sleep(0.05)  # the emulator reads it
                os.kill(os.getpid(), 9)
        time.sleep(0.01)


class NotYet:
    """What imports botocore first, in a function that has not begun, does not find it."""

    def find_spec(self, name, path=None, target=None):
        if name == "botocore":
            sys.meta_path.remove(self)
            raise ImportError(name)


if "_LAMBDA_TIMEOUT" in os.environ:
    sys.meta_path.insert(0, NotYet())
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    megabytes = int(os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"])
    threading.Thread(target=watch_memory, args=(megabytes << 20,), daemon=True).start()
