"""Ten thousand random schedules: each ends, with the inline value or as it must."""

import gc

import pytest

from lambdamr.testing.verdict import ScheduleError, check

SCHEDULES = 10_000
BATCH = 100
FOUND = 460317, 499235, 3073667, 3173760
"""Seeds beyond those, which longer runs have found."""


@pytest.fixture(autouse=True)
def checkpoint_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBDAMR_CHECKPOINT_KEY", "of simulated drivers")


@pytest.mark.parametrize("start", range(0, SCHEDULES, BATCH))
def test_every_schedule_ends_as_it_must(start: int) -> None:
    failures = []
    for seed in range(start, start + BATCH):
        try:
            check(seed)
        except ScheduleError as error:  # the message is a line that repeats it
            failures.append(str(error))
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("seed", FOUND)
def test_a_schedule_that_ended_wrongly_once(seed: int) -> None:
    check(seed)


def test_no_exception_and_no_coroutine_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(SCHEDULES, SCHEDULES + BATCH):
        check(seed)
        gc.collect()  # what nobody retrieved is logged when it is collected
    assert not caplog.records
