"""dlib's face recognition network as an ONNX network, from its published weights.

The architecture is ``anet_type`` of dlib's ``dnn_face_recognition_ex.cpp`` by Davis King, a ResNet
with 29 convolutions (He et al., 2016, with fewer layers and half the filters), trained on about
3 million faces: https://github.com/davisking/dlib-models.  In dlib's file each convolution is
followed by an affine layer, its former batch norm; here that is folded into the convolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from featureid.errors import ModelError
from featureid.images.dlib_faces import DLIBS_CROP
from featureid.onnx_graph import OnnxGraph, Weights

IMAGE_SIZE = 150
FEATURES = 256
DIMENSION = 128
#: What dlib subtracts from red, green and blue, and then divides by.
MEAN = (122.782, 117.001, 104.298)
STD = (256.0, 256.0, 256.0)

#: Where a face's landmarks belong in the network's input. It distinguishes people better by dlib's,
#: with which it was trained, than by those of any other detector (docs/faces.md).
TEMPLATES = {"dlib": DLIBS_CROP["dlib"]}
#: What is added to a detector's box on every side if it has no landmarks.  0 is best for Haar's
#: boxes, with which a network trained on aligned faces does poorly (docs/faces.md).
MARGIN = 0.0

_STEM = (32, 7)
# Filters and stride of the first convolution of each residual block, input first.
_BLOCKS = (
    *[(32, 1)] * 3,
    *[(64, 2), *[(64, 1)] * 3],
    *[(128, 2), *[(128, 1)] * 2],
    *[(256, 2), *[(256, 1)] * 2],
    (256, 2),
)


def _convolutions() -> Iterator[tuple[str, int, int]]:
    """Yield name, filters and kernel size of every convolution, input first."""
    yield ("stem", *_STEM)
    for number, (filters, _) in enumerate(_BLOCKS):
        yield f"block{number:02d}_a", filters, 3
        yield f"block{number:02d}_b", filters, 3


def folded_weights(
    layers: Sequence[tuple[str, npt.NDArray[np.float32]]],
) -> tuple[dict[str, Weights], Weights]:
    """Return the weights of dlib's network, with its affine layers folded into the convolutions.

    Args:
        layers: kind and parameters of each layer, from
            :func:`featureid.models.building.dlib_network.read_dlib_network`.

    Returns:
        ``layer/kernel`` to float32 (channels out, channels in, height, width), and ``layer/bias``
        to (channels out,), folded in float64; and the dense layer, float32 (256, 128).

    Raises:
        ModelError: the layers belong to another network.
    """
    convolutions = list(_convolutions())
    if [kind for kind, _ in layers] != ["con", "affine"] * len(convolutions) + ["fc"]:
        raise ModelError(
            f"not dlib's face network: its {len(layers)} layers differ in kind or number"
        )
    values = iter(values for _, values in layers)
    weights: dict[str, Weights] = {}
    inputs = 3
    for name, filters, size in convolutions:
        # dlib: (out, in, height, width), then the biases; gammas, then betas.
        convolution, affine = next(values), next(values)
        if convolution.size != filters * (inputs * size * size + 1) or affine.size != 2 * filters:
            raise ModelError(f"not dlib's face network: layer {name} has another size")
        bias = convolution[-filters:].astype(np.float64)
        kernel = convolution[:-filters].reshape(filters, inputs, size, size)
        gamma, beta = affine.astype(np.float64).reshape(2, filters)
        weights[f"{name}/kernel"] = (kernel * gamma[:, None, None, None]).astype(np.float32)
        weights[f"{name}/bias"] = (bias * gamma + beta).astype(np.float32)
        inputs = filters
    dense = next(values)
    if dense.size != FEATURES * DIMENSION:
        raise ModelError("not dlib's face network: the dense layer has another size")
    return weights, dense.reshape(FEATURES, DIMENSION)


def write_network(weights: Mapping[str, Weights], graph: OnnxGraph) -> bytes:
    """Return the network without its dense layer as ONNX.

    Its input are pixels of (n, 3, 150, 150), RGB from 0 to 255, minus :data:`MEAN`, divided by
    :data:`STD`; its output ``features`` is float32 (n, 256).

    Args:
        weights: from :func:`folded_weights`.
        graph: an empty one, to which it is written.
    """

    def convolve(x: str, name: str, stride: int = 1) -> str:
        kernel, bias = weights[f"{name}/kernel"], weights[f"{name}/bias"]
        # dlib pads only the convolutions that keep the size.
        around = kernel.shape[-1] // 2 if stride == 1 else 0
        return graph.convolution(x, name, kernel, bias, stride=stride, pads=(around, around))

    x = graph.relu(convolve(graph.source, "stem", 2), "stem_relu")
    x = graph.max_pool(x, "stem_pool", side=3, stride=2)
    side = ((IMAGE_SIZE - 7) // 2 + 1 - 3) // 2 + 1
    channels = _STEM[0]
    for number, (filters, stride) in enumerate(_BLOCKS):
        name = f"block{number:02d}"
        shortcut = x
        x = graph.relu(convolve(x, f"{name}_a", stride), f"{name}_a_relu")
        x = convolve(x, f"{name}_b")
        if stride == 2:
            shortcut = graph.average_pool(shortcut, f"{name}_pool", side=2, channels=channels)
            if filters != channels:
                shortcut = graph.pad(shortcut, f"{name}_widen", channels=filters - channels)
            pooled, side = side // 2, (side - 3) // 2 + 1
            if pooled != side:
                # dlib treats the last row and column, which x lacks, as 0.
                x = graph.pad(x, f"{name}_pad", sides=pooled - side)
            side, channels = pooled, filters
        x = graph.relu(graph.add(x, shortcut, f"{name}_add"), f"{name}_relu")
    graph.features(x)
    return graph.to_bytes("face", FEATURES)
