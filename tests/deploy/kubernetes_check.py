"""Check the Kubernetes files: against strict schemas, and against each other."""

from __future__ import annotations

import functools
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile
from zoneinfo import available_timezones

import kubernetes_validate
import yaml

from featureid import __version__
from tests import command_lines
from tests.deploy.cron_check import schedule_problems

IMAGE = f"registry.example.com/featureid:{__version__}"
FLINK_IMAGE = f"registry.example.com/featureid-flink:{__version__}"
SECRET = [{"secretRef": {"name": "featureid-storage"}}]
POOL = ["featureid", "worker-pool"]
FLINK = "featureid-rest:8081"
FINAL = [("FailJob", {"operator": "In", "values": [2, 3]})]
# What clusters with the Pod Security Standard "restricted" ask for.
POD_SECURITY = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
AMOUNT = re.compile(r"\d+(m|[KMG]i)?")
_MAVEN = Path.home() / ".m2" / "repository" / "org" / "apache" / "flink"


def jar(name: str) -> ZipFile:
    """Return an archive that ``make deploy-test`` has fetched with Maven."""
    (path,) = sorted((_MAVEN / name).glob(f"*/{name}-*.jar"))[-1:]
    return ZipFile(path)


@functools.cache
def flink_words() -> set[bytes]:
    """Return every string in the classes of Flink's options: names of keys and some values."""
    with jar("flink-core") as archive:
        classes = [name for name in archive.namelist() if name.endswith("Options.class")]
        data = b"".join(archive.read(name) for name in classes)
    return set(re.findall(rb"[a-z][a-z0-9-]*(?:\.[a-zA-Z0-9-]+)*", data))


@functools.cache
def operator_schema() -> dict[str, Any]:
    """Return the schema of a FlinkDeployment from the operator's archive."""
    with jar("flink-kubernetes-operator-api") as archive:
        file = "META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml"
        definition = yaml.safe_load(archive.read(file))
    schema: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def strict_problems(value: Any, schema: dict[str, Any], place: str = "") -> Iterator[str]:
    """Yield where ``value`` violates an OpenAPI schema or has fields unknown to it."""
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
    kind = (int, float) if schema.get("type") == "number" else kinds.get(schema.get("type", ""))
    if kind and not isinstance(value, kind):
        yield f"{place} is {value!r}, not of type {schema['type']}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{place} is {value!r}, not one of {schema['enum']}"
    elif isinstance(value, dict) and "properties" in schema:
        for name, part in value.items():
            if name in schema["properties"]:
                yield from strict_problems(part, schema["properties"][name], f"{place}.{name}")
            else:
                yield f"{place}.{name} is unknown"
    elif isinstance(value, list):
        for part in value:
            yield from strict_problems(part, schema.get("items", {}), place)


def cluster_problems(root: Path) -> Iterator[str]:
    """Yield the problems of the FlinkDeployment."""
    document = yaml.safe_load((root / "deploy/kubernetes/flink.yaml").read_text(encoding="utf-8"))
    schema = operator_schema()
    yield from strict_problems(document.get("spec"), schema["properties"]["spec"])
    if set(document) != {"apiVersion", "kind", "metadata", "spec"}:
        yield f"the fields are {sorted(document)}"
    version = document["apiVersion"], document["kind"], document["metadata"]
    if version != ("flink.apache.org/v1beta1", "FlinkDeployment", {"name": "featureid"}):
        yield f"{version} is not what the operator and the nightly job expect"
    try:
        spec = document["spec"]
        workers = spec["taskManager"]["podTemplate"]["spec"]["containers"]
        keys = spec["flinkConfiguration"]
        memory = [spec[part]["resource"]["memory"] for part in ("jobManager", "taskManager")]
        if workers[0] != {"name": "flink-main-container"} or len(workers) != 2:
            yield "the first of two containers must be flink-main-container, as Flink expects"
        yield from container_problems(workers[1], FLINK_IMAGE)
        if workers[1]["command"] != POOL:
            yield f"the pool is started with {workers[1]['command']}"
        if workers[1]["securityContext"] != {"runAsNonRoot": True, **SECURITY}:
            yield "the pool may run as root"
    except (KeyError, IndexError) as error:
        yield f"missing: {error}"
        return
    known = flink_words()
    for word in (*keys, keys.get("restart-strategy.type", "")):
        if word.encode() not in known:
            yield f"Flink has no option {word!r}"
    if keys.get("restart-strategy.fixed-delay.delay") != "30 s":
        yield "the restart delay is not 30 s"
    if (spec["image"], spec["flinkVersion"]) != ("flink:1.20", "v1_20"):
        yield "the image is not that of flinkVersion"
    if spec["mode"] != "standalone" or spec["serviceAccount"] != "flink":
        yield "not standalone mode, or not the service account of the operator"
    yield from (
        f"invalid memory: {amount}" for amount in memory if not re.fullmatch(r"\d+m", amount)
    )


