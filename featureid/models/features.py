"""What follows a network: pooling its output to one vector per image, and a reduction of that.

Every image is computed alone, without BLAS, whose results depend on shapes and threads: so the bits
of a vector depend neither on its batch nor on the number of cores.
"""

from __future__ import annotations

import functools
import io
import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from featureid.errors import BundleError, ModelError

Array = npt.NDArray[np.float32]
Pooling = Literal["none", "cls", "mean"]


@dataclass(frozen=True, eq=False)
class Reduction:
    """A linear map from a network's features to the vectors of a model.

    Attributes:
        matrix: float32 (native dimension, dimension).
        offset: float32 (dimension,), added to the product; None for none.
        unit: whether features are divided by their length before the product.

    Raises:
        BundleError: they have other shapes or dtypes, or are not finite.
    """

    matrix: Array = field(repr=False)
    offset: Array | None = field(default=None, repr=False)
    unit: bool = False

    def __post_init__(self) -> None:
        if self.matrix.dtype != np.float32 or self.matrix.ndim != 2 or not self.matrix.size:
            raise BundleError(
                f"a reduction must be a float32 matrix, not {self.matrix.dtype} of shape "
                f"{self.matrix.shape}"
            )
        dimension = self.matrix.shape[1]
        if self.offset is not None and (
            self.offset.dtype != np.float32 or self.offset.shape != (dimension,)
        ):
            raise BundleError(
                f"the offset of a reduction must be float32 ({dimension},), not "
                f"{self.offset.dtype} {self.offset.shape}"
            )
        offset = 0.0 if self.offset is None else self.offset
        if not (np.isfinite(self.matrix).all() and np.isfinite(offset).all()):
            raise BundleError("a reduction must be finite")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reduction) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[bytes, bool]:
        return self.to_npy(), self.unit

    def apply(self, features: Array) -> Array:
        """Return ``features @ matrix + offset``, summed in float64.

        Features of length zero, if they are to have length one, give a row that is not finite.

        Args:
            features: float32 (n, native dimension).

        Returns:
            float32 (n, dimension).
        """
        matrix, offset = self._wide
        rows = np.empty((len(features), matrix.shape[1]), np.float32)
        for row, vector in zip(rows, features.astype(np.float64), strict=True):
            if self.unit:
                length = math.sqrt(math.fsum((vector * vector).tolist()))
                vector = vector / length if length else np.full_like(vector, np.nan)
            row[:] = np.einsum("d,dk->k", vector, matrix) + offset
        return rows

    @functools.cached_property
    def _wide(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | float]:
        offset = 0.0 if self.offset is None else self.offset.astype(np.float64)
        return self.matrix.astype(np.float64), offset

    def to_npy(self) -> bytes:
        """Return a ``.npy`` file of the matrix, with the offset, if there is one, as last row."""
        rows = self.matrix if self.offset is None else np.vstack([self.matrix, self.offset])
        return _npy_header(rows.shape) + rows.astype("<f4").tobytes()


def read_reduction(data: bytes, native: int, dimension: int, unit: bool = False) -> Reduction:
    """Return the reduction in a ``.npy`` file of :meth:`Reduction.to_npy`.

    Args:
        data: the file.
        native: rows of its matrix; one more row is the offset.
        dimension: columns.
        unit: what the bundle says of it.

    Raises:
        BundleError: it is not such a file.
    """
    # Compared, not parsed: NumPy parses a header as Python, which takes anything from a forged one.
    for rows in (native, native + 1):
        header = _npy_header((rows, dimension))
        if data.startswith(header) and len(data) == len(header) + 4 * rows * dimension:
            values = np.frombuffer(data, "<f4", offset=len(header)).astype(np.float32)
            values = values.reshape(rows, dimension)
            return Reduction(values[:native], values[native] if rows > native else None, unit)
    raise BundleError(
        "the reduction is not a complete .npy file of little-endian float32 of shape "
        f"{(native, dimension)} or, with an offset, {(native + 1, dimension)}"
    )


def _npy_header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    fields = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, fields)
    return stream.getvalue()


def pool(outputs: Array, pooling: Pooling, features: int) -> Array:
    """Return one vector per image from the output of a network.

    Args:
        outputs: float32 (n, …).
        pooling: ``none``: each image has one vector already, be it with further axes of length 1;
            ``cls`` and ``mean``: the first, or the mean, of the tokens of (n, tokens, features).
        features: length of a vector.

    Returns:
        float32 (n, features).

    Raises:
        ModelError: the output has another shape.
    """
    if pooling == "none":
        fits = outputs.ndim > 1 and math.prod(outputs.shape[1:]) == features
    else:
        fits = outputs.ndim == 3 and outputs.shape[1] > 0 and outputs.shape[2] == features
    if not fits:
        raise ModelError(
            f"the network returned an array of shape {outputs.shape}, from which pooling "
            f"{pooling!r} cannot take {features} features per image"
        )
    if pooling == "none":
        return outputs.reshape(len(outputs), features)
    if pooling == "cls":
        return outputs[:, 0]
    means = [tokens.mean(axis=0, dtype=np.float64) for tokens in outputs]
    return np.array(means, np.float32).reshape(-1, features)
