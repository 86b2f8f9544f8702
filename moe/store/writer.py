"""The writer of one chain: it commits epochs to the store while training goes on.

Epochs are gathered in memory and committed together in another thread. The trainer hands over references, or copies
of what it is about to change.
"""

import datetime
import importlib.metadata
import platform
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from moe.result import Epoch
from moe.stages import Spec
from moe.store.entries import Entries, folder_of
from moe.store.locks import Lease, Timing
from moe.store.manifest import Content, EndFiles, Manifest
from moe.store.tensors import State
from moe.training.loop import Chain, End, stop_epoch

MOST_UNWRITTEN = 8  # commits that wait for a slow place, each with a copy of a network and its optimizer


class LeaseLostError(Exception):
    """Another process trains this stage now, because this one gave no sign of life for too long."""


@dataclass
class ChainWriter:
    """A chain and the right to train it. As a context it commits what is whole at the end and releases the lease.

    Args:
        chain: as far as it is stored.
        stored: the files of its weights, by epoch; changed.
        submit: runs one job after the other in another thread.
    """

    entries: Entries
    chain: Chain
    stored: dict[int, Content]
    lease: Lease
    timing: Timing
    submit: Callable[[Callable[[], object]], "Future[object]"]
    _unstored: dict[int, State] = field(default_factory=dict)  # weights by epoch
    _commits: list["Future[object]"] = field(default_factory=list)  # that are not written yet
    _committed_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._folder, self._committed = folder_of(self.chain.spec), len(self.chain.epochs)

    def epoch_done(self) -> None:
        """Commit if it is time to. Call it after each epoch.

        Raises:
            LeaseLostError: another process trains this chain now.
        """
        self._commits = [commit for commit in self._commits if not commit.done()]
        keeps_up = len(self._commits) < MOST_UNWRITTEN
        due = keeps_up and time.monotonic() - self._committed_at >= self.timing.commit_every_s
        self.lease.epochs = len(self.chain.epochs)
        if not self.lease.holds(0 if due else self.timing.beat_s):
            raise LeaseLostError(f"{self._folder} was taken over")
        if due:
            self._commit(training_goes_on=True)

    def _commit(self, *, training_goes_on: bool) -> None:
        chain, weights = self.chain, self.chain.weights
        best = chain.resolve(len(chain.epochs)).epoch
        chain.weights = {epoch: state for epoch, state in weights.items() if epoch == best}
        end = chain.end if stop_epoch(chain.losses, chain.spec.patience) is None else None
        if end and training_goes_on:
            # off the device, where there may be no room for another copy
            end = End(*({name: value.to("cpu", copy=True) for name, value in part.items()} for part in end))
        epochs = tuple(chain.epochs)
        self._committed, self._committed_at = len(epochs), time.monotonic()
        self._commits.append(self.submit(lambda: self._publish(epochs, weights, end)))

    def _publish(self, epochs: tuple[Epoch, ...], weights: dict[int, State], end: End | None) -> None:
        lost = self.entries.absent(self._folder, self.stored) if self.stored else set()  # set aside or deleted
        for epoch in lost & weights.keys():
            del self.stored[epoch]  # it is written again
        self._unstored |= {epoch: state for epoch, state in weights.items() if epoch not in self.stored}
        if lost - weights.keys():  # a manifest cannot be whole, and files without one are never read
            self.entries.warn_of_loss(self._folder)
            return
        for epoch, state in list(self._unstored.items()):
            if (content := self.entries.put(self._folder, state)) is None:
                return  # the next commit tries again
            self.stored[epoch] = content
            del self._unstored[epoch]
        stored_end = None
        if end:
            same = self.stored.get(len(epochs))  # where the last epoch is the best one
            network = same or self.entries.put(self._folder, end.network)
            optimizer = self.entries.put(self._folder, end.optimizer) if network else None
            if network is None or optimizer is None:
                return
            stored_end = EndFiles(network=network, optimizer=optimizer)
        spec = self.chain.spec
        self.entries.publish(
            self._folder,
            Manifest(spec=spec.hashed(), epochs=epochs, weights=dict(self.stored), end=stored_end, made=_made(spec)),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.chain.end is not None and len(self.chain.epochs) > self._committed:  # else an epoch was cut short
                self._commit(training_goes_on=False)
        finally:
            self.submit(lambda: self.lease.beat(released=True))


def _made(spec: Spec) -> dict[str, Any]:
    """Where a chain was trained, and with what: for people, since its spec holds all that decides its bits."""
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    with suppress(importlib.metadata.PackageNotFoundError):
        versions["moe-study"] = importlib.metadata.version("moe-study")
    return {
        "host": socket.gethostname(),
        "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name() if spec.numerics.device == "cuda" else "cpu",
        "versions": versions,
    }


class MemoryWriter:
    """A chain that is not stored: the writer of `NoStore`."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def epoch_done(self) -> None:
        """Drop the weights that no request can resolve to any more."""
        best = self.chain.resolve(len(self.chain.epochs)).epoch
        self.chain.weights = {best: self.chain.weights[best]}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""
