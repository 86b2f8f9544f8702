"""The store as a pipeline uses it.

    store.chain(spec)                   a stage as far as anyone has trained it
    store.open_writer(spec)             the same, to train on; None while another process trains it
    store.load_weights(checkpoint)
    store.load_predictions(checkpoint, images)     and save_predictions

`NoStore` has these methods and stores nothing.
"""

import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Self

from moe.stages import Checkpoint, Spec
from moe.store.entries import Entries, folder_of
from moe.store.files import Place
from moe.store.listing import use_in
from moe.store.location import default_location, place_at
from moe.store.locks import Leases, Timing
from moe.store.manifest import ATTEMPTS, Content
from moe.store.tensors import State
from moe.store.tolerant import TolerantFiles
from moe.store.writer import ChainWriter, MemoryWriter
from moe.training.loop import Chain, End

THREADS = 4  # that write
NOTE_USE_EVERY_S = 3600.0
CLOCK_STEP_S = 60.0  # by which a clock was set, if wall time and elapsed time differ by more


def _warn(sentence: str) -> None:
    warnings.warn(sentence, RuntimeWarning, stacklevel=2)


class Store:
    """The stages that were trained at a place. It never raises because of the place: what fails is trained again.

    Args:
        location: a folder, a URL that fsspec supports, or a Place; by default the user's own store.
        warn: called with a sentence when something went wrong.
        timing: of commits, heartbeats and waiting.

    Raises:
        ValueError: the location is none; the sentence begins with it.
    """

    def __init__(
        self,
        location: str | Place | None = None,
        *,
        warn: Callable[[str], None] = _warn,
        timing: Timing | None = None,
    ) -> None:
        location = default_location() if location is None else location
        place = place_at(location) if isinstance(location, str) else location
        self.name = place.name
        self.timing = timing or Timing()
        self._files = TolerantFiles(place, warn, self.timing.rest_s)
        self._entries = Entries(self._files, warn)
        self._leases = Leases(self._files, self.timing, self._renew_uses)
        self._uses_noted: dict[str, float] = {}  # by folder: when the last use was written, on the clock below
        self._in_use: set[str] = set()  # folders that the current run has used
        self._clock_offset = _clock_offset()
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix="store") for _ in range(THREADS)]
        self._pending: list[Future[object]] = []

    def chain(self, spec: Spec) -> Chain:
        """A stage as far as it is stored; its weights stay where they are."""
        if (found := self._entries.newest(spec)) is None:
            return Chain(spec)
        self._note_use(folder_of(spec))
        return Chain(spec, list(found.epochs))

    def _note_use(self, folder: str) -> None:
        """Write when the chain was last used, at most once an hour: `gc` keeps what was used in the last day."""
        self._in_use.add(folder)
        last = self._uses_noted.get(folder)
        if last is None or time.monotonic() - last >= NOTE_USE_EVERY_S:
            self._uses_noted[folder] = time.monotonic()
            self._submit(folder, lambda: self._write_use(folder))

    def _renew_uses(self) -> None:
        """Write the uses of a long run again, and all of them once the clock was set."""
        if abs(_clock_offset() - self._clock_offset) > CLOCK_STEP_S:
            self._clock_offset = _clock_offset()
            self._uses_noted.clear()
        for folder in list(self._in_use):
            self._note_use(folder)

    def _write_use(self, folder: str) -> None:
        """Write a use of this user; it never becomes an earlier one, since the clock may have been set back."""
        path = f"{folder}/used-{getattr(os, 'getuid', int)()}"  # 0 on Windows, where users have no numbers
        seconds = max(time.time(), use_in(self._files.read(path)) or 0)
        if not self._files.replace(path, str(seconds).encode()):
            self._uses_noted.pop(folder, None)  # so that the next use is written

    def load_weights(self, checkpoint: Checkpoint) -> State | None:
        """The weights of a checkpoint of a chain that was looked up; None if they are not there any more."""
        return self._entries.load_weights(checkpoint)

    def open_writer(self, spec: Spec) -> ChainWriter | None:
        """The chain as far as it is stored, and the right to train it on; None while another process has that."""
        folder = folder_of(spec)
        if (lease := self._leases.acquire(folder)) is None:
            return None
        try:
            chain, stored = self._resumable(spec)
        except BaseException:
            lease.beat(released=True)
            raise
        if not stored:  # where a chain was deleted, the note of its use is gone too
            self._uses_noted.pop(folder, None)
        self._note_use(folder)
        return ChainWriter(self._entries, chain, dict(stored), lease, self.timing, partial(self._submit, folder))

    def _resumable(self, spec: Spec) -> tuple[Chain, dict[int, Content]]:
        """A chain with its resumable state, and the files of its weights.

        A chain whose state is damaged is set aside, and the next shorter one is taken.
        """
        folder = folder_of(spec)
        for _ in range(ATTEMPTS):
            if (found := self._entries.newest(spec)) is None:
                break
            chain = Chain(spec, list(found.epochs))
            if found.end is None:  # patience ended it
                return chain, found.weights
            network = self._entries.load(folder, found, found.end.network)
            optimizer = self._entries.load(folder, found, found.end.optimizer) if network else None
            if network and optimizer:
                chain.end = End(network, optimizer)
                return chain, found.weights
        return Chain(spec), {}

    def load_predictions(self, checkpoint: Checkpoint, images: str) -> State | None:
        """The checkpoint's predictions for a set of images, such as "stop"; None if they are not stored."""
        return self._entries.load_predictions(checkpoint, images)

    def save_predictions(self, checkpoint: Checkpoint, images: str, predictions: State) -> None:
        """Store the checkpoint's predictions for a set of images."""
        folder = folder_of(checkpoint)
        self._submit(folder, lambda: self._entries.save_predictions(checkpoint, images, predictions))

    def _submit(self, folder: str, job: Callable[[], object]) -> "Future[object]":
        """Run a job in a thread that runs all jobs of a folder, one after the other."""
        future = self._threads[hash(folder) % THREADS].submit(job)
        self._pending.append(future)
        return future

    def flush(self) -> None:
        """Wait until all that was handed over is written, or has failed to be."""
        self._in_use.clear()
        while self._pending:
            self._pending.pop().result()
        self._entries.latest.clear()  # the next run looks them up again

    def close(self) -> None:
        """Flush, and stop all threads."""
        try:
            self.flush()
        finally:
            self._leases.close()
            for thread in self._threads:
                thread.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _clock_offset() -> float:
    """Wall time less elapsed time: it changes when the clock is set."""
    return time.time() - time.monotonic()


class NoStore:
    """In place of a store: nothing is found and nothing is stored."""

    timing = Timing()

    def chain(self, spec: Spec) -> Chain:
        """A stage before its first epoch."""
        return Chain(spec)

    def open_writer(self, spec: Spec) -> MemoryWriter:
        """A stage before its first epoch, to train."""
        return MemoryWriter(Chain(spec))

    def load_weights(self, checkpoint: Checkpoint) -> State | None:
        """None."""

    def load_predictions(self, checkpoint: Checkpoint, images: str) -> State | None:
        """None."""

    def save_predictions(self, checkpoint: Checkpoint, images: str, predictions: State) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""
