"""Files are read; folders, pipes and devices are refused, and not waited for."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from featureid.regular_files import read_regular


def test_a_file_is_read_whole_or_its_first_bytes(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"0123456789")
    link.symlink_to(file)
    assert read_regular(file) == read_regular(str(link)) == b"0123456789"
    assert read_regular(file, 4) == b"0123"
    assert read_regular(file, 40) == b"0123456789"


def test_nothing_else_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    for path in (str(tmp_path / "pipe"), str(tmp_path / "socket"), "/dev/zero", "/dev/null"):
        with pytest.raises(OSError, match="it is a pipe, socket or device, not a file"):
            read_regular(path)
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none")
