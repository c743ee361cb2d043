"""Where and on what the numbers were measured."""

from __future__ import annotations

import datetime
import hashlib
import importlib.util
import os
import platform
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.peers import PEERS


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine, the interpreter and the peers' versions."""

    date: str
    processor: str
    cores: int
    memory_gib: int
    system: str
    python: str
    load: float
    """Load average of the last minute before the first sample: what others were doing."""
    versions: dict[str, str]
    lambdamr: str | None
    """Folder and digest of the lambdamr that is measured, `None` if there is none to measure."""

    def __str__(self) -> str:
        return (
            f"{self.date} · {self.processor}, {self.cores} cores, {self.memory_gib} GiB · "
            f"{self.system} · Python {self.python} · load {self.load:.2f} before the first sample"
        )


def this_machine(peers: Collection[str]) -> Machine:
    return Machine(
        date=datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30),
        system=platform.platform(terse=True),
        python=platform.python_version(),
        load=os.getloadavg()[0],
        versions={
            PEERS[name].module or "standard library": PEERS[name].version
            for name in peers
            if name in PEERS
        },
        lambdamr=lambdamr_source() if "lambdamr" in peers else None,
    )


def lambdamr_source() -> str | None:
    """Where lambdamr is imported from, and a digest of its sources: it may change during a run."""
    spec = importlib.util.find_spec("lambdamr")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{folder} ({digest.hexdigest()[:12]})"


@dataclass(frozen=True, slots=True)
class CpuClock:
    """Seconds of CPU since boot: what there was, and what the hypervisor gave to others."""

    total: float
    stolen: float

    @classmethod
    def read(cls) -> CpuClock:
        times = psutil.cpu_times()
        guests = times.guest + times.guest_nice  # counted in user and nice already
        return cls(sum(times) - guests, times.steal)

    def stolen_since(self, start: CpuClock) -> float:
        """Per cent of the CPU time since `start` that this machine wanted and did not get."""
        return 100 * (self.stolen - start.stolen) / max(self.total - start.total, 1e-9)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
