"""Turn image collections into compact, comparable feature IDs.

>>> import featureid
>>> featureid.generate_feature_id("a.jpg")        # (128,) float32, of unit length
>>> snapshot = featureid.open_snapshot("out/")    # what `featureid embed` has published
>>> snapshot.vectors()                            # (n, 128) float32
"""

from featureid._version import __version__
from featureid.embedding import generate_feature_id
from featureid.errors import FeatureIdError
from featureid.storage.reader import Snapshot, open_snapshot

__all__ = ["FeatureIdError", "Snapshot", "__version__", "generate_feature_id", "open_snapshot"]
