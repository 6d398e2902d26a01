"""Images behind signed URLs: read with their signatures, named without."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

import featureid
from tests.stores.servers import embed

pytest.importorskip("aiohttp")


class Signed(http.server.BaseHTTPRequestHandler):
    """Gives a photo, which the parameter ``id`` names, to who has tonight's signature."""

    photos: Path
    signature: str

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        allowed = query.get("X-Amz-Signature") == [self.signature]
        data = (self.photos / query["id"][0]).read_bytes() if allowed else b"forbidden"
        self.send_response(200 if allowed else 403)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", hashlib.md5(data).hexdigest())
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address(photos: Path) -> Iterator[str]:
    Signed.photos = photos / "small"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Signed) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_images_keep_their_keys_when_signatures_change(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed, output = tmp_path / "list.txt", tmp_path / "out"
    keys = [f"http://{address}/get?id={name}.jpg" for name in ("coffee", "rocket")]
    for signature in ("first", "second"):
        Signed.signature = signature
        urls = (f"{key}&X-Amz-Expires=60&X-Amz-Signature={signature}" for key in keys)
        listed.write_text("\n".join(urls))
        summary = embed(capsys, "--manifest", str(listed), "--output", str(output))
        assert summary["failed"] == 0
    assert summary["changes"] == {"unchanged": 2} | dict.fromkeys(
        ("new", "changed", "retried", "deleted"), 0
    )
    snapshot = featureid.open_snapshot(output)
    assert sorted(snapshot) == keys
    photo = featureid.generate_feature_id(Signed.photos / "rocket.jpg")
    assert (snapshot[keys[1]] == photo).all()


def test_a_url_is_an_input_of_its_own(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Signed.signature = "now"
    url = f"http://{address}/get?id=coffee.jpg"
    signed = f"{url}&X-Amz-Signature=now"
    assert embed(capsys, signed, "--output", str(tmp_path / "out"))["embedded"] == 1
    assert [*featureid.open_snapshot(tmp_path / "out")] == [url]
