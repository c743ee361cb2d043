"""Random graphs: chains and trees of transformations with actions on them, from a seed."""

from __future__ import annotations

import random

import PyRDF
import ROOT
from cases import (
    chain_with_friend,
    define_per_sample,
    redefine_per_sample,
    tuple_of,
    variations,
)

NUMBERS = ("i", "x", "y")
VECTORS = ("v", "numbers")
STEPS, RESULTS = 7, 6  # transformations and actions of a graph


def sources(data):
    """By name: what makes a dataframe, given the arguments of its executor, and its columns."""

    def files(*names):
        return "t", [str(data / f"{name}.root") for name in names]

    chain, friend = chain_with_friend(data)
    tree = {"numbers": [*NUMBERS], "vectors": [*VECTORS], "extra": False, "entry": True}
    ntuple = "n", [str(data / f"ntuple_{each}.root") for each in ("one", "empty", "two")]
    spec = str(data / "spec.json")
    return {
        "files": (_frame(*files(*"abc")), {**tree, "extra": True}),
        "empty files": (_frame(*files("empty", "c", "empty", "a", "a")), tree),
        "friends": (_frame(chain, keep=friend), {**tree, "numbers": [*NUMBERS, "other.i"]}),
        "specification": (_spec(spec), {**tree, "numbers": [*NUMBERS, "f.i"], "sample": True}),
        "ntuple": (_frame(*ntuple), {"numbers": ["i", "x"], "vectors": ["v"]}),
        "nothing": (_frame(97), {"numbers": ["rdfentry_"], "vectors": [], "entry": True}),
    }


def _frame(*arguments, keep=None):
    def make(**where):
        assert keep is None or keep
        return (PyRDF.RDataFrame if where else ROOT.RDataFrame)(*arguments, **where)

    return make


def _spec(path):
    def make(**where):
        if where:
            return PyRDF.FromSpec(path, **where)
        return ROOT.RDF.Experimental.FromSpec(path)

    return make


