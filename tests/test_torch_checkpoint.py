"""The reader of PyTorch checkpoints: what it reads, and that it runs nothing."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from featureid.errors import ModelError
from featureid.models.building.torch_checkpoint import read_torch_checkpoint

_MAGIC = 0x1950A86A20F9469CFC6C
_EMPTY_DICT = b"ccollections\nOrderedDict\n)R"


def _part(value: object) -> bytes:
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
    storage = b"(" + _part("storage") + b"ctorch\n" + kind + b"Storage\n"
    storage += _part(key) + _part("cpu") + _part(count) + b"NtQ"
    rest = _part(offset) + _part(shape) + _part(stride) + b"\x89" + _EMPTY_DICT
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"


def _checkpoint(
    entries: dict[str, bytes], storages: dict[str, np.ndarray], state: bytes | None = None
) -> bytes:
    """Return a file as torch.save of PyTorch 1.0 to 1.5 writes it, from opcodes of its tensors."""
    if state is None:
        pairs = b"".join(_part(name) + opcodes for name, opcodes in entries.items())
        state = _EMPTY_DICT + b"(" + pairs + b"u"
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    head = b"".join(pickle.dumps(value, 2) for value in (_MAGIC, 1001, system))
    keys = pickle.dumps(list(storages), 2)
    raw = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in storages.values())
    return head + b"\x80\x02" + state + b"." + keys + raw


def test_reads_tensors_of_both_types_with_strides_and_offsets() -> None:
    values = np.arange(6, dtype="<f4")
    data = _checkpoint(
        {
            "rows": _tensor("1", 6, (2, 3), (3, 1)),
            "columns": _tensor("1", 6, (3, 2), (1, 3)),
            "tail": _tensor("1", 6, (2,), (1,), offset=4),
            "steps": _tensor("2", 1, (), (), kind=b"Long"),
        },
        {"2": np.array([7], "<i8"), "1": values},
    )
    found = read_torch_checkpoint(data, "x.pth")
    assert list(found) == ["rows", "columns", "tail", "steps"]
    np.testing.assert_array_equal(found["rows"], values.reshape(2, 3))
    np.testing.assert_array_equal(found["columns"], values.reshape(2, 3).T)
    np.testing.assert_array_equal(found["tail"], [4, 5])
    assert found["steps"].dtype == np.int64 and found["steps"] == 7


@pytest.mark.parametrize(
    "call",
    [
        b"cos\nsystem\n",
        b"cposix\nsystem\n",
        b"cbuiltins\nexec\n",
        b"cnumpy\nload\n",
        b"ctorch\nDoubleStorage\n",
        b"cfeatureid.models.building.torch_checkpoint\n_Unpickler\n",
    ],
)
def test_anything_else_is_refused_without_being_run(tmp_path: Path, call: bytes) -> None:
    proof = tmp_path / "ran"
    attack = call + b"(" + _part(f"touch {proof}") + b"tR"
    with pytest.raises(ModelError, match=r"bad\.pth: not a PyTorch .* which is not allowed"):
        read_torch_checkpoint(_checkpoint({}, {}, attack), "bad.pth")
    assert not proof.exists()


def test_a_pickle_cannot_change_what_later_files_meet() -> None:
    poison = b"ctorch._utils\n_rebuild_tensor_v2\nN" + _part({"__doc__": "poisoned"}) + b"\x86b"
    with pytest.raises(ModelError, match="damaged"):
        read_torch_checkpoint(_checkpoint({}, {}, poison), "bad.pth")


@pytest.mark.parametrize(
    "opcodes",
    [
        _tensor("1", 6, (7,), (1,)),
        _tensor("1", 6, (3,), (3,)),
        _tensor("1", 6, (2,), (-1,), offset=3),
        _tensor("1", 6, (-2,), (1,)),
        _tensor("1", 6, (2,), (1,), offset=5),
        _tensor("1", 6, (1000, 1000, 1000), (0, 0, 0)),
        _tensor("1", 6, (2, 3), (1,)),
    ],
)
def test_tensors_outside_their_storage_are_refused(opcodes: bytes) -> None:
    data = _checkpoint({"x": opcodes}, {"1": np.zeros(6, "<f4")})
    with pytest.raises(ModelError, match=r"x\.pth"):
        read_torch_checkpoint(data, "x.pth")


def test_damage_is_refused() -> None:
    data = _checkpoint({"x": _tensor("1", 6, (6,), (1,))}, {"1": np.zeros(6, "<f4")})
    read_torch_checkpoint(data, "whole")
    for damaged in [*(data[:size] for size in range(len(data))), data + b"\0"]:
        with pytest.raises(ModelError, match=r"damaged|not a PyTorch"):
            read_torch_checkpoint(damaged, "x.pth")


def test_a_storage_of_another_size_than_promised_is_refused() -> None:
    data = _checkpoint({"x": _tensor("1", 6, (6,), (1,))}, {"1": np.zeros(5, "<f4")})
    with pytest.raises(ModelError, match="of another size"):
        read_torch_checkpoint(data, "x.pth")


@pytest.mark.parametrize("state", [_part({"x": 1}), _EMPTY_DICT, _part([1, 2])])
def test_what_is_not_a_state_dict_is_refused(state: bytes) -> None:
    with pytest.raises(ModelError, match="state dict"):
        read_torch_checkpoint(_checkpoint({}, {}, state), "x.pth")
