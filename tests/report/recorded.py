"""Records of jobs, made by hand, for the tests of what is drawn from them."""

import random
from dataclasses import replace

from lambdamr.observers.record import Record, TaskRow

MB = 1 << 20


def task(number: int, start: float, seconds: float, **facts) -> TaskRow:
    """A finished map task of one partition, whose worker did nothing but compute."""
    known = {
        "task": number,
        "kind": "map",
        "lo": number,
        "hi": number + 1,
        "attempt": 1,
        "speculative": False,
        "started": start,
        "ended": start + seconds,
        "end": "finished",
        "partitions": 1,
        "worker": f"worker {number}",
        "wall": seconds,
        "cpu": seconds,
    }
    return TaskRow(**known | facts)


def job(*tasks: TaskRow, **facts) -> Record:
    """A job of these tasks."""
    partitions = sum(row.partitions for row in tasks)
    known = {
        "job": "5eed",
        "executor": "LambdaExecutor",
        "npartitions": partitions,
        "fan_in": 2,
        "capacity": max(1, partitions),
        "wall_time": 1.79e9,
        "seconds": max((row.ended for row in tasks), default=0.0),
        "done": partitions,
        "cost": sum(row.cost for row in tasks),
    }
    return Record(**known | facts, tasks=tasks) if "tasks" not in facts else Record(**known | facts)


def large(count: int = 10_000, workers: int = 500) -> Record:
    """A job of so many map tasks, and the folds of their values, on Lambda."""
    dice = random.Random(2026)
    rows = []
    for i in range(count):
        turn, worker = divmod(i, workers)
        start, wall = 2.0 * turn + dice.uniform(0, 0.3), dice.uniform(1.2, 1.6)
        row = task(
            i,
            start,
            wall,
            ended=start + wall + 0.2,
            worker=f"2026/11/22/[$LATEST]{worker:032x}",
            cpu=0.8 * wall,
            storing=0.1,
            fetching=0.06,
            starting=0.1 if turn == 0 else 0.0,
            cold=turn == 0,
            peak_memory=dice.randrange(400 * MB, 620 * MB),
            memory=1769 * MB,
            cost=3e-5,
        )
        rows.append(replace(row, attempt=2) if i % 97 == 0 else row)
    end = max(row.ended for row in rows)
    for i in range(0, count, 32):
        last = min(i + 32, count)
        rows.append(task(len(rows), end, 1, kind="merge", lo=i, hi=last, partitions=0))
    rows.append(task(len(rows), end + 1, 1, kind="merge", lo=0, hi=count, partitions=0))
    return job(*rows, capacity=workers)
