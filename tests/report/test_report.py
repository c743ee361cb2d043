"""The observer, the files it leaves, and what it says of bad paths."""

import logging
import multiprocessing
import operator
import subprocess
import sys
import threading

import pytest
from recorded import job, large, task

import lambdamr
from lambdamr import InputError, Report, map_reduce
from lambdamr.observers import page, report
from lambdamr.observers.record import Record


def test_a_job_leaves_every_kind_of_report_that_was_asked_for(tmp_path):
    names = ["job.html", "job.json", "job.csv", "job.parquet"]
    observer = Report(*(tmp_path / name for name in names))
    value = map_reduce(sum, operator.add, range(40), executor="inline", observers=[observer])
    observer.wait()
    assert value == 780
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert Record.read(tmp_path / "job.json").done == 40
    assert "succeeded" in (tmp_path / "job.html").read_text()


def test_a_job_that_fails_leaves_one_too(tmp_path):
    def bad(partition):
        raise ValueError("no such muon")

    observer = Report(tmp_path / "a.json")
    with pytest.raises(lambdamr.MapperError):
        map_reduce(bad, max, range(4), executor="inline", observers=[observer])
    observer.wait()
    record = Record.read(tmp_path / "a.json")
    assert record.error.startswith("MapperError")
    assert "no such muon" in record.failures[0].traceback


def test_several_jobs_may_have_a_file_each(tmp_path):
    observer = Report(tmp_path / "{job}.json")
    for _ in range(2):
        map_reduce(sum, max, range(4), executor="inline", observers=[observer])
    observer.wait()
    assert len({Record.read(path).job for path in tmp_path.iterdir()}) == 2


def test_a_fork_of_a_program_that_left_reports_leaves_its_own(tmp_path):
    def leave(name):
        observer = Report(tmp_path / name)
        map_reduce(sum, max, range(4), executor="inline", observers=[observer])
        observer.wait()

    leave("ours.json")
    child = multiprocessing.get_context("fork").Process(target=leave, args=["theirs.json"])
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert Record.read(tmp_path / "theirs.json").done == 4


def test_a_report_replaces_the_last_one_as_a_whole(tmp_path):
    path = tmp_path / "job.csv"
    path.write_text("old")
    report.write(job(task(0, 0, 1)), path)
    assert len(path.read_text().splitlines()) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_that_cannot_be_written_is_logged_and_the_job_has_its_value(tmp_path, caplog):
    folder = tmp_path / "gone"
    folder.mkdir()
    observer = Report(folder / "job.json")
    folder.rmdir()
    with caplog.at_level(logging.ERROR):
        assert map_reduce(sum, max, range(4), executor="inline", observers=[observer]) == 3
        observer.wait()
    assert "there is no folder" in caplog.text


def test_one_file_that_cannot_be_written_does_not_cost_the_others(tmp_path):
    (tmp_path / "folder").mkdir()
    observer = Report(tmp_path / "folder" / "job.json", tmp_path / "job.json")
    (tmp_path / "folder").rmdir()
    map_reduce(sum, max, range(4), executor="inline", observers=[observer])
    observer.wait()
    assert Record.read(tmp_path / "job.json").done == 4


def test_a_value_does_not_wait_for_its_report(tmp_path, monkeypatch):
    returned, write = threading.Event(), report.write

    def slow(record, path):
        assert returned.wait(60)
        write(record, path)

    monkeypatch.setattr(report, "write", slow)
    observer = Report(tmp_path / "job.json")
    map_reduce(sum, max, range(4), executor="inline", observers=[observer])
    assert list(tmp_path.iterdir()) == []
    returned.set()
    observer.wait()
    assert Record.read(tmp_path / "job.json").done == 4


def test_a_report_lies_where_the_program_was_when_its_job_ended(tmp_path, monkeypatch):
    (tmp_path / "then").mkdir()
    (tmp_path / "now").mkdir()
    monkeypatch.chdir(tmp_path / "then")
    observer = Report("job.json")
    map_reduce(sum, max, range(4), executor="inline", observers=[observer])
    monkeypatch.chdir(tmp_path / "now")
    observer.wait()
    assert [path.parent.name for path in tmp_path.rglob("job.json")] == ["then"]


