"""The examples of docs/models.md that export networks run, with random weights.

In an environment with PyTorch and TensorFlow, see ``make export-test``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from featureid.models import open_backend
from featureid.models.building.textures import textured_images
from featureid.models.bundle import load_bundle

ROOT = Path(__file__).parents[2]
# Weights would have to be downloaded.
RANDOM = {
    "pretrained=True": "pretrained=False",
    'pretrained="laion2b_s34b_b79k"': "pretrained=None",
    'weights="imagenet"': "weights=None",
    'AutoModel.from_pretrained("facebook/dinov2-small")': (
        "AutoModel.from_config(__import__('transformers').Dinov2Config(num_hidden_layers=2))"
    ),
    'AutoImageProcessor.from_pretrained("facebook/dinov2-small")': (
        "__import__('transformers').BitImageProcessor("
        "size={'shortest_edge': 256}, crop_size={'height': 224, 'width': 224}, resample=3, "
        "image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])"
    ),
}
DIMENSIONS = {"timm": 192, "open_clip": 512, "transformers": 768, "keras": 1280}


def examples() -> dict[str, tuple[str, str]]:
    """Library -> the code that exports a network, and the command that adds it."""
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    pairs = re.findall(r"```python\n(.*?)```\n\n```sh\n(.*?)```", text, re.DOTALL)
    found = {}
    for code, command in pairs:
        for ours, theirs in RANDOM.items():
            code = code.replace(ours, theirs)
        imported = set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE))
        (library,) = imported & {*DIMENSIONS}
        found[library] = (code, command)
    return found


def run(command: list[str], folder: Path) -> str:
    """Run a command in a folder, and return what it prints."""
    environment = {
        **os.environ,
        "FEATUREID_MODELS": str(folder / "models"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("library", DIMENSIONS)
def test_an_exported_network_becomes_a_model(library: str, tmp_path: Path) -> None:
    code, command = examples()[library]
    run([sys.executable, "-c", code], tmp_path)
    run(["bash", "-euc", command], tmp_path)
    (path,) = (tmp_path / "models").iterdir()
    bundle = load_bundle(path)
    assert bundle.dimension == DIMENSIONS[library]
    assert (bundle.preprocessing.height, bundle.preprocessing.width) == (224, 224)


def test_a_converted_keras_model_computes_what_keras_does(tmp_path: Path) -> None:
    code = """
import keras, numpy, sys
keras.utils.set_random_seed(5)
model = keras.applications.MobileNetV3Small(
    weights=None, include_top=False, pooling="avg", input_shape=(96, 96, 3))
images = numpy.load("images.npy").astype("float32")
for layer in model.layers:  # without statistics, random weights leave next to nothing of an image
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.momentum = 0.0
model(images, training=True)
model.save("mobile.keras")
numpy.save("theirs.npy", model.predict(images, verbose=0))
"""
    images = textured_images(4, 96, 96)
    np.save(tmp_path / "images.npy", images)
    run([sys.executable, "-c", code], tmp_path)
    add = "models add mobile.keras --name mobile --mean 0 --std 1/255 --json"
    added = json.loads(run([sys.executable, "-m", "featureid", *add.split()], tmp_path))
    ours = open_backend(load_bundle(added["path"])).embed(images)
    theirs = np.load(tmp_path / "theirs.npy")
    assert theirs.std() > 1e-3
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())
