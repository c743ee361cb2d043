"""Files behind a real XRootD server, and servers that do not answer."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time

import PyRDF
import pytest
import ROOT
from emulated_lambda import stack
from same import assert_same
from xrootd import TOKEN, demanding, folder_of_anyone, free_port, serve


@pytest.fixture(scope="module")
def strict_server(data, tmp_path_factory):
    """A server that lets in who has a bearer token or an X.509 proxy: its URL, and those."""
    with folder_of_anyone() as folder, pytest.MonkeyPatch.context() as patch:
        directives, credentials = demanding(folder, tmp_path_factory.mktemp("mine") / "of user")
        trust(str(credentials.authorities), patch.setenv)  # XRootD looks once, when it starts
        with serve(folder, data, *directives) as url:
            yield url, credentials


def trust(authorities, set_variable):
    set_variable("X509_CERT_DIR", authorities)
    set_variable("XrdSecGSISRVNAMES", "*")  # this machine's address has no name


@pytest.fixture(scope="module")
def server(data, strict_server):
    with folder_of_anyone() as folder, serve(folder, data) as url:
        yield url


def test_files_of_a_server(server, data, warm):
    def book(df):
        return df.Filter("i > 20").Histo1D(("h", "", 50, -10, 10), "x"), df.Take["int"]("i")

    names = ["a.root", "b.root", "c.root"]
    urls = [f"{server}/{name}" for name in names]
    df = PyRDF.RDataFrame("t", urls, executor=warm, npartitions=3)
    plain = ROOT.RDataFrame("t", [str(data / name) for name in names])
    for got, want in zip(book(df), book(plain), strict=True):
        assert_same(got, want)
    globbed = PyRDF.RDataFrame("t", f"{server}/[abc].root", executor=warm)
    assert [path for _, path in globbed._node.head.source.datasets] == urls
    with pytest.raises(PyRDF.InputError, match=r"no file matches .*z\*\.root"):
        PyRDF.RDataFrame("t", f"{server}/z*.root", executor=warm)


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
    chain = ROOT.TChain("t")
    chain.Add(f"root://{server}//data/a.root")
    with pytest.raises(PyRDF.InputError, match=f"no XRootD server answers at {server}"):
        PyRDF.RDataFrame(chain, executor=warm)
    assert time.monotonic() - started < 60


def test_a_server_that_accepts_and_says_nothing(warm):
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        url = f"root://127.0.0.1:{mute.getsockname()[1]}//data/a.root"
        with pytest.raises(PyRDF.InputError, match=r"no XRootD server answers at .*timed out"):
            PyRDF.RDataFrame("t", url, executor=warm)


@pytest.fixture(params=["BEARER_TOKEN_FILE", "X509_USER_PROXY"])
def credential(request, strict_server, tmp_path, monkeypatch):
    """(the name of its variable, its path), which this process has."""
    path = strict_server[1].proxy
    if request.param == "BEARER_TOKEN_FILE":
        path = tmp_path / "token"
        path.write_text(TOKEN)
        path.chmod(0o600)
    monkeypatch.setenv(request.param, str(path))
    return request.param, path


def test_a_server_that_asks_who_you_are(strict_server, credential):
    url, _ = strict_server
    with PyRDF.local(1) as executor:  # which has the variables
        df = PyRDF.RDataFrame("t", f"{url}/a.root", executor=executor, npartitions=2)
        assert df.Sum("i").GetValue() == sum(range(100))


def test_nobody_gets_in_without_a_credential(strict_server):
    """In a process of its own, since this one has a connection."""
    url, _ = strict_server
    script = f"import PyRDF; PyRDF.RDataFrame('t', '{url}/a.root', executor='inline')"
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "Auth failed" in done.stderr
    assert re.search(r"InputError: .*a\.root cannot be opened", done.stderr)


def test_credentials_reach_a_lambda_by_reference(
    strict_server, credential, cloud, aws, registry, monkeypatch
):
    """The functions have none of this process's variables."""
    url, credentials = strict_server
    name, path = credential
    client = stack.client("secretsmanager", cloud)
    client.create_secret(Name=f"of-{name}", SecretString=path.read_text())
    monkeypatch.chdir(credentials.authorities.parent)
    PyRDF.send_generic_files("certificates")
    PyRDF.initialize(lambda: trust(os.path.abspath("certificates"), os.environ.__setitem__))
    PyRDF.use("AWS", {"npartitions": 2, "secrets": {name: f"file:secretsmanager:of-{name}"}})
    df = PyRDF.RDataFrame("t", f"{url}/a.root")
    assert df.Sum("i").GetValue() == sum(range(100))
    PyRDF.use("AWS", {"npartitions": 2})
    with pytest.raises(PyRDF.RangeError, match=re.escape("a.root")):
        PyRDF.RDataFrame("t", f"{url}/a.root").Sum("i").GetValue()
