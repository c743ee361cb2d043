"""A short soak; the long one is run by hand."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(120)
def test_a_short_soak_finds_nothing_wrong():
    program = Path(__file__).with_name("soak.py")
    ended = subprocess.run(
        [sys.executable, str(program), "--minutes", "0.3", "--resumes", "4"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "every value is right to the bit" in ended.stdout
