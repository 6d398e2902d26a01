"""The pictures of the other tests."""

from tests.conftest import photos

__all__ = ["photos"]
