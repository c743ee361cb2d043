"""Files behind a real XRootD server, and servers that do not answer."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import PyRDF
import pytest
import ROOT
from same import assert_same

USER = "nobody"  # xrootd refuses to run as root
START = 60  # seconds it may take


def free_port():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@pytest.fixture(scope="module")
def server(data):
    """Debian's xrootd, which exports a copy of the data as /data: the URL of that."""
    folder = Path(tempfile.mkdtemp(prefix="pyrdf-xrootd-"))  # where others than root may read
    try:
        shutil.copytree(data, folder / "data")
        port = free_port()
        lines = (
            "all.export /data",
            f"oss.localroot {folder}",
            f"xrd.port {port}",
            f"all.adminpath {folder}",
            f"all.pidpath {folder}",
        )
        (folder / "xrootd.cfg").write_text("\n".join(lines) + "\n")
        command = ["xrootd", "-c", f"{folder}/xrootd.cfg", "-l", f"{folder}/log"]
        if os.getuid() == 0:
            owner = pwd.getpwnam(USER)
            for path in (folder, *folder.rglob("*")):
                os.chown(path, owner.pw_uid, owner.pw_gid)
            command += ["-R", USER]
        process = subprocess.Popen(command, cwd=folder)
        try:
            end = time.monotonic() + START
            while time.monotonic() < end:
                assert process.poll() is None, (folder / "log").read_text()
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 5).close()
                    break
                time.sleep(0.05)
            yield f"root://127.0.0.1:{port}//data"
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(folder)


def test_files_of_a_server(server, data, warm):
    def book(df):
        return df.Filter("i > 20").Histo1D(("h", "", 50, -10, 10), "x"), df.Take["int"]("i")

    names = ["a.root", "b.root", "c.root"]
    urls = [f"{server}/{name}" for name in names]
    df = PyRDF.RDataFrame("t", urls, executor=warm, npartitions=3)
    plain = ROOT.RDataFrame("t", [str(data / name) for name in names])
    for got, want in zip(book(df), book(plain), strict=True):
        assert_same(got, want)


def test_a_file_that_the_server_has_not(server, warm):
    with pytest.raises(PyRDF.InputError, match=r"/data/nothing\.root cannot be opened"):
        PyRDF.RDataFrame("t", f"{server}/nothing.root", executor=warm)


def test_a_later_file_that_the_server_has_not(server, warm):
    urls = [f"{server}/a.root", f"{server}/nothing.root"]
    df = PyRDF.RDataFrame("t", urls, executor=warm, npartitions=2)
    with pytest.raises(PyRDF.RangeError, match=r"range 1.*nothing\.root"):
        df.Count().GetValue()


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "no-such-host.invalid"])
def test_a_server_that_cannot_be_reached(host, warm):
    server = host.format(port=free_port())
    started = time.monotonic()
    with pytest.raises(PyRDF.InputError, match=f"no XRootD server answers at {server}"):
        PyRDF.RDataFrame("t", f"root://{server}//data/a.root", executor=warm)
    assert time.monotonic() - started < 60


def test_a_server_that_accepts_and_says_nothing(warm):
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        url = f"root://127.0.0.1:{mute.getsockname()[1]}//data/a.root"
        with pytest.raises(PyRDF.InputError, match=r"no XRootD server answers at .*timed out"):
            PyRDF.RDataFrame("t", url, executor=warm)
