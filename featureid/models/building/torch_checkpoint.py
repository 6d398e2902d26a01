"""Read the tensors of a legacy (non-zip) PyTorch checkpoint without PyTorch.

Such a file is five pickles (magic number, protocol, byte order, state dict, list of storage keys)
followed by the storages in the order of the keys, each an 8-byte element count and raw
little-endian values; see ``torch.serialization._legacy_save`` of PyTorch 1.0 to 1.5.

The caller has compared the SHA-256 of the file with the one it expects, so damage and hostile
lengths are not handled here.  Unpickling is still restricted to the few names that a state dict
needs.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import ModelError

_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
_PICKLES = 5
_COUNT_BYTES = 8


def _rebuild_tensor(*arguments: Any) -> tuple[Any, ...]:
    """Return storage, offset, shape and stride, for ``torch._utils._rebuild_tensor_v2``."""
    return arguments[:4]


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    **{("torch", name): dtype for name, dtype in _DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise ModelError(f"the checkpoint asks for {module}.{name}, which is not allowed")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> tuple[str, np.dtype[Any]]:
        _, dtype, key, *_ = pid
        return key, dtype


def read_torch_checkpoint(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a state dict by name, float32 or int64, in the file's order.

    Args:
        data: the whole ``.pth`` file, whose checksum the caller has verified.

    Raises:
        ModelError: the file uses anything but float32 and int64 tensors.
    """
    stream = io.BytesIO(data)
    *_, state, keys = [_Unpickler(stream).load() for _ in range(_PICKLES)]
    itemsizes = {key: dtype.itemsize for (key, dtype), *_ in state.values()}
    starts, position = {}, stream.tell()
    for key in keys:
        starts[key] = position + _COUNT_BYTES
        count = int.from_bytes(data[position : starts[key]], "little")
        position = starts[key] + count * itemsizes[key]
    tensors = {}
    for name, ((key, dtype), offset, shape, stride) in state.items():
        strides = [step * dtype.itemsize for step in stride]
        place = starts[key] + offset * dtype.itemsize
        tensors[name] = np.ndarray(shape, dtype, data, place, strides)
    return tensors
