"""What the template of local workers does before it forks, and a Lambda while it initialises.

With the library of `PyRDF.precompiled`, ROOT starts without Python's view of it, in some 0.3 s. A
Lambda with a graph that needs that view starts it then; the template has it ready, for it starts
while the user's own process does the same. Without the library, ROOT compiles for some 3 s before
the first graph of a process runs, and for some 0.3 s before the next ones, since most of what they
need is the same (6.40, measured 2026-11). So the template runs a first graph: a small one, since
the first job of a session waits for it.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path


def start() -> None:
    """Start ROOT and its interpreter, and load what was compiled before."""
    from PyRDF import native, worker  # noqa: F401  # jobs need the last

    if native.available():
        native.start()
        native.set_batch()
    else:
        start_python()


@functools.cache
def start_python() -> None:
    """Start ROOT for Python, too."""
    import ROOT

    from PyRDF import cpp, precompiled

    ROOT.gROOT.SetBatch(True)
    if precompiled.available():
        precompiled.lower()
        precompiled.load()
    cpp.helpers()


def warm_up() -> None:
    """Start ROOT, for Python too, and compile what first graphs need; leaves no threads."""
    first_graph()
    start_python()


def first_graph() -> None:
    """Start ROOT, and run a small graph over a tree of the usual columns; leaves no threads."""
    from PyRDF import codec, graph, native, partial, source
    from PyRDF.operations import Operation

    start()
    booker = native if native.available() else graph
    with tempfile.TemporaryDirectory(prefix="pyrdf-") as folder:
        path = str(Path(folder) / "warm.root")
        _write(path)
        files = source.Files(False, (("t", path),))
        operations = (
            Operation(1, 0, "Define", ("m", "ROOT::VecOps::InvariantMass(x, x, x, x)")),
            Operation(2, 1, "Histo1D", (("h", "", 2, 0.0, 1.0), "m"), kind="merging"),
        )
        actions = codec.dumps([each for each in operations if each.kind])
        everything = source.Range(0, 0, 1)
        done = []
        for _ in range(2):
            piece = files.slice(everything)
            booked = booker.book(files, piece, operations, 0)
            booked.compile()
            booked.rebind(files, piece)
            done.append(partial.Partial(actions, codec.loads(codec.dumps(booked.run()))))
        partial.merge(*done)
    source.forget_files()


def _write(path: str) -> None:
    from PyRDF import interpreter

    code = f"""{{
        TFile file("{path}", "RECREATE");
        TTree tree("t", "t");
        UInt_t n = 2; Float_t x[2] = {{1, 2}};
        tree.Branch("n", &n, "n/i");
        tree.Branch("x", x, "x[n]/F");
        tree.Fill();
        tree.Write();
        }}"""
    interpreter.process(code)
