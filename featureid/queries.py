"""Search galleries for images, embedded here and now, or for the rows of a snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from featureid.embedding import Embedder
from featureid.errors import ImageError
from featureid.images import DecodedImage, DecodeLimits
from featureid.inputs import ImageRef, read_image
from featureid.matching.gallery import Gallery, Match, Matches
from featureid.parallel import map_in_order
from featureid.storage import layout
from featureid.storage.reader import Snapshot
from featureid.storage.records import Failure

Matrix = npt.NDArray[np.float32]

#: How far an image is turned, in degrees, clockwise.
TURNS = (0, 90, 180, 270)


@dataclass(frozen=True)
class Query:
    """Something to search for.

    Attributes:
        name: key of the image.
        face: index of the face in the image; None for a whole image.
        vectors: float32 (n, dimension): one, or one for each way that the image is turned.
    """

    name: str
    face: int | None
    vectors: Matrix


def image_queries(
    refs: Iterable[ImageRef], embedder: Embedder, turned: bool = False
) -> Iterator[Query | Failure]:
    """Yield the queries of images in their order, as many as each has faces, or its failure.

    Args:
        refs: the images.
        embedder: the model.
        turned: whether to turn each image in the four ways of :data:`TURNS`; for models of whole
            images.
    """

    def embed(ref: ImageRef) -> list[Query] | Failure:
        try:
            data = read_image(ref.uri, DecodeLimits().max_bytes)
            return _embed(ref.key, embedder.decode(data), embedder, turned)
        except ImageError as error:
            return Failure(ref.key, error.stage, error.reason, str(error), ref.version)

    for _, found in map_in_order(embed, refs, embedder.threads):
        if isinstance(found, Failure):
            yield found
        else:
            yield from found


def snapshot_queries(snapshot: Snapshot) -> Iterator[Query]:
    """Yield every row of a snapshot as a query."""
    columns = [layout.KEY, layout.VECTOR]
    if snapshot.model.faces:
        columns.append(layout.FACE_INDEX)
    for block in snapshot.blocks(columns):
        vectors = np.asarray(block[layout.VECTOR])
        faces: Sequence[int | None] = [None] * len(vectors)
        if snapshot.model.faces:
            faces = np.asarray(block[layout.FACE_INDEX]).tolist()
        for key, face, vector in zip(block[layout.KEY], faces, vectors, strict=True):
            yield Query(key, face, vector[np.newaxis])


def _embed(key: str, image: DecodedImage, embedder: Embedder, turned: bool) -> list[Query]:
    """Return the queries of an image.

    Raises:
        ImageError: it has no face, or the model fails.
    """
    ways = [embedder.fit(_turned(image, turns)) for turns in range(len(TURNS) if turned else 1)]
    fitted = [face_and_pixels for way in ways for face_and_pixels in way]
    vectors = []
    for vector in embedder.infer(np.stack([pixels for _, pixels in fitted])):
        if isinstance(vector, ImageError):
            raise vector
        vectors.append(vector)
    if turned:
        return [Query(key, None, np.stack(vectors))]
    return [
        Query(key, face.index if face else None, vector[np.newaxis])
        for (face, _), vector in zip(fitted, vectors, strict=True)
    ]


def _turned(image: DecodedImage, turns: int) -> DecodedImage:
    pixels = np.ascontiguousarray(np.rot90(image.pixels, -turns))
    size = (image.width, image.height) if turns % 2 == 0 else (image.height, image.width)
    return replace(image, pixels=pixels, width=size[0], height=size[1])


@dataclass(frozen=True)
class Hit:
    """A match of a query, and how far the query was turned for it, in degrees clockwise."""

    match: Match
    turned: int


@dataclass(frozen=True)
class Answer:
    """What a search found for a query.

    Attributes:
        query: the query.
        hits: its matches, best first; each row once, as the best of the turned images matches it.
        cut_off: how many more rows reach the threshold, which ``k`` has cut off; of a turned image,
            at least so many. 0 if there is no threshold.
    """

    query: Query
    hits: tuple[Hit, ...]
    cut_off: int


def search(
    gallery: Gallery,
    queries: Sequence[Query],
    k: int | None,
    threshold: float | None = None,
    exclude_self: bool = False,
) -> list[Answer]:
    """Return the matches of each query.

    Args:
        gallery: what is searched.
        queries: what is searched for.
        k: how many rows at most; None for all that reach the threshold.
        threshold: the lowest score; None for no limit.
        exclude_self: leave out the rows whose key is the query's name.
    """
    own = [gallery.count(query.name) if exclude_self else 0 for query in queries]
    counts = [len(query.vectors) for query in queries]
    wanted = None if k is None else k + max(own, default=0)
    found = iter(
        gallery.matches(np.concatenate([query.vectors for query in queries]), wanted, threshold)
        if queries
        else ()
    )
    return [
        _answer(query, [*islice(found, count)], k, threshold is not None, mine)
        for query, count, mine in zip(queries, counts, own, strict=True)
    ]


def _answer(
    query: Query, by_turn: Sequence[Matches], k: int | None, limited: bool, own: int
) -> Answer:
    best: dict[int, Hit] = {}
    for turned, matches in zip(TURNS, by_turn, strict=False):
        for match in matches.hits:
            if own and match.key == query.name:
                continue
            if match.row not in best or match.score > best[match.row].match.score:
                best[match.row] = Hit(match, turned)
    hits = sorted(best.values(), key=lambda hit: hit.match.order)
    total = max((matches.total for matches in by_turn), default=0) - own
    kept = hits if k is None else hits[:k]
    return Answer(query, tuple(kept), max(0, total - len(kept)) if limited else 0)
