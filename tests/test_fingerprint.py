"""The same program has the same digest in another run, and a changed one has another."""

import functools
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

import lambdamr
from lambdamr import UnpicklableError
from lambdamr.checkpoints.fingerprint import fingerprint

PROGRAM = '''
import abc, collections, dataclasses, decimal, enum, functools, json, operator, typing
from lambdamr.checkpoints.fingerprint import fingerprint
import local_module

NAMES = {"muon", "electron", "tau", "photon", "jet"}
T = typing.TypeVar("T")

def with_set(p):
    return p in {"alpha", "beta", "gamma", "delta"}, p in NAMES

@dataclasses.dataclass
class Cut:
    """A cut."""
    name: str
    tags: frozenset = frozenset({"a", "b", "c"})
    values: list = dataclasses.field(default_factory=lambda: [1, 2])
    def passes(self, x: int) -> bool:
        return x > len(self.values)

@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Slotted:
    x: int = 0

class Color(enum.Enum):
    RED = 1
    BLUE = "blue"
    @property
    def nice(self):
        return self is Color.BLUE

class Flag(enum.IntFlag):
    A = 1
    B = 2

class Shape(abc.ABC):
    registry = {}
    def __init_subclass__(cls):
        Shape.registry[cls.__name__] = cls
    @abc.abstractmethod
    def area(self): ...
    @functools.cached_property
    def cached(self):
        return self.area()

class Square(Shape, typing.Generic[T]):
    class Inner:
        size = 3
    def area(self):
        return super().area() or self.Inner.size
    @staticmethod
    def s(x): return x
    @classmethod
    def c(cls): return cls

class Named(typing.NamedTuple):
    x: int
    y: str = "y"

class Bag(set):
    pass

def even(n):
    return True if n == 0 else odd(n - 1)

def odd(n):
    return False if n == 0 else even(n - 1)

def closure():
    seen, scale = {"x", "y", "z"}, 3
    def inner(p, *, factor=Cut("default")):
        nonlocal scale
        scale += 1
        return [x for x in p if x in seen], factor
    return inner

@functools.lru_cache
def cached(x):
    return NAMES

def late(p):
    import local_module as m
    from json import dumps
    return m.plus(p), dumps

def annotated(p: Cut, *rest: "Shape") -> typing.Optional[Color]:
    return local_module.plus(p)

loop = [1, 2]
loop.append(loop)
point = Square()
point.me = point

values = dict(
    with_set=with_set, dataclass=Cut, instance=Cut("x"), slotted=Slotted(2), enum=Color,
    member=Color.RED, flags=Flag.A | Flag.B, abstract=Shape, generic=Square, bound=Square().area,
    static=Square.s, klass=Square.c, named=Named(1), recursion=even, mutual=[odd, even],
    closure=closure(), lru=cached, lazily=late, annotated=annotated, lam=lambda p: p * 2.5,
    partial=functools.partial(with_set, "x"), compose=operator.itemgetter(1),
    module_function=local_module.plus, local_class=local_module.Thing, module=local_module,
    bag=Bag("abcdef"),
    nested_sets={frozenset({"a", "b"}), frozenset({"c"}), ("x", frozenset("yz"))},
    functions_in_set={even, odd, cached}, loop=loop, cyclic=point,
    counter=collections.Counter("hello"), ordered=collections.OrderedDict(a=1), big=10**40,
    decimal=decimal.Decimal("1.5"), json=json.dumps, builtin=len, cls=dict, nothing=None,
    alias=list[int], union=int | None,
)
'''

LIBRARIES = """
import numpy as np, pandas as pd, pyarrow as pa

values.update(
    array=np.arange(10.0).reshape(2, 5).T, structured=np.zeros(3, [("a", "f4"), ("b", "S2")]),
    objects=np.array([{"a", "b", "c"}, None, "x"], object), ufunc=np.add, numpy_function=np.sum,
    frame=pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=pd.Index(["i", "j"])),
    category=pd.Series(["u", "v", "u"], dtype="category"),
    times=pd.date_range("2026-01-01", periods=3),
    table=pa.table({"a": [1, None], "s": ["x", "yy"]}),
    sliced=pa.table({"a": list(range(99))}).slice(5, 9),
)
"""

PRINT = "print(json.dumps({name: fingerprint(value) for name, value in values.items()}))\n"

LOCAL = (
    "import local_other\nclass Thing:\n    x = 1\ndef plus(p):\n    return local_other.PLUS, p\n"
)


def digests(folder, program=PROGRAM, seed="0", name="program.py", **files):
    """Run a program that prints digests, in a new interpreter."""
    files = {"local_module": LOCAL, "local_other": "PLUS = 1\n", **files}
    for module, text in files.items():
        (folder / f"{module}.py").write_text(text)
    (folder / name).write_text(program + PRINT)
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"}
    printed = subprocess.check_output([sys.executable, folder / name], env=environment, timeout=60)
    return json.loads(printed)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    return digests(tmp_path_factory.mktemp("before"))


def test_another_run_of_a_program_has_the_same_digests(tmp_path):
    first = digests(tmp_path, PROGRAM + LIBRARIES)
    assert len(set(first.values())) == len(first)  # and different things have different ones
    for seed in ("1", "2", "77"):
        assert digests(tmp_path, PROGRAM + LIBRARIES, seed=seed) == first


def test_where_a_program_is_and_how_it_is_called_does_not_matter(tmp_path, before):
    moved = digests(tmp_path, PROGRAM.replace("\nNAMES", "\n# more\n\nNAMES"), name="p.py")
    assert moved == before


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ('"delta"', '"epsilon"', {"with_set", "partial"}),
        ('"jet"', '"bjet"', {"with_set", "partial", "lru", "functions_in_set"}),
        ("return x > len", "return x >= len", {"dataclass", "instance", "closure"}),
        ("lambda: [1, 2])", "lambda: [1, 3])", {"dataclass", "instance", "closure"}),
        ("x: int = 0", "x: int = 1", {"slotted"}),
        ("RED = 1", "RED = 2", {"enum", "member"}),
        ("is Color.BLUE", "is Color.RED", {"enum", "member"}),
        ("return self.area()", "return -self.area()", {"abstract", "generic", "bound", "cyclic"}),
        ("size = 3", "size = 4", {"generic", "bound", "klass", "cyclic"}),
        ("def s(x): return x", "def s(x): return -x", {"generic", "static"}),
        ("def c(cls): return cls", "def c(cls): return 1", {"generic", "klass"}),
        ('y: str = "y"', 'y: str = "z"', {"named"}),
        ("return True if n", "return 1 if n", {"recursion", "mutual", "functions_in_set"}),
        ("return False if n", "return 0 if n", {"recursion", "mutual"}),
        ("{\"x\", \"y\", \"z\"}, 3", "{\"x\", \"y\", \"z\"}, 4", {"closure"}),
        ("scale += 1", "scale += 2", {"closure"}),
        ('factor=Cut("default")', 'factor=Cut("other")', {"closure"}),
        ("from json import dumps", "from json import loads as dumps", {"lazily"}),
        ("p * 2.5", "p * 2.25", {"lam"}),
        ('partial(with_set, "x")', 'partial(with_set, "y")', {"partial"}),
        ("itemgetter(1)", "itemgetter(2)", {"compose"}),
    ],
)  # fmt: skip
def test_a_change_of_the_program_changes_the_digests_of_what_uses_it(
    tmp_path, before, old, new, names
):
    assert PROGRAM.count(old) == 1
    after = digests(tmp_path, PROGRAM.replace(old, new))
    changed = {name for name in before if before[name] != after[name]}
    assert names <= changed
    assert not changed & {"json", "builtin", "cls", "module", "alias", "big"}


MODULE_USERS = {"module_function", "local_class", "module", "lazily", "annotated"}


@pytest.mark.parametrize(
    "files",
    [
        {"local_module": LOCAL.replace("x = 1", "x = 2")},
        {"local_other": "PLUS = 2\n"},  # which it imports
    ],
)
def test_a_change_of_a_local_module_changes_the_digests_of_what_uses_it(tmp_path, before, files):
    after = digests(tmp_path, **files)
    assert {name for name in before if before[name] != after[name]} == MODULE_USERS


