"""Publishing: a run in an output folder begins, and then commits or aborts.

:mod:`featureid.storage.lifecycle` says why files are written in this order.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

from featureid.errors import FeatureIdError, StorageError, UsageError
from featureid.storage import files
from featureid.storage.run_record import RUN, RunRecord, write_run
from featureid.storage.snapshot import (
    COLLECTIONS,
    CURRENT,
    MANIFEST,
    MODELS,
    current_snapshot,
    other_collection,
    snapshot_folder,
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
        record: what ``run.json`` says about the run as it starts.
    """

    collection: ClassVar[str]
    output: str
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
        """Make the folder and mark it as being written.

        Raises:
            UsageError: the output holds something else.
            FeatureIdError: what the run writes may not replace what is current there.
            StorageError: it cannot be written.
        """
        if self.is_complete:
            return
        self.check()
        files.make_folder(self.folder)
        write_run(self.folder, self.record)

    def check(self) -> None:
        """Check that what the run writes may become current in its output.

        Raises:
            UsageError: the output holds something else.
        """
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

    def _complete(self, manifest: bytes, record: RunRecord) -> None:
        """Write the record with the outcome, and the manifest, which is the commit."""
        write_run(self.folder, record)
        files.write_atomic(files.join(self.folder, MANIFEST), [manifest])

    def _make_current(self, record: RunRecord) -> None:
        """Let ``current`` name the run, unless it names a newer one, and note that it is over.

        In an object store, which has no lock, the later writer wins if two runs do that at the same
        moment.
        """
        with files.exclusive(self.output):
            newest = current_snapshot(self.output)
            if newest is None or newest < self.record.snapshot:
                name = self.record.snapshot.encode() + b"\n"
                files.write_atomic(files.join(self.output, CURRENT), [name])
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
