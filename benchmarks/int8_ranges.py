"""Measure the ranges of the values within the known models, from which their integers are scaled.

    python benchmarks/int8_ranges.py --images DIR --faces DIR [--output FILE] [--json]

The float32 networks are run on ``--count`` images of each folder, evenly spread over its sorted
paths.  Faces are the largest of every image.  Every tensor that a convolution, an activation or a
sum passes on gets the lowest and the highest value that was seen, with four digits.  The default
``--output`` is the file that featureid builds its models from.

The ranges that featureid carries come from 120 photos of
https://github.com/EliSchwartz/imagenet-sample-images and from 120 of the people of View 1 of
Labeled Faces in the Wild.  Other ranges make other models: they need new architecture revisions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import common
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from featureid.errors import ImageError
from featureid.face_crops import finder_for
from featureid.images import FaceSettings
from featureid.model_input import load_image
from featureid.models import ModelBundle, resolve_model

_QUANTIZED = {"Conv", "Clip", "Relu", "Add"}
_ACTIVATIONS = {"Clip", "Relu"}
_DIGITS = 4
RANGES = common.ROOT / "featureid/models/building/int8_ranges.json"


def quantized_tensors(network: onnx.ModelProto) -> list[str]:
    """Return the outputs that are followed by no activation, but for activations themselves."""
    followed = {node.input[0] for node in network.graph.node if node.op_type in _ACTIVATIONS}
    return [
        node.output[0]
        for node in network.graph.node
        if node.op_type in _QUANTIZED and node.output[0] not in followed
    ]


def inputs(bundle: ModelBundle, folder: Path, count: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the network's input for some images of a folder."""
    faces = FaceSettings("largest") if bundle.preprocessing.face else None
    finder = finder_for(bundle.preprocessing, faces)
    paths = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in common.IMAGE_SUFFIXES
    )
    for path in paths[:: max(1, len(paths) // count)][:count]:
        try:
            (image,) = load_image(str(path), bundle.preprocessing, finder=finder)
        except ImageError:
            continue
        yield bundle.preprocessing.scale(image.pixels[np.newaxis], "nchw")


def measure(bundle: ModelBundle, folder: Path, count: int) -> dict[str, tuple[float, float]]:
    """Return the lowest and the highest value of every quantized tensor by its name."""
    network = onnx.load_from_string(bundle.network.data)
    names = quantized_tensors(network)
    network.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(network.SerializeToString())
    lowest, highest = np.zeros((2, len(names)))
    for pixels in inputs(bundle, folder, count):
        found = session.run(names, {"pixels": pixels})
        lowest = np.minimum(lowest, [values.min() for values in found])
        highest = np.maximum(highest, [values.max() for values in found])
    return {
        name: (_rounded(low), _rounded(high))
        for name, low, high in zip(names, lowest, highest, strict=True)
    }


def _rounded(value: float) -> float:
    """Return a number of four digits that is no closer to 0."""
    if not value:
        return 0.0
    digits = _DIGITS - 1 - math.floor(math.log10(abs(value)))
    return math.copysign(math.ceil(abs(value) * 10**digits) / 10**digits, value)


def main() -> None:
    """Measure both models and write the file."""
    parser = common.make_parser(__doc__)
    add = parser.add_argument
    add("--images", type=Path, required=True, help="folder of photos")
    add("--faces", type=Path, required=True, help="folder of photos with faces")
    add("--count", type=int, default=120, help="of each; default: %(default)s")
    add("--output", type=Path, default=RANGES, help="JSON file to write")
    options = parser.parse_args()
    result = {
        model: measure(resolve_model(model), folder, options.count)
        for model, folder in (("image", options.images), ("face", options.faces))
    }
    lines = [
        f"  {json.dumps(model)}: {{\n"
        + ",\n".join(f"    {json.dumps(name)}: {json.dumps(ends)}" for name, ends in ranges.items())
        + "\n  }"
        for model, ranges in result.items()
    ]
    options.output.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="ascii")
    common.print_result(result, options.json, f"written: {options.output}")


if __name__ == "__main__":
    main()
