"""A training from what a user names to a model: labeled images, their split, arrays, the fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from featureid.embedding import Embedder, EmbedSettings
from featureid.errors import UsageError
from featureid.evaluation.figures import Evaluation
from featureid.images import FaceSettings
from featureid.inputs import ImageRef
from featureid.labeled import LabeledSource
from featureid.model_store import model_of
from featureid.models import ModelBundle, resolve_model
from featureid.models.bundle import pooled
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.records import PDQ, Failure
from featureid.training.edits import EDITS
from featureid.training.export import cnn_preprocessing
from featureid.training.features import edited_photos
from featureid.training.fitting import Figures
from featureid.training.loading import (
    Loaded,
    check_found,
    copies_across,
    features_of_snapshot,
    load_features,
    load_pixels,
)
from featureid.training.options import CNN, TrainOptions
from featureid.training.split import PARTS, Split, split_classes
from featureid.training.train import (
    RECALL_FAR,
    Trained,
    check_dimension,
    train_cnn,
    train_head,
    work_folder,
)

_LOG = logging.getLogger(__name__)

_SHOWN = 3
#: Photos to learn from without labels: 25 to 50 made the model worse, some hundreds are enough.
LEAST_PHOTOS, MOST_PHOTOS = 100, 1000
#: Of each of them: edited copies, and how often the most edited ones are.
COPIES, MOST_EDITS = 9, 3
_ORIGIN = f"{COPIES} copies of each photo, after 1 to {MOST_EDITS} of: {', '.join(EDITS)}"


class LabeledImages:
    """Images that a user has labeled.

    Attributes:
        keys: of the images, sorted.
        names: the class of each.
        given: the part of the split that the table puts each into, "" for no matter; None if it
            says nothing of that.
        refs: where they are; empty for those of a snapshot.
        snapshot: their features, if they have been computed; None if not.
        failures: images that could not be listed, or have no features in the snapshot.

    Args:
        data: as for :class:`featureid.labeled.LabeledSource`; a snapshot has features.
        labels: likewise.

    Raises:
        UsageError: there are no images, or they have no labels.
    """

    def __init__(self, data: str, labels: str) -> None:
        source = LabeledSource(data, labels)
        by_key, parts = source.labels(), source.parts()
        self.snapshot, self.failures = source.snapshot, source.failures
        failed = {failure.key for failure in source.failures}
        self.keys = sorted(key for key in source.keys if by_key.get(key) and key not in failed)
        self.names = [by_key[key] for key in self.keys]
        self.given = [parts.get(key, "") for key in self.keys] if parts else None
        found = {ref.key: ref for ref in source.refs}
        self.refs = [found[key] for key in self.keys] if found else []


class Photos:
    """Photos of a snapshot that a head is trained on, without labels.

    Args:
        output: a snapshot, or an output folder.
        root: the folder that its keys now start in, if the photos have moved; "" if not.
        seed: of the choice, where there are many.

    Raises:
        UsageError: there are too few, or the model takes faces.
    """

    def __init__(self, output: str, root: str, seed: int) -> None:
        snapshot = open_snapshot(output)
        if snapshot.model.faces:
            raise UsageError(
                f"`from_snapshot` is {output!r}, whose model {snapshot.model.name} takes faces; a "
                "head is trained on whole photos"
            )
        self.base = model_of(snapshot.folder, snapshot.model)
        keys = [*snapshot]
        check_photos(len(keys), ())
        chosen = np.random.default_rng(seed).permutation(len(keys))[:MOST_PHOTOS]
        where = {"root": root} if root else {}
        self.refs = [
            ImageRef(keys[number], snapshot.uri(keys[number], **where))
            for number in sorted(chosen.tolist())
        ]


def check_photos(count: int, failures: Sequence[Failure]) -> None:
    """Refuse to train on too few photos.

    Raises:
        UsageError: there are fewer than 100.
    """
    if count >= LEAST_PHOTOS:
        return
    why = f"; {failures[0].key}: {failures[0].message}" if failures else ""
    raise UsageError(
        f"{count} photos can be used, and {LEAST_PHOTOS} are needed{why}. A model that learns from "
        "fewer finds less than before; take more, or the model as it is"
    )


def train(
    options: TrainOptions,
    images: LabeledImages,
    output: Path,
    resume: bool,
    tensorboard: str = "",
    progress: Callable[[int], Any] = lambda images: None,
    report: Callable[[int, Figures], None] = lambda epoch, figures: None,
) -> tuple[Trained, Split, Sequence[Failure]]:
    """Train a model on labeled images.

    Args:
        options: how.
        images: what to train on.
        output: where the model will be written; what an interrupted training needs is kept beside
            it until then, see :func:`work_folder`.
        resume: continue such a training.
        tensorboard: a folder for TensorBoard; "" for none.
        progress: called with the number of images that have been loaded.
        report: called after each epoch.

    Returns:
        The model with its figures, the split, and the images that cannot be used.

    Raises:
        UsageError: there are too few images or classes, or nothing can be continued.
        TrainingError: nothing useful is learned.
    """
    if images.snapshot is not None and options.base == CNN:
        raise UsageError("`base='cnn'` is trained on images, and a snapshot has none")
    more = (tensorboard, report)
    base = None if options.base == CNN else _base(options, images.snapshot)
    with work_folder(output, options, images.keys, resume) as folder:
        if base is None:
            size = options.input_size
            loaded = load_pixels(images.refs, cnn_preprocessing(size, size), folder, progress)
            labels, split = _split(options, images, loaded)
            trained = train_cnn(options, loaded.arrays, labels, split, folder, *more)
        else:
            loaded = _features(base, images, progress)
            labels, split = _split(options, images, loaded)
            trained = train_head(options, base, loaded.arrays, labels, split, folder, *more)
    return trained, split, [*images.failures, *loaded.failures]


def _base(options: TrainOptions, snapshot: Snapshot | None) -> ModelBundle:
    """Return the model whose network stays as it is."""
    if snapshot is None:
        base = resolve_model(options.base)
    else:
        base = model_of(snapshot.folder, snapshot.model)
    check_dimension(base, options.dimension)
    return base


def _features(base: ModelBundle, images: LabeledImages, progress: Callable[[int], Any]) -> Loaded:
    if images.snapshot is not None:
        return features_of_snapshot(images.snapshot, images.keys)
    faces = FaceSettings("largest") if base.preprocessing.face else None
    settings = EmbedSettings(faces=faces, hash="" if faces else PDQ)
    with closing(Embedder(_network_of(base), settings)) as embedder:
        return load_features(images.refs, embedder, progress)


def _network_of(base: ModelBundle) -> ModelBundle:
    return pooled(base) if base.reduction else base


def train_from_photos(
    options: TrainOptions,
    photos: Photos,
    output: Path,
    resume: bool,
    tensorboard: str = "",
    progress: Callable[[int], Any] = lambda photos: None,
    report: Callable[[int, Figures], None] = lambda epoch, figures: None,
) -> tuple[Trained, Split, Sequence[Failure]]:
    """Train a head for the model of a snapshot, without labels.

    Each photo and edited copies of it are a class of their own.

    Args:
        options: how; the base is that of the snapshot.
        photos: of the snapshot.
        output: as for :func:`train`.
        resume: likewise.
        tensorboard: likewise.
        progress: called with the number of photos that have been loaded.
        report: called after each epoch.

    Raises:
        UsageError: too few photos can be used, or nothing can be continued.
        TrainingError: nothing useful is learned.
    """
    check_dimension(photos.base, options.dimension)
    keys = [ref.key for ref in photos.refs]
    with work_folder(output, options, keys, resume) as folder:
        with closing(Embedder(_network_of(photos.base), EmbedSettings())) as embedder:
            found = edited_photos(photos.refs, embedder, COPIES, MOST_EDITS, options.seed, progress)
        check_photos(len(found.features), found.failures)
        count, views, native = found.features.shape
        names = [str(photo) for photo in range(count) for _ in range(views)]
        split = split_classes(names, options.validation, options.test, options.seed)
        labels = np.repeat(np.arange(count), views)
        features = found.features.reshape(-1, native)
        more = (tensorboard, report, _ORIGIN)
        trained = train_head(options, photos.base, features, labels, split, folder, *more)
    return trained, split, found.failures


def described(trained: Trained, split: Split, failures: Sequence[Failure]) -> dict[str, Any]:
    """Return what was done, as JSON values."""
    parts = {name: len(getattr(split, name)) for name in PARTS}
    return {
        "images": sum(parts.values()),
        "parts": parts,
        "left_out": [*split.left_out],
        "epochs": max(0, len(trained.epochs) - 1),
        "before": _figures(trained.before),
        "after": _figures(trained.after),
        "failed": len(failures),
        "failures": [asdict(failure) for failure in failures],
        "digest": trained.bundle.digest,
    }


def _figures(found: Evaluation) -> dict[str, Any]:
    recall = next(rate.tar for rate in found.rates if rate.far == RECALL_FAR)
    figures = {"auc": found.auc, "rank1": found.rank1, "recall": recall}
    return {name: figure and figure.to_json() for name, figure in figures.items()}


def _split(
    options: TrainOptions, images: LabeledImages, loaded: Loaded
) -> tuple[np.ndarray[Any, np.dtype[np.intp]], Split]:
    check_found(loaded)
    names = [images.names[number] for number in loaded.kept]
    given = images.given and [images.given[number] for number in loaded.kept]
    split = split_classes(names, options.validation, options.test, options.seed, given)
    copies = copies_across(loaded.hashes, split.part_of(len(names)))
    for one, other in copies[:_SHOWN]:
        keys = (images.keys[loaded.kept[row]] for row in (one, other))
        _LOG.warning("nearly the same image in two parts of the split: %s and %s", *keys)
    if copies:
        _LOG.warning(
            "%d pairs of images of different classes are nearly the same, but one is trained on "
            "and the other judges the result, which will look better than it is",
            len(copies),
        )
    return np.unique(names, return_inverse=True)[1], split
