"""Kills a worker in the middle of its range, once."""

from __future__ import annotations

import os
import signal
import threading
import time


def sum_while_a_worker_is_killed(df, mark):
    """The sum of i: at 60 the worker writes its number into the file and waits for its end.

    Unless the file is there already, as it is for the next worker.
    """
    code = f"""
        if (i == 60 && gSystem->AccessPathName("{mark}")) {{
            std::ofstream("{mark}") << getpid();
            sleep(60);
        }}
        return i;"""
    result = df.Define("z", code).Sum("z")

    def kill():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if mark.exists() and (pid := mark.read_text()):
                os.kill(int(pid), signal.SIGKILL)
                return
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    value = result.GetValue()
    killer.join()
    assert mark.exists()
    return value
