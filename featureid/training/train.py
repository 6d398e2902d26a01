"""Train a model: from labeled images, or from photos and edited copies of them, to a bundle."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from featureid.atomic import replace_file
from featureid.errors import FeatureIdError, TrainingError, UsageError
from featureid.evaluation.figures import Evaluation, evaluate
from featureid.evaluation.trials import Images, compare_all
from featureid.models import ModelBundle, open_backend
from featureid.models.building.reductions import projection
from featureid.models.features import Reduction
from featureid.stored_json import canonical_json
from featureid.training.batches import Batches, class_plan, triplet_plan
from featureid.training.export import cnn_bundle, cnn_preprocessing, head_bundle
from featureid.training.fitting import Figures, FitOptions, fit
from featureid.training.losses import (
    Terms,
    batch_hard_terms,
    contrastive_terms,
    mean_loss,
    random_terms,
    semi_hard_terms,
)
from featureid.training.networks import (
    arrays_of,
    augmentation,
    linear_head,
    published_cnn,
    trainable,
)
from featureid.training.options import TrainOptions
from featureid.training.principal import principal_components
from featureid.training.split import Split
from featureid.training.whitening import learned_whitening

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.intp]
Report = Callable[[int, Figures], None]

#: Copies of photos are found at this false-accept rate.
RECALL_FAR = 1e-3
_RUN = "run.json"
_BATCH = 256
_CHECKED, _TOLERANCE = 64, 1e-5


@dataclass(frozen=True)
class Trained:
    """A model that was trained.

    Attributes:
        bundle: the model.
        epochs: figures of each epoch, those before the first one first; of whitening, none.
        before: how well the test classes are told apart before training.
        after: the same afterwards.
    """

    bundle: ModelBundle
    epochs: Sequence[Figures]
    before: Evaluation
    after: Evaluation


def figures_of(
    vectors: npt.NDArray[np.float32], labels: Labels, terms: Terms | None = None
) -> Figures:
    """Return how well unit vectors tell classes apart, over all pairs, and their spread.

    Args:
        vectors: (n, dimension).
        labels: (n,).
        terms: of the loss, of which some (n, n) numbers are held; None to leave it out.

    Returns:
        ``auc``; ``spread``; ``recall``, the true-accept rate at a false-accept rate of 0.001, if
        there are pairs enough; and ``val_loss``.
    """
    apart = vectors - vectors.mean(axis=0)
    curve = compare_all(_images(vectors, labels)).exact
    figures = {"auc": curve.auc(), "spread": float(np.sqrt((apart * apart).sum(axis=1).mean()))}
    if curve.carries(RECALL_FAR):
        figures["recall"] = curve.tar_at(RECALL_FAR)
    if terms is not None:
        figures["val_loss"] = float(mean_loss(terms)(labels, vectors))
    return figures


def _images(vectors: npt.NDArray[np.float32], labels: Labels) -> Images:
    names, classes = np.unique(labels, return_inverse=True)
    keys = tuple(map(str, range(len(vectors))))
    return Images(keys, vectors, classes, tuple(map(str, names)))


def train_cnn(
    options: TrainOptions,
    pixels: Array,
    labels: Labels,
    split: Split,
    folder: Path,
    tensorboard: str = "",
    report: Report = lambda epoch, figures: None,
) -> Trained:
    """Train the published network.

    Args:
        options: how.
        pixels: uint8 (n, height, width, 3).
        labels: (n,).
        split: of the rows.
        folder: from :func:`work_folder`.
        tensorboard: a folder for TensorBoard; "" for none.
        report: called after each epoch.

    Raises:
        TrainingError: nothing useful is learned, or the model is not what was trained.
    """
    keras.utils.set_random_seed(options.seed)
    size = options.input_size
    network = published_cnn(size, size, options.dimension)
    scaling = keras.layers.Rescaling(1 / 255)
    varied = augmentation(options.augment, options.seed)
    model = trainable(network, [scaling, *varied], options.raw)
    embedding = trainable(network, [scaling])

    def vectors(rows: Labels) -> npt.NDArray[np.float32]:
        return _predict(embedding, pixels, rows)

    before = evaluate(_images(vectors(split.test), labels[split.test]))
    epochs = _fit(
        model,
        options,
        pixels[split.train],
        labels[split.train],
        lambda: figures_of(vectors(split.validation), labels[split.validation]),
        folder,
        tensorboard,
        varied,
        report,
    )
    preprocessing = cnn_preprocessing(size, size)
    bundle = cnn_bundle(
        options.name, arrays_of(network), preprocessing, _provenance(options, split)
    )
    found = vectors(split.test)
    _check_same(bundle, pixels[split.test[:_CHECKED]], found[:_CHECKED])
    return Trained(bundle, epochs, before, evaluate(_images(found, labels[split.test])))


def train_head(
    options: TrainOptions,
    base: ModelBundle,
    features: npt.NDArray[np.float32],
    labels: Labels,
    split: Split,
    folder: Path,
    tensorboard: str = "",
    report: Report = lambda epoch, figures: None,
    origin: str = "",
) -> Trained:
    """Train what follows a network that stays as it is.

    Args:
        options: how.
        base: the model with the network.
        features: float32 (n, native dimension), of unit length.
        labels: (n,).
        split: of the rows.
        folder: from :func:`work_folder`.
        tensorboard: a folder for TensorBoard; "" for none.
        report: called after each epoch.
        origin: where the images come from, for the provenance of the model; "" to say nothing.

    Raises:
        TrainingError: nothing useful is learned.
    """
    keras.utils.set_random_seed(options.seed)
    known = _known_reduction(base, options.dimension)

    def vectors(rows: Labels, reduction: Reduction) -> npt.NDArray[np.float32]:
        found = features[rows] @ reduction.matrix
        if reduction.offset is not None:
            found += reduction.offset
        unit: npt.NDArray[np.float32] = found / np.linalg.norm(found, axis=1, keepdims=True)
        return unit

    def judged(reduction: Reduction) -> Evaluation:
        return evaluate(_images(vectors(split.test, reduction), labels[split.test]))

    epochs: Sequence[Figures] = ()
    if options.loss == "whitening":
        reduction = Reduction(
            *learned_whitening(features[split.train], labels[split.train], options.dimension),
            unit=True,
        )
    else:
        head = _untrained_head(features[split.train], known)
        model = trainable(head)
        watched = _terms(options) if options.watched == "val_loss" else None
        epochs = _fit(
            model,
            options,
            features[split.train],
            labels[split.train],
            lambda: figures_of(
                vectors(split.validation, _reduction_of(head)), labels[split.validation], watched
            ),
            folder,
            tensorboard,
            (),
            report,
        )
        reduction = _reduction_of(head)
    provenance = "; ".join(filter(None, (origin, _provenance(options, split))))
    bundle = head_bundle(base, options.name, reduction, provenance)
    return Trained(bundle, epochs, judged(known), judged(reduction))


@contextlib.contextmanager
def work_folder(
    output: Path, options: TrainOptions, keys: Sequence[str], resume: bool
) -> Iterator[Path]:
    """Yield the folder in which a training keeps what it needs to be continued.

    If the block ends in an error of featureid's, of which no more would come, it is deleted.

    Args:
        output: the file of the model; the folder is beside it.
        options: how it is trained.
        keys: the images.
        resume: whether a training is to be continued that was interrupted.

    Raises:
        UsageError: there is one, and it is not to be continued or is another one; or there is none.
    """
    folder = _folder_of(output)
    digest = hashlib.sha256("\0".join(keys).encode("utf-8", "surrogatepass")).hexdigest()
    described = canonical_json({"options": asdict(options), "images": digest})
    if not (folder / _RUN).exists():
        if resume:
            raise UsageError(f"`resume`: there is no training to continue in {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / _RUN, [described])
    elif not resume:
        raise UsageError(
            f"{folder} has a training that has not ended: continue it with `resume`, or delete the "
            "folder"
        )
    elif (folder / _RUN).read_bytes() != described:
        raise UsageError(
            f"`resume`: {folder} has a training with other options or images; give the same ones, "
            "or delete the folder"
        )
    try:
        yield folder
    except FeatureIdError:
        if not resume:
            shutil.rmtree(folder)
        raise


def remove_work_folder(output: Path) -> None:
    """Delete what the training of a model has kept, once that is written."""
    shutil.rmtree(_folder_of(output))


def _folder_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.training")


def _fit(
    model: keras.Model,
    options: TrainOptions,
    rows: Array,
    labels: Labels,
    validate: Callable[[], Figures],
    folder: Path,
    tensorboard: str,
    random_layers: Sequence[keras.Layer],
    report: Report,
) -> list[Figures]:
    if options.loss == "triplet" and options.mining == "random":
        plan = triplet_plan(labels, options.batch_size)
    else:
        classes = options.batch_size // options.images_per_class
        plan = class_plan(labels, classes, options.images_per_class)
    fitted = FitOptions(
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        seed=options.seed,
        patience=options.patience,
        watched=options.watched,
        margin=options.margin if options.loss == "triplet" else None,
        tensorboard=tensorboard,
    )
    batches = Batches(rows, labels, plan, options.seed)
    return fit(model, batches, _terms(options), validate, fitted, folder, random_layers, report)


def _terms(options: TrainOptions) -> Terms:
    if options.loss == "contrastive":
        return contrastive_terms(options.temperature)
    by_mining = {
        "random": random_terms,
        "semi-hard": semi_hard_terms,
        "batch-hard": batch_hard_terms,
    }
    return by_mining[options.mining](options.margin)


def _reduction_of(head: keras.Model) -> Reduction:
    weights = arrays_of(head)
    return Reduction(weights["head/kernel"], weights["head/bias"], unit=True)


def check_dimension(base: ModelBundle, dimension: int) -> None:
    """Refuse vectors that are longer than the features of a network.

    Raises:
        UsageError: they would be.
    """
    if dimension > base.native_dimension:
        raise UsageError(
            f"`dimension` is {dimension}; the network of {base.name} gives only "
            f"{base.native_dimension} features"
        )


def _known_reduction(base: ModelBundle, dimension: int) -> Reduction:
    """Return what a head is compared with: the reduction of the base, or a random projection."""
    if base.reduction is not None and base.dimension == dimension:
        return base.reduction
    return Reduction(projection(base.native_dimension, dimension, seed=dimension), unit=True)


def _untrained_head(features: npt.NDArray[np.float32], known: Reduction) -> keras.Model:
    """Return a head that is at first the principal components, if there are features enough.

    From there, heads become better than from a random projection: benchmarks/heads.py.
    """
    dimension = known.matrix.shape[1]
    if len(features) > dimension:
        return linear_head(*principal_components(features, dimension))
    return linear_head(known.matrix, known.offset)


def _predict(model: keras.Model, pixels: Array, rows: Labels) -> npt.NDArray[np.float32]:
    parts = [
        np.asarray(model(pixels[rows[start : start + _BATCH]].astype(np.float32), training=False))
        for start in range(0, len(rows), _BATCH)
    ]
    return np.concatenate(parts)


def _check_same(bundle: ModelBundle, pixels: Array, wanted: npt.NDArray[np.float32]) -> None:
    """Check that the exported model gives what Keras gives."""
    vectors = open_backend(bundle).embed(np.asarray(pixels))
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    largest = float(np.abs(vectors - wanted).max())
    if not largest <= _TOLERANCE:
        raise TrainingError(
            f"the exported model differs from the trained one by {largest:.2g}, more than "
            f"{_TOLERANCE:g}; please report this"
        )


def _provenance(options: TrainOptions, split: Split) -> str:
    how = options.loss if options.loss != "triplet" else f"triplet loss, {options.mining}"
    return f"trained by featureid on {len(split.train)} images ({how}, seed {options.seed})"
