"""The photos of the other tests."""

from tests.conftest import photos

__all__ = ["photos"]
