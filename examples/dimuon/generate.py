"""Write dimuon events, as many as you like; the same seed gives the same events in any files.

python generate.py 1000000 events.root
python generate.py 1000000 one.root two.root three.root
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

SEED = 2021


@functools.cache
def generator() -> object:
    """The C++ functions of generator.h."""
    import ROOT

    ROOT.gInterpreter.Declare(f'#include "{Path(__file__).with_name("generator.h").resolve()}"')
    return ROOT.dimuon


def generate(events: int, paths: Sequence[str | Path], seed: int = SEED) -> None:
    """Write so many events, in order, into these files."""
    write = generator().Write
    for i, path in enumerate(paths):
        write(str(path), i * events // len(paths), (i + 1) * events // len(paths), seed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("events", type=int)
    parser.add_argument("paths", nargs="+", metavar="path")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    generate(arguments.events, arguments.paths, arguments.seed)
