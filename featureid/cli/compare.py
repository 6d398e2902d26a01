"""``featureid compare``: compare two images or faces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featureid.cli import console, face_options
from featureid.library import generate_feature_id


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(
        prog=prog, description="Compare two images or, with --model face, two faces."
    )
    parser.add_argument("images", nargs=2, metavar="IMAGE", help="a file or a URI")
    parser.add_argument(
        "--model", default="image", metavar="NAME|FILE", help="model; default: %(default)s"
    )
    face_options.add_arguments(parser, ("largest", "center", "require-one"))
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Compare two images; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    faces = face_options.settings(arguments)
    a, b = (generate_feature_id(image, arguments.model, faces) for image in arguments.images)
    compared = {
        "model": arguments.model,
        "cosine": round(float(a @ b), 6),
        "distance": round(float(np.linalg.norm(a - b)), 6),
    }
    text = f"cosine {compared['cosine']:.4f}, distance {compared['distance']:.4f}"
    console.print_result(compared, arguments.json, [text])
    return console.DONE
