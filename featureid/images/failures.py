"""Turns whatever goes wrong inside a decoder into an `ImageError`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

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
# In the words of Pillow, TurboJPEG, libheif, libavif, OpenCV, ONNX Runtime and CUDA.
_MEMORY_WORDS = (
    *("out of memory", "insufficient memory", "not enough memory", "memory allocation"),
    *("bad_alloc", "bad allocation", "allocate memory", "failed to allocate", "failed to map"),
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


def lacks_memory(error: BaseException) -> bool:
    """Return whether a library failed because it got no memory, of the machine or of a GPU."""
    lowered = str(error).lower()
    return isinstance(error, MemoryError) or any(word in lowered for word in _MEMORY_WORDS)


def no_memory(stage: str) -> ImageError:
    """Return the error for an image that may well succeed where, or when, there is more memory."""
    return ImageError(
        stage,
        "no-memory",
        f"not enough memory to {stage} the image: give the process more, or lower `threads`, "
        "`batch_size` or `max_pixels`; the next run tries the image again",
    )


@contextmanager
def memory_errors(stage: str) -> Iterator[None]:
    """Raise an `ImageError` ``no-memory`` for a MemoryError of any code in the block."""
    try:
        yield
    except MemoryError as error:
        raise no_memory(stage) from error


def check_memory(size: int) -> None:
    """Raise MemoryError if `size` bytes cannot be had; they are not touched.

    For libraries that do not say what they lacked.
    """
    np.empty(size, np.uint8)


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
    except Exception as error:
        raise classified(kind, error) from error


def classified(kind: str, error: Exception) -> ImageError:
    """Return the `ImageError` that fits what a decoder raised for a `kind` file."""
    if lacks_memory(error):
        return no_memory("decode")
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
