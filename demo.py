"""The demo behind ``make demo``: embed real photos and find the nearest neighbors of some.

Without ``--images`` it takes the photos that scikit-image ships, edits each one (crop, heavy JPEG
compression, mirror, darken, shrink), adds some broken files, embeds everything, and shows that the
nearest neighbor of an image is an edit of the same photo.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import shlex
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

import featureid
from featureid.images import decode_image

DEMO = Path("demo")
PHOTOS = (
    "astronaut", "brick", "camera", "cell", "chelsea", "clock_motion", "coffee", "coins",
    "grass", "gravel", "horse", "hubble_deep_field", "ihc", "moon", "motorcycle_left",
    "motorcycle_right", "page", "retina", "rocket", "text",
)  # fmt: skip
QUERIES = ("astronaut", "motorcycle_left", "coffee", "chelsea")
OWN_QUERIES = 4
NEIGHBORS = 5
TILE = 160


def edits() -> dict[str, Callable[[Image.Image], Image.Image]]:
    """Return name to edit, which should hardly change a feature ID."""
    return {
        "cropped": lambda image: ImageOps.crop(image, border=min(image.size) // 10),
        "mirrored": ImageOps.mirror,
        "dark": lambda image: ImageEnhance.Brightness(image).enhance(0.5),
        "small": lambda image: ImageOps.contain(image, (160, 160)),
    }


def shipped_photos() -> Path:
    """Return the folder of scikit-image's photos, without importing it: SciPy may be missing."""
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        sys.exit("scikit-image is not installed, which has the photos: run make demo")
    return Path(found.origin).parent / "data"


def make_images(folder: Path) -> None:
    """Write the photos of scikit-image, their edits, and some broken files."""
    shipped = shipped_photos()
    for name in PHOTOS:
        (source,) = shipped.glob(f"{name}.*")
        photo = Image.open(source).convert("RGB")
        target = folder / name
        target.mkdir(parents=True)
        shutil.copy(source, target / f"original{source.suffix}")
        photo.save(target / "quality10.jpg", quality=10)
        for edit, apply in edits().items():
            apply(photo).save(target / f"{edit}.jpg", quality=90)
    broken = folder / "broken"
    broken.mkdir()
    whole = io.BytesIO()
    photo.save(whole, "JPEG")
    (broken / "empty.jpg").touch()
    (broken / "notes.jpg").write_text("a text file with the suffix of an image\n")
    (broken / "truncated.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (broken / "bomb.png").write_bytes(png_declaring(50_000, 50_000))


def png_declaring(width: int, height: int) -> bytes:
    """Return a PNG of a hundred bytes whose header declares ``width`` by ``height`` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


def run(*command: str, last: int | None = None) -> None:
    """Run a featureid command as a user would, after printing it; show the last lines only."""
    print(f"\n$ featureid {shlex.join(command)}", flush=True)
    program = [sys.executable, "-m", "featureid", *command]
    stdout = None if last is None else subprocess.PIPE
    done = subprocess.run(program, stdout=stdout, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    if last is not None:
        print("...", *done.stdout.splitlines()[-last:], sep="\n")


def contact_sheet(rows: list[list[tuple[str, float]]]) -> Image.Image:
    """Return an image of queries (first column) and their neighbors, with cosine similarities."""
    width, height = TILE * len(rows[0]), (TILE + 16) * len(rows)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(rows):
        for x, (uri, similarity) in enumerate(row):
            pixels = decode_image(Path(uri).read_bytes(), min_size=(TILE, TILE)).pixels
            shown = ImageOps.contain(Image.fromarray(pixels), (TILE - 8, TILE - 8))
            sheet.paste(shown, (x * TILE + 4, y * (TILE + 16) + 4))
            label = "query" if x == 0 else f"{similarity:.3f}"
            draw.text((x * TILE + 6, y * (TILE + 16) + TILE - 2), label, fill="black")
    return sheet


def photo_of(key: str) -> str:
    """Return the photo that an image shows; left and right of the motorcycle count as one."""
    return Path(key).parent.name.removesuffix("_left").removesuffix("_right")


def show_neighbors(output: Path, queries: list[str]) -> None:
    """Print and draw the nearest neighbors of some images, by default the first few."""
    snapshot = featureid.open_snapshot(str(output))
    keys, vectors = snapshot.row_keys(), snapshot.vectors()
    if len(keys) < 2:
        print("\nFewer than two images were embedded, so there are no neighbors to show.")
        return
    similarity = vectors @ vectors.T
    nearest = np.argsort(-similarity, axis=1, kind="stable")
    rows = []
    print("\nNearest neighbors by cosine similarity (1 means the same image):")
    for i in [keys.index(query) for query in queries] or range(min(OWN_QUERIES, len(keys))):
        others = [int(j) for j in nearest[i] if j != i][:NEIGHBORS]
        print(f"\n  {keys[i]}")
        for j in others:
            print(f"    {similarity[i, j]:.3f}  {keys[j]}")
        rows.append([(snapshot.uri(keys[j]), float(similarity[i, j])) for j in [i, *others]])
    if queries:
        found = sum(
            photo_of(keys[next(j for j in nearest[i] if j != i)]) == photo_of(key)
            for i, key in enumerate(keys)
        )
        print(f"\nFor {found} of {len(keys)} images, the nearest neighbor shows the same photo.")
    sheet = DEMO / "neighbors.png"
    contact_sheet(rows).save(sheet)
    print(f"The neighbors as an image: {sheet}")


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of your own images")
    images = parser.parse_args().images
    folder, output = DEMO / "images", DEMO / "out"
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir()
    queries = []
    if images:
        folder = images.expanduser()
    else:
        make_images(folder)
        queries = [f"{name}/original.png" for name in QUERIES]
    run("embed", str(folder), "--strip-prefix", str(folder), "--output", str(output))
    run("verify", str(output))
    run("inspect", str(output), "--failures")
    show_neighbors(output, queries)
    run("duplicates", str(output), "--report", str(DEMO / "duplicates.html"), last=3)
    run("report", str(output), "--output", str(DEMO / "report.html"))
    print("\nOpen demo/duplicates.html and demo/report.html in a browser to look at both.")
    print("\nYour own folder:  make demo IMAGES=~/Pictures")


if __name__ == "__main__":
    main()