def local_problems(root: Path) -> Iterator[str]:
    """Yield the problems of the nightly job in one pod."""
    commands = yield from _job_problems(
        root, "nightly-local", "featureid-nightly", "Forbid", {"embed": IMAGE, "prune": IMAGE}
    )
    if commands and any(word.startswith("--runner") for word in commands["embed"]):
        yield f"not a local run: {commands['embed']}"


def flink_problems(root: Path) -> Iterator[str]:
    """Yield the problems of the nightly job that submits to Flink."""
    images = {"embed": FLINK_IMAGE, "prune": FLINK_IMAGE}
    commands = yield from _job_problems(
        root, "nightly-flink", "featureid-nightly", "Forbid", images
    )
    yield from flink_option_problems(commands.get("embed", []), root)


def fresh_problems(root: Path) -> Iterator[str]:
    """Yield the problems of the job that checks the newest snapshot."""
    commands = yield from _job_problems(
        root, "fresh", "featureid-fresh", "Replace", {"inspect": IMAGE}
    )
    checks = {"--max-age=26h", "--max-failure-rate=0.05"}
    if not checks <= set(commands.get("inspect", [])):
        yield f"it does not check {checks}"


def _job_problems(
    root: Path, file: str, name: str, concurrency: str, images: dict[str, str]
) -> Generator[str, None, dict[str, list[str]]]:
    """Yield the problems of a CronJob; return container -> the arguments of featureid.

    Args:
        root: the project.
        file: the name of its file.
        name: that of the job, which operations.md and the alerts know.
        concurrency: its policy.
        images: container -> image, in the order in which they run.
    """
    text = (root / f"deploy/kubernetes/{file}.yaml").read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    try:
        kubernetes_validate.validate(document, "1.33", strict=True)
    except kubernetes_validate.ValidationError as error:
        yield str(error)
        return {}
    spec = document["spec"]
    job = spec["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    yield from schedule_problems(spec["schedule"])
    if spec["timeZone"] not in available_timezones():
        yield f"unknown time zone: {spec['timeZone']}"
    # The schema accepts any text here.
    rules = [(rule["action"], rule["onExitCodes"]) for rule in job["podFailurePolicy"]["rules"]]
    policies = document["metadata"]["name"], spec["concurrencyPolicy"], pod["restartPolicy"], rules
    if policies != (name, concurrency, "Never", FINAL):
        yield f"the policies are {policies}"
    if job["ttlSecondsAfterFinished"] != 93600 or pod["securityContext"] != POD_SECURITY:
        yield "not the time to live or the security context of the other jobs"
    commands = {}
    containers = [*pod.get("initContainers", ()), *pod["containers"]]
    for container in containers:
        image = images.get(container["name"], "no such container")
        yield from container_problems(container, image)
        if container["securityContext"] != SECURITY:
            yield f"{container['name']}: not the security context of the others"
        # The image of the command line has an entry point, that for Flink has not.
        words = container.get("command", ["featureid"]) + container.get("args", [])
        commands[container["name"]] = words[1:]
        if words[0] != "featureid" or ("command" in container) == (image == IMAGE):
            yield f"{container['name']} runs {words} in {image}"
        wrong = command_lines.is_wrong(words[1:])
        if wrong:
            yield f"{words}: {wrong}"
    if list(commands) != list(images):
        yield f"the containers are {list(commands)}"
    return commands


def container_problems(container: dict[str, Any], image: str) -> Iterator[str]:
    """Yield the problems of a container of featureid."""
    if (container.get("image"), container.get("envFrom")) != (image, SECRET):
        yield f"{container['name']}: not the image {image} with the secret"
    for amounts in container.get("resources", {"": {"": "none"}}).values():
        if not {"memory"} <= set(amounts) <= {"cpu", "memory"}:
            yield f"{container['name']}: {amounts}"
        for amount in amounts.values():
            if not AMOUNT.fullmatch(str(amount)):
                yield f"{container['name']}: invalid amount: {amount}"


def flink_option_problems(command: list[str], root: Path) -> Iterator[str]:
    """Yield options that do not refer to the cluster of flink.yaml or to files of the image."""
    wanted = {
        "--runner": "FlinkRunner",
        "--flink_master": FLINK,
        "--flink_version": "1.20",
        "--environment_type": "EXTERNAL",
        "--environment_config": "localhost:50000",
        "--parallelism": "2",
    }
    options = dict(word.split("=", 1) for word in command if word.startswith("--"))
    for name, value in wanted.items():
        if options.get(name) != value:
            yield f"{name} is {options.get(name)}, not {value}"
    server = options.get("--flink_job_server_jar", "nothing")
    if f" {server}\n" not in (root / "deploy/Dockerfile").read_text(encoding="utf-8"):
        yield f"the image has no {server}"
