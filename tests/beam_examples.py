"""The examples of docs/beam.md, run word for word as one script on a runner."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

import featureid

ROOT = Path(__file__).parents[1]
EXAMPLES = 4


def run_examples(folder: Path, photos: Path, runner: Sequence[str]) -> None:
    """Run all examples in ``folder``, with three images in ``photos/``, and check their results."""
    text = (ROOT / "docs" / "beam.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == EXAMPLES
    (folder / "photos").mkdir()
    for name in ("coffee", "rocket"):
        shutil.copy(photos / "small" / f"{name}.jpg", folder / "photos")
    with Image.open(photos / "astronaut.png") as image:
        image.convert("RGB").save(folder / "photos" / "astronaut.jpg")
    script = folder / "examples.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    command = [sys.executable, str(script), *runner]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "photos/coffee.jpg 200 x 133" in done.stdout
    assert "'width': 200" in done.stdout
    assert "('photos/astronaut.jpg', (" in done.stdout
    snapshot = featureid.open_snapshot(folder / "out")
    assert [Path(snapshot.uri(key)) for key in sorted(snapshot)] == sorted(
        (folder / "photos").iterdir()
    )
