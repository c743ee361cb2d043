"""The dimuon spectrum, as in ROOT's tutorial df102_NanoAODDimuonAnalysis.

python analysis.py events.root --backend local
python analysis.py events.root --backend AWS --npartitions 32
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

LABELS = {  # where the name of a resonance stands, in GeV
    0.52: "#eta",
    0.74: "#rho,#omega",
    1.08: "#phi",
    3.10: "J/#psi",
    3.90: "#psi'",
    9.60: "Y(1,2,3S)",
    91.2: "Z",
}


def book(df: Any) -> tuple[Any, Any]:
    """Pairs of two muons of opposite charge: the histogram of their mass, and the cuts."""
    two = df.Filter("nMuon == 2", "Events with exactly two muons")
    opposite = two.Filter("Muon_charge[0] != Muon_charge[1]", "Muons with opposite charge")
    mass = opposite.Define(
        "Dimuon_mass", "ROOT::VecOps::InvariantMass(Muon_pt, Muon_eta, Muon_phi, Muon_mass)"
    )
    histogram = mass.Histo1D(("Dimuon_mass", "Dimuon_mass", 30000, 0.25, 300), "Dimuon_mass")
    return histogram, opposite.Report()


def draw(histogram: Any, paths: Sequence[str]) -> None:
    """Save the spectrum, with names at the resonances; the extension says the format."""
    import ROOT

    ROOT.gROOT.SetBatch(True)
    ROOT.gErrorIgnoreLevel = ROOT.kWarning
    ROOT.gStyle.SetOptStat(0)
    ROOT.gStyle.SetTextFont(42)
    canvas = ROOT.TCanvas("dimuon", "", 800, 700)
    canvas.SetLogx()
    canvas.SetLogy()
    shown = histogram.Clone("shown")
    shown.SetDirectory(ROOT.nullptr)
    shown.SetTitle("")
    shown.GetXaxis().SetTitle("m_{#mu#mu} (GeV)")
    shown.GetYaxis().SetTitle(f"Events / {1000 * shown.GetBinWidth(1):.0f} MeV")
    for axis in (shown.GetXaxis(), shown.GetYaxis()):
        axis.SetTitleSize(0.04)
    shown.SetMaximum(4 * shown.GetMaximum())
    shown.Draw()
    label = ROOT.TLatex()
    label.SetTextAlign(21)
    label.SetTextSize(0.035)
    for mass, name in LABELS.items():
        nearby = range(shown.FindBin(0.93 * mass), shown.FindBin(1.1 * mass) + 1)
        top = max(shown.GetBinContent(i) for i in nearby)
        label.DrawLatex(mass, 1.4 * max(top, 1), name)
    label.SetNDC()
    label.SetTextAlign(11)
    label.DrawLatex(0.1, 0.92, "Simulated dimuon events")
    for path in paths:
        canvas.SaveAs(str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", help="paths, globs or URLs with trees 'Events'")
    parser.add_argument("--backend", default="local", help="local, AWS, dask or spark")
    parser.add_argument("--npartitions", type=int)
    parser.add_argument("--out", default="dimuon_spectrum", help="of the .png and .pdf")
    arguments = parser.parse_args()

    import PyRDF

    conf = {"npartitions": arguments.npartitions} if arguments.npartitions else {}
    PyRDF.use(arguments.backend, conf)
    histogram, report = book(PyRDF.RDataFrame("Events", arguments.files))
    draw(histogram.GetValue(), [f"{arguments.out}.png", f"{arguments.out}.pdf"])
    report.GetValue().Print()


if __name__ == "__main__":
    main()
