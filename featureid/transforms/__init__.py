"""Beam transforms; the only part of featureid that builds Beam graphs.

:class:`EmbedImages`, :class:`WriteSnapshot` and :class:`ReadSnapshot` are for any pipeline, see
``docs/beam.md``; the others make up the ``embed`` job.
"""

from featureid.transforms.check_content import CheckContent
from featureid.transforms.embed import EmbedImages, EmbedReferences
from featureid.transforms.list import ListImages
from featureid.transforms.read import ReadSnapshot
from featureid.transforms.refresh import RefreshSnapshot
from featureid.transforms.write import WriteSnapshot

__all__ = [
    "CheckContent",
    "EmbedImages",
    "EmbedReferences",
    "ListImages",
    "ReadSnapshot",
    "RefreshSnapshot",
    "WriteSnapshot",
]
