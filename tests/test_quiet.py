"""What reaches standard error: nothing in a good run, everything if something unexpected fails."""

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def run(command: list[object], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own."""
    return subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def mixed(photos: Path, tmp_path: Path) -> Path:
    """A folder of photos and a damaged TIFF, about which libtiff writes to standard error."""
    for number in range(4):
        shutil.copytree(photos / "small", tmp_path / "photos" / str(number))
    damaged = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(noise).save(damaged, "TIFF", compression="tiff_lzw")
    damaged.getbuffer()[1000:1010] = bytes(10)
    (tmp_path / "photos" / "damaged.tif").write_bytes(damaged.getvalue())
    return tmp_path / "photos"


def test_the_nightly_script_says_nothing_in_good_nights(mixed: Path, tmp_path: Path) -> None:
    script = ROOT / "deploy" / "cron" / "featureid-nightly"
    settings = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "FEATUREID_PHOTOS": str(mixed),
        "FEATUREID_OUTPUT": str(tmp_path / "ids"),
        "FEATUREID_OPTIONS": f"--metrics {tmp_path / 'ids.prom'}",
    }
    images = len([path for path in mixed.rglob("*") if path.is_file()])
    for embedded in (images, 0):
        done = run(["sh", "-c", '"$0" >/dev/null', script], **settings)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        metrics = (tmp_path / "ids.prom").read_text(encoding="utf-8")
        found = re.findall(r'^featureid_run_images\{.*"embedded".*\} (\d+)$', metrics, re.MULTILINE)
        assert found == [str(embedded)]


@pytest.mark.parametrize(
    "options",
    [
        ["--direct_num_workers=2", "--direct_running_mode=multi_processing"],
        ["--model=face", "--no-face=whole"],
    ],
)
def test_workers_and_the_other_model_are_as_quiet(
    photos: Path, tmp_path: Path, options: list[str]
) -> None:
    command = [BIN / "featureid", "embed", photos / "small", "--output", tmp_path / "out"]
    done = run([*command, "--log-level", "warning", *options])
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


WRITE = """
import os, sys
from featureid.cli.console import run_command, set_up_log
from featureid.cli.quiet import quiet_libraries
from featureid.errors import UsageError

def command():
    with quiet_libraries(sys.argv):
        print("ours", file=sys.stderr)
        os.write(2, b"a library's\\n")
        {statement}
    return 0

sys.exit(run_command(command))
"""


@pytest.mark.parametrize(
    ("statement", "options", "seen"),
    [
        ("pass", [], ["ours"]),
        ("pass", ["--log-level", "debug"], ["ours", "a library's"]),
        ("raise UsageError('no')", [], ["ours", "featureid: no"]),
        ("1 / 0", [], ["ours", "a library's", "Traceback", "ZeroDivisionError"]),
        ("os.abort()", [], ["ours", "Fatal Python error: Aborted"]),
    ],
)
def test_what_libraries_write_is_shown_where_it_may_explain_an_error(
    statement: str, options: list[str], seen: list[str]
) -> None:
    done = run([sys.executable, "-c", WRITE.format(statement=statement), *options])
    places = [done.stderr.find(text) for text in seen]
    assert -1 not in places and places == sorted(places), done.stderr
    assert ("a library's" in done.stderr) == ("a library's" in seen)


def test_a_package_that_cannot_be_imported_is_named(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "dlib.py").write_text("raise ImportError('libblas.so.3: cannot open it')")
    paths = f"{tmp_path}{os.pathsep}{ROOT}"
    image = photos / "astronaut.png"
    for command in (["faces", image], ["embed", image, "--model=face", "--output", tmp_path / "o"]):
        done = run([sys.executable, "-m", "featureid", *command], PYTHONPATH=paths)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("featureid: "))
        assert line.startswith("featureid: a package cannot be imported: libblas.so.3: cannot open")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("command", "status", "stdout", "stderr"),
    [
        ('"$0" models 2>&-', 0, "image ", ""),
        ('"$0" inspect /nowhere 2>&-', 1, "", ""),
        ('"$0" models >&-', 0, "", ""),
        ('"$0" models >/dev/full', 1, "", "featureid: Cannot write the result: No space left on"),
        ('"$0" models | true', 0, "", ""),
    ],
)
def test_closed_and_full_streams(command: str, status: int, stdout: str, stderr: str) -> None:
    done = run(["sh", "-c", command, BIN / "featureid"])
    assert done.returncode == status
    assert done.stdout.startswith(stdout) and done.stderr.startswith(stderr)
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == bool(stderr)
