"""Files that are elsewhere: objects in S3, which are fetched, and servers of XRootD.

The ROOT that pip installs reads ``root://`` and has no client for S3. So objects become local
files: whole, once for each machine, as long as the object stays the same.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import hashlib
import os
import re
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PyRDF import interpreter
from PyRDF.errors import InputError, reason

_KEPT = 24 * 3600  # seconds that a fetched object stays after its last use
_SPARE = 64 << 20  # bytes of a disk that are left free
_PORT = 1094  # of XRootD
_KNOCK = 10  # seconds to reach a server
_HELLO = struct.pack(">5i", 0, 0, 0, 4, 2012)  # XRootD protocol 5.2, section 2: the handshake
_PATIENCE = {
    "XRD_CONNECTIONWINDOW": "15",  # seconds for one attempt to connect; XRootD's own are 120,
    "XRD_CONNECTIONRETRY": "2",  # 5 times,
    "XRD_STREAMERRORWINDOW": "30",  # and 1,800 until it gives up
    "XRD_STREAMTIMEOUT": "60",
    "XRD_REQUESTTIMEOUT": "300",
}


def on_s3(path: str) -> bool:
    """Whether it is an object in S3."""
    return path.startswith("s3://")


def on_network(path: str) -> bool:
    """Whether ROOT itself reads it over the network, with threads of its own."""
    return "://" in path and not on_s3(path)


def expand(url: str) -> list[str]:
    """The files of a URL, in which ``*`` and ``[...]`` stand for parts of names; sorted.

    Raises:
        InputError: there are none, or nobody says which there are.
    """
    if not any(sign in url.partition("//")[2] for sign in "*["):  # a question mark begins a query
        if on_s3(url):
            version(url)  # or there is none
        return [url]
    found = _matching_objects(url) if on_s3(url) else _matching_files(url)
    if not found:
        raise InputError(f"no file matches {url}")
    return sorted(found)


def home() -> Path:
    """A folder for what this user's processes may find again; on Lambda beside a task's own."""
    shared = "/tmp" if "AWS_LAMBDA_FUNCTION_NAME" in os.environ else tempfile.gettempdir()
    folder = Path(shared) / f"pyrdf-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RuntimeError(f"{folder} belongs to somebody else")
    return folder


# -- XRootD --------------------------------------------------------------------------------------


@functools.cache
def prepare() -> None:
    """Let XRootD's client give up in a minute, unless the user's environment says otherwise.

    And have ROOT 6.40 ask the server even where it could open the file by itself: it would be the
    file of another name then, and no sample of a dataset that is specified.
    """
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    interpreter.set_default("Path.ForceRemote", 1)


def check(paths: Iterable[str]) -> None:
    """Knock at the servers of these files, and open the first.

    Raises:
        InputError: nobody answers at one of them, or the file cannot be opened.
    """
    distant = list(filter(on_network, paths))
    if not distant:
        return
    prepare()
    _check_servers(distant)
    _check_file(distant[0])


def _check_servers(paths: Iterable[str]) -> None:
    servers = {urlsplit(path).netloc: path for path in paths if path.startswith("root")}
    for server, path in servers.items():
        where = urlsplit(path)
        try:
            address = where.hostname or "", where.port or _PORT
            with socket.create_connection(address, _KNOCK) as connection:
                connection.sendall(_HELLO)
                if not connection.recv(1):
                    raise ConnectionError("it hung up")
        except (OSError, ValueError) as error:
            raise InputError(
                f"no XRootD server answers at {server}: {error}. "
                f"Is the name right, and may this machine connect to it? ({path})"
            ) from error


def _matching_files(pattern: str) -> list[str]:
    import ROOT

    prepare()
    _check_servers([pattern])
    try:
        return [str(path) for path in ROOT.Internal.TreeUtils.ExpandGlob(pattern)]
    except Exception as error:  # C++ raises anything
        raise InputError(f"the files {pattern} cannot be listed: {reason(error)}") from error


def _check_file(path: str) -> None:
    import ROOT

    try:
        ROOT.TFile.Open(path).Close()
    except OSError as error:
        raise InputError(
            f"{path} cannot be opened; what its server said, if anything, is above, or in the log"
        ) from error


# -- S3 ------------------------------------------------------------------------------------------


def version(url: str) -> str:
    """What changes when the object does.

    Raises:
        InputError: there is no such object, or it may not be read.
    """
    return str(_asked("head_object", url)["ETag"])


def fetch(url: str) -> str:
    """A local file with the content of an object; the same file until `forget` is called.

    Raises:
        InputError: there is no such object, or it may not be read.
    """
    path = _fetched(url)
    if not os.path.exists(path):
        forget()
        path = _fetched(url)
    return path


def forget() -> None:
    """Objects may have changed since they were fetched."""
    _fetched.cache_clear()


def store(path: str, url: str) -> None:
    """Make an object of a local file.

    Raises:
        InputError: it may not be written.
    """
    with open(path, "rb") as file:
        _asked("put_object", url, Body=file)


@functools.lru_cache(4096)
def _fetched(url: str) -> str:
    answer = _asked("get_object", url)
    with answer["Body"] as body:
        named = hashlib.blake2b(f"{url} {answer['ETag']}".encode(), digest_size=12).hexdigest()
        folder = home() / "s3"
        folder.mkdir(exist_ok=True)
        path = folder / f"{named}-{url.rpartition('/')[2]}"
        if path.exists():
            os.utime(path)
            return str(path)
        _make_room(folder, int(answer["ContentLength"]))
        descriptor, new = tempfile.mkstemp(dir=folder)
        try:
            with open(descriptor, "wb") as file:
                shutil.copyfileobj(body, file, 1 << 20)
            os.replace(new, path)
        except BaseException:
            os.unlink(new)
            raise
    return str(path)


def _make_room(folder: Path, size: int) -> None:
    """Remove what nobody has used for a day, and what is oldest if the disk is short."""
    found = sorted((file.stat().st_mtime, file) for file in folder.iterdir())
    for used, file in found:
        short = shutil.disk_usage(folder).free < size + _SPARE
        if short or used < time.time() - _KEPT:
            file.unlink(missing_ok=True)


def _asked(operation: str, url: str, **more: Any) -> Any:
    bucket, key = _named(url)
    s3 = _client(os.getpid())
    with _clear(operation.replace("_object", ""), url):
        return getattr(s3, operation)(Bucket=bucket, Key=key, **more)


def _matching_objects(pattern: str) -> list[str]:
    bucket, key = _named(pattern)
    parts = key.split("/")
    before = re.split(r"[*[]", key, maxsplit=1)[0]
    found = []
    with _clear("list", pattern):
        pages = _client(os.getpid()).get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=before):
            for item in page.get("Contents", ()):
                name = item["Key"].split("/")
                if len(name) == len(parts) and all(map(fnmatch.fnmatchcase, name, parts)):
                    found.append(f"s3://{bucket}/{item['Key']}")
    return found


def _named(url: str) -> tuple[str, str]:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise InputError(f"{url!r} is no object: s3://bucket/name/of/it.root")
    return bucket, key


@contextlib.contextmanager
def _clear(doing: str, url: str) -> Iterator[None]:
    """What S3 refuses, said in a clear way."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
        said = {
            "404": "there is no such object, or no such bucket",
            "NoSuchKey": "there is no such object",
            "NoSuchBucket": "there is no such bucket",
            "403": "access is denied; whose credentials are in use?",
            "AccessDenied": "access is denied; whose credentials are in use?",
        }.get(code, f"{type(error).__name__}: {error}")
        raise InputError(f"{doing} {url}: {said}") from error


@functools.lru_cache(1)
def _client(process: int) -> Any:
    """One for each process: connections do not survive a fork."""
    try:
        from lambdamr.runtimes.s3 import client

        return client("s3")
    except ImportError as error:
        raise InputError("s3:// needs lambdamr with its AWS part: lambdamr[aws]") from error
