"""Files of which one version is used: read whole, or one clear error."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from featureid.errors import ModelError
from featureid.known_files import KnownFile, file_in_package

DATA = bytes(range(256)) * 40
KNOWN = KnownFile(len(DATA), hashlib.sha256(DATA).hexdigest(), "get it again")


def flipped(data: bytes, place: int) -> bytes:
    """Return data of which one bit is another."""
    changed = bytearray(data)
    changed[place] ^= 4
    return bytes(changed)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "a byte": lambda data: data[:1],
    "half": lambda data: data[: len(data) // 2],
    "without its last byte": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "a bit at the start": lambda data: flipped(data, 9),
    "a bit in the middle": lambda data: flipped(data, len(data) // 2),
    "the last bit": lambda data: flipped(data, -1),
    "a page of zeros": lambda data: data[:4096] + bytes(4096) + data[8192:],
}


def test_the_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    assert KNOWN.read(tmp_path / "file") == DATA


@pytest.mark.parametrize("kind", DAMAGE)
def test_any_damage_is_one_clear_error(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DAMAGE[kind](DATA))
    with pytest.raises(
        ModelError, match=r"file is (truncated|damaged) or another version: it.* i"
    ) as said:
        KNOWN.read(tmp_path / "file")
    assert str(said.value).endswith("; get it again") and "\n" not in str(said.value)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, cause in (
        (tmp_path, "Is a directory"),
        (tmp_path / "pipe", "it is a pipe, socket or device, not a file"),
    ):
        with pytest.raises(ModelError, match=rf"cannot read .*: {cause}; get it again"):
            KNOWN.read(path)
    with pytest.raises(ModelError, match="none: No such file or directory; get it again"):
        KNOWN.read(tmp_path / "none")


def test_a_file_in_a_package_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights_of_others").mkdir()
    (tmp_path / "weights_of_others" / "__init__.py").write_text("raise ImportError")
    (tmp_path / "a_module.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    found = file_in_package("weights_of_others", "models/a.dat")
    assert found == tmp_path / "weights_of_others" / "models" / "a.dat"
    assert (
        file_in_package("a_module", "a.dat") is file_in_package("no_such_package", "a.dat") is None
    )
