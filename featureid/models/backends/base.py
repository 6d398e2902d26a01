"""The interface of the backends that run a model, and the checks that they share."""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from featureid.errors import ModelError
from featureid.models.bundle import ModelBundle


class Backend(Protocol):
    """A loaded model.

    A vector depends on its image alone, not on the number or order of the images in a call.

    Attributes:
        concurrent: whether one object per thread uses more cores than a single object.  Either
            way, an object serves one thread at a time.
    """

    concurrent: ClassVar[bool]

    def embed(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the vectors of a batch of images.

        Args:
            batch: uint8 (n, height, width, 3), RGB, with the height and width of the
                model's preprocessing.

        Returns:
            float32 (n, dimension), not normalized.

        Raises:
            ModelError: the batch has another shape or dtype.
        """
        ...


def check_batch(batch: npt.NDArray[np.uint8], bundle: ModelBundle) -> None:
    """Raise ModelError unless ``batch`` is uint8 (n, height, width, 3) as ``bundle`` expects."""
    wanted = (bundle.preprocessing.height, bundle.preprocessing.width, 3)
    if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != wanted:
        raise ModelError(
            f"model {bundle.name!r} takes uint8 images of shape (n, {wanted[0]}, {wanted[1]}, 3), "
            f"got {batch.dtype} of shape {batch.shape}"
        )


def check_shape(
    bundle: ModelBundle, what: str, found: tuple[int | None, ...], wanted: tuple[int | None, ...]
) -> None:
    """Raise ModelError unless the network's ``what`` has the shape that ``bundle`` declares."""
    if found != wanted:
        raise ModelError(
            f"model {bundle.name!r} cannot be used: its {what} has shape {found}, but its "
            f"bundle.json declares {wanted}; build the bundle again"
        )
