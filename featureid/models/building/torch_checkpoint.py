"""Read the tensors of a legacy (non-zip) PyTorch checkpoint, without PyTorch and without trust.

Such a file is five pickles in a row (magic number, protocol, byte-order facts, the state dict, the
list of storage keys), then each storage as an 8-byte element count and its raw little-endian
values, in the order of the keys.  A pickle can name any callable for the reader to call; here only
the names a plain state dict of float32 and int64 tensors needs are known, and each of them is a
function of this module.

The layout is what ``torch.serialization._legacy_save`` of PyTorch 1.0 to 1.5 writes.
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from featureid.errors import ModelError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "LongStorage": np.dtype("<i8"),
}


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        last = self.offset + sum(
            (size - 1) * step for size, step in zip(self.shape, self.stride, strict=True)
        )
        count = math.prod(self.shape)
        outside = min((self.offset, *self.shape, *self.stride)) < 0 or count > self.storage.count
        if outside or (count and last >= self.storage.count):
            raise ModelError(f"a tensor of shape {self.shape} lies outside its storage")


def read_torch_checkpoint(data: bytes, source: str) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Return the tensors of a state dict by name.

    Args:
        data: the whole ``.pth`` file.
        source: what to call the file in an error.

    Returns:
        name to array, float32 or int64, in the file's order, each array contiguous.

    Raises:
        ModelError: the file is not such a checkpoint, is damaged, or asks for anything but a
            dictionary of float32 and int64 tensors on the CPU.
    """
    stream = io.BytesIO(data)
    try:
        if (_load(stream), _load(stream)) != (_MAGIC, _PROTOCOL):
            raise ModelError("it does not start like one")
        if not _is_little_endian(_load(stream)):
            raise ModelError("it was not written by a little-endian machine")
        tensors = _tensors(_load(stream))
        storages = _read_storages(data, stream, _load(stream), tensors)
        return {name: _array(tensor, storages) for name, tensor in tensors.items()}
    except ModelError as error:
        raise ModelError(f"{source}: not a PyTorch checkpoint that can be read: {error}") from error
    except Exception as error:  # a hostile pickle can make the unpickler raise anything at all
        message = f"{type(error).__name__}: {error}"
        raise ModelError(f"{source}: damaged PyTorch checkpoint: {message}") from error


def _load(stream: io.BytesIO) -> object:
    return _Unpickler(stream).load()


def _is_little_endian(system: object) -> bool:
    return isinstance(system, dict) and system.get("little_endian") is True


class _RebuildTensor:
    """Stand in for ``torch._utils._rebuild_tensor_v2``.

    An object without a ``__dict__``, since a pickle may set attributes of what it is given.
    """

    __slots__ = ()

    def __call__(
        self,
        storage: _Storage,
        offset: int,
        shape: tuple[int, ...],
        stride: tuple[int, ...],
        requires_grad: bool,
        hooks: object,
    ) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise ModelError("a tensor has no storage")
        return _Tensor(storage, offset, shape, stride)


_KNOWN: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    **{("torch", name): name for name in _DTYPES},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise ModelError(f"it asks for {module}.{name}, which is not allowed") from None

    def persistent_load(self, pid: Any) -> _Storage:
        kind, type_name, key, location, count, view = pid
        if kind != "storage" or location != "cpu" or view is not None:
            raise ModelError(f"it holds a storage of an unknown kind: {kind!r} on {location!r}")
        if type_name not in _DTYPES or not isinstance(count, int) or count < 0:
            raise ModelError(f"storage {key!r} has no known type or size")
        return _Storage(str(key), _DTYPES[type_name], count)


def _tensors(state: object) -> dict[str, _Tensor]:
    if not isinstance(state, OrderedDict) or not state:
        raise ModelError("it does not hold a state dict")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise ModelError(f"its entry {name!r} is not a tensor")
    return dict(state)


def _read_storages(
    data: bytes, stream: io.BytesIO, keys: object, tensors: dict[str, _Tensor]
) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    wanted = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(wanted):
        raise ModelError("its list of storages does not fit its tensors")
    arrays = {}
    position = stream.tell()
    for key in keys:
        storage = wanted[key]
        if int.from_bytes(data[position : position + 8], "little") != storage.count:
            raise ModelError(f"storage {key} is missing or of another size than its tensors say")
        arrays[key] = np.frombuffer(data, storage.dtype, storage.count, position + 8)
        position += 8 + storage.count * storage.dtype.itemsize
    if position != len(data):
        raise ModelError(f"{len(data) - position} bytes follow its last storage")
    return arrays


def _array(
    tensor: _Tensor, storages: dict[str, np.ndarray[Any, np.dtype[Any]]]
) -> np.ndarray[Any, np.dtype[Any]]:
    values = storages[tensor.storage.key]
    strides = tuple(step * values.itemsize for step in tensor.stride)
    view = np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides)
    return np.ascontiguousarray(view)
