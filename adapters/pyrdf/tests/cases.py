"""Every action and every transformation that PyRDF offers, to be booked on any dataframe."""

from __future__ import annotations

import itertools
import subprocess

import numpy as np
import PyRDF
import PyRDF.dataframe
import ROOT

_numbers = itertools.count()  # of columns that plain ROOT needs


def trees(data):
    return "t", [str(data / f"{name}.root") for name in "abc"]


def chain_with_friend(data):
    """A chain of three files, and its friend of two, which has to be kept alive."""
    main, friend = ROOT.TChain("t"), ROOT.TChain("f")
    for name in "abc":
        main.Add(f"{data}/{name}.root")
    for part in ("one", "two"):
        friend.Add(f"{data}/friend_{part}.root")
    main.AddFriend(friend, "other")
    return main, friend


def build_libraries(folder, suffix):
    """Two shared libraries, of which the first needs the second; the folder that they are in."""
    (folder / "libraries").mkdir()
    above, below = (folder / f"libraries/lib{name}_{suffix}.so" for name in ("above", "below"))
    for library, code, needs in (
        (below, f'extern "C" int lower_{suffix}() {{ return 41; }}', []),
        (
            above,
            f'extern "C" int lower_{suffix}(); '
            f'extern "C" int upper_{suffix}() {{ return lower_{suffix}() + 1; }}',
            [str(below)],
        ),
    ):
        source = folder / f"{library.stem}.cxx"
        source.write_text(code)
        command = ["c++", "-shared", "-fPIC", f"-Wl,-soname,{library.name}", str(source), *needs]
        subprocess.run([*command, "-o", str(library)], check=True)
    return folder / "libraries"


def tuple_of(kind, *values):
    return ROOT.std.vector[kind](values)


def define_per_sample(df, name, expression):
    """Plain ROOT 6.40 aborts where an action that varies reads such a column."""
    if isinstance(df, PyRDF.dataframe.NodeProxy):
        return df.DefinePerSample(name, expression)
    return df.DefinePerSample(f"{name}_", expression).Define(name, f"{name}_")


def redefine_per_sample(df, name, expression):
    """Plain ROOT 6.40 has none."""
    if isinstance(df, PyRDF.dataframe.NodeProxy):
        return df.RedefinePerSample(name, expression)
    hidden = f"{name}_{next(_numbers)}"
    return df.DefinePerSample(hidden, expression).Redefine(name, hidden)


ACTIONS = {
    "Count": lambda df: df.Filter("i % 3 == 0").Count(),
    "Count of nothing": lambda df: df.Filter("i < 0").Count(),
    "Sum of int": lambda df: df.Sum("i"),
    "Sum of double": lambda df: df.Sum("x"),
    "Sum of float": lambda df: df.Sum("y"),
    "Sum of big": lambda df: df.Define("b", "big % 1000").Sum("b"),
    "Sum of vectors": lambda df: df.Sum("v"),
    "Min": lambda df: df.Min("x"),
    "Max": lambda df: df.Max("x"),
    "Min of float": lambda df: df.Filter("i > 120").Min("y"),
    "Max of int": lambda df: df.Max("i"),
    "Max of vectors": lambda df: df.Max("v"),
    "Min of nothing": lambda df: df.Filter("i < 0").Min("x"),
    "Mean": lambda df: df.Mean("x"),
    "Mean of few": lambda df: df.Filter("i == 7 || i == 201").Mean("x"),
    "Mean of nothing": lambda df: df.Filter("i < 0").Mean("x"),
    "Mean of vectors": lambda df: df.Mean("v"),
    "StdDev": lambda df: df.StdDev("x"),
    "StdDev of two": lambda df: df.Filter("i == 7 || i == 201").StdDev("x"),
    "StdDev of one": lambda df: df.Filter("i == 201").StdDev("x"),
    "StdDev of nothing": lambda df: df.Filter("i < 0").StdDev("x"),
    "Stats": lambda df: df.Stats("x"),
    "Stats weighted": lambda df: df.Define("w", "0.5 + i % 4").Stats("x", "w"),
    "Histo1D": lambda df: df.Histo1D(("h", "title;x;n", 50, -10, 10), "x"),
    "Histo1D weighted": lambda df: df.Histo1D(("h", "t", 50, -10, 10), "x", "y"),
    "Histo1D of vectors": lambda df: df.Histo1D(("h", "t", 50, 0, 250), "v"),
    "Histo1D edges": lambda df: df.Histo1D(("h", "t", 3, np.array([-10.0, 0.0, 1.0, 10.0])), "x"),
    "Histo1D model object": lambda df: df.Histo1D(ROOT.RDF.TH1DModel("h", "t", 5, -9, 9), "x"),
    "Histo1D without a model": lambda df: df.Histo1D("x"),
    "Histo1D without a model, vectors": lambda df: df.Histo1D("v"),
    "Histo1D without a model, weighted": lambda df: df.Histo1D("x", "y"),
    "Histo1D without a model, nothing": lambda df: df.Filter("i < 0").Histo1D("x"),
    "Histo1D without limits": lambda df: df.Histo1D(("h", "t;a;b", 33, 0.0, 0.0), "x"),
    "Histo2D": lambda df: df.Histo2D(("h", "t", 10, -10, 10, 5, 0, 60), "x", "y"),
    "Histo2D weighted": lambda df: df.Histo2D(("h", "t", 10, -10, 10, 5, 0, 60), "x", "y", "i"),
    "Histo3D": lambda df: df.Histo3D(("h", "t", 4, -10, 10, 3, 0, 60, 5, 0, 250), "x", "y", "i"),
    "HistoND": lambda df: df.HistoND(
        (
            "h",
            "t",
            3,
            tuple_of("int", 4, 3, 5),
            tuple_of("double", -10, 0, 0),
            tuple_of("double", 10, 60, 250),
        ),
        ["x", "y", "i"],
    ),
    "HistoNSparseD": lambda df: df.HistoNSparseD(
        (
            "h",
            "t",
            2,
            tuple_of("int", 4, 3),
            tuple_of("double", -10, 0),
            tuple_of("double", 10, 60),
        ),
        ["x", "y"],
    ),
    "Profile1D": lambda df: df.Profile1D(("p", "t", 10, -10, 10), "x", "y"),
    "Profile1D weighted": lambda df: df.Define("w", "1. + i % 2").Profile1D(
        ("p", "t", 10, -10, 10), "x", "y", "w"
    ),
    "Profile2D": lambda df: df.Profile2D(("p", "t", 5, -10, 10, 4, 0, 60), "x", "y", "i"),
    "Graph": lambda df: df.Graph("i", "x"),
    "GraphAsymmErrors": lambda df: df.Define("e", "0.5").GraphAsymmErrors(
        "i", "x", "e", "e", "e", "y"
    ),
    "Report": lambda df: (
        df.Filter("i % 4 != 0", "quarter").Filter("x > 0", "positive").Filter("y > 3").Report()
    ),
    "Report of the dataset": lambda df: df.Report(),
    "Take int": lambda df: df.Take["int"]("i"),
    "Take float": lambda df: df.Filter("i % 2 == 1").Take["float"]("y"),
    "Take bool": lambda df: df.Take["bool"]("odd"),
    "Take char": lambda df: df.Define("c", "(char)(65 + i % 26)").Take["char"]("c"),
    "Take big": lambda df: df.Take["ULong64_t"]("big"),
    "Take strings": lambda df: df.Take["std::string"]("text"),
    "Take vectors": lambda df: df.Take["ROOT::VecOps::RVec<float>"]("v"),
    "AsNumpy": lambda df: df.AsNumpy(["i", "x", "y", "odd", "big"], lazy=True),
    "AsNumpy of vectors": lambda df: df.AsNumpy(["v", "numbers"], lazy=True),
    "AsNumpy of strings": lambda df: df.AsNumpy(["text"], lazy=True),
    "AsNumpy of nothing": lambda df: df.Filter("i < 0").AsNumpy(["i", "v"], lazy=True),
    "AsNumpy without": lambda df: df.AsNumpy(columns=["i", "x"], exclude=["x"], lazy=True),
}

