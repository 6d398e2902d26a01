"""A bundle is the model whose digest it states, or it is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from featureid.cli.main import main
from featureid.errors import BundleError, ModelError
from featureid.models import ModelBundle, known_models, read_bundle, resolve_model, write_bundle
from featureid.models.building.check import check_contents, remember
from featureid.models.building.onnx_structure import network_sha256
from featureid.models.bundle import content_digest, pooled, with_own_digest
from featureid.models.contents import CONTENTS
from featureid.models.features import Reduction
from featureid.training.export import cnn_bundle, cnn_preprocessing, head_bundle
from tests.odd_networks import MEANS, node, onnx_of
from tests.tiny_networks import onnx_bundle, onnx_network, tflite_bundle


def with_network(bundle: ModelBundle, **changes: Any) -> ModelBundle:
    """Return a bundle with changes of its network, and the digest that it had."""
    return replace(bundle, network=replace(bundle.network, **changes))


def with_another_weight(bundle: ModelBundle) -> ModelBundle:
    """Return a bundle with one weight of the network changed a little, and the digest it had."""
    model = onnx.load_model_from_string(bundle.network.data)
    weights = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    values = numpy_helper.to_array(weights).copy()
    values.flat[values.size // 2] += 1
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    return with_network(bundle, data=model.SerializeToString())


def with_another_reduction(bundle: ModelBundle) -> ModelBundle:
    """Return a bundle with one number of its reduction changed a little."""
    assert bundle.reduction is not None
    matrix = bundle.reduction.matrix.copy()
    matrix[0, 0] = np.nextafter(matrix[0, 0], np.float32(9))
    return replace(bundle, reduction=replace(bundle.reduction, matrix=matrix))


CHANGES: dict[str, Callable[[ModelBundle], ModelBundle]] = {
    "a weight": with_another_weight,
    "a number of the reduction": with_another_reduction,
    "the mean": lambda bundle: replace(
        bundle, preprocessing=replace(bundle.preprocessing, mean=(126.0, 127.0, 127.0))
    ),
    "channels": lambda bundle: replace(
        bundle, preprocessing=replace(bundle.preprocessing, channels="bgr")
    ),
    "the batch": lambda bundle: with_network(bundle, input=replace(bundle.network.input, batch=1)),
    "the output": lambda bundle: with_network(bundle, output="pool"),
    "pooling": lambda bundle: replace(bundle, pooling="mean"),
}


@pytest.fixture(scope="module")
def image() -> ModelBundle:
    """The known model."""
    return resolve_model("image")


@pytest.mark.parametrize("kind", CHANGES)
def test_a_bundle_that_states_another_digest_than_it_holds_is_refused(kind: str) -> None:
    honest = onnx_bundle()
    forged = CHANGES[kind](honest)
    assert read_bundle(write_bundle(honest), "m") == honest
    with pytest.raises(BundleError) as refused:
        read_bundle(write_bundle(forged), "m")
    found = content_digest(forged)
    assert f"states the digest {honest.digest}, but the digest of what it holds is {found}" in str(
        refused.value
    )
    assert read_bundle(write_bundle(with_own_digest(forged)), "m").digest == found


@pytest.mark.parametrize("name", [model.name for model in known_models()])
def test_known_models_hold_what_is_expected_of_them(name: str) -> None:
    bundle = resolve_model(name)
    network = network_sha256(bundle.network.data)
    for model in (bundle, pooled(bundle)):
        assert CONTENTS[model.digest] == content_digest(model, network)
        check_contents(model, network)
        assert read_bundle(write_bundle(model), "m") == model
    for other in CONTENTS.keys() - {bundle.digest}:
        with pytest.raises(ModelError, match=f"states the digest {other}, but "):
            check_contents(replace(bundle, digest=other), network)


@pytest.mark.parametrize("kind", CHANGES)
def test_another_model_with_the_digest_of_a_known_one_is_refused(
    kind: str, image: ModelBundle
) -> None:
    forged = CHANGES[kind](image)
    found = content_digest(forged)
    with pytest.raises(ModelError, match=f"digest {image.digest}, but .* holds is {found}: its "):
        check_contents(forged, network_sha256(forged.network.data))
    litert = replace(tflite_bundle(), digest=image.digest)
    with pytest.raises(ModelError, match=f"digest {image.digest}, but .* holds is sha256:"):
        check_contents(litert, None)


def test_a_forged_known_model_is_one_line(
    image: ModelBundle, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = with_another_weight(image)
    (tmp_path / "image.fidmodel").write_bytes(write_bundle(forged))
    model = str(tmp_path / "image.fidmodel")
    photo = str(photos / "small" / "coffee.jpg")
    assert main(["compare", photo, photo, "--model", model]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert image.digest in error and content_digest(forged) in error


def test_a_cached_known_model_that_fails_its_trial_is_built_again(
    image: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATUREID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("featureid.models.building.trial._CHILD", "none")
    monkeypatch.setattr("featureid.models.zoo._build", lambda model: write_bundle(image))
    known = known_models()[0]
    known.path.parent.mkdir(parents=True)
    known.path.write_bytes(write_bundle(with_another_weight(image)))
    remember(write_bundle(image))
    assert resolve_model("image") == image
    assert known.path.read_bytes() == write_bundle(image)


# What an ONNX file computes, however it is written


def new_name(name: str) -> str:
    """Return another name for what is neither input nor output of the network."""
    return name if name in ("pixels", "features") else f"the {name}"


def rewritten(data: bytes) -> bytes:
    """Return the same network as another version of a library might write it."""
    model = onnx.load_model_from_string(data)
    model.producer_name, model.producer_version, model.doc_string = "another", "9", "a network"
    model.graph.name = model.graph.doc_string = "other"
    model.metadata_props.add(key="author", value="somebody")
    for one in model.graph.node:
        one.name, one.doc_string = f"renamed {one.name}", "an operator"
        attributes = sorted(one.attribute, key=lambda item: item.name, reverse=True)
        del one.attribute[:]
        one.attribute.extend(attributes)
    for one in model.graph.node:
        for names in (one.input, one.output):
            names[:] = [name and new_name(name) for name in names]
    tensors = [helper.make_tensor("unused", 1, [1], [0])]
    for tensor in reversed(model.graph.initializer):
        values = numpy_helper.to_array(tensor)
        kind = tensor.data_type
        name = new_name(tensor.name)
        tensors.append(helper.make_tensor(name, kind, values.shape, values.ravel()))
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    "data", [onnx_network(), onnx_network("nhwc", "uint8", 2, tokens=True)], ids=["float", "uint8"]
)
def test_how_a_network_is_written_does_not_matter(data: bytes) -> None:
    other = rewritten(data)
    assert other != data and network_sha256(other) == network_sha256(data)


def changed(change: Callable[[Any], object]) -> bytes:
    """Return a network with a change of its model."""
    model = onnx.load_model_from_string(onnx_network())
    change(model)
    return bytes(model.SerializeToString())


def test_whatever_changes_the_numbers_matters() -> None:
    constants = {"w": np.array([1], np.float32), "t": np.array([1], np.int64)}
    networks = {
        "plain": onnx_network(),
        "rows": onnx_network("nhwc"),
        "a weight": onnx_network(bias=np.ones(4, np.float32)),
        "an attribute": changed(lambda model: model.graph.node[0].attribute[0].ints.append(1)),
        "an operator": changed(lambda model: setattr(model.graph.node[1], "op_type", "Relu")),
        "the version of operators": changed(lambda m: setattr(m.opset_import[0], "version", 18)),
        "an input": onnx_of([MEANS, node("Add", "m", "w", "y")], constants=constants),
        "another input": onnx_of([MEANS, node("Add", "w", "m", "y")], constants=constants),
        "a number": onnx_of([MEANS, node("LeakyRelu", "m", "y", alpha=0.5)]),
        "another number": onnx_of([MEANS, node("LeakyRelu", "m", "y", alpha=float("inf"))]),
        "a text": onnx_of([node("DepthToSpace", "x", "y", blocksize=2, mode="DCR")]),
        "another text": onnx_of([node("DepthToSpace", "x", "y", blocksize=2, mode="CRD")]),
        "a constant": onnx_of([node("Constant", "y", value=numpy_helper.from_array(np.ones(2)))]),
    }
    assert len({network_sha256(data) for data in networks.values()}) == len(networks)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            changed(lambda model: model.graph.initializer.append(model.graph.initializer[0])),
            "it defines 'kernel' twice",
        ),
        (changed(lambda model: model.graph.node.reverse()), "it uses 'relu' before it is computed"),
        (
            onnx_of([node("Optional", "y", type=helper.make_tensor_type_proto(1, [1]))]),
            "it has an attribute of the kind TypeProto",
        ),
    ],
)
def test_what_no_known_network_has_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        network_sha256(data)


def test_what_was_trained_states_what_it_holds() -> None:
    rng = np.random.default_rng(4)
    sides = enumerate([(3, 4), (4, 5), (5, 6)], 1)
    shapes: dict[str, tuple[int, ...]] = {f"conv{n}/kernel": (3, 3, *both) for n, both in sides}
    shapes |= {f"conv{n}/bias": (size,) for n, size in enumerate((4, 5, 6), 1)}
    shapes |= {"hidden/kernel": (2 * 2 * 6, 7), "hidden/bias": (7,)}
    shapes |= {"embedding/kernel": (7, 8), "embedding/bias": (8,)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    network = cnn_bundle("mine", weights, cnn_preprocessing(30, 30), "made by a test")
    head = Reduction(rng.normal(size=(8, 3)).astype(np.float32), unit=True)
    trained = head_bundle(network, "head", head, "made by a test")
    assert read_bundle(write_bundle(network), "m") == network
    assert read_bundle(write_bundle(trained), "m") == trained
    assert pooled(trained).digest == network.digest != trained.digest
