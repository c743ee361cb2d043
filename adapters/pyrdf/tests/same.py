"""Whether two results are the same, whatever kind of object they are."""

from __future__ import annotations

import math

import numpy as np
import ROOT

_SUMS = 1e-12  # relative: sums of doubles, in another order


def assert_same(got, want, exact=False, tolerance=_SUMS):
    """Equal: numbers and contents to ``tolerance`` (0 if ``exact``), all else exactly."""
    a, b = plain(got), plain(want)
    _compare(a, b, 0 if exact else tolerance, "")


def _compare(a, b, tolerance, where):
    if isinstance(b, dict):
        assert list(a) == list(b), where
        for key in b:
            _compare(a[key], b[key], tolerance, f"{where}.{key}")
    elif isinstance(b, (list, tuple)):
        assert len(a) == len(b), (where, len(a), len(b))
        for i, (one, other) in enumerate(zip(a, b, strict=True)):
            _compare(one, other, tolerance, f"{where}[{i}]")
    elif isinstance(b, np.ndarray):
        assert a.dtype == b.dtype, (where, a.dtype, b.dtype)
        assert a.shape == b.shape, (where, a.shape, b.shape)
        if b.dtype == object:
            _compare(list(a), list(b), tolerance, where)
        else:
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=where)
    elif isinstance(b, float):
        same = math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
        assert same or (math.isnan(a) and math.isnan(b)), (where, a, b)
    else:
        assert a == b, (where, a, b)


def plain(value):
    """A value as Python and numpy only."""
    if hasattr(value, "GetKeys"):
        return {str(key): plain(value[key]) for key in value.GetKeys()}
    if hasattr(value, "GetValue") and not isinstance(value, ROOT.TObject):
        value = value.GetValue()
    if isinstance(value, ROOT.TProfile | ROOT.TProfile2D):
        return {
            **_histogram(value),
            "entries in bins": [value.GetBinEntries(i) for i in _bins(value)],
        }
    if isinstance(value, ROOT.TH1):
        return _histogram(value)
    if isinstance(value, ROOT.THnBase):
        return _many_dimensions(value)
    if isinstance(value, ROOT.TGraph):
        n = value.GetN()
        errors = {}
        if isinstance(value, ROOT.TGraphAsymmErrors):
            for side in ("EXlow", "EXhigh", "EYlow", "EYhigh"):
                errors[side] = [float(getattr(value, f"Get{side}")()[i]) for i in range(n)]
        points = [(value.GetPointX(i), value.GetPointY(i)) for i in range(n)]
        return {"name": value.GetName(), "title": value.GetTitle(), "points": points, **errors}
    if isinstance(value, ROOT.TStatistic):
        names = "N", "Mean", "RMS", "Min", "Max", "W", "W2"
        return {name: float(getattr(value, f"Get{name}")()) for name in names}
    if isinstance(value, ROOT.RDF.RCutFlowReport):
        return [(str(c.GetName()), int(c.GetPass()), int(c.GetAll())) for c in value]
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return [plain(each) for each in value]
        return np.array(value, subok=False)
    if isinstance(value, ROOT.std.string):
        return str(value)
    if type(value).__name__ == "vector<char>":  # whose iterator fails in ROOT 6.40
        return [value[i] for i in range(len(value))]
    if type(value).__name__.startswith(("vector<", "RVec<")):
        return [plain(each) for each in value]
    return value


def _bins(h):
    return range((h.GetNbinsX() + 2) * (h.GetNbinsY() + 2 if h.GetDimension() > 1 else 1))


def _histogram(h):
    stats = np.zeros(20)
    h.GetStats(stats)
    axes = [h.GetXaxis(), h.GetYaxis(), h.GetZaxis()][: h.GetDimension()]
    return {
        "class": type(h).__name__,
        "name": h.GetName(),
        "title": h.GetTitle(),
        "axes": [(a.GetTitle(), a.GetNbins(), a.GetXmin(), a.GetXmax()) for a in axes],
        "edges": [[a.GetBinLowEdge(i) for i in range(1, a.GetNbins() + 2)] for a in axes],
        "entries": h.GetEntries(),
        "stats": stats,
        "contents": np.array([h.GetBinContent(i) for i in range(h.GetNcells())]),
        "errors": np.array([h.GetBinError(i) for i in range(h.GetNcells())]),
    }


def _many_dimensions(h):
    n = h.GetNdimensions()
    shown = h.Projection(1, 0) if n == 2 else h.Projection(0, 1, 2)
    shown.SetDirectory(ROOT.nullptr)
    edges = _histogram(shown)
    edges["stats"] = []  # of a projection, which has not seen the values
    return {
        "class": type(h).__name__,
        "name": h.GetName(),
        "title": h.GetTitle(),
        "entries": h.GetEntries(),
        "projection": edges,
    }
