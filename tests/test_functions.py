"""Functions travel: whatever the program looks like in which they are written."""

import collections
import dataclasses
import functools
import operator
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import lambdamr
from lambdamr import LocalExecutor, Partitions, map_reduce
from lambdamr.partition import as_chunk
from lambdamr.travel import modules
from lambdamr.travel.functions import encode_chunk, encode_functions, local_sources
from lambdamr.wire import Ref, Task, decode
from lambdamr.worker import Worker


@pytest.fixture(scope="module")
def local():
    with LocalExecutor(workers=2) as executor:
        yield executor


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with local modules; what is imported from it is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Project(tmp_path)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__spec__", "")):
            del sys.modules[name]


class Project:
    def __init__(self, folder):
        self.folder = folder

    def write(self, files):
        """Write files: texts by their paths."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return self


def run(*arguments, text=None, cwd=None):
    """Run a Python program; what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        input=text,
        cwd=cwd,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- functions of this module, which is importable here and nowhere else --------------------------


def test_closures_and_lambdas_travel(local):
    offset = 10

    def shifted(partition):
        return [x + offset for x in partition]

    assert map_reduce(shifted, operator.add, range(4), executor=local) == [10, 11, 12, 13]
    assert map_reduce(lambda p: sum(p) * offset, lambda a, b: a + b, range(4), executor=local) == 60


def test_functions_inside_functions_travel(local):
    def outer(partition):
        def inner(x):
            return factorial(x)

        return [inner(x) for x in partition]

    def factorial(n):
        return n * factorial(n - 1) if n else 1

    assert map_reduce(outer, operator.add, range(5), executor=local) == [1, 1, 2, 6, 24]


class Scale:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, partition):
        return [self.factor * x for x in partition]

    def twice(self, partition):
        return [2 * x for x in self(partition)]

    @classmethod
    def unit(cls, partition):
        return cls(1)(partition)


@pytest.mark.parametrize(
    ("mapper", "expected"),
    [
        (Scale(3), [0, 3, 6]),
        (Scale(3).twice, [0, 6, 12]),
        (Scale.unit, [0, 1, 2]),
        (functools.partial(map, str), "012"),
        (list, [0, 1, 2]),
        (operator.methodcaller("__len__"), 3),
    ],
    ids=["object", "method", "class method", "partial", "class", "methodcaller"],
)
def test_whatever_can_be_called_travels(local, mapper, expected):
    def mapped(partition):
        value = mapper(partition)
        return "".join(value) if isinstance(value, map) else value

    assert map_reduce(mapped, operator.add, range(3), executor=local) == expected


def test_cached_functions_travel_with_their_settings():
    space = {}
    exec(
        "import functools\n"
        "@functools.lru_cache(maxsize=7, typed=True)\n"
        "def square(x):\n    return x * x\n"
        "def mapper(partition):\n    return [square(x) for x in partition], square.cache_info()\n",
        space,
    )
    _, (mapper, _) = load(encode_functions(space["mapper"], operator.add))
    values, info = mapper([3, 3])
    assert values == [9, 9]
    assert (info.hits, info.misses, info.maxsize) == (1, 1, 7)


def test_cached_properties_travel_and_come_back(local):
    class Event:
        def __init__(self, x):
            self.x = x

        @functools.cached_property
        def energy(self):
            return self.x**2

    def mapper(partition):
        event = Event(max(partition))
        assert event.energy == event.__dict__["energy"]
        return event

    def larger(a, b):
        return a if a.energy > b.energy else b

    assert map_reduce(mapper, larger, range(5), executor=local).energy == 16


def test_classes_of_the_program_come_back_as_themselves(local):
    event = collections.namedtuple("event", "x")

    @dataclasses.dataclass
    class Point:
        x: int

    def mapper(partition):
        return [Point(max(partition)), event(min(partition))]

    value = map_reduce(mapper, operator.add, range(2), executor=local)
    assert [type(part) for part in value] == [Point, event] * 2
    assert value[0] == Point(0)


def test_several_threads_at_once(local):
    def job(number):
        return map_reduce(lambda p: sum(p) + number, operator.add, range(50), executor=local)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(job, range(8))) == [1225 + 50 * number for number in range(8)]


# -- what a job takes along ----------------------------------------------------------------------


