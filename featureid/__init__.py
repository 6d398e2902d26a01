"""Turn image collections into compact, comparable feature IDs.

>>> import featureid
>>> featureid.generate_feature_id("a.jpg")        # (128,) float32, of unit length
>>> featureid.embed_faces("a.jpg")                # each face with its vector
>>> featureid.embed_images(["a.jpg", "b.jpg"])    # (n, 128) float32, on all cores
>>> snapshot = featureid.open_snapshot("out/")    # what `featureid embed` has published
>>> snapshot["photos/a.jpg"]                      # a mapping from image keys to vectors
>>> snapshot.vectors()                            # (n, 128) float32
>>> gallery = featureid.Gallery("out/")           # vectors to be searched
>>> keys, scores = gallery.search(queries, k=10)  # the most similar, for each query
>>> featureid.open_results("matches/").to_pandas()  # what `featureid match` has published
>>> featureid.show("a.jpg", "b.jpg")              # in a notebook

An image is given as a path, a URI, bytes, a NumPy array or a Pillow image. Every error that a user
can cause derives from :class:`FeatureIdError`; that of one image is an :class:`ImageError`. Which
face of an image to take, and how to find it, is said in :class:`FaceSettings`; where one was found,
in :class:`Face`. :class:`Snapshot` is what :func:`open_snapshot` returns, and :class:`Results` what
:func:`open_results` returns. Transforms for Beam pipelines are in ``featureid.transforms``.
"""

from featureid._version import __version__
from featureid.errors import FeatureIdError, ImageError
from featureid.images.face_finder import FaceSettings
from featureid.library import embed_faces, embed_images, generate_feature_id
from featureid.matching.gallery import Gallery
from featureid.reports.notebook import show
from featureid.storage.reader import Snapshot, open_snapshot
from featureid.storage.records import Face
from featureid.storage.result_reader import Results, open_results

__all__ = [
    "Face",
    "FaceSettings",
    "FeatureIdError",
    "Gallery",
    "ImageError",
    "Results",
    "Snapshot",
    "__version__",
    "embed_faces",
    "embed_images",
    "generate_feature_id",
    "open_results",
    "open_snapshot",
    "show",
]