TRANSFORMATIONS = {
    "Define": lambda df: df.Define("z", "x * 2").Sum("z"),
    "Redefine": lambda df: df.Redefine("x", "x * 2").Sum("x"),
    "Filter on columns": lambda df: df.Filter("odd").Count(),
    "Alias": lambda df: df.Alias("a", "x").Sum("a"),
    "DefinePerSample": lambda df: df.DefinePerSample(
        "s", 'rdfsampleinfo_.Contains("b.root") ? 100 : 1'
    ).Sum("s"),
    "RedefinePerSample": lambda df: redefine_per_sample(
        df.Define("s", "7"), "s", 'rdfsampleinfo_.Contains("b.root") ? 100 : 1'
    ).Sum("s"),
    "DefaultValueFor": lambda df: df.DefaultValueFor("extra", -5.0).Sum("extra"),
    "FilterAvailable": lambda df: df.FilterAvailable("extra").Sum("extra"),
    "FilterMissing": lambda df: df.FilterMissing("extra").Sum("i"),
    "rdfentry_": lambda df: (
        df.Define("e", "rdfentry_ * 3").Filter("rdfentry_ > 20").AsNumpy(["e"], lazy=True)
    ),
}

VARIED = {
    "Histo1D": lambda df: df.Histo1D(("h", "t", 20, -12, 12), "x"),
    "Sum": lambda df: df.Sum("x"),
    "Count": lambda df: df.Filter("x > 5").Count(),
    "Mean": lambda df: df.Filter("x > 5").Mean("x"),
    "StdDev": lambda df: df.Filter("x > 9.5").StdDev("x"),
    "Histo1D without a model": lambda df: df.Histo1D("x"),
    "Histo1D weighted for each sample": lambda df: define_per_sample(
        df.Filter("x > 5"), "s", 'rdfsampleinfo_.Contains("b.root") ? 2. : 0.5'
    ).Histo1D(("h", "t", 20, -12, 12), "x", "s"),
}


FEATURES = (
    "Count",
    "Sum of double",
    "Min",
    "Max",
    "Mean",
    "StdDev",
    "Stats",
    "Histo1D",
    "Histo1D without a model",
    "Histo2D",
    "Histo3D",
    "HistoND",
    "HistoNSparseD",
    "Profile1D",
    "Profile2D",
    "Graph",
    "GraphAsymmErrors",
    "Report",
    "Take int",
    "Take strings",
    "AsNumpy",
    *TRANSFORMATIONS,
)
"""One of each kind, where all would take too long."""


def booked(df, names=None):
    """All cases on one dataframe, by name; the VariationsFor of each of VARIED, too.

    With names those of ACTIONS and TRANSFORMATIONS only, and one of VARIED.
    """
    cases = {**ACTIONS, **TRANSFORMATIONS}
    results = {name: cases[name](df) for name in names or cases}
    varied = df.Vary("x", "ROOT::RVecD{x - 1, x + 1}", ["down", "up"], "shift")
    for name, case in list(VARIED.items())[: 1 if names else None]:
        results[f"nominal {name}"] = case(varied)
        results[f"varied {name}"] = variations(results[f"nominal {name}"])
    return results


def variations(result):
    if isinstance(result, PyRDF.dataframe.ResultProxy):
        return PyRDF.VariationsFor(result)
    return ROOT.RDF.Experimental.VariationsFor(result)
