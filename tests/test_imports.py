"""The rules of the house: imports point down, and a CPU worker stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What each part may import of the others, itself apart.
BASE = {"featureid._version", "featureid.errors"}
ALLOWED = {
    "featureid._version": set(),
    "featureid.errors": set(),
    "featureid.parallel": set(),
    "featureid.atomic": set(),
    "featureid.images": BASE,
    # "featureid" alone: its place, for a subprocess.
    "featureid.models": BASE | {"featureid.atomic", "featureid"},
    "featureid.storage": BASE | {"featureid.atomic", "featureid.parallel"},
    "featureid.inputs": BASE | {"featureid.parallel", "featureid.storage"},
    "featureid.faces": BASE | {"featureid.images", "featureid.models", "featureid.storage"},
    "featureid.model_store": BASE | {"featureid.models", "featureid.storage"},
    "featureid.refresh": BASE | {"featureid.storage", "featureid.inputs"},
    "featureid.difference": BASE | {"featureid.storage"},
    "featureid.prediction": BASE
    | {
        "featureid.models",
        "featureid.storage",
        "featureid.inputs",
        "featureid.refresh",
        "featureid.embedding",
    },
    "featureid.embedding": BASE
    | {
        "featureid.images",
        "featureid.models",
        "featureid.parallel",
        "featureid.storage",
        "featureid.inputs",
        "featureid.faces",
    },
    "featureid": BASE | {"featureid.embedding", "featureid.storage"},
    "featureid.transforms": BASE
    | {
        "featureid.images",
        "featureid.models",
        "featureid.parallel",
        "featureid.storage",
        "featureid.inputs",
        "featureid.model_store",
        "featureid.refresh",
        "featureid.embedding",
    },
}
SOURCES = sorted((ROOT / "featureid").rglob("*.py"))


def part_of(module: str) -> str:
    """``featureid.images`` for ``featureid.images.decode``."""
    return ".".join(module.split(".")[:2])


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    part = part_of(module_name(path))
    imported = imported_modules(path)
    own = {part_of(name) for name in imported if name.split(".")[0] == "featureid"}
    assert own - {part} <= ALLOWED[part]
    assert not any(name.split(".")[0] == "pipelines" for name in imported)
    if part != "featureid.transforms":
        assert not any(name.split(".")[0] == "apache_beam" for name in imported)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_a_cpu_worker_imports_neither_tensorflow_nor_keras() -> None:
    loaded = modules_after("import featureid.transforms, featureid.models.litert")
    assert "apache_beam" in loaded
    assert not loaded & {"tensorflow", "keras", "torch"}


def test_the_library_alone_does_not_import_beam() -> None:
    loaded = modules_after("import featureid")
    assert "featureid.embedding" in loaded
    assert not loaded & {"apache_beam", "tensorflow", "keras", "pyarrow", "fsspec"}
