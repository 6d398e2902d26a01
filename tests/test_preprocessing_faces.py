"""What determines a face's pixels is part of the preprocessing, its digest and the bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from featureid.images.resize import STRETCH
from featureid.models import Preprocessing
from featureid.models.preprocessing import FACES_REVISION, FaceCrop
from featureid.stored_json import convert_json

EYES = ((40.0, 40.0), (110.0, 40.0))
PLAIN = Preprocessing(150, 150, (0,) * 3, (1,) * 3, STRETCH, 2)
FACES = replace(PLAIN, face=FaceCrop({"eyes": EYES}, margin=0.25, revision=FACES_REVISION))


def test_a_face_crop_survives_json() -> None:
    again = convert_json(json.loads(json.dumps(FACES.to_json())), Preprocessing)
    assert again == FACES and again.digest == FACES.digest
    assert hash(again) == hash(FACES)


def test_a_model_of_whole_images_has_no_face_crop() -> None:
    assert "face" not in PLAIN.to_json()
    assert convert_json(PLAIN.to_json(), Preprocessing).face is None


def test_everything_that_determines_the_pixels_is_in_the_digest() -> None:
    assert FACES.face
    changed = [
        PLAIN,
        FACES,
        replace(FACES, face=replace(FACES.face, margin=0.3)),
        replace(FACES, face=replace(FACES.face, templates={"eyes": EYES[::-1]})),
        replace(FACES, face=replace(FACES.face, templates={"other": EYES})),
    ]
    digests = {preprocessing.digest for preprocessing in changed}
    digests |= {FACES.digest_with({"detector": name}) for name in ("dlib", "haar")}
    assert len(digests) == 7
    assert FACES.digest_with({}) == FACES.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"templates": [EYES]}, r"face\.templates: Expected object, got array"),
        ({"templates": {"eyes": EYES[:1]}}, "must have 2 to 5 points"),
        ({"templates": {"eyes": EYES * 3}}, "must have 2 to 5 points"),
        ({"templates": {"eyes": [[1, 2], [3]]}}, r"face\.templates.*Expected array of length 2"),
        ({"templates": {"eyes": [[1, 2], [3, float("nan")]]}}, "template 'eyes' must be finite"),
        ({"margin": -0.1}, "must be from 0 to"),
        ({"margin": "wide"}, r"face\.margin: Expected float, got str"),
        ({"revision": 0}, "built for faces revision 0"),
    ],
)
def test_an_invalid_face_crop_is_refused(change: dict[str, Any], message: str) -> None:
    value = FACES.to_json()
    value["face"].update(change)
    with pytest.raises(ValueError, match=message):
        convert_json(value, Preprocessing)


def test_unknown_fields_are_ignored_and_missing_ones_refused() -> None:
    value = FACES.to_json()
    value["face"]["color"] = "red"
    assert convert_json(value, Preprocessing) == FACES
    del value["face"]["revision"]
    with pytest.raises(ValueError, match=r"face: .*missing required field revision"):
        convert_json(value, Preprocessing)


def test_a_face_crop_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="face: Expected object"):
        convert_json({**PLAIN.to_json(), "face": "largest"}, Preprocessing)
