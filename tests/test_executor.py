"""Executors that can start early, and those that are made for a call by their name."""

import contextlib
import operator
import sys
from types import ModuleType

import pytest

import lambdamr
from lambdamr.executors import names


class Prepared(lambdamr.InlineExecutor):
    def __init__(self):
        self.calls = []

    def prepare(self):
        self.calls.append("prepare")

    def close(self):
        self.calls.append("close")

    def open(self):
        self.calls.append("open")
        return super().open()


def test_it_prepares_before_it_is_opened_and_stays_its_users_own():
    executor = Prepared()
    assert lambdamr.map_reduce(sum, operator.add, range(10), executor=executor) == 45
    assert executor.calls == ["prepare", "open"]


@pytest.mark.parametrize("options", [{"npartitions": 0}, {"fan_in": 1}, {"data": [], "initial": 0}])
def test_nothing_is_prepared_for_a_call_that_needs_no_engine(options):
    executor = Prepared()
    with contextlib.suppress(lambdamr.InputError):
        lambdamr.map_reduce(
            sum, operator.add, **{"data": range(10), "executor": executor, **options}
        )
    assert executor.calls == []


def test_what_was_made_for_a_call_by_its_name_is_closed(monkeypatch):
    made = []

    class Mine(Prepared):
        def __init__(self):
            super().__init__()
            made.append(self)

    module = ModuleType("of_mine")
    module.Mine = Mine
    monkeypatch.setitem(sys.modules, "of_mine", module)
    monkeypatch.setitem(names.NAMED, "mine", ("of_mine", "Mine", {}))

    def fail(partition):
        raise ZeroDivisionError

    assert lambdamr.map_reduce(sum, operator.add, range(10), executor="mine") == 45
    with pytest.raises(lambdamr.MapperError):
        lambdamr.map_reduce(fail, operator.add, range(10), executor="mine")
    assert [executor.calls for executor in made] == [["prepare", "open", "close"]] * 2
