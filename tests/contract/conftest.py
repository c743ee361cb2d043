"""Makes the suite importable, as for those who copy it, with asserts that say what differs."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("suite")
