"""What a run decides as it writes."""

from dataclasses import replace
from pathlib import Path

import pytest

from featureid.errors import TooManyFailuresError
from featureid.refresh import Changes
from featureid.storage.manifest import Counts
from featureid.storage.reader import open_snapshot
from featureid.storage.snapshot import current_snapshot
from featureid.write_plan import WritePlan, too_many_failures
from tests.storage_samples import FAILURES, make_info, make_row, make_writer, write_shards


@pytest.mark.parametrize(
    ("embedded", "failed", "kept", "rate", "reason"),
    [
        (4, 0, 0, 0.0, ""),
        (3, 1, 0, 0.25, ""),
        (3, 1, 0, 0.2, "1 of the 4 images failed, more than `max_failure_rate=0.2` allows"),
        (4, 0, 1, 0.2, "1 of the 4 images failed, more than `max_failure_rate=0.2` allows"),
        (0, 4, 0, 1.0, "none of the 4 images could be embedded"),
        (3, 1, 3, 1.0, "none of the 4 images could be embedded"),
        (1, 3, 0, 1.0, ""),
        (0, 0, 0, 0.0, ""),
    ],
)
def test_too_many_failures(embedded: int, failed: int, kept: int, rate: float, reason: str) -> None:
    counts = Counts(embedded + failed, embedded, failed, {"empty": failed}, kept)
    assert too_many_failures(counts, rate) == reason


@pytest.mark.parametrize("unattended", [False, True])
def test_a_run_with_too_many_failures_publishes_only_if_asked_to(
    tmp_path: Path, unattended: bool
) -> None:
    writer = make_writer(tmp_path, make_info())
    writer.begin()
    shards = write_shards(writer, [make_row("a")])
    outcome = writer, [Changes(new=3)], FAILURES, 0, True, shards
    plan = WritePlan(writer, max_failure_rate=0.5, unattended=unattended)
    message = (
        r"2 of the 3 .*: 1 empty, 1 truncated, such as 'a/empty.jpg': no bytes\. Nothing is pub"
    )
    for _ in range(2):  # A runner tries a failed step again.
        with pytest.raises(TooManyFailuresError, match=message):
            plan.finish(*outcome)
        assert current_snapshot(str(tmp_path)) is None
    plan = replace(plan, publish_anyway=True)
    for _ in range(2):
        if unattended:
            with pytest.raises(TooManyFailuresError, match="is published, but 2 of the 3 images"):
                plan.finish(*outcome)
        else:
            assert plan.finish(*outcome) == writer.folder
        assert list(open_snapshot(str(tmp_path))) == ["a"]
