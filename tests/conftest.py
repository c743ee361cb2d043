"""Makes what several test modules share importable from here."""

import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# The machine may be busy: a test has a time limit (pyproject.toml), an example of it has none.
settings.register_profile("lambdamr", deadline=None)
settings.load_profile("lambdamr")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The temporary folder of this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder
