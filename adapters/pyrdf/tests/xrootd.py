"""Real XRootD servers (Debian's xrootd-server) for the tests, and credentials that one asks for."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

USER = "nobody"  # xrootd refuses to run as root
START = 60  # seconds it may take
TOKEN = "a.bearer.token"

# What a real site has validate tokens (XrdSciTokens): here one token is good, for an hour.
_VALIDATOR = r"""
#include <cstring>
#include <ctime>
#include <string>
#include <vector>
class XrdSecEntity;
struct XrdSciTokensHelper {
   struct ValidIssuer { std::string issuer_name, issuer_url; };
   virtual std::vector<ValidIssuer> IssuerList() { return {}; }
   virtual bool Validate(const char *token, std::string &why, long long *expires, XrdSecEntity *)
   {
      if (expires)
         *expires = std::time(nullptr) + 3600;
      why = "another token";
      return std::strcmp(token, "TOKEN") == 0;
   }
   virtual ~XrdSciTokensHelper() {}
};
static XrdSciTokensHelper helper;
extern "C" { XrdSciTokensHelper *SciTokensHelper = &helper; }
"""


@dataclass(frozen=True)
class Credentials:
    """What lets a user in, and the authorities that vouch for the server."""

    authorities: Path
    proxy: Path


def free_port():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@contextlib.contextmanager
def folder_of_anyone():
    """A temporary folder where others than root may read."""
    folder = Path(tempfile.mkdtemp(prefix="pyrdf-xrootd-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def serve(folder, data, *directives):
    """The URL of a server that exports a copy of the data as /data; its files are in the folder."""
    shutil.copytree(data, folder / "data")
    port = free_port()
    lines = (
        "all.export /data",
        f"oss.localroot {folder}",
        f"xrd.port {port}",
        f"all.adminpath {folder}",
        f"all.pidpath {folder}",
        *directives,
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


def demanding(folder, mine):
    """(the directives of a server that wants a token or a proxy, the credentials of a user)."""
    authority, host, user = (_certificate(folder, name) for name in ("ca", "host", "user"))
    proxy = _certificate(folder, "proxy")
    mine.mkdir()
    shutil.copy(proxy.with_suffix(".pem"), mine / "proxy.pem")
    with (mine / "proxy.pem").open("ab") as file:
        file.write(proxy.with_suffix(".key").read_bytes() + user.read_bytes())
    (mine / "proxy.pem").chmod(0o600)
    hashed = _openssl("x509", "-in", authority, "-noout", "-subject_hash").strip()
    for authorities in (folder / "certificates", mine / "certificates"):
        authorities.mkdir()
        shutil.copy(authority, authorities / f"{hashed}.0")
        (authorities / f"{hashed}.signing_policy").write_text(
            "access_id_CA X509 '/O=lambdamr/CN=ca'\npos_rights globus CA:sign\n"
            "cond_subjects globus '\"/O=lambdamr/*\"'\n"
        )
    (folder / "validator.cxx").write_text(_VALIDATOR.replace("TOKEN", TOKEN))
    # The server looks for its plugins under names that have a version.
    library = folder / "libvalidator-5.so"
    command = ["c++", "-shared", "-fPIC", folder / "validator.cxx", "-o", library]
    subprocess.run(command, check=True)
    shutil.copy(library, folder / "libvalidator.so")
    pair = f"-cert:{host} -key:{host.with_suffix('.key')}"
    directives = (
        "xrootd.seclib libXrdSec.so",
        f"xrd.tls {host} {host.with_suffix('.key')}",
        f"xrd.tlsca certdir {folder}/certificates",
        "xrootd.tls all",
        f"sec.protocol ztn -tokenlib {folder}/libvalidator.so",
        f"sec.protocol gsi -certdir:{folder}/certificates {pair} -crl:0 -gridmap:none -gmapopt:10",
        "sec.protbind * only ztn gsi",
    )
    return directives, Credentials(mine / "certificates", mine / "proxy.pem")


def _certificate(folder, name):
    """A certificate, its key beside it: of an authority, signed by it, or a proxy (RFC 3820)."""
    path, key = folder / f"{name}.pem", folder / f"{name}.key"
    subject = "/O=lambdamr/CN=user/CN=1" if name == "proxy" else f"/O=lambdamr/CN={name}"
    request = ("req", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", key)
    if name == "ca":
        uses = "keyUsage=critical,keyCertSign,cRLSign"
        _openssl(*request, "-x509", "-days", "2", "-addext", uses, "-out", path)
        return path
    extensions = "keyUsage=critical,digitalSignature,keyEncipherment\n"
    if name == "host":
        extensions += "subjectAltName=IP:127.0.0.1\n"
    if name == "proxy":
        extensions += "proxyCertInfo=critical,language:id-ppl-inheritAll\n"
    (folder / "extensions").write_text(extensions)
    _openssl(*request, "-out", folder / "request")
    signer = folder / ("user.pem" if name == "proxy" else "ca.pem")
    sign = ("x509", "-req", "-in", folder / "request", "-CA", signer, "-days", "1")
    sign += ("-CAkey", signer.with_suffix(".key"), "-CAcreateserial")
    _openssl(*sign, "-extfile", folder / "extensions", "-out", path)
    return path


def _openssl(*arguments):
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
