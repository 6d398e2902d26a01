"""Beam transforms; the only part of featureid that builds Beam graphs."""

from featureid.transforms.check_content import CheckContent
from featureid.transforms.embed import EmbedImages, EmbedReferences
from featureid.transforms.list import ListImages
from featureid.transforms.write import WritePlan, WriteSnapshot

__all__ = [
    "CheckContent",
    "EmbedImages",
    "EmbedReferences",
    "ListImages",
    "WritePlan",
    "WriteSnapshot",
]
