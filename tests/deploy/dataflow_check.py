"""Check the Flex Template's metadata and the Python programs of the images."""

from __future__ import annotations

import functools
import json
import re
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.cloud.dataflow_v1beta3 import ContainerSpec, ParameterMetadata

from featureid.cli import main
from tests import command_lines
from tests.test_flex_template import LEFT_OUT, embed_options

# Per parameter a value that its pattern must accept, and one that it must refuse.
EXAMPLES = {
    "input": ("gs://bucket/photos/*.jpg", "photos"),
    "manifest": ("gs://bucket/list.csv", "list.csv"),
    "column": ("path", None),
    "strip-prefix": ("gs://bucket/photos/", None),
    "max-bytes": ("1000000", "1 MB"),
    "max-pixels": ("1000000", "0"),
    "output": ("gs://bucket/ids", "ids"),
    "num-shards": ("16", "0"),
    "dtype": ("float16", "float8"),
    "max-failure-rate": ("0.05", "5"),
    "publish-anyway": ("true", "yes"),
    "previous": ("gs://bucket/old", "old"),
    "no-previous": ("true", "yes"),
    "check": ("content", "bytes"),
    "retry-failed": ("true", "yes"),
    "re-embed": ("true", "yes"),
    "new-model": ("true", "yes"),
    "max-deleted": ("5%", "5 %"),
    "allow-empty-folders": ("true", "yes"),
    "model": ("image", None),
    "output-layer": ("pooled", "last"),
    "backend": ("onnx-cuda", "gpu"),
    "hash": ("pdq", "md5"),
    "threads": ("0", "all"),
    "batch-size": ("64", "0"),
    "faces": ("all", "some"),
    "detector": ("yunet", "mtcnn"),
    "detector-model": ("/opt/yunet.onnx", "yunet.onnx"),
    "min-face": ("40", "0"),
    "no-face": ("whole", "fail"),
    "embed-hint": ("accelerator=type:nvidia-l4;count:1;install-nvidia-driver", "min_rm=8GB"),
}
# More values that their patterns must accept.
MORE = {
    "max-failure-rate": (".05", "0", "1", "1.0"),
    "previous": ("auto",),
    "max-deleted": ("100", "0.5%"),
    "embed-hint": (
        "min_ram=16GB accelerator=type:nvidia-l4;count:1;install-nvidia-driver",
        "accelerator=type:nvidia-l4;count:1;install-nvidia-driver min_ram=16GB",
    ),
}
KINDS = {"manifest": "GCS_READ_FILE", "output": "GCS_WRITE_FOLDER"}
# Options that others want.
NEEDS = {
    "column": ["--manifest=gs://bucket/list.csv"],
    "detector-model": ["--detector=yunet"],
}
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
    names = [parameter.name for parameter in metadata.parameters]
    if names != list(EXAMPLES):
        yield f"the parameters are {names}"
        return
    if metadata.name != "featureid embed" or "snapshot" not in metadata.description:
        yield "the name or the description is wrong"
    for parameter in metadata.parameters:
        yield from _parameter_problems(parameter)
        for value in _values(parameter):
            wrong = _refusal(root, parameter.name, value)
            if wrong:
                yield f"{parameter.name}={value}: {wrong}"


@functools.cache
def _refusal(root: Path, name: str, value: str) -> str | None:
    """Return why featureid refuses a parameter that the launcher passes on; None if it does not."""
    parameters = {"input": "gs://b/photos", "output": "gs://b/ids", name: value}
    launcher = runpy.run_path(str(root / "deploy/dataflow/launch.py"))
    options = launcher["options"](f"--{name}={value}" for name, value in parameters.items())
    return command_lines.is_wrong(["embed", *options, *NEEDS.get(name, ())])


def _parameter_problems(parameter: ParameterMetadata) -> Iterator[str]:
    name, action = parameter.name, embed_options()[parameter.name]
    good, bad = EXAMPLES[name]
    if bool(parameter.is_optional) == (name == "output"):
        yield f"{name}: only the output folder is required"
    if not parameter.label or not parameter.help_text:
        yield f"{name} is not explained"
    kinds = {"TEXT"}
    if action.nargs == 0:
        kinds = {"BOOLEAN"}
    elif action.choices:
        kinds = {"ENUM"}
    elif action.type in (int, float):
        kinds = {"NUMBER"}
    if parameter.param_type.name != KINDS.get(name, *kinds):
        yield f"{name} has type {parameter.param_type.name}"
    offered = [option.value for option in parameter.enum_options]
    if offered != list(action.choices or ()):
        yield f"{name} offers {offered}"
    for pattern in parameter.regexes:
        if not all(re.search(pattern, value) for value in _values(parameter)) or (
            bad and re.search(pattern, bad)
        ):
            yield f"{name}: {pattern} is wrong for {good} or {bad}"
    if bool(parameter.regexes) != (bad is not None):
        yield f"{name}: its pattern is missing or not needed"


def _values(parameter: ParameterMetadata) -> list[str]:
    """Return values that the pattern of a parameter must accept."""
    flags = ["false"] if parameter.param_type.name == "BOOLEAN" else []
    choices = [option.value for option in parameter.enum_options]
    return [EXAMPLES[parameter.name][0], *MORE.get(parameter.name, ()), *flags, *choices]


def launcher_problems(root: Path) -> Iterator[str]:
    """Yield the problems of the launcher's arguments; test_dataflow.py runs it for real."""
    flags = sorted(name for name, action in embed_options().items() if action.nargs == 0)
    flags = [name for name in flags if name not in LEFT_OUT]
    given = [
        *("--input=a", "--output=b", "--embed-hint=min_ram=1GB  min_ram=2GB"),
        *(f"--{name}={value}" for name in flags for value in ("true", "false")),
    ]
    wanted = [
        *("embed", "--input=a", "--output=b"),
        *("--embed-hint=min_ram=1GB", "--embed-hint=min_ram=2GB"),
        *(f"--{name}" for name in flags),
        *ALWAYS,
    ]
    called: list[list[str]] = []

    def record(argv: list[str]) -> int:
        called.append(argv)
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["launch.py", *given])
        patch.setattr(main, "main", record)
        try:
            runpy.run_path(str(root / "deploy/dataflow/launch.py"), run_name="__main__")
        except SystemExit as end:
            if end.code:
                yield f"exit status {end.code}"
    if called != [wanted]:
        yield f"it called featureid with {called}"
    wrong = command_lines.is_wrong(["embed", "--input=a", "--output=b", *ALWAYS])
    if wrong:
        yield wrong


def requirements_problems(root: Path) -> Iterator[str]:
    """Yield what is wrong with what workers install: the extra gcp, but for Beam's own."""
    text = (root / "deploy" / "dataflow" / "requirements.txt").read_text(encoding="utf-8")
    listed = [line for line in text.splitlines() if line and not line.startswith("#")]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = [need for need in project["optional-dependencies"]["gcp"] if "beam" not in need]
    if listed != extra:
        yield f"the requirements are {listed}, and those of the extra gcp {extra}"
