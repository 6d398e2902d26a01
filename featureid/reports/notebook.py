"""Images in a notebook."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import numpy as np

from featureid.errors import UsageError
from featureid.images import decode_image
from featureid.keys import printable
from featureid.library import ImageLike, decoded, naming
from featureid.reports.thumbnails import SIDE, thumbnail_of

#: Images that a notebook shows at once; of more, write a report.
MOST_IMAGES = 200


class Shown:
    """Some images with their captions, which a notebook shows as pictures.

    Attributes:
        html: the pictures, as HTML that needs nothing else.
    """

    def __init__(self, html: str) -> None:
        self.html = html

    def _repr_html_(self) -> str:
        return self.html


def show(*images: ImageLike, captions: Sequence[object] = ()) -> Shown:
    """Return some images so that a notebook shows them.

    Args:
        images: each as in :func:`featureid.generate_feature_id`; up to 200.
        captions: a text, or a number, for each; default: the paths of those that have one.

    Raises:
        ImageError: an image cannot be read or decoded.
        UsageError: there are too many, or not as many captions.
    """
    if len(images) > MOST_IMAGES:
        raise UsageError(f"{len(images)} images are too many to show; give up to {MOST_IMAGES}")
    if captions and len(captions) != len(images):
        raise UsageError(f"`captions` are {len(captions)}, and there are {len(images)} images")
    names = captions or [image if isinstance(image, str) else "" for image in images]
    figures = [_figure(image, name) for image, name in zip(images, names, strict=True)]
    return Shown(f'<div style="display:flex;flex-wrap:wrap;gap:12px">{"".join(figures)}</div>')


def _figure(image: ImageLike, caption: object) -> str:
    with naming(image if isinstance(image, str) else ""):
        whole = decoded(image, lambda data: decode_image(data, min_size=(SIDE, SIDE)))
    thumbnail = thumbnail_of(whole)
    text = f"{caption:.4f}" if isinstance(caption, float | np.floating) else str(caption)
    text = escape(printable(text))
    data = base64.b64encode(thumbnail.data).decode()
    return (
        f'<figure style="margin:0;max-width:{thumbnail.width}px">'
        f'<img src="data:image/jpeg;base64,{data}" alt="{text}">'
        f'<figcaption style="overflow-wrap:anywhere">{text}</figcaption></figure>'
    )