def test_a_report_that_no_job_has_made_is_not_waited_for(tmp_path):
    Report(tmp_path / "job.json").wait()


def test_a_program_that_ends_leaves_its_report(tmp_path):
    script = f"""
import lambdamr, operator
report = lambdamr.Report({str(tmp_path / "job.html")!r})
lambdamr.map_reduce(sum, operator.add, range(9), executor="inline", observers=[report])
"""
    subprocess.run([sys.executable, "-P", "-c", script], check=True, timeout=60)
    assert "succeeded" in (tmp_path / "job.html").read_text()


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("job.pdf", r"is an \.html, \.json, \.csv or \.parquet file; .*job\.pdf' is none"),
        ("job", "is none"),
        ("no/such/job.html", "there is no folder .* make it first"),
        ("folder.html", "is a folder"),
    ],
)
def test_a_path_that_cannot_be_used_is_refused_at_once(tmp_path, path, complaint):
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InputError, match=complaint):
        Report(tmp_path / path)


def test_what_is_no_path_is_refused():
    with pytest.raises(lambdamr.InputTypeError, match="needs the path of a file, not 7"):
        Report(7)


@pytest.mark.parametrize("name", ["jinja2", "bokeh"])
def test_without_its_packages_a_page_says_what_to_install(tmp_path, monkeypatch, name):
    page.check_installed.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda wanted: None if wanted == name else 1)
    with pytest.raises(InputError, match=rf"needs {name}: pip install 'lambdamr\[report\]'"):
        Report(tmp_path / "job.html")
    Report(tmp_path / "job.json")


def test_without_pyarrow_a_parquet_report_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda wanted: None)
    with pytest.raises(InputError, match=r"pip install 'lambdamr\[parquet\]'"):
        Report(tmp_path / "job.parquet")


def test_jobs_are_compared_in_a_page_only(tmp_path):
    with pytest.raises(InputError, match=r"must end with \.html"):
        report.compare([large(10)] * 2, ["a", "b"], tmp_path / "both.json")


def test_the_text_of_a_job_has_its_numbers_and_the_advice():
    record = job(task(0, 0, 5.9, starting=4.1, cold=True, cost=1.5), error="MapperError: no")
    text = report.as_text([record], ["night"])
    assert "ended" in text
    assert "failed" in text
    assert "1.5 USD" in text
    assert "night: MapperError: no" in text
    assert "night: 41 % of billed time is cold start" in text


def test_two_jobs_are_laid_side_by_side_with_their_ratio():
    text = report.as_text([job(task(0, 0, 2)), job(task(0, 0, 3))], ["a", "b"])
    (line,) = [line for line in text.splitlines() if line.startswith("time")]
    assert line.split() == ["time", "2", "s", "3", "s", "1.5×"]


def test_importing_lambdamr_imports_no_reports():
    import subprocess

    program = "import sys, lambdamr; lambdamr.map_reduce; print('jinja2' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program]) == b"False\n"


@pytest.fixture
def command(monkeypatch, capsys):
    """What `lambdamr report ...` prints, or the message with which it ends."""
    from lambdamr import cli

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lambdamr", "report", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return capsys.readouterr().out if ended.value.code == 0 else ended.value.code

    return run


def test_the_command_prints_renders_and_compares(tmp_path, command):
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    report.write(job(task(0, 0, 2)), a)
    report.write(job(task(0, 0, 3)), b)
    assert "2 s" in command(a)
    assert command(a, tmp_path / "a.html") == ""
    assert "took 2 s" in (tmp_path / "a.html").read_text()
    assert "1.5×" in command("--compare", a, b)
    assert command("--compare", a, b, tmp_path / "both.html") == ""
    assert "1.5×" in (tmp_path / "both.html").read_text()


def test_the_command_says_what_is_wrong(tmp_path, command):
    assert "cannot read" in command(tmp_path / "gone.json")
    assert "give one record" in command(tmp_path / "a.html")
    assert "give two records" in command("--compare", tmp_path / "a.json")
    (tmp_path / "other.json").write_text("{}")
    assert "is no record of a job" in command(tmp_path / "other.json")


def test_the_other_commands_know_of_it(monkeypatch, capsys):
    from lambdamr import cli

    monkeypatch.setattr(sys, "argv", ["lambdamr", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "report" in capsys.readouterr().out
