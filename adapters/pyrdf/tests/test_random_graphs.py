"""Random graphs, in a random number of ranges, give what plain ROOT gives.

PYRDF_SEEDS=100:200 takes other graphs than those that always run: one for each source, and
those that found something.
"""

from __future__ import annotations

import os
import random

import pytest
from random_graphs import Graph, sources
from same import assert_same

SEEDS = [*range(6), 34, 80]
if asked := os.environ.get("PYRDF_SEEDS"):
    SEEDS = list(range(*map(int, asked.split(":"))))
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def datasets(data):
    return sources(data)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_graph(seed, datasets, warm):
    name = sorted(datasets)[seed % len(datasets)]
    make, columns = datasets[name]
    graph = Graph(seed, columns)
    npartitions = random.Random(seed).randint(1, 9)
    got = graph.book(make(executor=warm, npartitions=npartitions))
    want = graph.book(make())
    try:
        for result in want:
            assert_same(got[result], want[result], tolerance=1e-9)
    except Exception as error:
        error.add_note(f"seed {seed}: {name} in {npartitions} ranges, {result}\n{graph}")
        raise