class Graph:
    """What is done to a dataframe, in words: so that two dataframes get the very same.

    Args:
        seed: of all choices.
        columns: of the source.
    """

    def __init__(self, seed, columns):
        self.random = random.Random(seed)
        self.made = 0
        self.steps = []  # (the node that it hangs on, method, arguments)
        self.actions = []  # (the node, method, arguments, varied)
        self.nodes = [{**columns, "varied": False}]  # the columns of each
        for _ in range(STEPS):
            self._transform()
        for _ in range(RESULTS):
            self._act()

    def book(self, frame):
        """The results on a dataframe, by what they are."""
        nodes = [frame]
        for parent, method, arguments in self.steps:
            node = nodes[parent]
            own = {
                "DefinePerSample": define_per_sample,
                "RedefinePerSample": redefine_per_sample,
            }.get(method)
            nodes.append(own(node, *arguments) if own else getattr(node, method)(*arguments))
        results = {}
        for number, (node, method, arguments, varied) in enumerate(self.actions):
            call = getattr(nodes[node], method)
            if method == "Take":
                result = call[arguments[0]](*arguments[1:])
            elif method == "AsNumpy":
                result = call(*arguments, lazy=True)
            else:
                result = call(*arguments)
            results[f"{number} {method}{arguments} of {node}"] = result
            if varied:
                results[f"{number} {method}{arguments} of {node}, varied"] = variations(result)
        return results

    def __str__(self):
        return "\n".join(map(str, [*enumerate(self.steps, 1), *self.actions]))

    # -- transformations -------------------------------------------------------------------------

    def _transform(self):
        at = self.random.randrange(len(self.nodes))
        at = max(at, self.random.randrange(len(self.nodes)))  # chains rather than bushes
        columns = self.nodes[at]
        ways = [self._define, self._define, self._filter, self._filter, self._vector, self._alias]
        ways += [self._redefine, self._vary, self._vary_together, self._per_sample]
        if columns.get("extra"):
            ways.append(self._missing)
        method, arguments, more = self.random.choice(ways)(columns)
        self.steps.append((at, method, arguments))
        self.nodes.append({**columns, **more})

    def _name(self):
        self.made += 1
        return f"c{self.made}"

    def _number(self, columns):
        return self.random.choice(columns["numbers"])

    def _real(self, columns):
        """A column that may be changed: of the dataset's own, those whose type is double."""
        own = [name for name in columns["numbers"] if name[0] == "c" or name == "x"]
        return self.random.choice(own) if own else None

    def _define(self, columns):
        a, b, name = self._number(columns), self._number(columns), self._name()
        expression = self.random.choice(
            [
                f"0.5 * {a} + {b}",
                f"std::abs({a} - 40.) - 0.5",
                f"double((long({a}) * 7) % 11)",
                f"{a} > 20 ? {a} + 0. : {b} - 1.",
                *(["rdfentry_ * 0.25"] if columns.get("entry") else []),
                *([f"double({v}.size()) + {a}" for v in columns["vectors"]]),
            ]
        )
        return "Define", (name, expression), {"numbers": [*columns["numbers"], name]}

    def _vector(self, columns):
        a, b, name = self._number(columns), self._number(columns), self._name()
        expression = f"ROOT::RVecD r; for (int k = 0; k < long({a}) % 4; ++k) r.push_back({b} + k);"
        return (
            "Define",
            (name, f"{expression} return r;"),
            {"vectors": [*columns["vectors"], name]},
        )

    def _alias(self, columns):
        a, name = self._number(columns), self._name()
        if a == "rdfentry_" or "." in a:
            return self._define(columns)
        return "Alias", (name, a), {"aliases": [*columns.get("aliases", ()), name]}

    def _redefine(self, columns):
        a, b = self._real(columns), self._number(columns)
        if a is None or columns["varied"]:  # ROOT redefines no column that varies
            return self._define(columns)
        return "Redefine", (a, f"{a} + 0.125 * {b}"), {}

    def _filter(self, columns):
        a = self._number(columns)
        expression = self.random.choice(
            [f"{a} > 8", f"long({a}) % 3 != 1", f"{a} < 160", f"{a} < -1000", f"{a} * {a} > 4"]
        )
        self.made += 1
        name = self.random.choice([(), (f"cut {self.made}",)])
        return "Filter", (expression, *name), {}

    def _vary(self, columns):
        a = self._real(columns)
        if a is None:
            return self._define(columns)
        self.made += 1
        expression = f"ROOT::RVecD{{{a} - 0.5, {a} + 0.5, {a} * 2}}"
        arguments = a, expression, ["low", "high", "twice"], f"vary{self.made}"
        return "Vary", arguments, {"varied": True}

    def _vary_together(self, columns):
        a, b = self._real(columns), self._real(columns)
        if a is None or a == b:
            return self._vary(columns)
        self.made += 1
        expression = f"ROOT::RVec<ROOT::RVecD>{{{{{a} - 1., {a} + 1.}}, {{{b} - 2., {b} + 2.}}}}"
        arguments = [a, b], expression, ["down", "up"], f"both{self.made}"
        return "Vary", arguments, {"varied": True}

    def _per_sample(self, columns):
        name = self._name()
        expression = 'rdfsampleinfo_.Contains("a.root") ? 2. : 0.5'
        if columns.get("sample"):
            expression = 'rdfsampleinfo_.GetD("weight") + 1.'
        changed = [c for c in columns["numbers"] if c[0] == "c" and not columns["varied"]]
        if changed and self.random.random() < 0.3:
            return "RedefinePerSample", (self.random.choice(changed), expression), {}
        return (
            "DefinePerSample",
            (name, expression),
            {"numbers": [*columns["numbers"], name]},
        )

    def _missing(self, columns):
        name = self.random.choice(["DefaultValueFor", "FilterAvailable", "FilterMissing"])
        if name == "DefaultValueFor":
            numbers = [*columns["numbers"], "extra"]
            return name, ("extra", -5.0), {"extra": False, "numbers": numbers}
        return name, ("extra",), {"extra": False}

    # -- actions ---------------------------------------------------------------------------------

    def _act(self):
        at = self.random.randrange(len(self.nodes))
        columns = self.nodes[at]
        names = ["Count", "Sum", "Min", "Max", "Mean", "StdDev", "Stats", "Histo1D", "Histo1D"]
        names += ["Histo2D", "Histo3D", "HistoND", "Profile1D", "Profile2D", "Graph"]
        names += ["Report", "Take", "AsNumpy"]
        method = self.random.choice(names)
        arguments = getattr(self, f"_{method.lower()}", self._one)(columns)
        varies = method not in ("Report", "Take", "AsNumpy", "Stats", "Graph")
        self.actions.append((at, method, arguments, columns["varied"] and varies))

    def _one(self, columns):
        return (self.random.choice([*columns["numbers"], *columns["vectors"]]),)

    def _scalars(self, columns, count):
        known = [*columns["numbers"], *columns.get("aliases", ())]
        return tuple(self.random.choice(known) for _ in range(count))

    def _count(self, columns):
        return ()

    _report = _count

    def _stats(self, columns):
        return self._scalars(columns, self.random.choice([1, 2]))

    def _histo1d(self, columns):
        kind = self.random.randrange(4)
        if kind == 0:
            return self._scalars(columns, self.random.choice([1, 2]))
        if kind == 1:
            return ("h", "t", 20, 0.0, 0.0), *self._scalars(columns, 1)
        if kind == 2 and columns["vectors"]:
            return ("h", "t", 20, -12, 90), self.random.choice(columns["vectors"])
        return ("h", "t", 20, -12, 90), *self._scalars(columns, self.random.choice([1, 2]))

    def _histo2d(self, columns):
        return ("h", "t", 8, -12, 90, 5, 0, 60), *self._scalars(columns, 2)

    def _histo3d(self, columns):
        return ("h", "t", 4, -12, 90, 5, 0, 60, 3, 0, 200), *self._scalars(columns, 3)

    def _histond(self, columns):
        axes = tuple_of("int", 4, 3), tuple_of("double", -12, 0), tuple_of("double", 90, 200)
        return ("h", "t", 2, *axes), list(self._scalars(columns, 2))

    def _profile1d(self, columns):
        option = self.random.choice([(), ("s",)])
        return ("p", "t", 8, -12, 90, *option), *self._scalars(columns, 2)

    def _profile2d(self, columns):
        return ("p", "t", 8, -12, 90, 5, 0, 60), *self._scalars(columns, 3)

    def _graph(self, columns):
        return self._scalars(columns, 2)

    def _take(self, columns):
        a = self._real(columns)
        return ("double", a) if a else ("ULong64_t", "rdfentry_")

    def _asnumpy(self, columns):
        return (sorted({*self._one(columns), *self._one(columns)}),)
