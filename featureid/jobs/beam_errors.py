"""Errors as Beam passes them on: wrapped into other errors, or into their text."""

from __future__ import annotations

import re
import shlex
import subprocess

from featureid import errors


def is_interrupt(error: BaseException | None) -> bool:
    """Return whether the user pressed Ctrl-C; Beam wraps even that into an error of its own."""
    return error is not None and (
        isinstance(error, KeyboardInterrupt) or is_interrupt(error.__context__)
    )


def as_known_error(error: BaseException) -> errors.FeatureIdError | None:
    """Return the featureid error behind ``error``, also where Beam has turned it into text."""
    if isinstance(error, errors.FeatureIdError):
        return _of_kind(type(error), str(error))
    if isinstance(error, ImportError) and not str(error.name).startswith("featureid"):
        return errors.FeatureIdError(
            f"a package cannot be imported: {_without_step(str(error))}; install it again, or the "
            "extra of featureid that contains it"
        )
    if isinstance(error.__cause__, subprocess.CalledProcessError):
        return _failed_command(error.__cause__)
    found = re.findall(r"^featureid\.[\w.]+\.(\w+Error): (.*)", str(error), re.MULTILINE)
    if not found:
        return None
    name, message = found[-1]
    return _of_kind(getattr(errors, name, errors.FeatureIdError), message)


def _of_kind(kind: type[Exception], message: str) -> errors.FeatureIdError:
    """Return an error of the kind that decides the exit status."""
    for known in (errors.UsageError, errors.TooManyFailuresError):
        if issubclass(kind, known):
            return known(_without_step(message))
    return errors.FeatureIdError(_without_step(message))


def _failed_command(error: subprocess.CalledProcessError) -> errors.FeatureIdError:
    """Return the error for a command of Beam's, which builds or downloads packages for workers."""
    output = error.output or b""
    lines = (output.decode(errors="replace") if isinstance(output, bytes) else output).splitlines()
    return errors.FeatureIdError(
        f"Beam could not prepare the packages for the workers: {shlex.join(error.cmd)} failed"
        f"{f': {lines[0]}' if lines else ''}; `setup_file` needs two packages on this machine: "
        "pip install build 'setuptools>=77'"
    )


def _without_step(message: str) -> str:
    """Remove the name of the pipeline's step, which Beam appends and only a log needs."""
    return re.sub(r" \[while running '.*?'\]\s*$", "", message)
