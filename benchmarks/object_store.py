"""Many small images in an object store that answers after 50 ms: the gain of concurrent reads.

    python benchmarks/object_store.py [--images 400] [--latency 0.05] [--json]

The store is a real S3 server (moto) in a separate process on this machine that waits before each
answer.  The same command embeds the same images with different numbers of reading threads.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import common

THREADS = (2, 8, 32)
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def serve(latency: float) -> None:
    """Print the address of the store and run it until the process is killed."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = DomainDispatcherApplication(create_backend_app)

    def delayed_app(environ: dict[str, Any], start_response: Any) -> Any:
        time.sleep(latency)
        return app(environ, start_response)

    server = make_server("127.0.0.1", 0, delayed_app, threaded=True)
    print(f"http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()


@contextmanager
def running_store(latency: float) -> Iterator[str]:
    """Run the store in a separate process and give its address."""
    command = [sys.executable, __file__, "--serve", f"--latency={latency}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


def upload(count: int) -> None:
    """Put ``count`` small JPEGs of real photos into the store."""
    import fsspec

    photos = list(common.photos(None))
    store = fsspec.filesystem("s3")
    store.mkdir("photos")
    with tempfile.TemporaryDirectory() as folder:
        for i in range(count):
            photo = photos[i % len(photos)].rotate(i // len(photos))
            photo.resize((320, 240)).save(Path(folder, f"{i:05d}.jpg"))
        store.put(f"{folder}/", "photos/in/", recursive=True)


def measure(images: int, latency: float) -> dict[str, Any]:
    """Return images/s by number of threads."""
    with running_store(latency) as address, tempfile.TemporaryDirectory() as scratch:
        os.environ.update(ENVIRONMENT, AWS_ENDPOINT_URL=address)
        upload(images)
        rates = {
            str(threads): common.embed_images(
                "s3://photos/in", Path(scratch, str(threads)), f"--threads={threads}"
            ).summary["images_per_s"]
            for threads in THREADS
        }
    return {"images": images, "latency_s": latency, "images_per_s": rates}


def table(result: dict[str, Any]) -> str:
    """Return a table with one line per number of threads."""
    rates = result["images_per_s"]
    first = rates[str(THREADS[0])]
    return "\n".join(
        f"{threads:>3} threads: {rate:7.1f} images/s, {rate / first:.1f} times"
        for threads, rate in rates.items()
    )


def main() -> None:
    """Run the benchmark and print its table."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--images", type=int, default=400, help="default: %(default)s")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds; default: %(default)s")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.latency)
        return
    result = measure(options.images, options.latency)
    common.print_result(result, options.json, table(result))


if __name__ == "__main__":
    main()
