"""The bar: where somebody looks, and nowhere else."""

import importlib
import io
import os
import pty
import re
import shutil
import subprocess
import sys
import termios
import textwrap
import time
import types

import nbclient
import nbformat
import pytest
import tqdm

import lambdamr
from lambdamr import InputError, RetryPolicy, map_reduce
from lambdamr.observers import audience, progress
from lambdamr.testing import Crash, SimulatedExecutor, Throttle, simulate

PROGRAM = """
    import lambdamr
    from lambdamr.observers import progress
    progress.INTERVAL = {interval}
    print(lambdamr.map_reduce(sum, max, range(40), executor="inline"{options}))
"""


def shown(options="", terminal=True, interval=0, **environment):
    """What a program with a job writes to its stderr."""
    program = textwrap.dedent(PROGRAM).format(options=options, interval=interval)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
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
    assert re.search(r"part/s|s/part", text)
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
        return audience.looks()


def test_the_environment_switches_it_on():
    assert progress_wanted("1") is True
    assert "40/40" in shown(terminal=False, LAMBDAMR_PROGRESS="1")


def test_the_environment_does_not_overrule_the_call():
    assert shown(", progress=False", terminal=False, LAMBDAMR_PROGRESS="1") == ""


@pytest.mark.parametrize("stderr", [None, io.StringIO()], ids=["none", "closed"])
def test_without_stderr_nobody_looks(monkeypatch, stderr):
    if stderr is not None:
        stderr.close()
    monkeypatch.delenv("LAMBDAMR_PROGRESS", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stderr)
        value = map_reduce(sum, max, range(4), executor="inline")
    assert value == 3


def test_without_tqdm_a_wanted_bar_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(InputError, match=r"pip install 'lambdamr\[progress\]'"):
        map_reduce(sum, max, range(4), executor="inline", progress=True)


def test_without_tqdm_an_unwanted_bar_is_not_missed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
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


def test_a_program_that_imported_ipykernel_is_no_notebook(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    importlib.import_module("IPython")
    assert not audience.is_notebook()


@pytest.fixture
def bars(monkeypatch):
    Bar.made.clear()
    monkeypatch.setattr("tqdm.tqdm", Bar)
    return Bar.made


def test_a_job_that_ends_before_the_first_picture_leaves_none():
    assert shown(", progress=True", interval=60) == ""


def test_it_counts_what_is_done_running_and_retried(bars, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0)

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


def test_it_begins_with_what_a_checkpoint_has(bars, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0)
    for _ in range(2):
        map_reduce(
            sum, max, range(20), executor="inline", progress=True, checkpoint=tmp_path / "kept"
        )
    assert [bar.n for bar in bars] == [20, 20]
    assert bars[1].postfixes[0] == {"running": 0}


def test_it_is_closed_when_the_job_fails(bars, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0)

    def bad(partition):
        raise ValueError

    with pytest.raises(lambdamr.MapperError):
        map_reduce(bad, max, range(20), executor="inline", progress=True)
    assert bars[0].closed
    assert bars[0].postfixes[-1]["running"] == 0


def test_a_bar_without_a_job_closes_as_well():
    progress.ProgressBar(Bar).close()


def test_a_notebook_shows_a_box_that_is_saved_with_it():
    cells = [
        "import lambdamr, time\n"
        "def slow(part):\n    time.sleep(0.05)\n    return sum(part)\n"
        "lambdamr.map_reduce(slow, max, range(20), executor='inline')",
        "lambdamr.map_reduce(slow, max, range(20), executor='inline', progress=False)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    environment = {k: v for k, v in os.environ.items() if k != "LAMBDAMR_PROGRESS"}
    nbclient.NotebookClient(notebook, timeout=60).execute(env=environment)
    saved = nbformat.reads(nbformat.writes(notebook), as_version=4)
    box, value = saved.cells[0].outputs
    assert box.output_type == "display_data"
    assert box.data["text/plain"].startswith("20 of 20 partitions · done")
    assert "<progress value=100.0" in box.data["text/html"]
    assert value.data["text/plain"] == "19"
    assert [output.output_type for output in saved.cells[1].outputs] == ["execute_result"]


THROTTLED = """
import operator, time
import lambdamr
from lambdamr.testing import SimulatedExecutor, Throttle
lambdamr.map_reduce(
    sum, operator.add, range(400), npartitions=40, progress=True,
    executor=SimulatedExecutor({3: Throttle()}, seconds=0.05, price=0.0001),
)
print("the end")
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (80, ["100%|", "40/40 [00:00", "running=0", "throttled=1", "cost=$"]),
        (40, ["40/40 00:00, run 0 thr 1 $"]),
    ],
)
def test_a_real_terminal_shows_one_line_that_fits(columns, words, tmp_path):
    tmux = shutil.which("tmux")
    assert tmux, "the tests need tmux; README.md says how to install it"
    command = [tmux, "-S", str(tmp_path / "socket"), "-f", os.devnull]
    (tmp_path / "program.py").write_text(THROTTLED)
    program = f"{sys.executable} -P {tmp_path / 'program.py'}"
    size = ["-x", str(columns), "-y", "24"]
    subprocess.run([*command, "new-session", "-d", *size, program], check=True, timeout=20)
    try:
        for _ in range(300):
            shown = subprocess.run(
                [*command, "capture-pane", "-p"], check=True, timeout=20, capture_output=True
            ).stdout.decode()
            if "the end" in shown:
                break
            time.sleep(0.1)
    finally:
        subprocess.run([*command, "kill-server"], check=True, timeout=20)
    lines = [line for line in shown.splitlines() if line]
    assert len(lines) == 2, shown  # one line of progress, and what the program printed
    assert all(word in lines[0] for word in words), shown
    assert len(lines[0]) <= columns


def test_the_tally_counts_what_a_job_with_faults_does():
    tally = progress.Tally()
    executor = SimulatedExecutor({1: Throttle(), 2: Crash()}, price=0.01)
    simulate(sum, max, range(40), executor=executor, observers=[tally.count])
    assert (tally.done, tally.total, tally.running, tally.ended) == (40, 40, set(), True)
    assert (tally.retried, tally.throttled) == (1, 1)
    assert tally.cost > 0
    assert set(tally.shown()) == {"running", "retried", "throttled", "limit", "cost"}
