"""Turns whatever goes wrong inside a decoder into an `ImageError`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from featureid.errors import ImageError

_TRUNCATED_WORDS = ("truncated", "premature end", "not enough image data", "end of file", "eof")
_UNSUPPORTED_WORDS = (
    "unsupported",
    "unknown pixel mode",
    "unknown raw mode",
    "codec configuration error",
    "not supported",
    "unknown data organ",
    "could not determine",  # TurboJPEG, about sampling factors and color spaces
)
# What libjpeg reports when it meets a random byte where a marker should be.
_DAMAGE_WORDS = "unsupported marker type"


def failure(reason: str, message: str) -> ImageError:
    """Return the `ImageError` of stage ``decode`` for `reason`."""
    return ImageError("decode", reason, message)


def truncated(what: str) -> ImageError:
    """Return the error for a file that ends before `what` does."""
    return failure("truncated", f"the file ends inside {what}: copy it again from its source")


def corrupt(kind: str, cause: str) -> ImageError:
    """Return the error for a `kind` file whose content contradicts itself."""
    return failure("corrupt", f"damaged {kind} file ({cause}): replace it with an intact copy")


def unsupported(kind: str, what: str) -> ImageError:
    """Return the error for an intact file that is not decoded."""
    return failure("unsupported", f"{kind} with {what} is not decoded: save it as 8-bit RGB")


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise `ImageError` ``too-many-pixels`` if `width` x `height` is over `max_pixels`."""
    if width * height > max_pixels:
        raise failure(
            "too-many-pixels",
            f"{width} x {height} = {width * height:,} pixels to decode, the limit is "
            f"{max_pixels:,}: shrink the image or raise `max_pixels`",
        )


@contextmanager
def decoder_errors(kind: str) -> Iterator[None]:
    """Raise an `ImageError` for whatever a third-party decoder raises for a `kind` file.

    Damaged bytes reach every line of a decoder: besides OSError and ValueError it raises
    SyntaxError, struct.error, IndexError, KeyError, AttributeError, AssertionError, zlib.error and
    others, and no list of them would be complete.  Put only calls of such a decoder inside the
    block, never code of this package, whose errors must stay visible.
    """
    try:
        yield
    except MemoryError as error:
        # The size was checked before: the machine has too little memory for its limits.
        raise failure(
            "too-many-pixels",
            f"not enough memory to decode this {kind} file: lower the limit of pixels, or "
            "decode in fewer threads",
        ) from error
    except Exception as error:
        raise classified(kind, error) from error


def classified(kind: str, error: Exception) -> ImageError:
    """Return the `ImageError` that fits what a decoder raised for a `kind` file."""
    cause = str(error) or type(error).__name__
    lowered = cause.lower()
    if isinstance(error, EOFError) or any(word in lowered for word in _TRUNCATED_WORDS):
        return failure("truncated", f"incomplete {kind} file ({cause}): copy it again")
    known = any(word in lowered for word in _UNSUPPORTED_WORDS)
    if known and _DAMAGE_WORDS not in lowered:
        return failure(
            "unsupported", f"this variant of {kind} is not decoded ({cause}): save it as PNG"
        )
    return corrupt(kind, cause)
