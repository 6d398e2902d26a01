"""Many small images in an object store that answers after 50 ms: what reading concurrently gains.

    python benchmarks/object_store.py [--images 400] [--latency 0.05] [--json]

The store is a real S3 server (moto) in a process of its own on this machine, which waits before
each answer.  The same command embeds the same images with one reading thread a core and with more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
THREADS = (2, 8, 32)
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def serve(latency: float) -> None:
    """Run the store until it is killed; prints its address first."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = DomainDispatcherApplication(create_backend_app)

    def late(environ: dict[str, Any], start_response: Any) -> Any:
        time.sleep(latency)
        return app(environ, start_response)

    server = make_server("127.0.0.1", 0, late, threaded=True)
    print(f"http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()


def upload(count: int) -> None:
    """Put ``count`` small JPEGs of real photos into the store."""
    import fsspec
    import skimage
    from PIL import Image

    photos = sorted((Path(skimage.__file__).parent / "data").glob("*.png"))
    store = fsspec.filesystem("s3")
    store.mkdir("photos")
    with tempfile.TemporaryDirectory() as folder:
        for i in range(count):
            image = Image.open(photos[i % len(photos)]).convert("RGB").rotate(i // len(photos))
            image.resize((320, 240)).save(Path(folder, f"{i:05d}.jpg"))
        store.put(f"{folder}/", "photos/in/", recursive=True)


def embed(threads: int, output: Path) -> float:
    """Images/s of the command with so many reading threads."""
    command = [sys.executable, "-m", "featureid", "embed", "s3://photos/in", "--json"]
    done = subprocess.run(
        [*command, f"--output={output}", f"--threads={threads}"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    summary = json.loads(done.stdout)
    if summary["failed"]:
        raise RuntimeError(f"images failed: {summary}")
    return float(summary["images_per_s"])


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.latency)
        return
    command = [sys.executable, __file__, "--serve", f"--latency={arguments.latency}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            os.environ.update(ENVIRONMENT, AWS_ENDPOINT_URL=server.stdout.readline().strip())
            upload(arguments.images)
            with tempfile.TemporaryDirectory() as scratch:
                rates = {n: embed(n, Path(scratch, str(n))) for n in THREADS}
        finally:
            server.kill()
    for threads, rate in rates.items():
        print(f"{threads:3d} threads: {rate:7.1f} images/s, {rate / rates[THREADS[0]]:.1f} times")
    if arguments.json:
        result = {"images": arguments.images, "latency_s": arguments.latency}
        print(json.dumps({**result, "images_per_s": {str(n): r for n, r in rates.items()}}))


if __name__ == "__main__":
    main()
