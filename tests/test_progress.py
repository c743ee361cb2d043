"""The bar: where somebody looks, and nowhere else."""

import os
import pty
import re
import subprocess
import sys
import termios
import textwrap

import pytest
import tqdm

import lambdamr
from lambdamr import InputError, RetryPolicy, map_reduce
from lambdamr.observers import progress

PROGRAM = """
    import lambdamr
    print(lambdamr.map_reduce(sum, max, range(40), executor="inline"{options}))
"""


def shown(options="", terminal=True, **environment):
    """What a program with a job writes to its stderr."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    try:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROGRAM).format(options=options)],
            stdout=subprocess.PIPE,
            stderr=theirs if terminal else subprocess.PIPE,
            env={**os.environ, **environment},
            timeout=60,
            check=True,
        )
        assert done.stdout == b"39\n"
        if not terminal:
            return done.stderr.decode()
        os.write(theirs, b"\nend\n")
        text = b""
        while b"end" not in text:
            text += os.read(ours, 1 << 16)
        return text.decode().partition("\r\nend")[0]
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_terminal_shows_the_bar():
    text = shown()
    assert "40/40" in text
    assert re.search(r"partition(/s|s/)|s/partition", text)
    assert "running=0" in text


def test_a_file_shows_nothing():
    assert shown(terminal=False) == ""


def test_it_can_be_switched_off_and_on():
    assert shown(", progress=False") == ""
    assert "40/40" in shown(", progress=True", terminal=False)


@pytest.mark.parametrize("word", ["0", "false", "no", "OFF", ""])
def test_the_environment_switches_it_off(word):
    with_word = progress_wanted(word)
    assert with_word is False


def progress_wanted(word):
    """Whether a bar is shown with this word in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAMBDAMR_PROGRESS", word)
        patch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        with progress.bar(None) as observers:
            return bool(observers)


def test_the_environment_switches_it_on():
    assert progress_wanted("1") is True
    assert "40/40" in shown(terminal=False, LAMBDAMR_PROGRESS="1")


def test_the_environment_does_not_overrule_the_call():
    assert shown(", progress=False", terminal=False, LAMBDAMR_PROGRESS="1") == ""


def test_without_tqdm_a_wanted_bar_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(InputError, match=r"pip install 'lambdamr\[progress\]'"):
        map_reduce(sum, max, range(4), executor="inline", progress=True)


def test_without_tqdm_an_unwanted_bar_is_not_missed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setenv("LAMBDAMR_PROGRESS", "1")
    assert map_reduce(sum, max, range(4), executor="inline") == 3


class Bar(tqdm.tqdm):
    """Remembers what it was told."""

    made: list["Bar"] = []  # noqa: RUF012

    def __init__(self, **options):
        self.postfixes = []
        Bar.made.append(self)
        super().__init__(**options, file=open(os.devnull, "w"))  # noqa: SIM115

    def set_postfix(self, shown, refresh=True):
        self.postfixes.append(shown)

    def close(self):
        super().close()
        self.fp.close()
        self.closed = True


@pytest.fixture
def bars(monkeypatch):
    Bar.made.clear()
    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    return Bar.made


def test_it_counts_what_is_done_running_and_retried(bars, tmp_path):
    def flaky(partition):
        if 5 in partition and not (tmp_path / "tried").exists():
            (tmp_path / "tried").touch()
            raise ConnectionError
        return 1

    map_reduce(
        flaky,
        lambda a, b: a + b,
        range(20),
        executor="inline",
        progress=True,
        retry=RetryPolicy(retry_on=ConnectionError, base_delay=0),
    )
    (bar,) = bars
    assert (bar.n, bar.total) == (20, 20)
    assert max(shown["running"] for shown in bar.postfixes) == 1
    assert bar.postfixes[-1] == {"running": 0, "retried": 1}


def test_it_begins_with_what_a_checkpoint_has(bars, tmp_path):
    for _ in range(2):
        map_reduce(
            sum, max, range(20), executor="inline", progress=True, checkpoint=tmp_path / "kept"
        )
    assert [bar.n for bar in bars] == [20, 20]
    assert bars[1].postfixes[0] == {"running": 0}


def test_it_is_closed_when_the_job_fails(bars):
    def bad(partition):
        raise ValueError

    with pytest.raises(lambdamr.MapperError):
        map_reduce(bad, max, range(20), executor="inline", progress=True)
    assert bars[0].closed
    assert bars[0].postfixes[-1]["running"] == 0


def test_a_bar_without_a_job_closes_as_well():
    progress.ProgressBar(Bar).close()