def load(frame):
    """The modules of a frame, and its functions."""
    sources, pickled, buffers = decode(b"".join(frame))
    return sources, pickle.loads(pickled, buffers=buffers)  # noqa: TID251  # made here


def sent(mapper, *examples):
    """The names of the modules that travel with a mapper."""
    chunk = as_chunk(list(examples), 1) if examples else None
    return load(encode_functions(mapper, operator.add, chunk))[0].keys()


def function(text, **space):
    """A function of a program that is not importable."""
    exec(textwrap.dedent(text), space)
    return space["f"]


def test_a_function_of_a_local_module_takes_its_source_along(project):
    project.write({"near.py": "def f(p): return p"})
    import near

    sources, _ = load(encode_functions(near.f, operator.add))
    assert sources == {"near": (str(project.folder / "near.py"), "def f(p): return p", None)}


def test_what_local_modules_import_goes_along_whatever_the_form(project):
    project.write(
        {
            "pack/__init__.py": "",
            "pack/a.py": "from . import b\nfrom .sub.c import C\nfrom .. import nothing",
            "pack/b.py": "import far.away",
            "pack/sub/__init__.py": "from ..d import *",
            "pack/sub/c.py": "C = 1",
            "pack/d.py": "def g():\n    def h():\n        from .e import late\n",
            "pack/e.py": "import json, numpy, pack.unused_name",
            "pack/f.py": "never = 'imported'",
            "far/away.py": "import os.path",  # far is a namespace package
        }
    )
    assert set(local_sources({"pack.a"})) == {
        "far", "far.away", "pack", "pack.a", "pack.b", "pack.d", "pack.e", "pack.sub", "pack.sub.c",
    }  # fmt: skip


def test_a_module_whose_functions_go_by_value_stays_at_home(project):
    project.write({"near.py": "def make():\n    return lambda p: p\n"})
    import near

    assert sent(near.make()) == set()
    assert sent(near.make) == {"near"}


def test_an_import_inside_a_function_by_value_goes_along(project):
    project.write({"near.py": "import other", "other.py": "X = 1", "unused.py": "X = 2"})
    f = function("def f(p):\n    def g():\n        from near import other\n    return g")
    assert sent(f) == {"near", "other"}


def test_a_relative_import_inside_a_function_by_value_goes_along(project):
    project.write({"pack/__init__.py": "", "pack/near.py": "X = 1"})
    f = function("def f(p):\n    from .near import X\n    return X", __package__="pack")
    assert sent(f) == {"pack", "pack.near"}


def test_a_global_module_goes_along(project):
    project.write({"pack/__init__.py": "", "pack/near.py": "X = 1"})
    f = function("import pack.near\ndef f(p):\n    return pack.near.X")
    assert sent(f) == {"pack", "pack.near"}


def test_the_classes_of_the_data_go_along(project):
    project.write({"near.py": "class Settings:\n    pass"})
    import near

    f = function("def f(p): return p")
    assert sent(f) == set()
    assert sent(f, near.Settings()) == {"near"}
    assert sent(f, *range(10), near.Settings()) == {"near"}
    assert load(encode_functions(f, f, initial=[near.Settings()]))[0].keys() == {"near"}
    assert sent(f, threading.Lock()) == set()  # that it cannot be sent is said elsewhere


def test_installed_modules_stay_at_home():
    import numpy as np

    assert sent(function("import json, numpy as np\ndef f(p): return np.sum(p)")) == set()
    assert sent(np.sum) == set()
    assert sent(lambdamr.Partitions) == set()


def test_a_module_made_by_hand_travels_by_value():
    made = types.ModuleType("made")
    made.X = 3
    sources, (f, _) = load(encode_functions(function("def f(p): return made.X", made=made), max))
    assert f([]) == 3
    assert sources == {}


def test_a_module_loaded_from_a_path_of_its_own_goes_along(project, monkeypatch):
    project.write({"plugins/special.py": "def f(p): return p"})
    path = project.folder / "plugins" / "special.py"
    spec = importlib_spec("special", path)
    module = types.ModuleType("special")
    module.__spec__ = spec
    monkeypatch.setitem(sys.modules, "special", module)
    spec.loader.exec_module(module)
    assert sent(module.f) == {"special"}


def importlib_spec(name, path):
    import importlib.util

    return importlib.util.spec_from_file_location(name, path)


