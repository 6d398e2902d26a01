"""What a child process is given."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from featureid.models.building.sandbox import Limits, run_child

#: Answers which of the variables that it is asked for are in its environment.
CHILD = """
import os
import msgspec
from featureid.models.building.sandbox import answer

class Asked(msgspec.Struct):
    names: list[str]

answer(Asked, lambda folder, asked: {"found": [name for name in asked.names if name in os.environ]})
"""


class Asked(msgspec.Struct):
    names: list[str]


class Found(msgspec.Struct):
    found: list[str]


def test_a_child_is_given_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tell.py").write_text(CHILD)
    secret = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "FEATUREID_POOL_TOKEN"]
    plain = ["FEATUREID_PLAIN", "PATH"]
    for name in [*secret, "FEATUREID_PLAIN"]:
        monkeypatch.setenv(name, "planted")
    answer = run_child("tell", tmp_path, Asked([*secret, *plain]), Found, Limits(60, 1 << 30))
    assert answer.found == plain
