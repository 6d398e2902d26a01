"""Search galleries for images, embedded here and now, or for the rows of a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from featureid.embedding import Embedder
from featureid.errors import ImageError
from featureid.images import DecodedImage, DecodeLimits
from featureid.images.pdq import MAX_DISTANCE, image_hash
from featureid.inputs import ImageRef, InputSource, list_source, read_image
from featureid.matching.gallery import Gallery, Match, Matches
from featureid.matching.hashes import Hashes
from featureid.parallel import map_in_order
from featureid.storage import layout
from featureid.storage.reader import Snapshot
from featureid.storage.records import Failure

Matrix = npt.NDArray[np.float32]

#: How far an image is turned, in degrees, clockwise.
TURNS = (0, 90, 180, 270)
# More than any distance.
_UNKNOWN = 1 << 16


@dataclass(frozen=True)
class Query:
    """Something to search for.

    Attributes:
        name: key of the image.
        face: index of the face in the image; None for a whole image.
        vectors: float32 (n, dimension): one, or one for each way that the image is turned.
        hashes: the perceptual hashes of the image, turned likewise; None if they are not known.
        uri: where the image is; None if that is not known.
        box: of the face, in pixels of the upright original; None if it is not known.
    """

    name: str
    face: int | None
    vectors: Matrix
    hashes: Hashes | None = None
    uri: str | None = None
    box: tuple[float, float, float, float] | None = None


def source_queries(
    sources: Iterable[InputSource],
    embedder: Embedder,
    turned: bool = False,
    hashed: bool = True,
    named: Callable[[ImageRef], ImageRef] = lambda ref: ref,
) -> Iterator[Query | Failure]:
    """Yield the queries of the images in some places, and the failures to list or embed them.

    Args:
        sources: the places; the images of each are ordered by their keys.
        embedder: the model.
        turned: see :func:`image_queries`.
        hashed: see :func:`image_queries`.
        named: returns a reference with the key that the image is to have.
    """
    for source in sources:
        listed = [*list_source(source)]
        yield from (item for item in listed if isinstance(item, Failure))
        refs = (named(item) for item in listed if isinstance(item, ImageRef))
        ordered = sorted(refs, key=lambda ref: ref.key)
        yield from image_queries(ordered, embedder, turned, hashed)


def image_queries(
    refs: Iterable[ImageRef], embedder: Embedder, turned: bool = False, hashed: bool = True
) -> Iterator[Query | Failure]:
    """Yield the queries of images in their order, as many as each has faces, or its failure.

    Args:
        refs: the images.
        embedder: the model.
        turned: whether to turn each image in the four ways of :data:`TURNS`; for models of whole
            images.
        hashed: whether to compute their perceptual hashes, of whole images.
    """

    def embed(ref: ImageRef) -> list[Query] | Failure:
        try:
            data = read_image(ref.uri, DecodeLimits().max_bytes)
            return _embed(ref, embedder.decode(data), embedder, turned, hashed)
        except ImageError as error:
            return Failure(ref.key, error.stage, error.reason, str(error), ref.version)

    for _, found in map_in_order(embed, refs, embedder.threads):
        if isinstance(found, Failure):
            yield found
        else:
            yield from found


def snapshot_queries(snapshot: Snapshot) -> Iterator[Query]:
    """Yield every row of a snapshot as a query."""
    model = snapshot.model
    columns = [layout.KEY, layout.VECTOR, *[layout.FACE_INDEX] * bool(model.faces)]
    columns += [layout.HASH, layout.HASH_QUALITY] * bool(model.hash)
    for block in snapshot.blocks(columns):
        vectors = np.asarray(block[layout.VECTOR])
        faces: Sequence[int | None] = [None] * len(vectors)
        if model.faces:
            faces = np.asarray(block[layout.FACE_INDEX]).tolist()
        hashes = None
        if model.hash:
            hashes = Hashes.of(*(np.asarray(block[name]) for name in columns[-2:]))
        for row, (key, face) in enumerate(zip(block[layout.KEY], faces, strict=True)):
            own = None if hashes is None else hashes.take(np.array([row]))
            yield Query(key, face, vectors[row : row + 1], own, snapshot.locate(key))


def _embed(
    ref: ImageRef, image: DecodedImage, embedder: Embedder, turned: bool, hashed: bool
) -> list[Query]:
    """Return the queries of an image.

    Raises:
        ImageError: it has no face, or the model fails.
    """
    ways = [_turned(image, turns) for turns in range(len(TURNS) if turned else 1)]
    fitted = [face_and_pixels for way in ways for face_and_pixels in embedder.fit(way)]
    vectors = []
    for vector in embedder.infer(np.stack([pixels for _, pixels in fitted])):
        if isinstance(vector, ImageError):
            raise vector
        vectors.append(vector)
    if not embedder.info.faces:
        hashes = _hashes(ways) if hashed else None
        return [Query(ref.key, None, np.stack(vectors), hashes, ref.uri)]
    return [
        Query(
            ref.key,
            face.index if face else None,
            vector[np.newaxis],
            uri=ref.uri,
            box=face.box if face else None,
        )
        for (face, _), vector in zip(fitted, vectors, strict=True)
    ]


def _hashes(images: Iterable[DecodedImage]) -> Hashes:
    found = [image_hash(image.pixels) for image in images]
    quality = np.array([quality for _, quality in found], np.uint8)
    return Hashes.of(np.stack([bits for bits, _ in found]), quality)


def _turned(image: DecodedImage, turns: int) -> DecodedImage:
    pixels = np.ascontiguousarray(np.rot90(image.pixels, -turns))
    size = (image.width, image.height) if turns % 2 == 0 else (image.height, image.width)
    return replace(image, pixels=pixels, width=size[0], height=size[1])


@dataclass(frozen=True)
class Hit:
    """A match of a query.

    Attributes:
        match: the row.
        turned: how far the query was turned for it, in degrees clockwise.
        hash_distance: bits in which their perceptual hashes differ, in the closest of the ways that
            the query was turned; None if one is not known, or says too little.
    """

    match: Match
    turned: int
    hash_distance: int | None = None

    @property
    def is_copy(self) -> bool:
        """Whether the hashes are as near as those of two copies of an image."""
        return self.hash_distance is not None and self.hash_distance <= MAX_DISTANCE


@dataclass(frozen=True)
class Answer:
    """What a search found for a query.

    Attributes:
        query: the query.
        hits: its matches, best first; each row once, as the best of the turned images matches it.
        cut_off: how many more rows reach the threshold, or are copies by their hash, which ``k``
            has cut off; of a turned image, at least so many. 0 if there is no threshold.
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
    hashes: Hashes | None = None,
) -> list[Answer]:
    """Return the matches of each query.

    Rows whose perceptual hash differs from the query's in at most 31 bits match whatever they
    score, and are the last that ``k`` cuts off.

    Args:
        gallery: what is searched.
        queries: what is searched for.
        k: how many rows at most; None for all that reach the threshold.
        threshold: the lowest score; None for no limit.
        exclude_self: leave out the rows whose key is the query's name.
        hashes: those of all rows of the gallery; None to go by the vectors alone.
    """
    own = [gallery.count(query.name) if exclude_self else 0 for query in queries]
    counts = [len(query.vectors) for query in queries]
    wanted = None if k is None else k + max(own, default=0)
    found = iter(
        gallery.matches(np.concatenate([query.vectors for query in queries]), wanted, threshold)
        if queries
        else ()
    )
    answers = []
    for query, count, mine in zip(queries, counts, own, strict=True):
        best, total = _best([*islice(found, count)])
        if hashes is not None and query.hashes is not None:
            total += _add_copies(best, gallery, query, hashes, threshold)
        if exclude_self:
            best = {row: hit for row, hit in best.items() if hit.match.key != query.name}
        hits = sorted(best.values(), key=lambda hit: hit.match.order)
        kept = hits if k is None else _first(hits, k)
        more = max(0, total - mine - len(kept)) if threshold is not None else 0
        answers.append(Answer(query, tuple(kept), more))
    return answers


