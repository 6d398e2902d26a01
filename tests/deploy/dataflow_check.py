"""Check the Flex Template's metadata and the Python programs of the images."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.cloud.dataflow_v1beta3 import ContainerSpec

from featureid.cli import main
from tests import command_lines

# Per parameter a value that its pattern must accept, and one that it must refuse.
EXAMPLES = {
    "input": ("gs://bucket/photos/*.jpg", "photos"),
    "manifest": ("gs://bucket/list.csv", "list.csv"),
    "column": ("path", None),
    "strip-prefix": ("gs://bucket/photos/", None),
    "output": ("gs://bucket/ids", "ids"),
    "previous": ("auto", None),
    "model": ("image", None),
    "backend": ("onnx-cuda", "gpu"),
    "threads": ("0", "all"),
    "batch-size": ("64", "0"),
    "num-shards": ("16", "0"),
    "dtype": ("float16", "float8"),
    "embed-hint": ("accelerator=type:nvidia-l4;count:1;install-nvidia-driver", "min_rm=8GB"),
}
MORE = {"backend": "onnx", "dtype": "float32", "embed-hint": "min_ram=16GB"}
KINDS = {"manifest": "GCS_READ_FILE", "output": "GCS_WRITE_FOLDER"}
ALWAYS = [
    "--no-wait",
    "--experiments=no_use_multiple_sdk_containers",
    "--sdk_location=container",
]


def metadata_problems(root: Path) -> Iterator[str]:
    """Yield what Google's client and featureid's parser refuse in the metadata."""
    text = (root / "deploy/dataflow/metadata.json").read_text(encoding="utf-8")
    wrapped = {"image": "x", "metadata": json.loads(text), "sdkInfo": {"language": "PYTHON"}}
    metadata = ContainerSpec.from_json(json.dumps(wrapped), ignore_unknown_fields=False).metadata
    if [parameter.name for parameter in metadata.parameters] != list(EXAMPLES):
        yield f"the parameters are not {list(EXAMPLES)}"
        return
    if metadata.name != "featureid embed" or "snapshot" not in metadata.description:
        yield "the name or the description is wrong"
    for parameter in metadata.parameters:
        good, bad = EXAMPLES[parameter.name]
        if bool(parameter.is_optional) == (parameter.name == "output"):
            yield f"{parameter.name}: only the output folder is required"
        if not parameter.label or not parameter.help_text:
            yield f"{parameter.name} is not explained"
        if parameter.param_type.name != KINDS.get(parameter.name, "TEXT"):
            yield f"{parameter.name} has type {parameter.param_type.name}"
        for pattern in parameter.regexes:
            goods = [good, MORE.get(parameter.name, good)]
            if not all(re.search(pattern, text) for text in goods) or (
                bad and re.search(pattern, bad)
            ):
                yield f"{parameter.name}: {pattern} is wrong for {good} or {bad}"
        if bool(parameter.regexes) != (bad is not None):
            yield f"{parameter.name}: its pattern is missing or not needed"
    wrong = command_lines.is_wrong(
        ["embed", *(f"--{name}={good}" for name, (good, _) in EXAMPLES.items())]
    )
    if wrong:
        yield wrong


def launcher_problems(root: Path) -> Iterator[str]:
    """Yield the problems of the launcher's arguments; test_dataflow.py runs it for real."""
    called: list[list[str]] = []

    def record(argv: list[str]) -> int:
        called.append(argv)
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["launch.py", "--input=a", "--output=b"])
        patch.setattr(main, "main", record)
        try:
            runpy.run_path(str(root / "deploy/dataflow/launch.py"), run_name="__main__")
        except SystemExit as end:
            if end.code:
                yield f"exit status {end.code}"
    if called != [["embed", "--input=a", "--output=b", *ALWAYS]]:
        yield f"it called featureid with {called}"
    for argv in called:
        wrong = command_lines.is_wrong(argv)
        if wrong:
            yield wrong
