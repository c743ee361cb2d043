"""``python -m lambdamr.testing``: runs many random schedules, and says which end wrongly."""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import os
import sys
import time

from lambdamr.testing.verdict import ScheduleError, check

_BATCH = 100  # seeds that a process does at once


def main() -> int:
    """Run schedules; 0 if all of them end as they must."""
    parser = argparse.ArgumentParser(prog="python -m lambdamr.testing", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many (default 10000)")
    parser.add_argument("--start", type=int, default=0, help="the first (default 0)")
    parser.add_argument("--processes", type=int, default=1, help="at once (default 1)")
    parser.add_argument("--failures", type=int, default=20, help="stop after so many (default 20)")
    options = parser.parse_args()
    os.environ.setdefault("LAMBDAMR_CHECKPOINT_KEY", "of simulated drivers")
    started, end = time.perf_counter(), options.start + options.seeds
    batches = [range(lo, min(lo + _BATCH, end)) for lo in range(options.start, end, _BATCH)]
    endings: collections.Counter[str] = collections.Counter()
    failed = 0
    with concurrent.futures.ProcessPoolExecutor(options.processes) as processes:
        for ended, failures in processes.map(_run, batches):
            endings.update(ended)
            failed += len(failures)
            sys.stdout.writelines(f"{failure}\n" for failure in failures)
            sys.stdout.flush()
            if failed >= options.failures:
                processes.shutdown(cancel_futures=True)
                break
    done = sum(endings.values())
    seconds = time.perf_counter() - started
    counts = ", ".join(f"{ending}: {count}" for ending, count in endings.most_common())
    summary = f"{done + failed} schedules in {seconds:.0f} s, {failed} of them failed\n{counts}\n"
    sys.stdout.write(summary)
    return failed > 0


def _run(seeds: range) -> tuple[collections.Counter[str], list[str]]:
    endings: collections.Counter[str] = collections.Counter()
    failures = []
    for seed in seeds:
        try:
            endings[check(seed).ending] += 1
        except ScheduleError as error:
            failures.append(str(error))
    return endings, failures


if __name__ == "__main__":
    sys.exit(main())
