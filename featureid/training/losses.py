"""Losses of embeddings, and which triplets of a batch they look at.

A loss takes the classes of a batch, (n,), and its embeddings, (n, dimension), as Keras gives them
to any loss.  So one network with one input is trained, whatever the loss compares.  Distances are
squared Euclidean ones; of unit vectors they are 2 − 2 · cosine.

Sources: Schroff, Kalenichenko and Philbin, "FaceNet: A Unified Embedding for Face Recognition and
Clustering", 2015 (triplet loss, semi-hard negatives); Hermans, Beyer and Leibe, "In Defense of the
Triplet Loss for Person Re-Identification", 2017 (batch-hard); Chen et al., "A Simple Framework for
Contrastive Learning of Visual Representations", 2020 (NT-Xent), with several positives as in Khosla
et al., "Supervised Contrastive Learning", 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from keras import ops

Tensor = Any
#: From the classes and embeddings of a batch to the loss of each of its triplets or pairs, and to
#: which of them count; tensors of one shape.
Terms = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Mining = Literal["random", "semi-hard", "batch-hard"]

_FAR = 1e9


def random_terms(margin: float) -> Terms:
    """Return the triplet loss of given triplets: anchors, then positives, then negatives."""

    def terms(labels: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        anchors, positives, negatives = ops.split(embeddings, 3)
        near = ops.sum(ops.square(anchors - positives), axis=1)
        far = ops.sum(ops.square(anchors - negatives), axis=1)
        losses = ops.relu(near - far + margin)
        return losses, ops.ones_like(losses)

    return terms


def semi_hard_terms(margin: float) -> Terms:
    """Return the triplet loss of every pair of one class with its semi-hard negative.

    That is the nearest one that is farther from the anchor than the positive or, if none is, the
    farthest of all.
    """

    def terms(labels: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        distances, same, positive = _pairs(labels, embeddings)
        # (anchor, positive, negative)
        farther = ~same[:, None, :] & (distances[:, None, :] > distances[:, :, None])
        nearest = ops.min(ops.where(farther, distances[:, None, :], _FAR), axis=2)
        farthest = ops.max(ops.where(same, -1.0, distances), axis=1, keepdims=True)
        negative = ops.where(ops.any(farther, axis=2), nearest, farthest)
        return ops.relu(distances - negative + margin), ops.cast(positive, "float32")

    return terms


def batch_hard_terms(margin: float) -> Terms:
    """Return the triplet loss of every image with its farthest positive and nearest negative."""

    def terms(labels: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        distances, same, positive = _pairs(labels, embeddings)
        farthest = ops.max(ops.where(positive, distances, -1.0), axis=1)
        nearest = ops.min(ops.where(same, _FAR, distances), axis=1)
        counts = ops.any(positive, axis=1) & ops.any(~same, axis=1)
        return ops.relu(farthest - nearest + margin), ops.cast(counts, "float32")

    return terms


def contrastive_terms(temperature: float) -> Terms:
    """Return the NT-Xent loss of every pair of one class, among all others of the batch.

    It is the negative logarithm of the softmax of a pair's score, divided by the temperature, among
    those of the first image with all others.
    """

    def terms(labels: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        _, _, positive = _pairs(labels, embeddings)
        itself = ops.eye(ops.shape(labels)[0], dtype="bool")
        logits = ops.matmul(embeddings, ops.transpose(embeddings)) / temperature
        logits = ops.where(itself, -_FAR, logits)
        losses = ops.logsumexp(logits, axis=1, keepdims=True) - logits
        return ops.where(positive, losses, 0.0), ops.cast(positive, "float32")

    return terms


def mean_loss(terms: Terms) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the mean of the terms that count, for ``Model.compile``; 0 if none does."""

    def loss(labels: Tensor, embeddings: Tensor) -> Tensor:
        losses, counts = terms(ops.reshape(labels, (-1,)), embeddings)
        return ops.sum(losses * counts) / ops.maximum(ops.sum(counts), 1.0)

    return loss


def active_share(terms: Terms) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the share of terms that count whose loss is not 0: those that teach something."""

    def active(labels: Tensor, embeddings: Tensor) -> Tensor:
        losses, counts = terms(ops.reshape(labels, (-1,)), embeddings)
        taught = ops.cast(losses > 0, "float32") * counts
        return ops.sum(taught) / ops.maximum(ops.sum(counts), 1.0)

    return active


def spread(labels: Tensor, embeddings: Tensor) -> Tensor:
    """Return the root mean squared distance of a batch's embeddings from their mean."""
    del labels  # Keras gives every metric both
    apart = embeddings - ops.mean(embeddings, axis=0)
    return ops.sqrt(ops.mean(ops.sum(ops.square(apart), axis=1)))


def _pairs(labels: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return for all pairs: distances, whether of one class, and whether of two images of one."""
    norms = ops.sum(ops.square(embeddings), axis=1)
    products = ops.matmul(embeddings, ops.transpose(embeddings))
    distances = ops.relu(norms[:, None] + norms[None, :] - 2.0 * products)
    same = labels[:, None] == labels[None, :]
    return distances, same, same & ~ops.eye(ops.shape(labels)[0], dtype="bool")
