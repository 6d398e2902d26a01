"""The exception tree of featureid.

Every error that a user can cause or meet derives from :class:`FeatureIdError`, and its message
names the value, the cause and what to do.  Anything else that escapes is a bug.  Messages name
parameters in backquotes, ```max_bytes``` or ```check='content'```, with the names that they have in
Python; the command line shows them as its options.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from featureid.masking import masked


class FeatureIdError(Exception):
    """Root of every error that featureid raises on purpose; its message has no secrets of URIs."""

    def __init__(self, message: str = "") -> None:
        super().__init__(masked(message))


class UsageError(FeatureIdError):
    """An option, argument or input that cannot be used as given; the command line exits with 2."""


class ImageError(FeatureIdError):
    """One image could not be turned into a feature ID.

    A pipeline turns it into a failure row; it never stops a run.

    Attributes:
        stage: the step that failed: ``read``, ``decode``, ``detect`` or ``embed``.
        reason: a short stable code such as ``truncated``, fit to be counted.
    """

    def __init__(self, stage: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str, str]]:
        return type(self), (self.stage, self.reason, str(self))


class ModelError(FeatureIdError):
    """A model cannot be found, built or run."""


class BundleError(ModelError):
    """A model bundle is damaged, unsafe, or from a newer version of featureid."""


class TrainingError(FeatureIdError):
    """A model cannot be trained, or what is learned is of no use; the message says what to do."""


class StorageError(FeatureIdError):
    """A file cannot be read, written or published."""


class CorruptFileError(StorageError):
    """A stored file is not what it says it is; the message names the file and the place."""


class NewerVersionError(StorageError):
    """A stored file is of a later format version than this featureid reads; update featureid."""


class TooManyFailuresError(FeatureIdError):
    """More images failed than a run allows; the command line exits with 3."""


class MixedModelsError(UsageError):
    """Feature IDs of different models or preprocessing were about to be mixed or replaced."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: ``; did you mean 'embed'?``, or ""."""
    similar = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {similar[0]!r}?" if similar else ""
