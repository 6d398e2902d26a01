"""Images shared by the tests: real photos that scikit-image ships, and broken files."""

import io
import shutil
import struct
import zlib
from pathlib import Path

import pytest
import skimage
from PIL import Image

from featureid.models import resolve_model

PHOTOS = ("astronaut", "camera", "chelsea", "coffee", "rocket", "motorcycle_left")


def png_declaring(width: int, height: int) -> bytes:
    """Return a tiny PNG whose header declares ``width`` by ``height`` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(100))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture(scope="session", autouse=True)
def _built_model() -> None:
    """Build the default model, once a machine, so that no test sees what the log says of that."""
    resolve_model("image")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real photos: PNG, JPEG, and a JPEG with the suffix .png. Do not change it."""
    folder = tmp_path_factory.mktemp("photos")
    shipped = Path(skimage.__file__).parent / "data"
    for name in PHOTOS:
        (source,) = shipped.glob(f"{name}.*")
        shutil.copy(source, folder)
        (folder / "small").mkdir(exist_ok=True)
        image = Image.open(source).convert("RGB")
        image.thumbnail((200, 200))
        image.save(folder / "small" / f"{name}.jpg")
    shutil.copy(folder / "small" / "chelsea.jpg", folder / "mislabeled.png")
    return folder


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder with broken files, one of each kind."""
    folder = tmp_path / "broken"
    (folder / "x.jpg").mkdir(parents=True)
    buffer = io.BytesIO()
    Image.new("RGB", (300, 200), "teal").save(buffer, "JPEG")
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("not an image\n")
    (folder / "truncated.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    (folder / "bomb.png").write_bytes(png_declaring(50_000, 50_000))
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    return folder
