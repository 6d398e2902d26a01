"""What commands print with --json: fields of the same name have the same form everywhere."""

import contextlib
import io
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from featureid.cli import main as cli
from featureid.durations import parse_time
from featureid.storage.records import ModelInfo
from tests.foreign_networks import convolutional

# Their names are data: reasons, percentiles, options of a model.
FREE = {
    "failures_by_reason",
    "cosine_percentiles",
    "different_percentiles",
    "preprocessing",
    "provenance",
    "examples",
    "tar",
}
RUNNING = (Path(__file__).parents[1] / "docs" / "running.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def printed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Command -> what it prints, for every command with a result."""
    place = tmp_path_factory.mktemp("json")
    images, out = place / "images", place / "out"
    shutil.copytree(photos / "small", images)
    (images / "bad.jpg").write_text("not an image")
    results: dict[str, Any] = {}

    def run(*argv: object) -> None:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            assert cli.main([*map(str, argv), "--json"]) == 0
        (line,) = output.getvalue().splitlines()
        results[cli.find_command([*map(str, argv)])[0]] = json.loads(line)

    run("embed", images, "--output", out)
    first = results["embed"]["folder"]
    (images / "rocket.jpg").unlink()
    run("plan", images, "--output", out, "--sample=1")
    run("embed", images, "--output", out)
    run("inspect", out, "--failures", "--keys")
    run("verify", out)
    run("report", out, "--output", place / "report.html")
    run("snapshots", out)
    run("diff", first, out)
    run("export", out, "--to", "npy", place / "x.npy")
    run("import", place / "x.npy", "--model", "same", "--output", place / "back")
    run("prune", out, "--keep=1")
    run("compare", photos / "astronaut.png", photos / "astronaut.png", "--model", "face")
    run("search", out, "--query", images)
    run("match", out, "--query", out, "--output", place / "matches")
    run("duplicates", out)
    run("group", out, "--output", place / "groups")
    run("index", out)
    run("identify", out, images, "--threshold=0.9")
    for number in (1, 2):  # classes of two images each
        (place / f"classes/{number}").mkdir(parents=True)
        for name in ("chelsea", "coffee"):
            shutil.copy(photos / "small" / f"{name}.jpg", place / f"classes/{number}")
    run("evaluate", place / "classes")
    labeled = str(place / "labeled")
    assert cli.main(["embed", str(place / "classes"), "--output", labeled]) == 0
    run("calibrate", labeled, "--far=0.9")
    run("faces", photos / "astronaut.png")
    network = place / "net.onnx"
    network.write_bytes(convolutional(8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATUREID_MODELS", str(place / "models"))
        run("models", "add", network, "--name", "mine", "--mean", "0", "--std", "1")
        run("models")
        run("models", "describe", "mine")
        run("models", "check", "mine")
        run("models", "remove", "mine")
    return results


def each_field(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every name in a result with its value."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield name, item
            if name not in FREE:
                yield from each_field(item)
    elif isinstance(value, list):
        for item in value:
            yield from each_field(item)


def form(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return type(value).__name__
    return "number"


def test_every_command_with_a_result_is_here(printed: dict[str, Any]) -> None:
    # Training needs TensorFlow: tests/training.
    assert set(printed) == set(cli.COMMANDS) - {"worker-pool", "train"}


def test_a_name_has_one_form(printed: dict[str, Any]) -> None:
    forms: dict[str, set[str]] = defaultdict(set)
    for result in printed.values():
        for name, value in each_field(result):
            if value is not None:
                forms[name].add(form(value))
    assert {name: found for name, found in forms.items() if len(found) > 1} == {}


def test_shared_fields_are_what_the_documents_say(printed: dict[str, Any]) -> None:
    for result in printed.values():
        for name, value in each_field(result):
            if name in ("snapshot", "previous", "result") and value:
                assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", value)
            if name == "folder":
                assert re.search(r"/(snapshots|results)/\d{8}T\d{6}Z-[0-9a-f]{6}$", value)
            if name == "model":
                assert set(value) == {field.name for field in fields(ModelInfo)}
            if name in ("created", "checked", "started") and value:
                parse_time(re.sub(r"\.\d{3}Z$", "Z", value))
            if name == "changes" and value:
                assert list(value) == ["new", "changed", "retried", "unchanged", "deleted"]
    shared = defaultdict(set)
    for command, result in printed.items():
        for name, _ in each_field(result):
            shared[name].add(command)
    section = RUNNING.partition("\n## JSON\n")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`(\w+)`", section))
    parts = {"file", "key", "index", "digest", "name", "license", "sha256", "version"}
    unsaid = {name for name, where in shared.items() if len(where) > 1} - documented - parts
    assert unsaid == set()
