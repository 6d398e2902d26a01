"""Read the weights of a network serialized by dlib, without dlib.

dlib writes the layers of a network from input to output.  A layer starts with the packed length of
its name and the name (``con_4``, ``affine_``, ``fc_2``).  ``fc_2`` continues with the numbers of
its outputs and inputs.  Then comes the tensor of parameters: the version 2, four sizes, and their
product of little-endian float32 values.  A packed integer is a byte that holds the number of bytes
that follow, with the sign in its top bit, and then those bytes, little-endian.  See
``dlib/serialize.h``, ``dlib/cuda/tensor.h`` and ``dlib/dnn/layers.h`` of dlib 19 and 20.
"""

from __future__ import annotations

import math
import re

import numpy as np
import numpy.typing as npt

from featureid.errors import ModelError

_TENSOR_VERSION = 2
_MARK = re.compile(rb"(?:\x01\x05(?=con_4)|\x01\x07(?=affine_)|\x01\x04(?=fc_2))([a-z]+_[0-9]?)")
_MAX_INTEGER_BYTES = 8


def read_dlib_network(data: bytes, source: str) -> list[tuple[str, npt.NDArray[np.float32]]]:
    """Return kind and parameters of every convolution, affine and dense layer, input first.

    The bytes between these layers describe how they are wired.  They are skipped, since the caller
    knows the network.

    Args:
        data: the whole ``.dat`` file.
        source: name of the file, for error messages.

    Returns:
        Pairs of ``con``, ``affine`` or ``fc`` and float32 (n,), filters before their biases.

    Raises:
        ModelError: the file has no such layer, or ends within one.
    """
    found: list[tuple[str, npt.NDArray[np.float32]]] = []
    try:
        position = 0
        while mark := _MARK.search(data, position):
            position = mark.end()
            if mark[1] == b"fc_2":
                _, position = _integer(data, position)
                _, position = _integer(data, position)
            values, position = _tensor(data, position)
            found.append((mark[1].decode().partition("_")[0], values))
    except (IndexError, ValueError) as error:
        raise ModelError(f"{source}: damaged dlib network: {error}") from error
    if not found:
        raise ModelError(f"{source}: not a dlib network: it has no layer with weights")
    return found


def _tensor(data: bytes, position: int) -> tuple[npt.NDArray[np.float32], int]:
    version, position = _integer(data, position)
    sizes = []
    for _ in range(4):
        size, position = _integer(data, position)
        sizes.append(size)
    count = math.prod(sizes)
    if version != _TENSOR_VERSION or min(sizes) < 1 or position + 4 * count > len(data):
        raise ValueError(f"bad tensor at byte {position}: version {version}, sizes {sizes}")
    return np.frombuffer(data, "<f4", count, position), position + 4 * count


def _integer(data: bytes, position: int) -> tuple[int, int]:
    count = data[position] & 0x7F
    if count > _MAX_INTEGER_BYTES:
        raise ValueError(f"bad integer at byte {position}")
    end = position + 1 + count
    magnitude = int.from_bytes(data[position + 1 : end], "little")
    return -magnitude if data[position] & 0x80 else magnitude, end
