"""The child process of :mod:`featureid.models.building.trial`."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featureid.errors import ModelError
from featureid.models.backends.registry import open_backend
from featureid.models.building.onnx_structure import (
    Structure,
    Tensor,
    network_sha256,
    read_structure,
)
from featureid.models.building.sandbox import answer
from featureid.models.building.trial import (
    BUNDLE,
    FEATURES,
    IMAGES,
    NETWORK,
    Features,
    Probe,
    Probed,
    Trial,
    Tried,
    Written,
)
from featureid.models.bundle import ONNX, ModelBundle, NetworkInput, load_bundle
from featureid.models.contents import CONTENTS
from featureid.models.preprocessing import MAX_SIDE, Layout

_BATCH = 8
_TYPES = ("float32", "uint8")
_ROUNDS = 2
_MAX_CHARACTERS = 500


def work(folder: Path, task: Probe | Trial | Features) -> Any:
    """Do what the parent asks for."""
    if isinstance(task, Probe):
        return _probe((folder / NETWORK).read_bytes(), task)
    bundle = load_bundle(folder / BUNDLE)
    if bundle.network.file == ONNX:
        read_structure(bundle.network.data)
    images = np.load(folder / IMAGES, mmap_mode="r", allow_pickle=False)
    if isinstance(task, Trial):
        return _try(bundle, images)
    backend = open_backend(bundle, output="pooled")
    with (folder / FEATURES).open("wb") as file:
        for start in range(0, len(images), _BATCH):
            file.write(backend.embed(images[start : start + _BATCH]).astype("<f4").tobytes())
    return Written()


def _try(bundle: ModelBundle, images: Any) -> Tried:
    start = time.monotonic()
    backend = open_backend(bundle)
    load_s = time.monotonic() - start
    backend.embed(images[:1])
    start = time.process_time()
    rounds = [
        np.concatenate([backend.embed(images[i : i + 1]) for i in range(len(images))])
        for _ in range(_ROUNDS)
    ]
    alone_s = (time.process_time() - start) / _ROUNDS
    backend.embed_at_once(images)
    start = time.process_time()
    together = backend.embed_at_once(images)
    together_s = time.process_time() - start
    vectors = rounds[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Tried(
        images=len(images),
        finite=bool(np.isfinite(vectors).all() and np.abs(vectors).max(axis=1).min() > 0),
        distinct=len({row.tobytes() for row in vectors}) > 1,
        repeatable=all(np.array_equal(vectors, again, equal_nan=True) for again in rounds),
        independent=np.array_equal(vectors, together, equal_nan=True),
        ms_alone=alone_s / len(images) * 1000,
        ms_together=together_s / len(images) * 1000,
        load_s=load_s,
        peak_mb=peak / (1e6 if sys.platform == "darwin" else 1e3),
        network_sha256=_network_sha256(bundle),
    )


def _network_sha256(bundle: ModelBundle) -> str | None:
    if bundle.network.file != ONNX or bundle.digest not in CONTENTS:
        return None
    return network_sha256(bundle.network.data)


def _probe(data: bytes, probe: Probe) -> Probed:
    runner = _OnnxRunner(data) if probe.file == ONNX else _LiteRTRunner(data)
    structure = runner.structure
    source = _only_input(structure.inputs)
    output = _chosen_output(structure.outputs, probe.output)
    shape = source.shape or ()
    batch = shape[0]
    failures = []
    found: dict[Layout, tuple[tuple[int, int], tuple[int, ...]]] = {}
    for layout in _layouts(shape, probe.layout):
        size = _size(shape, layout, probe.size)
        black = np.zeros((batch or 1, *_axes(layout, size)), source.dtype)
        try:
            found[layout] = size, runner.run(source.name, output, black)
        except ModelError as error:
            failures.append(error)
    if not found:
        raise failures[0]
    if len(found) > 1:
        raise ModelError(
            f"its input {source} accepts images in both layouts; name the right one with `layout`"
        )
    ((layout, (size, shape_out)),) = found.items()
    if not shape_out or shape_out[0] != (batch or 1):
        raise ModelError(
            f"its output {output} has the shape {shape_out} for {batch or 1} images; it must have "
            "a row per image"
        )
    return Probed(
        input=NetworkInput(source.name, layout, source.dtype, batch),  # type: ignore[arg-type]
        size=size,
        output=output,
        shape=shape_out[1:],
        parameters=structure.parameters,
    )


def _only_input(inputs: Sequence[Tensor]) -> Tensor:
    if len(inputs) != 1:
        raise ModelError(
            f"it has {len(inputs)} inputs ({'; '.join(map(str, inputs)) or 'none'}); a model of "
            "images has one: export the part that takes the image"
        )
    (source,) = inputs
    if source.shape is None or len(source.shape) != 4:
        raise ModelError(
            f"its input {source} is not a batch of images, (n, 3, height, width) or (n, height, "
            "width, 3)"
        )
    if source.dtype not in _TYPES:
        raise ModelError(f"its input {source} must be {' or '.join(_TYPES)}; export the network so")
    return source


def _chosen_output(outputs: Sequence[Tensor], name: str | None) -> str:
    listed = "; ".join(map(str, outputs))
    if name is None and len(outputs) != 1:
        raise ModelError(
            f"it has {len(outputs)} outputs; name the one with the features with `embedding`: "
            f"{listed}"
        )
    target = next((one for one in outputs if name in (None, one.name)), None)
    if target is None:
        raise ModelError(f"it has no output {name!r} (`embedding`); it has: {listed}")
    if target.dtype != "float32":
        raise ModelError(f"its output {target} must be float32; export the network so")
    return target.name


def _layouts(shape: Sequence[int | None], wanted: Layout | None) -> list[Layout]:
    possible: list[Layout] = []
    if shape[1] in (3, None):
        possible.append("nchw")
    if shape[3] in (3, None):
        possible.append("nhwc")
    if shape[1] == 3 and shape[3] is None:
        possible = ["nchw"]
    if shape[3] == 3 and shape[1] is None:
        possible = ["nhwc"]
    if wanted is not None:
        possible = [layout for layout in possible if layout == wanted]
    if not possible:
        raise ModelError(
            f"its input has the shape {_text(shape)}, which is not that of "
            f"{'RGB images' if wanted is None else f'images in the layout {wanted}'}"
        )
    return possible


def _size(
    shape: Sequence[int | None], layout: Layout, wanted: tuple[int, int] | None
) -> tuple[int, int]:
    fixed = (shape[2], shape[3]) if layout == "nchw" else (shape[1], shape[2])
    if wanted is None and None in fixed:
        raise ModelError(
            f"its input has the shape {_text(shape)}, for images of any size; give one with `size`"
        )
    size = wanted or fixed
    for have, want in zip(fixed, size, strict=True):
        if want is None or have not in (None, want):
            raise ModelError(
                f"its input has the shape {_text(shape)}, which does not fit images of "
                f"{size[0]} x {size[1]} (`size`)"
            )
    height, width = (n or 0 for n in size)
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ModelError(f"its input is {height} x {width}; sides may be 1 to {MAX_SIDE}")
    return height, width


def _axes(layout: Layout, size: tuple[int, int]) -> tuple[int, int, int]:
    return (3, *size) if layout == "nchw" else (*size, 3)


def _text(shape: Sequence[int | None]) -> str:
    return f"({', '.join('?' if n is None else str(n) for n in shape)})"


class _OnnxRunner:
    """An ONNX network, checked and loaded."""

    def __init__(self, data: bytes) -> None:
        from featureid.models.backends.onnx import import_onnxruntime, open_session

        self.structure = read_structure(data)
        import_onnxruntime()  # that it is missing is no fault of the network
        try:
            self._session = open_session(data, ["CPUExecutionProvider"])
        except ModelError as error:
            raise ModelError(f"it {error}") from error

    def run(self, name: str, output: str, images: Any) -> tuple[int, ...]:
        """Return the shape of an output."""
        try:
            (found,) = self._session.run([output], {name: images})
        except Exception as error:  # it may raise anything
            raise ModelError(f"it cannot be run: {_one_line(error)}") from error
        return tuple(found.shape)


class _LiteRTRunner:
    """A LiteRT network, loaded."""

    def __init__(self, data: bytes) -> None:
        from featureid.models.backends.litert import open_interpreter

        try:
            self._interpreter = open_interpreter(data)
        except ModelError as error:
            raise ModelError(f"it {error}") from error
        sources = self._interpreter.get_input_details()
        targets = self._interpreter.get_output_details()
        self._targets = {item["name"]: item["index"] for item in targets}
        self._source = sources[0]["index"] if sources else None
        self.structure = Structure(
            tuple(_tensor(item) for item in sources), tuple(map(_tensor, targets)), None
        )

    def run(self, name: str, output: str, images: Any) -> tuple[int, ...]:
        """Return the shape of an output."""
        try:
            self._interpreter.set_tensor(self._source, images)
            self._interpreter.invoke()
            return tuple(self._interpreter.get_tensor(self._targets[output]).shape)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"it cannot be run: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:_MAX_CHARACTERS]


def _tensor(item: Any) -> Tensor:
    lengths = item["shape"].tolist()
    signature = item["shape_signature"].tolist() or lengths
    # The batch of an interpreter is fixed; heights and widths that are open are not 1.
    shape = [lengths[0] if lengths else 1, *(None if n < 0 else n for n in signature[1:])]
    return Tensor(item["name"], item["dtype"].__name__, tuple(shape) if lengths else ())


if __name__ == "__main__":
    answer(Probe | Trial | Features, work)  # type: ignore[arg-type]
