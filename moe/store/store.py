"""The store as a pipeline uses it.

store.chain(spec)        as far as it was trained, by anyone
store.claim(spec)        the same, to go on with; None while another trains it
store.weights(...)       of a checkpoint
store.says(...)          what a checkpoint's network said of some images
"""

import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from moe.result import Epoch
from moe.stages import Checkpoint, Spec
from moe.store.care import Care
from moe.store.claims import Claim
from moe.store.entries import ATTEMPTS, Entries, folder_of
from moe.store.leases import Leases, TakenError, Timing
from moe.store.location import default_location, place_at
from moe.store.manifest import Content, Manifest
from moe.store.place import Place
from moe.store.session import Session
from moe.store.tensors import State
from moe.training.loop import Chain, End

CLERKS = 4  # threads that write


def _chain(spec: Spec, found: Manifest) -> Chain:
    return Chain(spec, [Epoch(**epoch) for epoch in found.epochs])


def _warn(sentence: str) -> None:
    warnings.warn(sentence, RuntimeWarning, stacklevel=2)


class Store:
    """The stages that were trained at a place. It never raises for the place's sake: what fails is trained again.

    Args:
        place: a folder, a URL that fsspec knows, or a Place; by default the user's own store.
        warn: told in a sentence what went wrong.
        timing: of commits, heartbeats and waiting.
        since: when the study that this serves began, in seconds since 1970; what was used since then is not evicted.

    Raises:
        ValueError: the place is none; the sentence begins with it.
    """

    def __init__(
        self,
        place: "str | Place | None" = None,
        *,
        warn: Callable[[str], None] = _warn,
        timing: Timing | None = None,
        since: float | None = None,
    ) -> None:
        opened = place_at(place or default_location()) if place is None or isinstance(place, str) else place
        self.name = opened.name
        self.timing = timing or Timing()
        self._care = Care(opened, warn, self.timing.rest_s)
        self._entries = Entries(self._care, warn)
        self._leases = Leases(self._care, self.timing)
        self._session = Session(self._care, self._leases, self.timing, since or time.time())
        self._manifests: dict[str, Manifest] = {}  # by folder, as last read
        self._clerks = ThreadPoolExecutor(CLERKS, thread_name_prefix="store")
        self._jobs: list[Future[object]] = []

    def chain(self, spec: Spec) -> Chain:
        """A stage as far as it is stored; its weights stay where they are."""
        self._session.begin()
        found = self._entries.newest(spec)
        if found is None:
            return Chain(spec)
        self._manifests[folder_of(spec)] = found
        self._note_use(folder_of(spec))
        return _chain(spec, found)

    def _note_use(self, folder: str) -> None:
        if self._session.first_use(folder):

            def note() -> None:
                if not self._care.replace(f"{folder}/used", str(time.time()).encode()):
                    self._session.forget(folder)

            self._submit(note)

    def weights(self, checkpoint: Checkpoint) -> State | None:
        """The weights of a checkpoint of a chain that was looked up; None where they are not there any more."""
        folder = folder_of(checkpoint)
        found = self._manifests.get(folder)
        content = found.weights.get(checkpoint.epoch) if found else None
        return self._entries.load(folder, found, content) if found and content else None

    def claim(self, spec: Spec) -> Claim | None:
        """The right to train a chain on from where it is; None while another has it."""
        self._session.begin()
        folder = folder_of(spec)
        try:
            lease = self._leases.acquire(folder) if self._care.exclusive() else None
        except TakenError:
            return None
        try:
            chain, filed = self._resumable(spec)
        except BaseException:
            if lease:
                self._leases.release(lease)
            raise
        self._note_use(folder)
        return Claim(self._entries, self._leases, lease, chain, filed, self.timing, self._submit)

    def _resumable(self, spec: Spec) -> tuple[Chain, dict[int, Content]]:
        """A chain with all that it takes to go on, and where its weights are.

        One whose end is damaged gets set aside, and the next shorter one is taken.
        """
        for _ in range(ATTEMPTS):
            if (found := self._entries.newest(spec)) is None:
                break
            self._manifests[folder_of(spec)] = found
            chain = _chain(spec, found)
            if found.end is None:  # patience has ended it
                return chain, found.weights
            network = self._entries.load(folder_of(spec), found, found.end.network)
            optimizer = self._entries.load(folder_of(spec), found, found.end.optimizer) if network else None
            if network and optimizer:
                chain.end = End(network, optimizer)
                return chain, found.weights
        return Chain(spec), {}

    def says(self, checkpoint: Checkpoint, of: str) -> State | None:
        """What the checkpoint's network said of the images called `of`; None where that was not kept."""
        return self._entries.says(checkpoint, of)

    def keep(self, checkpoint: Checkpoint, of: str, state: State) -> None:
        """Keep what the checkpoint's network said of the images called `of`."""
        self._submit(lambda: self._entries.keep(checkpoint, of, state))

    def _submit(self, job: Callable[[], object]) -> "Future[object]":
        future = self._clerks.submit(job)
        self._jobs.append(future)
        return future

    def settle(self) -> None:
        """Wait until all that was handed over is written, or has failed to be."""
        self._manifests.clear()  # the next run looks them up again
        while self._jobs:
            self._jobs.pop().result()

    def close(self) -> None:
        """Write what is left and end the session."""
        try:
            self.settle()
        finally:
            self._clerks.shutdown()
            self._session.close()

    def __enter__(self) -> Self:
        self._session.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
