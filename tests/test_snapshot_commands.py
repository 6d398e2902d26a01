"""How old a snapshot may be: durations, and the check that a schedule relies on."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from featureid.cli import main as cli
from featureid.cli.inspect import check_age
from featureid.durations import parse_duration, time_text
from featureid.errors import CorruptFileError, StorageError, UsageError
from tests.storage_samples import ID, write_snapshot

CREATED = datetime(2026, 11, 23, 5, 42, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("90s", timedelta(seconds=90)),
        ("90m", timedelta(minutes=90)),
        ("26h", timedelta(hours=26)),
        ("7d", timedelta(days=7)),
        ("0h", timedelta(0)),
    ],
)
def test_durations(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", ["", "26", "h", "26 h", "1.5h", "-1h", "26H", "2w", "٣h", "1h30m"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="invalid duration"):
        parse_duration(text)


def test_only_an_older_snapshot_is_refused() -> None:
    limit = timedelta(hours=26)
    check_age("out", time_text(CREATED), limit, CREATED)
    check_age("out", time_text(CREATED), limit, CREATED + limit)
    with pytest.raises(StorageError, match="is 26 h 1 min old, more than the allowed 26 h 0 min"):
        check_age("out", time_text(CREATED), limit, CREATED + limit + timedelta(minutes=1))
    with pytest.raises(CorruptFileError, match="'yesterday' as the time"):
        check_age("out", "yesterday", limit, CREATED)


def test_inspect_tells_a_stale_snapshot_by_its_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_snapshot(tmp_path, ["a.jpg"])
    assert cli.main(["inspect", str(tmp_path), "--max-age", "999999d"]) == 0
    assert capsys.readouterr().err == ""
    assert cli.main(["inspect", str(tmp_path), "--max-age", "0s"]) == 1
    captured = capsys.readouterr()
    assert "rows          1 in 3 shards" in captured.out
    assert captured.err.startswith("featureid: ") and captured.err.count("\n") == 1
    assert "find out why no later run has published" in captured.err


def test_a_snapshot_that_was_found_up_to_date_is_not_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_snapshot(tmp_path, ["a.jpg"])
    inspect = ["inspect", str(tmp_path), "--max-age", "1h"]
    assert cli.main(inspect) == 1
    now = time_text(datetime.now(UTC))
    (tmp_path / "checked").write_text(f"{ID} {now}\n")
    capsys.readouterr()
    assert cli.main(inspect) == 0
    assert f"checked       {now}: no changes" in capsys.readouterr().out
    (tmp_path / "checked").write_text(f"20261122T010203Z-ffffff {now}\n")  # not about this one
    assert cli.main(inspect) == 1
    (tmp_path / "checked").write_bytes(b"\xff")
    assert cli.main(inspect) == 1


def test_a_missing_snapshot_is_stale_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect", str(tmp_path), "--max-age", "26h"]) == 1
    assert "holds no complete snapshot" in capsys.readouterr().err
