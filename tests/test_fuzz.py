"""A short run of the fuzzer; ``make fuzz`` runs it for long."""

from pathlib import Path

import pytest

from tests import fuzz

RUNS = 300


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_readers_refuse_damaged_and_forged_files(name: str, tmp_path: Path) -> None:
    refused = fuzz.fuzz(name, RUNS, 0, tmp_path)
    assert refused > RUNS / 2  # otherwise the changes would be harmless
