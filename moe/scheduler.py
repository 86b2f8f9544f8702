"""The stages that a run needs: from the store as far as it has them, trained where it has not.

    Task: a request, and what to learn from --Supply--> Trained: its checkpoint, its network, what that says

Independent stages are trained side by side where there are devices. A stage that another process is training is left
for later. Only who trains the mixture may wait for another stage, one whose frozen weights went missing, and those
who train that wait for nothing: so nobody waits for ever.
"""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from moe.result import Epoch
from moe.stages import STAGES, Checkpoint, Request
from moe.store.claims import LeaseLostError
from moe.store.nothing import NoStore
from moe.store.store import Store
from moe.training.cuda_graph import finish, own_stream
from moe.training.loop import Chain, Examples, State, train

#: told (stage, epoch from 1, epochs at most, what the epoch came to); an exception from it ends the run
Watch = Callable[[str, int, int, Epoch], None]
Lesson = Callable[[torch.device], tuple[Examples, Examples]]


@dataclass(frozen=True)
class Task:
    """A stage to bring to the end of a request."""

    request: Request
    lesson: Lesson  # what it learns from and what stops it, on a device; called if there is something to train


class Supply:
    """Stages from a store and from training.

    Args:
        store: what was trained before, and where to keep what is trained now.
        watch: told of each epoch as it is trained, and of the last one of a stage that the store has.
    """

    def __init__(self, store: Store | NoStore, watch: Watch | None = None) -> None:
        self.store = store
        self.watch = watch
        self.trained: defaultdict[str, list[tuple[int, Epoch]]] = defaultdict(list)  # by address: what was done here

    def one(self, task: Task, device: torch.device) -> "Trained":
        """Bring a stage to the end of its request."""
        return self.all([task], [device])[task.request.spec.stage]

    def all(self, tasks: Sequence[Task], devices: Sequence[torch.device]) -> dict[str, "Trained"]:
        """Bring stages that do not need one another to the end of their requests, one on each device at a time."""
        waiting, chains, ended = deque(tasks), dict[str, Chain](), threading.Event()
        if len(devices) == 1:  # in this thread, where torch's thread count has been set
            self._work(waiting, chains, ended, devices[0])
        else:
            with ThreadPoolExecutor(len(devices)) as pool:
                try:
                    for future in [pool.submit(self._work, waiting, chains, ended, device) for device in devices]:
                        future.result()
                finally:
                    ended.set()
        names = [task.request.spec.stage for task in tasks]
        return {name: Trained(task, chains[name], self, devices[0]) for name, task in zip(names, tasks, strict=True)}

    def _work(
        self, waiting: deque[Task], chains: dict[str, Chain], ended: threading.Event, device: torch.device
    ) -> None:
        """Take tasks until none is left; those that another process is at go back to the end."""
        taken = 0
        try:
            with own_stream(device):  # one for all: torch gives the same few in turn, and others may record on the next
                while not ended.is_set():
                    try:
                        task = waiting.popleft()
                    except IndexError:
                        return
                    if chain := self._attempt(task, device):
                        chains[task.request.spec.stage] = chain
                        taken = 0
                        continue
                    waiting.append(task)
                    taken += 1
                    if taken >= len(waiting):
                        time.sleep(self.store.timing.poll_s)
        except BaseException:
            ended.set()  # the other devices end with what they are at
            raise

    def _attempt(self, task: Task, device: torch.device) -> Chain | None:
        """The chain at the end of a request; None while another process trains it."""
        request = task.request
        chain = self.store.chain(request.spec)
        if chain.finished(request.epochs):
            self._tell(request, chain)
            return chain
        claim = self.store.claim(request.spec)
        if claim is None:
            return None
        try:
            with claim:
                if claim.chain.finished(request.epochs):  # by another, meanwhile
                    self._tell(request, claim.chain)
                    return claim.chain
                for epoch in train(request, claim.chain, *task.lesson(device), device):
                    self.trained[request.spec.address].append((len(claim.chain.epochs), epoch))
                    claim.advanced()
                    self._tell(request, claim.chain)
        except LeaseLostError:
            return None
        claim.chain.end = None  # nobody trains on from memory, where it would stay until the run ends
        return claim.chain

    def _tell(self, request: Request, chain: Chain) -> None:
        if self.watch:
            number = chain.used(request.epochs) if chain.finished(request.epochs) else len(chain.epochs)
            self.watch(request.spec.stage, number, request.epochs, chain.epochs[number - 1])


@dataclass
class Trained:
    """A stage at the end of its request."""

    task: Task
    chain: Chain
    supply: Supply
    device: torch.device

    @property
    def checkpoint(self) -> Checkpoint:
        """The one that the request comes to."""
        return self.chain.resolve(self.task.request.epochs)

    @property
    def trained(self) -> list[tuple[int, Epoch]]:
        """The epochs, by number from 1, that this run trained; one more than once where it had to."""
        return self.supply.trained[self.task.request.spec.address]

    @cached_property
    def network(self) -> nn.Module:
        """The checkpoint's network, frozen, on the stage's device."""
        network = blank(self.task.request)
        network.load_state_dict(self._weights(), assign=True)
        return network.to(self.device).requires_grad_(False)

    def _weights(self) -> State:
        """From memory or the store; trained again where neither has them any more."""
        apart = Supply(NoStore(), self.supply.watch)
        apart.trained = self.supply.trained
        for supply in (self.supply, self.supply, apart):  # the first may only learn of a longer chain
            if (state := self._found()) is not None:
                return state
            self.chain = supply.one(self.task, self.device).chain
        state = self._found()
        assert state is not None  # it was trained just now
        return state

    def _found(self) -> State | None:
        state = self.chain.weights.get(self.checkpoint.epoch)
        return state if state is not None else self.supply.store.weights(self.checkpoint)

    def kept(self, of: str, make: Callable[[nn.Module], State]) -> State:
        """What the checkpoint's network says of the images called `of`, from the store or made now."""
        store = self.supply.store
        state = store.says(self.checkpoint, of)
        if state is None:
            state = make(self.network)
            finish(self.device)  # the store's threads read it
            store.keep(self.checkpoint, of, state)
        return {name: value.to(self.device) for name, value in state.items()}


def blank(request: Request) -> nn.Module:
    """A stage's network without weights: nothing is drawn and no memory taken."""
    with torch.device("meta"):
        return STAGES[request.spec.stage].network(request.spec.network, precision=request.spec.numerics.precision)
