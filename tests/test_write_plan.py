"""What a run decides as it writes."""

from pathlib import Path

import pytest

from featureid.errors import FeatureIdError
from featureid.refresh import Changes
from featureid.storage.reader import open_snapshot
from featureid.write_plan import WritePlan, too_many_failures
from tests.storage_samples import FAILURES, make_info, make_row, make_writer, write_shards


@pytest.mark.parametrize(
    ("images", "embedded", "rate", "reason"),
    [
        (4, 4, 0.0, ""),
        (4, 3, 0.25, ""),
        (4, 3, 0.2, "1 of the 4 images failed, more than `max_failure_rate=0.2` allows"),
        (4, 0, 1.0, "none of the 4 images could be embedded"),
        (4, 1, 1.0, ""),
    ],
)
def test_too_many_failures(images: int, embedded: int, rate: float, reason: str) -> None:
    assert too_many_failures(images, embedded, rate) == reason


def test_a_run_that_nobody_waits_for_fails_after_it_has_published(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, make_info())
    writer.begin()
    shards = write_shards(writer, [make_row("a")])
    plan = WritePlan(writer, max_failure_rate=0.5)
    for _ in range(2):  # A runner tries a failed step again.
        with pytest.raises(FeatureIdError, match="is published, but 2 of the 3 images failed"):
            plan.finish(writer, [Changes(new=3)], FAILURES, 0, True, shards)
        assert list(open_snapshot(str(tmp_path))) == ["a"]
    plan = WritePlan(writer)
    assert plan.finish(writer, [Changes(new=3)], FAILURES, 0, True, shards) == writer.folder
