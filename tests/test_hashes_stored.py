"""Perceptual hashes beside the vectors: stored, carried over, refused where they do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import featureid
from featureid.cli import main as cli
from featureid.errors import StorageError
from featureid.images import decode_image
from featureid.images.pdq import MAX_DISTANCE, hash_distances, image_hash, pdq_hash
from featureid.storage.row_columns import row_block, row_columns
from featureid.storage.verify import verify_snapshot
from tests.nightly_samples import Nights
from tests.storage_samples import make_hash, make_info, make_row


@pytest.fixture
def nights(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Nights:
    return Nights(photos, tmp_path, capsys)


def hashes(output: Path) -> dict[str, tuple[bytes, int]]:
    snapshot = featureid.open_snapshot(output)
    bits, quality = (np.asarray(snapshot.column(name)) for name in ("pdq", "pdq_quality"))
    values = zip(snapshot.row_keys(), bits, quality.tolist(), strict=True)
    return {key: (value.tobytes(), number) for key, value, number in values}


def test_a_night_carries_hashes_over_and_adds_new_ones(nights: Nights) -> None:
    nights.run()
    before = hashes(nights.output)
    for key, (bits, quality) in before.items():
        wanted, of = image_hash(decode_image((nights.pictures / key).read_bytes()).pixels)
        found = np.frombuffer(bits, np.uint8)
        assert hash_distances(found, wanted[np.newaxis]) <= 8 and abs(quality - of) <= 10
    (nights.pictures / "new.jpg").write_bytes((nights.pictures / "coffee.jpg").read_bytes())
    assert nights.run()["changes"]["unchanged"] == len(before) + 1
    after = hashes(nights.output)
    assert {key: after[key] for key in before} == before
    assert after["new.jpg"] == before["coffee.jpg"]
    assert verify_snapshot(str(nights.output)).ok


def test_a_snapshot_without_hashes_stays_so_until_all_is_embedded_again(
    nights: Nights, capsys: pytest.CaptureFixture[str]
) -> None:
    nights.run("--hash=none")
    (nights.pictures / "new.jpg").write_bytes((nights.pictures / "coffee.jpg").read_bytes())
    nights.run()
    assert featureid.open_snapshot(nights.output).model.hash == ""
    assert (
        "stores the perceptual hash none, this run pdq"
        in (nights.run("--hash=pdq", status=2)["error"])
    )
    nights.run("--hash=pdq", "--re-embed")
    snapshot = featureid.open_snapshot(nights.output)
    assert snapshot.model.hash == "pdq" and len(hashes(nights.output)) == snapshot.num_rows
    assert cli.main(["inspect", str(nights.output)]) == 0
    assert "hash          pdq" in capsys.readouterr().out


def test_faces_have_no_hash(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(tmp_path / "out")
    face = ["embed", str(photos / "astronaut.png"), "--model=face", "--output", output]
    assert cli.main([*face, "--hash=pdq"]) == 2
    assert "the model face takes faces" in capsys.readouterr().err
    assert cli.main(face) == 0
    assert featureid.open_snapshot(output).model.hash == ""


def test_rows_with_and_without_hashes_do_not_mix() -> None:
    plain = make_info().model
    hashing = replace(plain, hash="pdq")
    row, hashed = make_row("a"), replace(make_row("a"), hash=make_hash("a"))
    assert [spec.name for spec in row_columns(hashing)][-2:] == ["pdq", "pdq_quality"]
    with pytest.raises(StorageError, match=r"a: .* no perceptual hash, .* stores the hash pdq"):
        row_block([hashed, row], hashing)
    with pytest.raises(StorageError, match="a perceptual hash, but the snapshot stores none"):
        row_block([hashed], plain)


def test_large_images_are_hashed_from_fewer_pixels() -> None:
    random = np.random.default_rng(2)
    pixels = random.integers(256, size=(12, 9, 3)).astype(np.uint8)
    large = np.kron(pixels, np.ones((177, 231, 1), np.uint8))  # 2,124 x 2,079
    found, _ = image_hash(large)
    assert hash_distances(found, pdq_hash(large)[0][np.newaxis]) <= MAX_DISTANCE // 2
    small = large[::4, ::4]
    assert np.array_equal(image_hash(small)[0], pdq_hash(small)[0])
