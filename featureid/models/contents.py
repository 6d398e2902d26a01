"""What a bundle with the digest of a known model must hold.

The digests of known models are computed from their weights before these become a network, and stay
the same for years.  So they do not follow from the file of a bundle, in which anybody could state
them beside another network.
"""

from __future__ import annotations

import hashlib

from featureid.stored_json import canonical_json


def digest_of_features(digest: str) -> str:
    """Return the digest of the features of a known model, before its reduction."""
    identity = canonical_json({"features": digest})
    return "sha256:" + hashlib.sha256(identity).hexdigest()


#: Digests of the known models.
IMAGE = "sha256:e58b60ef7fba0fdb73e16732f4843fcdc8a45969471dbf7f16a93269ea02ec3b"
FACE = "sha256:92bf5d61653b308db78c8710d5e55fb41920ddec072f80f6c116f5f4296f473b"
IMAGE_INT8 = "sha256:5e61b35b25d318974b052034940c6b7c82b95b090411cc8a459b4a44002b0062"
FACE_INT8 = "sha256:4321ee9966d96a0de41e26f548b1d0390f9acfad260e13c8992468f6637c70a1"

# Of each model, and of its features.
_HELD = {
    IMAGE: (
        "sha256:5ce5e4944c92c257ed6df0fd5ca7f53a9956ca2695942bdd58feaa3898bbd92b",
        "sha256:bc0f29e104d341cbea7f0a722c793347b0d932476e66bc93ba27ad50c0f51c36",
    ),
    FACE: (
        "sha256:9c3844145ee2208d219d5796feada6b26731311dd9609dcdf18a81781b6f8d95",
        "sha256:d24c6e6e5a7523a3dcafa733b240076e28db135dcc6af65b768d83679a88a959",
    ),
    IMAGE_INT8: (
        "sha256:76a1195f939e50aebe3f78cdbf98fb4c8945580b8b7ba55c920f8d23446312cc",
        "sha256:5d6f81b93a1f99667261e80bd02ab6998dfa13e14b4ae22c1c8542c08b1f9586",
    ),
    FACE_INT8: (
        "sha256:be022facfbd91a4fd4444a382a4b2c0929cf3853bdabe0008004f0271f83780b",
        "sha256:63672ac52f5f2b08cbfcff365b00727622abf4db65fb49be7c2a57be194976d9",
    ),
}
#: From the digests that known models, and their features, state to those of what they hold:
#: :func:`featureid.models.bundle.content_digest` with the network as
#: :func:`featureid.models.building.onnx_structure.network_sha256` reads it, which is the same
#: whatever version of ``onnx`` has written it.  ``tests/test_identity.py`` computes them.
CONTENTS = {
    **{digest: model for digest, (model, _) in _HELD.items()},
    **{digest_of_features(digest): features for digest, (_, features) in _HELD.items()},
}
