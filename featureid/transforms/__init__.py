"""Beam transforms; the only part of featureid that imports Apache Beam."""

from featureid.transforms.check_content import CompareContent
from featureid.transforms.embed import EmbedImages
from featureid.transforms.list import ListImages
from featureid.transforms.write import WritePlan, WriteSnapshot

__all__ = ["CompareContent", "EmbedImages", "ListImages", "WritePlan", "WriteSnapshot"]
