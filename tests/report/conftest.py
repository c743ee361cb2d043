"""Makes `recorded` importable, and says where the documentation lies."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("recorded")


@pytest.fixture
def docs() -> Path:
    return Path(__file__).parents[2] / "docs"