# -- in one process ------------------------------------------------------------------------------

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.floats(allow_nan=False),
)
hashable = st.deferred(
    lambda: leaves | st.tuples(hashable, leaves) | st.frozensets(hashable, max_size=3)
)
data = st.deferred(
    lambda: (
        hashable
        | st.sets(hashable, max_size=4)
        | st.lists(data, max_size=4)
        | st.dictionaries(st.text(max_size=3), data, max_size=3)
    )
)


def exact(value):
    """A value, with all that == does not see: types, the sign of a zero."""
    if isinstance(value, (set, frozenset)):
        return type(value), frozenset(map(exact, value))
    if isinstance(value, dict):
        return dict, tuple((exact(key), exact(part)) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(exact, value))
    return type(value), repr(value)


def rebuilt(value):
    """An equal value that shares no part with it, and has its sets filled the other way round."""
    if isinstance(value, (set, frozenset)):
        return type(value)(rebuilt(part) for part in reversed(list(value)))
    if isinstance(value, dict):
        return {rebuilt(key): rebuilt(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(rebuilt, value))
    if isinstance(value, (str, bytes)):
        return value[:1] + value[1:]
    return value


@given(value=data)
def test_an_equal_value_has_the_same_digest(value):
    assert fingerprint(rebuilt(value)) == fingerprint(value)


@given(first=data, second=data)
def test_values_have_the_same_digest_only_if_they_are_equal(first, second):
    assert (fingerprint(first) == fingerprint(second)) == (exact(first) == exact(second))


@given(values=st.lists(st.floats(), max_size=20))
def test_arrays_and_tables_have_digests_by_value(values):
    for make in (
        np.array,
        lambda v: pd.DataFrame({"a": np.array(v, float)}),
        lambda v: pa.table({"a": pa.array(v, pa.float64())}),
    ):
        assert fingerprint(make(values)) == fingerprint(make(list(values)))
        assert fingerprint(make(values)) != fingerprint(make([*values, 0.0]))


def test_an_object_that_occurs_twice_is_like_two_equal_objects():
    part = [1, 2]
    assert fingerprint([part, part]) == fingerprint([[1, 2], [1, 2]])


def test_what_was_called_before_does_not_matter():
    def mapper(partition):
        return helper(partition)

    @functools.cache
    def helper(x):
        return x + 1

    before = fingerprint(mapper)
    for i in range(100):  # so that the interpreter specializes the code
        mapper(i)
    assert fingerprint(mapper) == before


def test_methods_of_installed_classes_are_digested_by_version_not_by_their_insides(monkeypatch):
    bound = threading.Thread  # a class with a lock in its module
    before = fingerprint(functools.partial(bound.is_alive))
    assert fingerprint(functools.partial(bound.is_alive)) == before
    before = fingerprint(pd.concat)
    monkeypatch.setattr(pd, "__version__", "0.0")
    assert fingerprint(pd.concat) != before


def test_a_deep_chain_of_functions_is_digested_in_good_time():
    def base(x):
        return x

    functions = [base]
    for _ in range(60):  # each is used twice by the next: 2**60 paths

        def layer(x, a=functions[-1], b=functions[-1]):
            return a(b(x))

        functions.append(layer)
    assert fingerprint(functions[-1]) != fingerprint(functions[-2])


def test_what_cannot_be_sent_has_no_digest():
    with pytest.raises(UnpicklableError, match=r"the data\['lock'\] cannot be sent"):
        fingerprint({"lock": threading.Lock()})


def test_large_data_is_not_copied():
    import tracemalloc

    array = np.zeros(16 << 20, np.uint8)
    tracemalloc.start()
    try:
        fingerprint(array)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(array) // 4


def test_lambdamr_itself_counts_by_version(monkeypatch):
    before = fingerprint(lambdamr.split)
    monkeypatch.setattr(lambdamr, "__version__", "999")
    assert fingerprint(lambdamr.split) != before
