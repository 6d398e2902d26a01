"""Beam transforms; the only part of featureid that imports Apache Beam."""

from featureid.transforms.embed import EmbedImages
from featureid.transforms.list import ListImages
from featureid.transforms.write import WriteSnapshot

__all__ = ["EmbedImages", "ListImages", "WriteSnapshot"]
