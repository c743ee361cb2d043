"""Builds the image with ROOT once, from a base that needs no registry, and says where it lies."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

for folder in (
    Path(__file__).parent,
    *map(Path(__file__).parents[2].joinpath, ("tests/aws", "examples/dimuon")),
):
    sys.path.insert(0, str(folder))

from building import BASE, HERE, build_image, mounted  # noqa: E402  # from next door

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ROOT's wheel says that it is young
    import ROOT

    ROOT.gROOT.SetBatch(True)


@pytest.fixture(scope="session")
def _storage(tmp_path_factory):
    """Of buildah, for these tests alone; `LAMBDAMR_TEST_STORAGE` is one that is there already."""
    assert os.getuid() == 0, "needs root: to mount, and to change the root folder"
    kept = os.environ.get("LAMBDAMR_TEST_STORAGE")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("storage")
    if not (folder / "storage.conf").exists():
        subprocess.run([HERE / "storage", folder], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_STORAGE_CONF", str(folder / "storage.conf"))
        patch.setenv("BUILDAH_ISOLATION", "chroot")
        yield
    if not kept:
        shutil.rmtree(folder)  # pytest would keep three of them, of 2 GB


@pytest.fixture(scope="session")
def base(_storage):
    """Debian 12 and its Python 3.11."""
    if subprocess.run(["buildah", "inspect", BASE], capture_output=True).returncode:
        subprocess.run([HERE / "image-base", BASE], check=True)


@pytest.fixture(scope="session")
def image(base):
    """The image with ROOT: its name, and where its files can be seen."""
    done = build_image()
    assert done.returncode == 0, done.stderr
    name = done.stdout.strip()
    with mounted(name) as root:
        yield SimpleNamespace(name=name, root=root)
