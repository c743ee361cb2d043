"""Jobs, while workers are killed at random and the driver is killed and resumed.

    python tests/soak/soak.py --minutes 10 --resumes 20

Every value has to be right to the bit, and nothing may be left behind. The exit status says so.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from array import array
from pathlib import Path

import psutil

import lambdamr
from lambdamr import events

MEMORY = Path("/dev/shm")
MARK = "LAMBDAMR_SOAK_MARK"
PARTITIONS = 128
LENGTH = 10_000  # doubles: too large to travel inline
JOBS = 4  # that are different, over and over
PATIENT = lambdamr.RetryPolicy(attempts=1000, base_delay=0.02)


def job(number, **options):
    def mapper(partition):
        draw = random.Random(f"{number} {partition[0]}")
        time.sleep(draw.uniform(0, 0.04))
        return array("d", (draw.uniform(-1e9, 1e9) for _ in range(LENGTH)))

    def reducer(a, b):
        return array("d", map(float.__add__, a, b))

    value = lambdamr.map_reduce(
        mapper, reducer, range(PARTITIONS), npartitions=PARTITIONS, **options
    )
    return value.tobytes().hex()


def drive(folder):
    """A driver: the jobs one after the other, from where its predecessor stopped."""
    done = sorted(int(path.stem) for path in folder.glob("*.value"))
    executor = lambdamr.LocalExecutor(workers=2)
    number = done[-1] + 1 if done else 0

    def note(event):
        if isinstance(event, events.Resumed):
            append(folder / "resumed", event.partitions)
        elif isinstance(event, events.TaskFailed):
            append(folder / "failed", event.task)

    while not (folder / "stop").exists():
        checkpoint = folder / f"{number}.checkpoint"
        value = job(
            number % JOBS, executor=executor, checkpoint=checkpoint, retry=PATIENT, observers=[note]
        )
        draft = folder / f"{number}.draft"
        draft.write_text(value)
        draft.rename(folder / f"{number}.value")
        checkpoint.unlink()
        number += 1


def append(path, number):
    with path.open("a") as file:
        file.write(f"{number}\n")


def numbers(path):
    return [int(line) for line in path.read_text().split()] if path.exists() else []


class Soak:
    """Starts drivers, kills, and looks at what there is."""

    def __init__(self, folder, seed):
        self.random = random.Random(seed)
        self.mark = uuid.uuid4().hex
        self.folder = folder / "jobs"
        self.temporary = folder / "temporary"
        for made in (self.folder, self.temporary):
            made.mkdir()
        self.pids = []
        self.killed_workers = self.killed_drivers = 0
        self.wrong = []
        self.start()

    def start(self):
        self.driver = subprocess.Popen(
            [sys.executable, __file__, "--drive", str(self.folder)],
            env=os.environ | {MARK: self.mark, "TMPDIR": str(self.temporary)},
        )
        self.pids.append(self.driver.pid)

    def processes(self):
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def kill_worker(self):
        templates = psutil.Process(self.driver.pid).children()
        workers = [worker for template in templates for worker in template.children()]
        if workers:
            self.random.choice(workers).kill()
            self.killed_workers += 1

    def kill_driver(self):
        """And all processes of it have to go by themselves."""
        self.driver.kill()
        self.driver.wait()
        self.killed_drivers += 1
        if left := psutil.wait_procs(self.processes(), timeout=10)[1]:
            self.wrong.append(f"processes of a killed driver: {left}")
        self.start()

    def run(self, seconds, resumes):
        begin = time.monotonic()
        moments = sorted(self.random.uniform(0.02, 0.95) * seconds for _ in range(resumes))
        while (now := time.monotonic() - begin) < seconds:
            time.sleep(self.random.uniform(0, 1))  # 2 Hz
            if self.driver.poll() is not None:
                self.wrong.append(f"the driver ended with status {self.driver.returncode}")
                return
            with contextlib.suppress(psutil.NoSuchProcess):
                self.kill_worker()
            if moments and moments[0] < now:
                del moments[0]
                self.kill_driver()
        for _ in moments:
            self.kill_driver()

    def finish(self):
        (self.folder / "stop").touch()
        try:
            if status := self.driver.wait(120):
                self.wrong.append(f"the last driver ended with status {status}")
        except subprocess.TimeoutExpired:
            self.wrong.append("the last driver hangs")
            self.driver.send_signal(signal.SIGABRT)
        if left := psutil.wait_procs(self.processes(), timeout=10)[1]:
            self.wrong.append(f"processes: {left}")
        in_memory = [path for pid in self.pids for path in MEMORY.glob(f"lambdamr-*-{pid}-*")]
        if left := [*in_memory, *self.temporary.iterdir()]:
            self.wrong.append(f"folders: {left}")
        values = {int(path.stem): path.read_text() for path in self.folder.glob("*.value")}
        right = [job(number, executor="inline") for number in range(JOBS)]
        for number, value in sorted(values.items()):
            if value != right[number % JOBS]:
                self.wrong.append(f"the value of job {number}")
        if sorted(values) != list(range(len(values))) or not values:
            self.wrong.append(f"jobs without a value, of {len(values)}")
        return len(values)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--resumes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        drive(arguments.drive)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), arguments.seed)
        try:
            soak.run(arguments.minutes * 60, arguments.resumes)
            jobs = soak.finish()
        finally:
            for process in soak.processes():
                process.kill()
        resumed, failed = numbers(soak.folder / "resumed"), numbers(soak.folder / "failed")
    print(f"{jobs} jobs of {PARTITIONS} partitions in {arguments.minutes:g} minutes")
    print(f"{soak.killed_workers} workers killed, {len(failed)} tasks tried again")
    print(
        f"{soak.killed_drivers} drivers killed; {len(resumed)} of their successors found "
        f"{sum(resumed)} partitions in the checkpoint"
    )
    for wrong in soak.wrong:
        print(f"WRONG: {wrong}")
    print("FAILED" if soak.wrong else "every value is right to the bit, and nothing is left behind")
    return 1 if soak.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
