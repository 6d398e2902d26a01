"""Links in the documents lead somewhere, and every option of `embed` is documented."""

import json
import re
from pathlib import Path

import pytest

from featureid.cli import embed

ROOT = Path(__file__).parents[1]
# Files under deploy/ that only others of them use.
INTERNAL = {"launch.py"}
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def headings(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = document.parent / name if name else document
        assert file.exists(), f"{document.name} links to {target}, which is not there"
        if anchor:
            assert anchor in headings(file.read_text(encoding="utf-8")), f"{target}: no heading"


def test_every_option_of_embed_is_documented() -> None:
    running = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    parser = embed.make_parser("featureid embed")
    options = {option for action in parser._actions for option in action.option_strings}
    assert {option for option in options if f"`{option}" not in running} == {"-h", "--help"}


def test_the_install_steps_name_what_there_is() -> None:
    names = ("install.md", "operations.md", "running.md")
    docs = {name: (ROOT / "docs" / name).read_text("utf-8") for name in names}
    text = "\n".join(docs.values())
    for path in set(re.findall(r"(?<![\w-])deploy/[\w./@-]+\w", text)):
        assert (ROOT / path).exists(), path
    for folder in (ROOT / "deploy").iterdir():
        for file in [folder] if folder.is_file() else folder.iterdir():
            known = file.name in text or f"{folder.name}/*" in text
            assert known or file.name in INTERNAL, f"{file} is not in the documents"
    dags = "\n".join(path.read_text("utf-8") for path in (ROOT / "deploy/airflow").iterdir())
    for dag in re.findall(r"airflow dags \w+ (\w+)", text):
        assert f'new_dag("{dag}"' in dags
    metadata = json.loads((ROOT / "deploy/dataflow/metadata.json").read_text(encoding="utf-8"))
    parameters = {parameter["name"] for parameter in metadata["parameters"]}
    for given in re.findall(r"--parameters=(\S+)", text):
        for parameter in given.split(","):
            assert parameter.partition("=")[0] in {*parameters, "sdk_container_image"}


def test_the_changelog_knows_this_version() -> None:
    from featureid import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
