"""Small files of all the kinds that RDataFrame reads."""

from __future__ import annotations

import json
from pathlib import Path

import ROOT

_CODE = """
void pyrdf_tree(const char *path, const char *name, int first, int n, int cluster, bool more) {
    TFile file(path, "RECREATE");
    TTree tree(name, name);
    tree.SetAutoFlush(cluster);
    int i; double x; float y; unsigned count; float v[4]; std::string text; bool odd; ULong64_t big;
    std::vector<int> numbers;
    tree.Branch("i", &i, "i/I");
    tree.Branch("x", &x, "x/D");
    tree.Branch("y", &y, "y/F");
    tree.Branch("count", &count, "count/i");
    tree.Branch("v", v, "v[count]/F");
    tree.Branch("text", &text);
    tree.Branch("odd", &odd, "odd/O");
    tree.Branch("big", &big, "big/l");
    tree.Branch("numbers", &numbers);
    double extra;
    if (more) tree.Branch("extra", &extra, "extra/D");
    for (int k = first; k < first + n; ++k) {
        i = k; x = std::sin(k) * 10; y = k * 0.25f; count = k % 5;
        text = "t" + std::to_string(k % 7);
        for (unsigned j = 0; j < count; ++j) v[j] = k + j;
        odd = k % 2; big = (1ull << 60) + k; extra = -k;
        numbers.assign(k % 3, k);
        tree.Fill();
    }
    tree.Write();
}
"""


def write(folder: Path) -> Path:
    """Write them; the trees "t" of a, b and c are one dataset of 250 entries."""
    if not hasattr(ROOT, "pyrdf_tree"):
        ROOT.gInterpreter.Declare(_CODE)
    tree = ROOT.pyrdf_tree
    tree(str(folder / "a.root"), "t", 0, 100, 10, True)
    tree(str(folder / "b.root"), "t", 100, 50, 7, False)
    tree(str(folder / "c.root"), "t", 150, 100, 100, True)
    tree(str(folder / "empty.root"), "t", 0, 0, 10, True)
    tree(str(folder / "other.root"), "other", 1000, 100, 10, True)
    for part, first, n in (("one", 1000, 60), ("two", 1060, 190)):
        tree(str(folder / f"friend_{part}.root"), "f", first, n, 25, True)
    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    for part, first in (("one", 0), ("two", 100)):
        frame = ROOT.RDataFrame(100).Define("i", f"(int)rdfentry_ + {first}").Define("x", "i * 0.5")
        frame = frame.Define("v", "ROOT::RVecF(i % 3, i)")
        frame.Snapshot("n", str(folder / f"ntuple_{part}.root"), ["i", "x", "v"], options)
    frame.Filter("i < 0").Snapshot("n", str(folder / "ntuple_empty.root"), ["i", "x", "v"], options)
    specification = {
        "samples": {
            "signal": {
                "trees": ["t"],
                "files": [str(folder / "a.root"), str(folder / "b.root")],
                "metadata": {"weight": 2.0, "label": "s", "year": 2021},
            },
            "background": {
                "trees": ["t"],
                "files": [str(folder / "c.root")],
                "metadata": {"weight": 0.5, "label": "b", "year": 2024},
            },
        },
        "friends": {"f": {"trees": ["f"], "files": [str(folder / "friend_*.root")]}},
    }
    (folder / "spec.json").write_text(json.dumps(specification))
    return folder
