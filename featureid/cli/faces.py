"""``featureid faces``: which faces are found in an image, listed and drawn."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import PurePath

from featureid.cli import console, face_options, report_option
from featureid.errors import UsageError
from featureid.face_crops import locate_faces, open_face_finder
from featureid.images import DecodeLimits, FaceSettings, decode_image
from featureid.inputs import read_image
from featureid.library import naming
from featureid.reports.faces import annotated, faces_report
from featureid.storage import files
from featureid.storage.records import Face

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def make_parser(prog: str) -> console.CommandParser:
    """Return the parser of the command."""
    parser = console.CommandParser(prog=prog, description="Show which faces are found in an image.")
    parser.add_argument("image", metavar="IMAGE", help="a file or a URI")
    parser.add_argument(
        "--output", metavar="FILE", help="image to draw them into: .png, .jpg, .webp"
    )
    report_option.add_argument(parser)
    face_options.add_arguments(parser, ("all", "largest", "center", "require-one"))
    parser.set_defaults(choose="all")
    return parser


def run(argv: Sequence[str], prog: str) -> int:
    """Find, list and draw the faces of one image; return the exit status."""
    arguments = console.parse(make_parser(prog), argv)
    kind = _format(arguments.output)
    report_option.check(arguments)
    finder = open_face_finder(face_options.settings(arguments) or FaceSettings())
    limits = DecodeLimits()
    with naming(arguments.image):
        # Decoded as a whole, since that is what is drawn on.
        image = decode_image(read_image(arguments.image, limits.max_bytes), limits=limits)
        faces = locate_faces(image, finder)
    if kind:
        buffer = io.BytesIO()
        annotated(image.pixels, faces).save(buffer, kind)
        files.write_atomic(arguments.output, [buffer.getvalue()])
    found = {
        "image": arguments.image,
        "width": image.width,
        "height": image.height,
        "found_by": finder.line,
        "found": [asdict(face) for face in faces],
    }
    lines = _lines(faces, finder.line)
    if arguments.report:
        uri = files.absolute(arguments.image)
        report = faces_report(arguments.image, uri, faces, finder.line)
        lines.append(report_option.write(arguments.report, report))
    console.print_result(found, arguments.json, lines)
    return console.DONE


def _format(output: str | None) -> str | None:
    if output is None:
        return None
    suffix = PurePath(output).suffix.lower()
    if suffix not in _FORMATS:
        raise UsageError(f"--output {output} must end in one of {', '.join(_FORMATS)}")
    return _FORMATS[suffix]


def _lines(faces: Sequence[Face], found_by: str) -> list[str]:
    lines = [f"{len(faces)} faces ({found_by})"]
    for face in faces:
        left, top, right, bottom = (round(edge) for edge in face.box)
        lines.append(
            f"  {face.index}  left {left}, top {top}, {right - left} x {bottom - top} pixels, "
            f"score {face.score:.2f}"
        )
    return lines
