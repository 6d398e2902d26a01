"""A bounded run of the fuzzer; ``make fuzz`` is the long one."""

from pathlib import Path

import pytest

from tests import fuzz

RUNS = 300


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_readers_survive_damage_and_lies(name: str, tmp_path: Path) -> None:
    refused = fuzz.fuzz(name, RUNS, 0, tmp_path)
    assert refused > RUNS / 2  # or the damage would not be any
