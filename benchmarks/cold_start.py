"""A whole script from its first line to its first result, and the time it took.

Run as a script, as a user would; `spawn` and `forkserver` import it again in their workers, so
that nothing is imported at the top but the clock.
"""

from __future__ import annotations

import time

started = time.perf_counter()


def size(partition: object) -> int:
    return 1


def add(a: int, b: int) -> int:
    return a + b


def with_lambdamr(workers: int) -> tuple[float, float]:
    from lambdamr import LocalExecutor, Partitions, map_reduce  # by name: they are imported then

    imported = time.perf_counter()
    with LocalExecutor(workers=workers) as executor:
        value = map_reduce(size, add, Partitions(list(range(workers))), executor=executor)
        answered = time.perf_counter()
    assert value == workers
    return imported, answered


def with_futures(workers: int, start_method: str, *, preload: bool = False) -> tuple[float, float]:
    import functools
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    imported = time.perf_counter()
    context = multiprocessing.get_context(start_method)
    if preload:
        context.set_forkserver_preload(["concurrent.futures.process"])
    with ProcessPoolExecutor(workers, mp_context=context) as executor:
        value = functools.reduce(add, executor.map(size, range(workers)))
        answered = time.perf_counter()
    assert value == workers
    return imported, answered


def main() -> None:
    import sys

    case, workers, answer = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if case == "lambdamr":
        imported, answered = with_lambdamr(workers)
    else:
        _, start_method, *preload = case.split("-")
        imported, answered = with_futures(workers, start_method, preload=bool(preload))
    with open(answer, "w") as file:
        file.write(
            f'{{"after_imports": {(answered - imported) * 1e3}, '
            f'"with_imports": {(answered - started) * 1e3}}}'
        )


if __name__ == "__main__":
    main()
