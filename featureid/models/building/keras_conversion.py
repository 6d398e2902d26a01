"""Convert a ``.keras`` file to LiteRT, in a child process, by TensorFlow's own converter."""

from __future__ import annotations

import importlib.util
import os
import zipfile
from pathlib import Path
from typing import Any

import msgspec

from featureid.errors import ModelError
from featureid.models.building.sandbox import Limits, answer, run_child, work_folder

_MODULE = "featureid.models.building.keras_conversion"
_PACKAGES = ("tensorflow", "keras", "ai_edge_litert")
# Importing TensorFlow and converting take a minute or two.
_SECONDS = 900.0
_MEMORY_BASE, _MEMORY_PER_BYTE = 6 << 30, 10
_SOURCE, _RESULT = "model.keras", "model.tflite"


class _Conversion(msgspec.Struct, frozen=True):
    """What is converted: the output of that name, or the only one, for images of that size."""

    output: str | None
    size: tuple[int, int] | None


class _Converted(msgspec.Struct, frozen=True):
    """The answer that the result is written."""


def convert_keras(
    data: bytes,
    output: str | None,
    size: tuple[int, int] | None,
    seconds: float | None,
    memory_bytes: int | None,
) -> bytes:
    """Return the LiteRT network of a Keras model, for one image at a time.

    Keras loads it in its safe mode, which runs no code of the file.

    Args:
        data: the ``.keras`` file.
        output: name of the output to take; None for the only one.
        size: (height, width) of the input; None if the model fixes it.
        seconds: what that may take; None for the default.
        memory_bytes: how much memory; None for a multiple of the file's size.

    Raises:
        ModelError: the model cannot be converted, or TensorFlow is not installed.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"a Keras model is converted by TensorFlow, and {', '.join(missing)} is not installed; "
            "pip install 'featureid[train]'"
        )
    limits = Limits(
        _SECONDS if seconds is None else seconds,
        _MEMORY_BASE + _MEMORY_PER_BYTE * len(data) if memory_bytes is None else memory_bytes,
    )
    with work_folder() as folder:
        (folder / _SOURCE).write_bytes(data)
        run_child(_MODULE, folder, _Conversion(output, size), _Converted, limits)
        return (folder / _RESULT).read_bytes()


def _convert(folder: Path, wanted: _Conversion) -> _Converted:
    os.environ.update(KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="-1")
    import keras
    import tensorflow as tf

    if not zipfile.is_zipfile(folder / _SOURCE):
        raise ModelError(
            "it is not a .keras file of Keras 3 (HDF5 and SavedModel are not accepted)"
        )
    try:
        model = keras.saving.load_model(folder / _SOURCE, compile=False, safe_mode=True)
        source = keras.Input(_shape(model, wanted.size), 1, name="pixels", dtype="float32")
        outputs = model(source, training=False)
        chosen = _chosen(model, outputs, wanted.output)
        whole = keras.Model(source, chosen)
        (folder / _RESULT).write_bytes(tf.lite.TFLiteConverter.from_keras_model(whole).convert())
        return _Converted()
    except (ModelError, MemoryError):
        raise
    except Exception as error:  # Keras and TensorFlow raise anything
        text = " ".join(str(error).split())[:500]
        raise ModelError(f"it cannot be converted: {type(error).__name__}: {text}") from error


def _shape(model: Any, size: tuple[int, int] | None) -> tuple[int, int, int]:
    """Return the shape of the input image that the model is converted for."""
    shapes = [tuple(one.shape) for one in model.inputs or []]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][3] not in (3, None):
        raise ModelError(
            f"its inputs have the shapes {shapes or 'unknown'}; a model of images has one input, "
            "(n, height, width, 3)"
        )
    fixed = shapes[0][1:3]
    height, width = size or fixed
    if height is None or width is None:
        raise ModelError("it takes images of any size; give one with `size`")
    for have, want in zip(fixed, (height, width), strict=True):
        if have not in (None, want):
            raise ModelError(
                f"it takes images of {fixed[0]} x {fixed[1]} pixels, not {height} x {width} "
                "(`size`)"
            )
    return height, width, 3


def _chosen(model: Any, outputs: Any, name: str | None) -> Any:
    names = list(model.output_names)
    if isinstance(outputs, dict):
        found = dict(outputs)
    else:
        listed = outputs if isinstance(outputs, list | tuple) else [outputs]
        found = dict(zip(names, listed, strict=True))
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name not in found:
        raise ModelError(
            f"name the output with the features with `embedding`; it has: {', '.join(found)}"
        )
    return found[name]


if __name__ == "__main__":
    answer(_Conversion, _convert)
