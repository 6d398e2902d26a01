"""Every command line in a document or deploy file is one that featureid accepts."""

import re
from pathlib import Path

import pytest

from tests import command_lines

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SCRIPTS = sorted(
    path
    for folder in ("cron", "systemd")
    for path in (ROOT / "deploy" / folder).iterdir()
    if path.suffix != ".timer"
)


def shown_in(path: Path) -> list[list[str]]:
    if path.suffix == ".md":
        return list(command_lines.find(command_lines.shell_blocks(path)))
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".service":
        text = "\n".join(re.findall(r"^Exec\w+=(.*)", text, re.MULTILINE))
    return list(command_lines.find(text))


@pytest.mark.parametrize("path", [*DOCUMENTS, *SCRIPTS], ids=lambda path: path.name)
def test_every_command_line_is_accepted(path: Path) -> None:
    for argv in shown_in(path):
        assert command_lines.is_wrong(argv) is None, argv


def test_command_lines_are_found() -> None:
    found = {path.name: len(shown_in(path)) for path in [*DOCUMENTS, *SCRIPTS]}
    assert found["README.md"] >= 4 and found["running.md"] >= 1 and found["operations.md"] >= 4
    assert (found["featureid-nightly"], found["featureid"], found["featureid.service"]) == (2, 1, 2)


def test_command_lines_end_where_the_shell_ends_them() -> None:
    text = """
    a && /opt/bin/featureid embed 'a;b' --output "$out" \\
        --dtype float16 >log && featureid verify b | tail  # featureid is used
    python -m pipelines.embed --input=c --output=d
    # featureid nothing
    """
    assert list(command_lines.find(text)) == [
        ["embed", "a;b", "--output", "$out", "--dtype", "float16"],
        ["verify", "b"],
        ["embed", "--input=c", "--output=d"],
    ]


@pytest.mark.parametrize(
    "argv",
    [
        ["embd", "a", "--output", "b"],
        ["embed", "a", "--ouput", "b"],
        ["embed", "a", "--output", "b", "--direct_num_worker=2"],
        ["embed", "a", "--output", "b", "--threads", "-1"],
        ["inspect", "a", "--max-age", "26"],
        ["verify"],
    ],
)
def test_a_misspelled_command_line_is_refused(argv: list[str]) -> None:
    assert command_lines.is_wrong(argv)
