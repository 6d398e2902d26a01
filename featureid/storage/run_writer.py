"""Publishing: a run in an output folder begins, and then commits or aborts.

:mod:`featureid.storage.lifecycle` says why files are written in this order.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar

from featureid.errors import FeatureIdError, StorageError, UsageError
from featureid.keys import is_unicode
from featureid.storage import files
from featureid.storage.run_record import RUN, Info, RunRecord, write_run
from featureid.storage.snapshot import (
    COLLECTIONS,
    CURRENT,
    MANIFEST,
    MODELS,
    newest_of,
    other_collection,
    read_current,
    read_sequences,
    snapshot_folder,
    started_at,
)

_LOG = logging.getLogger(__name__)


class RunWriter:
    """One run that writes a folder and publishes it; small enough to be sent to workers.

    Whoever runs it calls :meth:`begin`, writes files into :attr:`folder`, and then commits, as its
    subclass says, or calls :meth:`abort`; :meth:`running` does the first and the last. Each may be
    called again, as by a step of a pipeline that is retried.

    Attributes:
        collection: the folder of the output that holds all such folders.
        output: the output folder; local or a URI.
        info: what the run writes.
        record: what ``run.json`` says about the run as it starts.
    """

    collection: ClassVar[str]
    output: str
    info: Info
    record: RunRecord

    @property
    def folder(self) -> str:
        """The folder that the run writes."""
        return snapshot_folder(self.output, self.record.snapshot, self.collection)

    @property
    def is_complete(self) -> bool:
        """Whether the manifest is written, which makes the folder visible."""
        return files.exists(files.join(self.folder, MANIFEST))

    def begin(self) -> None:
        """Make the folder, which is private if it is for faces, and mark it as being written.

        Raises:
            UsageError: the output holds something else.
            FeatureIdError: what the run writes may not replace what is current there.
            StorageError: it cannot be written.
        """
        if self.is_complete:
            return
        self.check()
        self._check_current()
        files.make_folder(self.folder, private=bool(self.info.model.faces))
        write_run(self.folder, self.record)

    def check(self) -> None:
        """Check that what the run writes may become current in its output.

        Raises:
            UsageError: the output holds something else, or its name is not UTF-8.
        """
        if not is_unicode(self.output):
            raise UsageError(
                f"`output` is {self.output!r}, a name that is not UTF-8, which cannot be passed to "
                "the steps of a run; choose another name"
            )
        there = other_collection(self.output, self.collection)
        if there is not None:
            what = COLLECTIONS[there]
            raise UsageError(f"{self.output} holds {what}; give another folder as `output`")

    def check_marked(self) -> None:
        """Check that nobody has taken the run for failed or dead, and removed its files.

        Raises:
            StorageError: that has happened.
        """
        if not files.exists(files.join(self.folder, RUN)):
            raise StorageError(
                f"{self.folder} has lost its {RUN}: this run was taken for failed or dead, and its "
                "files were removed. Nothing is published; run it again"
            )

    def abort(self) -> None:
        """Remove the folder of a failed run, unless it is complete.

        Raises:
            StorageError: it cannot be removed.
        """
        if not self.is_complete:
            files.remove_folder(self.folder)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Begin the run, and abort it if the block raises; an output made for it goes, too.

        Raises:
            StorageError: as in :meth:`begin`.
        """
        had_output = files.exists(self.output)
        try:
            self.begin()
            yield
        except BaseException:
            with contextlib.suppress(FeatureIdError):
                self.abort()
                if not had_output:
                    self._remove_output()
            raise

    def _check_sizes(self, sizes: Mapping[str, int]) -> None:
        """Check that files, by their names, have been written whole.

        Raises:
            StorageError: one is missing or has another size.
        """
        for name, length in sizes.items():
            found = files.size(files.join(self.folder, name))
            if found != length:
                raise StorageError(
                    f"{files.join(self.folder, name)} has {found} bytes, but {length} were "
                    f"written; {self.folder} is not published. Run it again"
                )

    def _check_current(self) -> None:
        """Repair ``current`` if it names nothing complete, and warn of a clock that is wrong."""
        current = read_current(self.output, self.collection)
        if current.snapshot is None:
            return
        if current.fault:
            with files.exclusive(self.output):
                newest = self._make_newest_current({})
            _LOG.warning("%s; it now names the newest complete one, %s", current.fault, newest)
        if started_at(current.snapshot) > datetime.now(UTC):
            _LOG.warning(
                "%s names %s, whose run started in the future by the clock of this machine; check "
                "the clocks of the machines that start runs",
                files.join(self.output, CURRENT),
                current.snapshot,
            )

    def _publish(self, manifest: Callable[[int], bytes], record: RunRecord) -> int:
        """Write the record with the outcome and the manifest, and let ``current`` name the run.

        Args:
            manifest: returns it as JSON, given its sequence number.
            record: with the outcome.

        Returns:
            The sequence number.
        """
        with files.exclusive(self.output):
            sequences = read_sequences(self.output, self.collection)
            number = 1 + max(sequences.values(), default=0)
            write_run(self.folder, record)
            files.write_atomic(files.join(self.folder, MANIFEST), [manifest(number)])
            newest = self._make_newest_current({**sequences, record.snapshot: number})
        self._end(record, newest)
        return number

    def _finish(self, record: RunRecord) -> None:
        """Do what is left to do by a run that was stopped after it had written its manifest."""
        if record.state != "committed":
            with files.exclusive(self.output):
                newest = self._make_newest_current({})
            self._end(record, newest)

    def _make_newest_current(self, sequences: Mapping[str, int]) -> str | None:
        """Let ``current`` name what was published last, and return its id.

        Args:
            sequences: the numbers that are known already.
        """
        named = None
        while True:
            sequences = read_sequences(self.output, self.collection, sequences)
            newest = newest_of(sequences)
            if newest is None or newest == named:
                return newest
            files.write_atomic(files.join(self.output, CURRENT), [newest.encode() + b"\n"])
            named = newest

    def _end(self, record: RunRecord, newest: str | None) -> None:
        """Note that the run is over, and say so if it is not current."""
        if newest != record.snapshot:
            _LOG.warning(
                "%s is published, but not current: %s was published after it", self.folder, newest
            )
        try:
            write_run(self.folder, replace(record, state="committed"))
        except StorageError as error:
            _LOG.warning(
                "%s is published, but its run.json is not complete: %s", self.folder, error
            )

    def _remove_output(self) -> None:
        """Remove the output folder, unless another run uses it meanwhile."""
        collection = files.join(self.output, self.collection)
        if not files.list_places(collection):
            files.remove_folder(files.join(self.output, MODELS))  # for workers of this run
            files.remove_if_empty(collection)
            files.remove_if_empty(self.output)
