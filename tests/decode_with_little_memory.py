"""Decode images with less and less memory, and print as JSON what became of each.

    python -m tests.decode_with_little_memory FOLDER

The process limits its own address space, and has not much free memory of what it did before.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from featureid.errors import ImageError
from featureid.images import decode_image

#: MB that a decoder may take at most.
STEPS = (1, 4, 10, 20, 400)


def address_space() -> int:
    """Return the bytes of the process's address space."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def outcome(data: bytes, room: int) -> str:
    """Return how decoding ends with `room` more bytes of memory."""
    limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + room, limit[1]))
    try:
        decode_image(data)
    except ImageError as error:
        return error.reason
    except BaseException as error:
        return repr(error)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
    return "decoded"


def main() -> None:
    """Decode every file of a folder at every limit."""
    found = {}
    for path in sorted(Path(sys.argv[1]).iterdir()):
        data = path.read_bytes()
        if path.name == "zz heic":
            decode_image(
                data
            )  # loads its library, whose threads leave memory to others; so it is the last
        found[path.name] = [outcome(data, room << 20) for room in STEPS]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