def test_a_local_module_that_python_cannot_read_is_not_our_affair(project):
    project.write({"near.py": "import broken\nimport latin", "broken.py": "this is no Python"})
    (project.folder / "latin.py").write_bytes(b"# coding: no-such-encoding\n")
    (project.folder / "vanished.py").write_text("")
    import vanished  # noqa: F401

    (project.folder / "vanished.py").unlink()
    assert set(local_sources({"near", "vanished"})) == {"near", "broken"}


def test_the_same_functions_make_the_same_frame(project):
    project.write({"near.py": "import a, b, c", "a.py": "", "b.py": "", "c.py": ""})
    f = function("def f(p):\n    import near")
    assert encode_functions(f, operator.add) == encode_functions(f, operator.add)


def test_arrays_are_parts_that_stay_the_same_when_the_code_changes():
    table = np.arange(1000.0)
    frame, other = (
        encode_functions(function(f"def f(p): return {n} * table[p]", table=table), operator.add)
        for n in (2, 3)
    )
    assert frame[-1] == other[-1] == table.tobytes()
    table[:] = 0  # the job has what there was
    _, (mapper, _) = load(frame)
    assert mapper(7) == 14.0


FAR_AWAY = """
    import pickle, sys
    from lambdamr.travel import modules
    from lambdamr.wire import decode

    with open(sys.argv[1], "rb") as file:
        sources, pickled, buffers = decode(file.read())
    modules.install(sources)
    mapper, reducer = pickle.loads(pickled, buffers=buffers)
    print(reducer(mapper([1, 2]), mapper([3])))
"""


