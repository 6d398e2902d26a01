"""The models folder: models that a user has added, each a bundle under its name."""

from __future__ import annotations

import os
import re
from pathlib import Path

from featureid.atomic import replace_file
from featureid.errors import ModelError, UsageError
from featureid.models.bundle import BUNDLE_SUFFIX
from featureid.models.cache import expand_home

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def models_folder() -> Path:
    """Return the folder of added models, which may not exist yet.

    It is ``$FEATUREID_MODELS``, else ``$XDG_DATA_HOME/featureid/models``, else
    ``~/.local/share/featureid/models``: not the cache, since nothing else could make them again.
    """
    own = os.environ.get("FEATUREID_MODELS")
    if own:
        return expand_home(own, "FEATUREID_MODELS")
    shared = os.environ.get("XDG_DATA_HOME")
    data = Path(shared) if shared else expand_home("~/.local/share", "FEATUREID_MODELS")
    return data / "featureid" / "models"


def check_name(name: str) -> None:
    """Raise UsageError unless ``name`` can be that of an added model."""
    if not _NAME.fullmatch(name) or name.endswith(BUNDLE_SUFFIX):
        raise UsageError(
            f"{name!r} cannot be the name of a model: use letters, digits, '.', '_' and '-', "
            "starting with a letter or digit"
        )


def added_models() -> dict[str, Path]:
    """Return the files of the added models by name, sorted.

    Raises:
        ModelError: the folder cannot be read.
    """
    folder = models_folder()
    try:
        names = sorted(path.name for path in folder.iterdir() if path.suffix == BUNDLE_SUFFIX)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ModelError(
            f"the models folder {folder} cannot be read: {error.strerror}; set FEATUREID_MODELS to "
            "another"
        ) from error
    stems = {name.removesuffix(BUNDLE_SUFFIX): folder / name for name in names}
    return {stem: path for stem, path in stems.items() if _NAME.fullmatch(stem)}


def keep_bundle(name: str, data: bytes) -> Path:
    """Write a bundle into the folder, in place of one of that name, and return its path.

    Raises:
        ModelError: it cannot be written.
    """
    path = models_folder() / f"{name}{BUNDLE_SUFFIX}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, [data])
    except OSError as error:
        raise ModelError(
            f"cannot write {path}: {error.strerror}; set FEATUREID_MODELS to a writable folder"
        ) from error
    return path


def remove_bundle(path: Path) -> None:
    """Delete the file of an added model.

    Raises:
        ModelError: it cannot be deleted.
    """
    try:
        path.unlink()
    except OSError as error:
        raise ModelError(f"cannot delete {path}: {error.strerror}") from error
