"""The right to train a chain on, and its commits while that goes on.

Epochs are gathered in memory and committed together, by a thread of the store's: the trainer hands over references,
or copies of what it is about to change.
"""

import datetime
import importlib.metadata
import platform
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Self

import torch

from moe.result import Epoch
from moe.stages import Spec
from moe.store.entries import Entries, as_json, folder_of
from moe.store.leases import Lease, Leases, Timing
from moe.store.manifest import Content, Manifest
from moe.store.manifest import End as KeptEnd
from moe.store.tensors import State
from moe.training.loop import Chain, End, stop_epoch

MOST_UNWRITTEN = 8  # commits that wait for a slow place, each with a copy of a network and its optimizer

Submit = Callable[[Callable[[], object]], "Future[object]"]


class LeaseLostError(Exception):
    """Another trains this stage now, because this process was silent for too long."""


class Claim:
    """A chain and the right to train it on. As a context it is given up at the end, committed if nothing went wrong.

    Args:
        chain: as far as it is stored.
        filed: where the store has its weights, by epoch.
        lease: None where no lease could be had: then another may train the same.
        submit: runs something in another thread.
    """

    def __init__(
        self,
        entries: Entries,
        leases: Leases,
        lease: Lease | None,
        chain: Chain,
        filed: dict[int, Content],
        timing: Timing,
        submit: Submit,
    ) -> None:
        self.chain = chain
        self._entries = entries
        self._leases = leases
        self._lease = lease
        self._folder = folder_of(chain.spec)
        self._filed = dict(filed)
        self._unfiled: dict[int, State] = {}
        self._committed, self._committed_at = len(chain.epochs), time.monotonic()
        self._every_s = timing.commit_every_s
        self._submit = submit
        self._last: Future[object] | None = None
        self._unwritten: list[Future[object]] = []

    def advanced(self) -> None:
        """To be called after each epoch: commits where it is time.

        Raises:
            LeaseLostError: another trains this chain now.
        """
        self._unwritten = [commit for commit in self._unwritten if not commit.done()]
        keeping_up = len(self._unwritten) < MOST_UNWRITTEN
        due = keeping_up and time.monotonic() - self._committed_at >= self._every_s
        if self._lease:
            self._lease.epochs = len(self.chain.epochs)
            if not self._leases.mine(self._lease, now=due):
                raise LeaseLostError(f"{self._folder} was taken over")
        if due:
            self._commit(going_on=True)

    def _commit(self, *, going_on: bool) -> None:
        chain = self.chain
        best = chain.resolve(len(chain.epochs)).epoch
        fresh = {epoch: state for epoch, state in chain.weights.items() if epoch not in self._filed}
        chain.weights = {epoch: state for epoch, state in chain.weights.items() if epoch == best}
        end = chain.end if stop_epoch(chain.losses, chain.spec.patience) is None else None
        if end and going_on:
            # off the device, where there may be no room for another copy
            end = End(*({name: value.to("cpu", copy=True) for name, value in part.items()} for part in end))
        epochs, before = tuple(chain.epochs), self._last
        self._committed, self._committed_at = len(epochs), time.monotonic()
        self._last = self._submit(lambda: self._publish(epochs, fresh, end, before))
        self._unwritten.append(self._last)

    def _publish(
        self, epochs: tuple[Epoch, ...], fresh: dict[int, State], end: End | None, before: "Future[object] | None"
    ) -> None:
        if before:
            before.result()
        self._unfiled |= fresh
        for epoch, state in list(self._unfiled.items()):
            if (content := self._entries.put(self._folder, state)) is None:
                return  # what is unfiled goes with the next commit
            self._filed[epoch] = content
            del self._unfiled[epoch]
        ends = [self._entries.put(self._folder, part) for part in end] if end else []
        if None in ends:
            return
        self._entries.publish(
            self._folder,
            Manifest(
                spec=as_json(self.chain.spec),
                epochs=tuple(epoch.as_json() for epoch in epochs),
                weights=dict(self._filed),
                end=KeptEnd(*ends) if ends else None,  # type: ignore[arg-type]
                made=_made(self.chain.spec),
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.chain.end is not None and len(self.chain.epochs) > self._committed:  # else an epoch was cut short
                self._commit(going_on=False)
        finally:
            if self._lease:
                lease, before = self._lease, self._last
                self._submit(lambda: self._give_back(lease, before))

    def _give_back(self, lease: Lease, before: "Future[object] | None") -> None:
        try:
            if before:
                before.result()
        finally:
            self._leases.release(lease)


def _made(spec: Spec) -> dict[str, Any]:
    """Who made this, with what."""
    version = ""
    with suppress(importlib.metadata.PackageNotFoundError):
        version = importlib.metadata.version("moe-study")
    return {
        "host": socket.gethostname(),
        "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name() if spec.numerics.device == "cuda" else "cpu",
        "threads": spec.numerics.threads,
        "versions": {"moe-study": version, "torch": torch.__version__, "python": platform.python_version()},
    }
