"""Modules that came with a job, in the process of a worker."""

import importlib
import inspect
import pickle
import sys
import traceback

import pytest

from lambdamr.travel import modules

TEXT = "VALUE = {value}\nclass Thing:\n    pass\ndef boom():\n    raise ValueError(VALUE)\n"


@pytest.fixture(autouse=True)
def _new_worker(monkeypatch):
    """As in the process of a worker that has just begun, and as if nothing had happened after."""
    before = set(sys.modules)
    monkeypatch.setattr(modules, "_finder", modules._Finder())
    monkeypatch.setattr(modules, "_elsewhere", set())
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("travelled", "user", "pack"):
            del sys.modules[name]


def copied(value):
    return pickle.loads(pickle.dumps(value))  # noqa: TID251  # made here


def source(value, folders=None, name="travelled.py"):
    return (f"/nowhere/{name}", TEXT.format(value=value), folders)


def test_a_module_is_imported_from_the_text_that_came():
    modules.install({"travelled": source(1)})
    module = importlib.import_module("travelled")
    assert module.VALUE == 1
    assert module.__file__ == "/nowhere/travelled.py"
    assert inspect.getsource(module.Thing) == "class Thing:\n    pass\n"


def test_its_lines_are_in_a_traceback_though_there_is_no_file():
    modules.install({"travelled": source(1)})
    with pytest.raises(ValueError, match="1") as caught:
        importlib.import_module("travelled").boom()
    assert "raise ValueError(VALUE)" in "".join(traceback.format_exception(caught.value))


def test_another_text_is_another_module():
    modules.install({"travelled": source(1)})
    first = importlib.import_module("travelled")
    modules.install({"travelled": source(2)})
    assert importlib.import_module("travelled").VALUE == 2
    assert first.VALUE == 1


def test_the_same_text_is_the_same_module_for_the_next_job():
    modules.install({"travelled": source(1)})
    first = importlib.import_module("travelled")
    modules.install({"travelled": source(1)})
    assert importlib.import_module("travelled") is first


def test_the_generation_says_whether_modules_were_forgotten():
    first = modules.install({"travelled": source(1)})
    importlib.import_module("travelled")
    assert modules.install({"travelled": source(1), "user": source(1)}) == first
    assert modules.install({}) == first
    second = modules.install({"travelled": source(2)})
    assert second != first
    assert modules.install({"travelled": source(1)}) not in (first, second)


def test_a_job_without_local_modules_leaves_those_of_the_others():
    modules.install({"travelled": source(1)})
    thing = importlib.import_module("travelled").Thing()
    modules.install({})
    assert type(copied(thing)) is type(thing)


def test_a_change_of_what_a_module_imports_counts_as_well():
    user = ("/nowhere/user.py", "from travelled import VALUE", None)
    for value in (1, 2):
        modules.install({"travelled": source(value), "user": user})
        found = importlib.import_module("user").VALUE
        assert found == value


def test_a_package_has_its_modules_and_relative_imports():
    modules.install(
        {
            "pack": ("/nowhere/pack/__init__.py", "from .inner import VALUE", ("/nowhere/pack",)),
            "pack.inner": source(5),
        }
    )
    pack = importlib.import_module("pack")
    assert pack.VALUE == 5
    assert pack.inner.__package__ == "pack"
    assert pack.__path__ == ["/nowhere/pack"]


def test_a_package_finds_what_did_not_travel_where_its_folder_exists(tmp_path):
    (tmp_path / "plugin.py").write_text("NAME = 'plugin'")
    folders = (str(tmp_path),)
    modules.install({"pack": (str(tmp_path / "__init__.py"), "", folders)})
    plugin = importlib.import_module("pack.plugin")
    modules.install({"pack": (str(tmp_path / "__init__.py"), "# changed", folders)})
    assert importlib.import_module("pack.plugin") is not plugin  # it belongs to its package


def test_a_module_that_was_here_before_the_first_job_stays_as_it_is(monkeypatch):
    preloaded = type(sys)("travelled")
    monkeypatch.setitem(sys.modules, "travelled", preloaded)
    modules.install({"travelled": source(1)})
    assert importlib.import_module("travelled") is preloaded
    modules.install({})
    assert importlib.import_module("travelled") is preloaded


def test_a_module_that_was_found_elsewhere_gives_way_to_the_one_that_came(tmp_path, monkeypatch):
    modules.install({})
    (tmp_path / "travelled.py").write_text("VALUE = 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert importlib.import_module("travelled").VALUE == 0
    modules.install({"travelled": source(1)})
    assert importlib.import_module("travelled").VALUE == 1


def test_installed_modules_are_left_alone():
    modules.install({"travelled": source(1)})
    importlib.import_module("travelled")
    modules.install({"travelled": source(2)})
    assert sys.modules["pickle"] is pickle
