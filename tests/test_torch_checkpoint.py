"""The reader of PyTorch checkpoints: what it reads, and that it runs nothing."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from featureid.errors import ModelError
from featureid.models.building.torch_checkpoint import read_torch_checkpoint

_EMPTY_DICT = b"ccollections\nOrderedDict\n)R"


def _opcodes(value: object) -> bytes:
    """Return the opcodes that push ``value``."""
    return pickle.dumps(value, 2)[2:-1]


def _tensor(
    key: str,
    count: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    *,
    offset: int = 0,
    kind: bytes = b"Float",
) -> bytes:
    storage = b"(" + _opcodes("storage") + b"ctorch\n" + kind + b"Storage\n"
    storage += _opcodes(key) + _opcodes("cpu") + _opcodes(count) + b"NtQ"
    rest = _opcodes(offset) + _opcodes(shape) + _opcodes(stride) + b"\x89" + _EMPTY_DICT
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"


def _state(entries: dict[str, bytes]) -> bytes:
    """Return the opcodes of a state dict from the opcodes of its tensors."""
    pairs = b"".join(_opcodes(name) + tensor for name, tensor in entries.items())
    return _EMPTY_DICT + b"(" + pairs + b"u"


def _checkpoint(state: bytes, storages: dict[str, npt.NDArray[Any]]) -> bytes:
    """Return a file as ``torch.save`` of PyTorch 1.0 to 1.5 writes it."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, system)]
    keys = pickle.dumps(list(storages), 2)
    raw = [struct.pack("<q", array.size) + array.tobytes() for array in storages.values()]
    return b"".join([*head, b"\x80\x02", state, b".", keys, *raw])


def test_tensors_of_both_types_with_strides_and_offsets_are_read() -> None:
    values = np.arange(6, dtype="<f4")
    state = _state(
        {
            "rows": _tensor("1", 6, (2, 3), (3, 1)),
            "columns": _tensor("1", 6, (3, 2), (1, 3)),
            "tail": _tensor("1", 6, (2,), (1,), offset=4),
            "steps": _tensor("2", 1, (), (), kind=b"Long"),
        }
    )
    found = read_torch_checkpoint(_checkpoint(state, {"2": np.array([7], "<i8"), "1": values}))
    assert list(found) == ["rows", "columns", "tail", "steps"]
    np.testing.assert_array_equal(found["rows"], values.reshape(2, 3))
    np.testing.assert_array_equal(found["columns"], values.reshape(2, 3).T)
    np.testing.assert_array_equal(found["tail"], [4, 5])
    assert found["steps"].dtype == np.int64 and found["steps"] == 7


@pytest.mark.parametrize("name", [b"os\nsystem", b"builtins\nexec", b"torch\nDoubleStorage"])
def test_other_names_are_refused_without_being_called(tmp_path: Path, name: bytes) -> None:
    proof = tmp_path / "ran"
    attack = b"c" + name + b"\n(" + _opcodes(f"touch {proof}") + b"tR"
    with pytest.raises(ModelError, match=r"asks for \w+\.\w+, which is not allowed"):
        read_torch_checkpoint(_checkpoint(attack, {}))
    assert not proof.exists()