def test_functions_run_where_their_project_is_not(project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    project.write(
        {
            "pack/__init__.py": "from .shapes import Shape",
            "pack/shapes.py": "from . import units\nclass Shape:\n    unit = units.UNIT",
            "pack/units.py": "UNIT = 100",
            "space/inner/deep.py": "def plus(a, b): return a + b",
        }
    )
    f = function(
        "def f(p):\n"
        "    from pack import Shape\n"
        "    import space.inner.deep as deep\n"
        "    return deep.plus(sum(p), Shape.unit)"
    )
    (elsewhere / "frame").write_bytes(b"".join(encode_functions(f, operator.add)))
    (elsewhere / "program.py").write_text(textwrap.dedent(FAR_AWAY))
    assert run("program.py", "frame", cwd=elsewhere) == "206\n"


# -- a module that changes between two jobs -------------------------------------------------------


@pytest.mark.parametrize("changed", ["near.py", "other.py", "pack/inner.py"])
def test_the_new_text_of_a_changed_module_counts(project, changed):
    project.write(
        {
            "near.py": "import other, pack.inner as i\ndef f(p): return other.X + i.X + Y\nY = 1",
            "other.py": "X = 1",
            "pack/__init__.py": "",
            "pack/inner.py": "X = 1",
        }
    )
    import near

    def value():
        return map_reduce(near.f, operator.add, [0], executor=local)

    with LocalExecutor(workers=1) as local:
        assert value() == 3
        text = (project.folder / changed).read_text()
        project.write({changed: text.replace("1", "5")})
        assert value() == 7
        project.write({changed: text})
        assert value() == 3


def test_another_job_does_not_take_away_the_classes_of_this_one(project, local):
    project.write(
        {
            "near.py": "class C:\n    pass\ndef f(p): return C()\ndef first(a, b): return a",
            "other.py": "def f(p): return 1",
        }
    )
    import near
    import other

    for _ in range(2):
        assert type(map_reduce(near.f, near.first, range(3), executor=local)) is near.C
        assert map_reduce(other.f, operator.add, range(3), executor=local) == 3


def test_the_inline_executor_uses_the_modules_of_this_process(project):
    project.write({"near.py": "STATE = []\ndef f(p): STATE.append(1); return 1"})
    f = function("def f(p):\n    import near\n    return near.f(p)")
    assert map_reduce(f, operator.add, range(2), executor="inline") == 2
    import near

    assert map_reduce(len, operator.add, range(2), executor="inline") == 2
    assert near.STATE == [1, 1]
    assert sys.modules["near"] is near


# -- programs ------------------------------------------------------------------------------------

SCRIPT = """
    import multiprocessing, os, sys
    import lambdamr

    print("begins")
    FACTOR = 2
    class Counter:
        def __init__(self, n):
            self.n = n
    def mapper(partition):
        return Counter(FACTOR * len(partition))
    def reducer(a, b):
        a.n += b.n
        return a
    value = lambdamr.map_reduce(mapper, reducer, range(1000), npartitions=10, executor={executor})
    print(type(value) is Counter, value.n)
"""


def script(executor="'local'", before=""):
    return before + textwrap.dedent(SCRIPT).format(executor=executor)


@pytest.mark.parametrize("method", [None, "fork", "spawn", "forkserver"])
def test_a_plain_script_runs_once_under_each_start_method(tmp_path, method):
    before = f"import multiprocessing; multiprocessing.set_start_method({method!r})\n"
    (tmp_path / "script.py").write_text(script(before=before if method else ""))
    assert run("script.py", cwd=tmp_path) == "begins\nTrue 2000\n"


def test_a_program_on_the_command_line():
    assert run("-c", script()) == "begins\nTrue 2000\n"


def test_a_program_from_standard_input():
    assert run("-", text=script()) == "begins\nTrue 2000\n"


@pytest.mark.parametrize("flag", ["-O", "-I", "-X utf8", "-W error"])
def test_a_script_with_flags_of_the_interpreter(tmp_path, flag):
    if flag == "-I" and "PYTHONPATH" in os.environ:
        path = os.path.dirname(os.path.dirname(lambdamr.__file__))
        before = f"import sys; sys.path.insert(0, {path!r})\n"
    else:
        before = ""
    (tmp_path / "script.py").write_text(script(before=before))
    assert run(*flag.split(), "script.py", cwd=tmp_path) == "begins\nTrue 2000\n"


def test_a_module_run_as_a_program(tmp_path):
    Project(tmp_path).write(
        {
            "pack/__init__.py": "",
            "pack/numbers.py": "FACTOR = 3",
            "pack/late.py": "EXTRA = 4",
            "pack/main.py": """
            import lambdamr
            from . import numbers

            def mapper(partition):
                from .late import EXTRA
                return len(partition) * numbers.FACTOR * EXTRA

            if __name__ == "__main__":
                print(lambdamr.map_reduce(mapper, lambda a, b: a + b, range(10)))
        """,
        }
    )
    assert run("-m", "pack.main", cwd=tmp_path) == "120\n"


def test_a_script_with_local_modules_in_its_folder(tmp_path):
    Project(tmp_path).write(
        {
            "app/script.py": """
            import lambdamr, tools
            from shapes import Shape

            def mapper(partition):
                return Shape(tools.double(len(partition)))

            value = lambdamr.map_reduce(mapper, Shape.merge, range(10))
            print(type(value) is Shape, value.n)
        """,
            "app/tools.py": "def double(n): return 2 * n",
            "app/shapes.py": """
            import dataclasses
            @dataclasses.dataclass
            class Shape:
                n: int
                def merge(self, other):
                    return Shape(self.n + other.n)
        """,
        }
    )
    assert run("app/script.py", cwd=tmp_path) == "True 20\n"


def test_a_script_that_another_script_imports_again(tmp_path):
    Project(tmp_path).write(
        {
            "script.py": """
            import lambdamr, other
            def helper(partition): return len(partition)
            if __name__ == "__main__":
                print(lambdamr.map_reduce(other.mapper, max, range(10), npartitions=3))
        """,
            "other.py": """
            def mapper(partition):
                import script
                return script.helper(partition)
        """,
        }
    )
    assert run("script.py", cwd=tmp_path) == "4\n"


def test_a_session_at_the_prompt():
    lines = [
        "import lambdamr",
        "def mapper(partition):",
        "    return [x * x for x in partition]",
        "",
        "lambdamr.map_reduce(mapper, lambda a, b: a + b, range(4), npartitions=2)",
        "def mapper(partition):",
        "    return [-x for x in partition]",
        "",
        "lambdamr.map_reduce(mapper, lambda a, b: a + b, range(4), npartitions=2)",
    ]
    text = "\n".join(lines) + "\n"
    assert run("-q", "-i", text=text).splitlines() == ["[0, 1, 4, 9]", "[0, -1, -2, -3]"]


def test_a_prompt_inside_a_program():
    text = (
        "import lambdamr\n"
        "offset = 5\n"
        "print(lambdamr.map_reduce(lambda p: sum(p) + offset, max, range(4), npartitions=2))\n"
    )
    program = "import code; code.interact(banner='', exitmsg='', local={'__name__': '__main__'})"
    assert "10" in run("-c", program, text=text)


def test_a_loop_that_runs_already():
    program = """
        import asyncio, lambdamr
        async def main():
            first = lambdamr.map_reduce(len, max, range(10), npartitions=3)
            second = await lambdamr.amap_reduce(len, max, range(10), npartitions=2)
            return first, second
        print(asyncio.run(main()))
    """
    assert run("-c", textwrap.dedent(program)) == "(4, 5)\n"


@pytest.fixture(scope="module")
def notebook():
    """Run cells in one kernel; what each of them printed or showed."""

    def execute(*cells, folder="."):
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        client = NotebookClient(
            book, timeout=60, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        client.allow_errors = True
        client.execute()
        return book.cells

    return execute


def test_a_notebook(notebook, tmp_path):
    (tmp_path / "tools.py").write_text("def double(n): return 2 * n")
    cells = notebook(
        "import lambdamr, tools\nFACTOR = 3\nex = lambdamr.LocalExecutor(workers=2)",
        "class Sum:\n    def __init__(self, n): self.n = n\n"
        "def mapper(p): return Sum(tools.double(len(p)) * FACTOR)\n"
        "def reducer(a, b): return Sum(a.n + b.n)",
        "v = lambdamr.map_reduce(mapper, reducer, range(10), executor=ex, progress=False)\n"
        "print(type(v) is Sum, v.n)",
        "FACTOR = 5  # a later cell changes it",
        "v = lambdamr.map_reduce(mapper, reducer, range(10), executor=ex, progress=False)\n"
        "print(type(v) is Sum, v.n)",
        "v = await lambdamr.amap_reduce(mapper, reducer, range(10), executor=ex, progress=False)\n"
        "print(type(v) is Sum, v.n)",
        "def bad(partition):\n    return 1 // (partition[0] - 3)\n"
        "lambdamr.map_reduce(bad, max, range(10), executor=ex, progress=False)",
        folder=str(tmp_path),
    )
    printed = [
        "".join(o.get("text", "") for o in cell.outputs if o.output_type == "stream")
        for cell in cells
    ]
    assert printed[2] == "True 60\n"
    assert printed[4] == printed[5] == "True 100\n"
    (error,) = [o for o in cells[6].outputs if o.output_type == "error"]
    assert error.ename == "MapperError"
    assert "partition 3 of 10 failed" in error.evalue
    assert "return 1 // (partition[0] - 3)\n           ~~^^" in error.evalue  # the cell's own line


# -- what a worker cannot load -------------------------------------------------------------------


def test_a_module_that_workers_do_not_have_is_named(local, monkeypatch):
    made = types.ModuleType("only_here")
    exec("def f(p): return p", made.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", made)
    with pytest.raises(lambdamr.BrokenExecutorError, match="No module named 'only_here'") as caught:
        map_reduce(made.f, max, Partitions([1]), executor=local)
    assert "Install what they import where the workers run" in str(caught.value)


def tasks_of(mapper, jobs):
    """A task of each job, with the same functions."""
    frame = b"".join(encode_functions(mapper, max))
    chunk = Ref(1, data=b"".join(encode_chunk(as_chunk([1], None))))
    for job in range(jobs):
        yield Task(str(job), 1, 0, 1, 1, 2, Ref(len(frame), data=frame), chunk=chunk)


@pytest.mark.parametrize(("size", "kept"), [(1000, 8), (30 << 20, 2), (100 << 20, 1)])
def test_a_worker_keeps_functions_of_some_jobs_and_of_some_bytes(size, kept):
    array = np.zeros(size, "u1")
    worker = Worker(None, "here", imports=False)
    for task in tasks_of(lambda part: array[0], 12):
        assert worker.evaluate(task).failure is None
    assert list(worker._functions) == [str(job) for job in range(12 - kept, 12)]


def test_functions_without_local_modules_leave_imports_alone(monkeypatch):
    def install(sources):
        raise AssertionError(sources)

    monkeypatch.setattr(modules, "install", install)
    worker = Worker(None, "here")
    for task in tasks_of(lambda part: 1, 2):
        assert worker.evaluate(task).failure is None
