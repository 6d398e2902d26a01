"""The rules of the house: imports point down, a CPU worker stays light, files stay readable."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = sorted(
    path
    for folder in ("benchmarks", "deploy", "docs", "featureid", "pipelines", "tests")
    for path in (ROOT / folder).rglob("*.py")
)
# All that Python programs use; beam_options.py parses Beam's command line.
LIBRARY = [
    path
    for path in (ROOT / "featureid").rglob("*.py")
    if "cli" not in path.parts and path.name != "beam_options.py"
]


def test_imports_point_down() -> None:
    """The contracts are in pyproject.toml, below [tool.importlinter]."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_contributing_lists_the_layers_in_their_order() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = config["tool"]["importlinter"]["contracts"][0]["layers"]
    names = [[name.strip() for name in layer.split("|")] for layer in layers]
    house = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = re.findall(r"^  (\w+)(?:/|\.py)  ", house, re.MULTILINE)
    wanted = [name for layer in names for name in layer if not name.startswith("_")]
    assert sorted(listed) == sorted(wanted)
    level = {name: number for number, layer in enumerate(names) for name in layer}
    assert [level[name] for name in listed] == sorted(level[name] for name in listed)


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_scripts_and_tests_know_the_scripts(path: Path) -> None:
    imports = re.findall(r"^\s*(?:from|import) pipelines\b", path.read_text("utf-8"), re.MULTILINE)
    assert not imports or path.is_relative_to(ROOT / "tests")


def message_literals(path: Path) -> Iterator[str]:
    """Yield the strings in a module's code, without its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    statements = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node not in statements:
            yield str(node.value)


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_command_line_names_its_options(path: Path) -> None:
    """Messages name parameters in backquotes; see featureid/errors.py."""
    for text in message_literals(path):
        others = text.replace("pip install --no-deps", "").replace("without --no-deps", "")
        assert not re.search(r"(?<![\w-])--[a-z]", others), text


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_a_worker_imports_nothing_that_only_building_a_model_needs() -> None:
    loaded = modules_after("import featureid.transforms, onnxruntime")
    assert "apache_beam" in loaded
    assert not loaded & {"onnx", "tensorflow", "keras", "torch"}


def test_the_library_alone_does_not_import_beam() -> None:
    loaded = modules_after("import featureid")
    assert "featureid.embedding" in loaded
    assert not loaded & {"apache_beam", "onnx", "onnxruntime", "pyarrow", "fsspec"}