def _best(by_turn: Sequence[Matches]) -> tuple[dict[int, Hit], int]:
    """Return the best hit of each row, by its number, and how many rows match at least."""
    best: dict[int, Hit] = {}
    for turned, matches in zip(TURNS, by_turn, strict=False):
        for match in matches.hits:
            if match.row not in best or match.score > best[match.row].match.score:
                best[match.row] = Hit(match, turned)
    return best, max((matches.total for matches in by_turn), default=0)


def _add_copies(
    best: dict[int, Hit],
    gallery: Gallery,
    query: Query,
    hashes: Hashes,
    threshold: float | None,
) -> int:
    """Add rows that are copies by their hash to the hits of a query, and all hits' distances.

    Returns:
        How many rows match that do not reach the threshold.
    """
    assert query.hashes is not None
    ways = np.stack([query.hashes.distances(way, hashes) for way in range(len(query.hashes))])
    ways[ways < 0] = _UNKNOWN
    nearest, distances = ways.argmin(axis=0), ways.min(axis=0)
    for row in np.flatnonzero(distances <= MAX_DISTANCE).tolist():
        if row not in best:
            way = int(nearest[row])
            best[row] = Hit(gallery.match(query.vectors[way], row), TURNS[way])
    for row, hit in best.items():
        if distances[row] != _UNKNOWN:
            best[row] = replace(hit, hash_distance=int(distances[row]))
    lowest = np.float32(-1 if threshold is None else threshold)
    return sum(bool(hit.match.score < lowest) for hit in best.values())


def _first(hits: Sequence[Hit], k: int) -> list[Hit]:
    """Return k of hits that are ordered, copies before others, in their order."""
    places = sorted(range(len(hits)), key=lambda place: (not hits[place].is_copy, place))[:k]
    return [hits[place] for place in sorted(places)]
