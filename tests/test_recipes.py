"""The recipes of docs/recipes.md find what NumPy finds; those of databases: tests/recipes/."""

from __future__ import annotations

from pathlib import Path

import pytest

from featureid.storage.reader import open_snapshot
from tests import recipe_runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    recipe_runs.make_files(folder)
    return folder


@pytest.mark.parametrize("title", sorted(set(recipe_runs.LIGHT) - {"DuckDB"}))
def test_recipes_in_python(title: str, folder: Path) -> None:
    pytest.importorskip("faiss" if title == "FAISS" else "numpy")
    ((language, code),) = recipe_runs.recipes()[title]
    assert language == "python"
    recipe_runs.check(recipe_runs.run_python(code, folder), folder)


def test_recipes_in_sql(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb

    monkeypatch.chdir(folder)
    *searches, metadata = [code for _, code in recipe_runs.recipes()["DuckDB"]]
    for query in searches:
        recipe_runs.check(duckdb.execute(query).fetchall(), folder)
    found = dict(duckdb.execute(metadata).fetchall())
    info = open_snapshot(folder / "out").manifest.info
    assert found["featureid.snapshot"] == info.snapshot
    assert found["featureid.model_digest"] == info.model.digest


def test_back_into_featureid(folder: Path) -> None:
    ((_, code),) = recipe_runs.recipes()["Back into featureid"]
    said = recipe_runs.run(["bash", "-euc", code], folder)
    assert "0 added, 0 removed, 0 with a changed image, 1000 with the same image" in said
    assert "1000 of 1000 shared vectors are equal bit for bit" in said


def test_every_recipe_is_run() -> None:
    titles = {"", *recipe_runs.LIGHT, *recipe_runs.DATABASES, "Back into featureid"}
    assert set(recipe_runs.recipes()) == titles
