"""A short run of the fuzzer; ``make fuzz`` runs it for long."""

from pathlib import Path

import pytest

from tests import fuzz

RUNS = 300
# Of most files a change is an error; of these it may well be another good file.
REFUSED_AT_LEAST = {"damaged_onnx": 0.05, "forged_preprocessing": 0.2, "damaged_image": 0.3}
# Images are larger than what the others read.
RUNS_OF = {"damaged_image": 60}


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_readers_refuse_damaged_and_forged_files(name: str, tmp_path: Path) -> None:
    runs = RUNS_OF.get(name, RUNS)
    refused = fuzz.fuzz(name, runs, 0, tmp_path)
    # Otherwise the changes would be harmless.
    assert refused > runs * REFUSED_AT_LEAST.get(name, 0.5)
