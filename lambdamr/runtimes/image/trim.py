"""Removes what a worker does not need, in the image that is being built.

python trim.py root: the parts of ROOT that no RDataFrame touches.
python trim.py system: compilers, package managers, documentation, tests.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

WORKER = Path("/opt/worker")

# Libraries of ROOT, each with the module of its headers: I/O, trees and RNTuples, RDataFrame,
# vectors, histograms and graphs, four-vectors and matrices, XRootD. Rint is here because MathCore's
# module imports it. The rest is graphics, fits and their tools, and is most of what the interpreter
# reads when it starts.
KEPT = """
    Core EG GenVector Gpad Graf Graf3d Hist Imt MathCore MathMore Matrix MultiProc Net NetxNG
    Physics RIO ROOTDataFrame ROOTNTuple ROOTNTupleUtil ROOTVecOps Rint Smatrix Thread Tree
    TreePlayer
"""
FOUNDATION = re.compile(r"Cling_|ROOT_|_Builtin_|libc$|std$")  # modules without a library of theirs
OF_ROOT = "JsMVA README bin cmake etc/notebook fonts icons macros man tutorials"
_MODULE = re.compile(r'module "?([\w.]+)"?')

# Packages of Debian whose files go; their entries in dpkg's list stay, for scanners.
PACKAGES = re.compile(
    r"""(g\+\+|gcc|cpp)(-\d+)?$ | (g\+\+|gcc|cpp)-.*-linux-gnu.*$ | binutils
    | lib(binutils|ctf|gprofng|cc1|isl|mpc|mpfr) | lib(asan|hwasan|itm|lsan|quadmath|tsan|ubsan)\d
    | apt$ | libapt-pkg | perl-base$ | debconf$ | adduser$ | e2fsprogs$ | logsave$ | mount$ | login$
    | passwd$ | util-linux | bsdutils$ | sysvinit-utils$ | gpgv$ | debian-archive-keyring$
    | init-system-helpers$ | python3-(pip|venv|setuptools|wheel|distutils|lib2to3)$ | manpages
    | python3\.\d+-venv$ | rpcsvc-proto$ | dpkg(-dev)?$ | make$ | patch$ | openssl$
    # Libraries of these programs, which nothing else uses.
    | lib(blkid|ext2fs|gcrypt|gnutls|gpg-error|hogweed|jansson|mount|nettle|p11-kit|seccomp
        |semanage|sepol|smartcols|ss|systemd|tasn1|udev|xxhash)[-\d]""",
    re.VERBOSE,
)
RUBBISH = """
    /boot /etc/apt /media /mnt /srv /usr/games /usr/lib/apt /usr/share/apt /usr/src /var/cache
    /var/lib/apt /var/lib/dpkg/alternatives /var/lib/dpkg/info /var/log
    /usr/share/bash-completion /usr/share/bug /usr/share/doc /usr/share/gcc /usr/share/gdb
    /usr/share/info /usr/share/lintian /usr/share/locale /usr/share/man /usr/share/perl5
    /usr/share/python-wheels
"""
OF_PYTHON = "ensurepip idlelib lib2to3 pydoc_data test tkinter turtledemo turtle.py"
OF_NUMPY = "distutils f2py"  # they call compilers
TOOLS = "pip setuptools wheel pkg_resources _distutils_hack"
SERVICES = "s3 secretsmanager sqs ssm sts"  # of AWS, that the handler calls


def trim_root(root: Path) -> None:
    """Remove libraries, their modules and headers' entries, and what is for people."""
    kept, gone = set(KEPT.split()), set()
    for module in (root / "lib").glob("*.pcm"):
        if module.stem not in kept and not FOUNDATION.match(module.stem):
            gone.add(module.stem)
            module.unlink()
    for library in (root / "lib").glob("lib*.so"):
        name = library.name[3:-3]
        if name in gone or name.startswith(("RooBatchCompute", "SrvAuth", "New")):
            library.unlink()
    map_of_modules = root / "include/ROOT.modulemap"
    lines, keep = [], True
    for line in map_of_modules.read_text().splitlines():
        if match := _MODULE.match(line):
            keep = match[1] not in gone
        if keep:
            lines.append(line)
    map_of_modules.write_text("\n".join(lines) + "\n")
    for index in (root / "lib").glob("modules.*"):  # the next start writes the index anew
        index.unlink()
    for folder in OF_ROOT.split():
        shutil.rmtree(root / folder, ignore_errors=True)
    _link_copies(root / "lib")


def _link_copies(folder: Path) -> None:
    """Make one file of a library's several names: a wheel has no links, and has it thrice."""
    first: dict[bytes, Path] = {}
    for library in sorted(folder.glob("*.so*")):
        content = hashlib.sha256(library.read_bytes()).digest()
        if (known := first.setdefault(content, library)) is not library:
            library.unlink()
            library.symlink_to(known.name)


def trim_site(site: Path) -> None:
    """Remove tests, types and tools of the packages."""
    for folder in [*site.rglob("tests"), *site.rglob("test")]:
        if folder.is_dir() and not folder.is_relative_to(site / "ROOT/include"):
            shutil.rmtree(folder, ignore_errors=True)
    for pattern in ("*.pyi", "*.a", "*.pyx", "*.pxd"):
        for file in site.rglob(pattern):
            file.unlink()
    for folder in (site / "bin", *map((site / "numpy").joinpath, OF_NUMPY.split())):
        shutil.rmtree(folder, ignore_errors=True)
    if not (site / "boto3").exists():  # else mappers call any service
        for folder in (site / "botocore/data").glob("*/"):
            if folder.is_dir() and folder.name not in SERVICES.split():
                shutil.rmtree(folder)


def trim_system() -> None:
    """Remove files of packages, and all that only documents, builds or installs."""
    packages = [package for package in _packages() if PACKAGES.match(package)]
    listed = subprocess.run(["dpkg", "-L", *packages], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        path = Path(line)
        if os.path.lexists(path) and not path.is_dir():  # /bin is a link to a folder
            path.unlink()
    for path in map(Path, RUBBISH.split()):
        shutil.rmtree(path, ignore_errors=True)
        if path.parent.exists():
            path.mkdir(exist_ok=True)
    for folder in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
        for name in OF_PYTHON.split():
            _remove(Path(folder, name))
        for name in ("site-packages", "dist-packages"):
            for tool in TOOLS.split():
                for path in Path(folder, name).glob(f"{tool}*"):
                    _remove(path)
        for tests in Path(folder).glob("*/tests"):
            _remove(tests)
        for library in Path(folder).glob("config-*/*.a"):
            library.unlink()
    for pattern in ("*.a", "*.o"):
        for file in Path("/usr/lib").rglob(pattern):
            file.unlink()
    for folder in ("/usr/bin", "/usr/lib", "/etc/alternatives"):
        for link in Path(folder).iterdir():
            if link.is_symlink() and not link.exists():  # to what was removed
                link.unlink()


def _packages() -> list[str]:
    query = ["dpkg-query", "-W", "-f", "${binary:Package}\n"]
    found = subprocess.run(query, capture_output=True, text=True, check=True)
    return [line.partition(":")[0] for line in found.stdout.splitlines()]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        path.unlink()


if __name__ == "__main__":
    if sys.argv[1] == "root":
        trim_root(WORKER / "ROOT")
    else:
        trim_site(WORKER)
        trim_system()
