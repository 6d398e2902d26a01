"""The interface of the backends that run a model, and the checks that they share."""

from __future__ import annotations

from typing import ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from featureid.errors import ModelError
from featureid.models.bundle import ModelBundle

BackendKind = Literal["litert", "tensorflow"]


class Backend(Protocol):
    """A loaded model.

    A vector depends on its image alone: not on how many images a call has, nor on their order.

    Attributes:
        concurrent: whether opening one object a thread uses more cores.  One object is for one
            thread at a time in either case.
    """

    concurrent: ClassVar[bool]

    def embed(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the vectors of some images.

        Args:
            batch: uint8 (n, height, width, 3), RGB, in the size of the model's preprocessing.

        Returns:
            float32 (n, dimension), not normalised.

        Raises:
            ModelError: the batch is of another shape or type.
        """
        ...


def check_batch(batch: npt.NDArray[np.uint8], bundle: ModelBundle) -> None:
    """Raise ModelError unless ``batch`` is uint8 (n, height, width, 3) as ``bundle`` wants it."""
    wanted = (bundle.preprocessing.height, bundle.preprocessing.width, 3)
    if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != wanted:
        raise ModelError(
            f"model {bundle.name!r} wants uint8 images of shape (n, {wanted[0]}, {wanted[1]}, 3), "
            f"got {batch.dtype} of shape {batch.shape}"
        )


def check_shape(
    bundle: ModelBundle, what: str, found: tuple[int | None, ...], wanted: tuple[int | None, ...]
) -> None:
    """Raise ModelError unless the network's ``what`` has the shape that ``bundle`` promises."""
    if found != wanted:
        raise ModelError(
            f"model {bundle.name!r} is not usable: its {what} has shape {found}, but its "
            f"bundle.json promises {wanted}; make the bundle again"
        )
