"""Every file under deploy/ is correct, and a typo in any of its words would be detected."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.deploy import (
    cron_check,
    dataflow_check,
    docker_check,
    kubernetes_check,
    prometheus_check,
)
from tests.deploy.airflow_check import dag_problems, read_dags

ROOT = Path(__file__).parents[2]
CHECKS: dict[str, Callable[[Path], Iterable[str]]] = {
    "Dockerfile": docker_check.dockerfile_problems,
    "cron/featureid": cron_check.crontab_problems,
    "cron/featureid-nightly": cron_check.script_problems,
    "dataflow/launch.py": dataflow_check.launcher_problems,
    "dataflow/metadata.json": dataflow_check.metadata_problems,
    "dataflow/requirements.txt": dataflow_check.requirements_problems,
    "kubernetes/flink.yaml": kubernetes_check.cluster_problems,
    "kubernetes/fresh.yaml": kubernetes_check.fresh_problems,
    "kubernetes/nightly-flink.yaml": kubernetes_check.flink_problems,
    "kubernetes/nightly-local.yaml": kubernetes_check.local_problems,
    "prometheus/alerts.yml": prometheus_check.alert_problems,
    **{
        f"systemd/{name}": cron_check.unit_problems
        for name in (
            "featureid.service",
            "featureid.timer",
            "featureid-fresh.service",
            "featureid-fresh.timer",
            "featureid-alert@.service",
        )
    },
}
COMMON = "airflow/featureid_common.py"
DAGS = (
    "airflow/featureid_dataflow.py",
    "airflow/featureid_flink.py",
    "airflow/featureid_local.py",
)

# Examples of a user's places, addresses and names, which must be the same in all files.
EXAMPLES = {
    *("/srv/photos", "/srv/photos/", "/srv/ids", "/srv/ids/.nightly.lock"),
    *("s3://example-photos/originals", "s3://example-photos/originals/", "s3://example-photos/ids"),
    *("gs://example-photos/originals", "gs://example-photos/originals/", "gs://example-photos/ids"),
    "gs://example-photos/templates/featureid.json",
    *("gs://example-photos/dataflow/staging", "gs://example-photos/dataflow/temp"),
    *("operations@example.com", "https://example.com/featureid/docs/operations.md"),
}
_EXAMPLE = re.compile(r"(?:s3|gs|https)://\w[\w./-]*|/srv/[\w./-]+|[\w.]+@[\w.]+\.\w+")
# Words that may be anything: names used nowhere else, and messages.
FREE = {
    "airflow/featureid_dataflow.py": {"n2-standard"},
    "cron/featureid-nightly": {"folder", "images", "snapshots"},
    "kubernetes/flink.yaml": {"featureid-workers"},
}
_WORD = re.compile(r"[A-Za-z][\w.-]{2,}[A-Za-z]")
_PROSE = re.compile(
    r'^\s*#.*|  # .*|"""(?s:.*?)"""|(?<=Description=).*|(?<="label": ").*(?=")'
    r'|(?<="helpText": ").*(?=")|(?<="description": ").*(?=")|(?<=summary: ).*',
    re.MULTILINE,
)


def problems(name: str, root: Path) -> list[str]:
    """Return the problems of a file; an exception of the checker counts as one."""
    try:
        text = (root / "deploy" / name).read_text(encoding="utf-8")
        return [*example_problems(text), *CHECKS[name](root)]
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]


def example_problems(text: str) -> Iterator[str]:
    """Yield the places that differ from those of the other files."""
    for place in _EXAMPLE.findall(_PROSE.sub("", text)):
        if place not in EXAMPLES and f"{place}/" not in text:
            yield f"{place} is not used in the other files"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project's files, to be damaged."""
    for folder in ("deploy", "featureid", "pipelines"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__py*"))
    for file in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / file, tmp_path)
    return tmp_path


def typos(text: str) -> Iterator[tuple[str, str]]:
    """Yield every occurrence of a word outside prose, and the text without one of its letters."""
    prose = [found.span() for found in _PROSE.finditer(text)]
    for word in _WORD.finditer(text):
        if not any(start <= word.start() < end for start, end in prose):
            middle = (word.start() + word.end()) // 2
            yield word.group(), text[:middle] + text[middle + 1 :]


def test_every_file_has_a_check() -> None:
    files = {
        path.relative_to(ROOT / "deploy").as_posix()
        for path in (ROOT / "deploy").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files - {name for name in files if name.startswith("flink/")} == {
        *CHECKS,
        *DAGS,
        COMMON,
    }


@pytest.mark.parametrize("name", CHECKS)
def test_a_file_is_correct(name: str) -> None:
    assert problems(name, ROOT) == []


@pytest.mark.parametrize("name", CHECKS)
def test_every_typo_is_detected(name: str, copy: Path) -> None:
    path = copy / "deploy" / name
    undetected = set()
    for word, damaged in typos(path.read_text(encoding="utf-8")):
        path.write_text(damaged, encoding="utf-8")
        if not problems(name, copy):
            undetected.add(word)
    assert undetected == FREE.get(name, set())


@pytest.mark.parametrize("name", [*DAGS, COMMON])
def test_a_dag_is_correct_and_every_typo_is_detected(name: str, tmp_path: Path) -> None:
    """A typo in what the DAGs share is looked for in one of them."""
    damaged_file = ROOT / "deploy" / name
    dag_name = Path(DAGS[-1] if name == COMMON else name).name
    damaged = {}
    for number, (word, text) in enumerate(typos(damaged_file.read_text(encoding="utf-8"))):
        folder = tmp_path / f"{number}"
        shutil.copytree(ROOT / "deploy" / "airflow", folder)
        (folder / damaged_file.name).write_text(text, encoding="utf-8")
        damaged[folder / dag_name] = (word, text)
    path = ROOT / "deploy" / "airflow" / dag_name
    found = read_dags([path, *damaged], tmp_path / "home")
    check = partial(dag_problems, path.stem, root=ROOT)
    assert list(check(found[path])) == []
    undetected = {
        word for file, (word, text) in damaged.items() if not _is_detected(check, text, found[file])
    }
    assert undetected == FREE.get(name, set())


def _is_detected(check: Callable[..., Iterable[str]], text: str, dag: dict[str, object]) -> bool:
    try:
        return bool([*example_problems(text), *check(dag)])
    except Exception:
        return True
