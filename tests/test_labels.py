"""What users say of images: tables of labels, and files of pairs."""

from pathlib import Path

import pytest

from featureid.errors import UsageError
from featureid.evaluation.labels import (
    class_of,
    classes_of_pairs,
    find_named,
    read_labels,
    read_pairs,
)

LFW = "2\t2\nAnna\t1\t2\nAnna\t1\t3\nAnna\t1\tBen\t1\nBen\t2\tCarl\t1\n"
LFW += "Dora\t1\t2\nDora\t2\t3\nDora\t1\tEmil\t1\nEmil\t1\tDora\t2\n"


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_a_folder_is_a_class() -> None:
    names = {class_of(key) for key in ("a/b/1.png", "a/b/2.png", "a/c/1.png", "/x/1.png")}
    assert names == {"a/b", "a/c", "/x"}
    assert class_of("1.png") == class_of("/1.png") == ""


@pytest.mark.parametrize("name", ["labels.csv", "labels.tsv", "labels.jsonl", "labels.parquet"])
def test_labels_are_read_from_every_table(name: str, tmp_path: Path) -> None:
    rows = [("a.jpg", "cat"), ("b.jpg", "dog")]
    if name.endswith("parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({"label": ["cat", "dog"], "path": ["a.jpg", "b.jpg"], "x": [1, 2]})
        pq.write_table(table, tmp_path / name)
    elif name.endswith("jsonl"):
        write(tmp_path, name, "".join(f'{{"path": "{p}", "label": "{c}"}}\n' for p, c in rows))
    else:
        mark = "," if name.endswith("csv") else "\t"
        write(tmp_path, name, "".join(f"{mark.join(row)}\n" for row in [("path", "label"), *rows]))
    assert read_labels(str(tmp_path / name)) == dict(rows)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "path,label\na,\n", "row 1: give both a path and a label"),
        ("a.csv", "path,label\na,x\nb,x\na,y\n", "row 3: 'a' is labeled 'y', and 'x' before"),
        ("a.csv", "path,kind\na,x\n", "has no column 'label'; it has 'path', 'kind'"),
        ("a.csv", "path,label\n", "has no rows"),
        ("a.txt", "a b\n", "is not a table, by its name; give a file that ends in .csv"),
    ],
)
def test_wrong_labels_are_named(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        read_labels(write(tmp_path, name, text))


def test_pairs_as_lfw_lists_them(tmp_path: Path) -> None:
    pairs = read_pairs(write(tmp_path, "pairs.txt", LFW))
    assert pairs.images[0] == ("Anna/1", "Anna/2") and pairs.images[2] == ("Anna/1", "Ben/1")
    assert pairs.same.tolist() == [True, True, False, False] * 2
    assert pairs.folds.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    keys = [
        f"lfw/{who}/{who}_000{n}.jpg"
        for who in ("Anna", "Ben", "Carl", "Dora", "Emil")
        for n in (1, 2, 3)
    ]
    first, second = find_named(keys, pairs, "")
    assert (first[0], second[2]) == ("lfw/Anna/Anna_0001.jpg", "lfw/Ben/Ben_0001.jpg")
    classes = classes_of_pairs(first, second, pairs.same.tolist())
    assert classes["lfw/Ben/Ben_0002.jpg"] == classes["lfw/Ben/Ben_0001.jpg"] == "lfw/Ben"
    with pytest.raises(
        UsageError, match="names 'Carl/1', which is not there, as 1 of its 10 images"
    ):
        find_named([key for key in keys if "Carl" not in key], pairs, "")


def test_pairs_without_folds_get_ten(tmp_path: Path) -> None:
    text = "20\n" + "".join(f"A\t{n}\t{n + 1}\n" for n in range(20))
    text += "".join(f"A\t{n}\tB\t{n}\n" for n in range(20))
    folds = read_pairs(write(tmp_path, "pairs.txt", text)).folds
    assert folds.tolist() == [n // 2 for n in range(20)] * 2


def test_pairs_in_a_table(tmp_path: Path) -> None:
    text = "second,first,same\nb.png,a.png,1\nc.png,b.png,true\nd.png,a.png,0\n"
    pairs = read_pairs(write(tmp_path, "pairs.csv", text))
    assert pairs.images == (("a.png", "b.png"), ("b.png", "c.png"), ("a.png", "d.png"))
    first, second = find_named([f"{name}.png" for name in "abcd"], pairs, "")
    assert first == ["a.png", "b.png", "a.png"]
    classes = classes_of_pairs(first, second, pairs.same.tolist())
    assert classes["a.png"] == classes["c.png"] != classes["d.png"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", "first,second,same\na,b,maybe\n", "row 1: give two images, and 1 or 0"),
        ("p.csv", "first,second,same\n", "has no pairs"),
        ("p.txt", "Anna\t1\t2\n", "is not a file of pairs"),
        ("p.txt", "", "is not a file of pairs"),
        ("p.txt", "1\nAnna\t1\tx\n", "line 2: 'Anna.t1.tx' is not a pair"),
    ],
)
def test_wrong_pairs_are_named(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        read_pairs(write(tmp_path, name, text))
