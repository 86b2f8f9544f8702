"""Which stage is trained when, and where: read from the store as far as it has it, trained where it has not.

    StageTask: a request and its examples --Scheduler--> TrainedStage: its checkpoint, network and predictions

Independent stages are trained side by side where there are devices. A stage that another process is training is
postponed. Deadlock-free: only the mixture waits, and only for stages that never wait.
"""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import nn

from moe.result import Epoch
from moe.stages import STAGES, Checkpoint, Request
from moe.store.store import NoStore, Store
from moe.store.tensors import State
from moe.store.writer import LeaseLostError
from moe.training.cuda_graph import own_stream, synchronize
from moe.training.loop import Chain, Examples, train
from moe.training.numerics import one_thread

#: called with (stage, epoch from 1, epochs at most, metrics of the epoch, whether another run trained it); an exception
#: from it ends the run
OnEpoch = Callable[[str, int, int, Epoch, bool], None]


@dataclass(frozen=True)
class StageTask:
    """A stage to bring to the end of a request."""

    request: Request
    examples: Callable[[torch.device], tuple[Examples, Examples]]  # to train on and to stop by; called before training


@dataclass(frozen=True)
class Scheduler:
    """Brings stages to the end of their requests."""

    store: Store | NoStore  # where trained stages are loaded from and saved to
    on_epoch: OnEpoch | None = None  # after each epoch that is trained, and with the last one of a stored stage
    trained: defaultdict[str, list[tuple[int, Epoch]]] = field(default_factory=lambda: defaultdict(list))  # by address

    def run(self, task: StageTask, device: torch.device) -> "TrainedStage":
        """Bring one stage to the end of its request."""
        return self.run_all([task], [device])[task.request.spec.stage]

    def run_all(self, tasks: Sequence[StageTask], devices: Sequence[torch.device]) -> dict[str, "TrainedStage"]:
        """Bring stages that do not need one another to the end of their requests, one on each device at a time."""
        waiting, chains, stop = deque(tasks), dict[str, Chain](), threading.Event()
        if len(devices) == 1:
            self._work(waiting, chains, stop, devices[0])
        else:
            with ThreadPoolExecutor(len(devices)) as pool:
                try:
                    for future in [pool.submit(self._work, waiting, chains, stop, device) for device in devices]:
                        future.result()
                finally:
                    stop.set()
        stages = {task.request.spec.stage: task for task in tasks}
        return {name: TrainedStage(task, chains[name], self, devices[0]) for name, task in stages.items()}

    def _work(
        self, waiting: deque[StageTask], chains: dict[str, Chain], stop: threading.Event, device: torch.device
    ) -> None:
        """Take tasks until none is left; those that another process is training go back to the end."""
        postponed = 0
        try:
            # one stream for all: torch gives the same few in turn, and another thread may capture on the next
            with one_thread(), own_stream(device):
                while not stop.is_set():
                    try:
                        task = waiting.popleft()
                    except IndexError:
                        return
                    if chain := self._train(task, device, stop):
                        chains[task.request.spec.stage] = chain
                        postponed = 0
                        continue
                    waiting.append(task)
                    postponed += 1
                    if postponed >= len(waiting):
                        time.sleep(self.store.timing.poll_s)
        except BaseException:
            stop.set()  # the other devices end after their current epoch
            raise

    def _train(self, task: StageTask, device: torch.device, stop: threading.Event) -> Chain | None:
        """The chain at the end of a request; None while another process trains it, or where an error stops all."""
        request = task.request
        chain = self.store.chain(request.spec)
        if chain.finished(request.epochs):
            self._report(request, chain, reused=True)
            return chain
        writer = self.store.open_writer(request.spec)
        if writer is None:
            return None
        try:
            with writer:
                if writer.chain.finished(request.epochs):  # by another process, since the chain was looked up
                    self._report(request, writer.chain, reused=True)
                    return writer.chain
                for epoch in train(request, writer.chain, *task.examples(device), device):
                    self.trained[request.spec.address].append((len(writer.chain.epochs), epoch))
                    writer.epoch_done()
                    self._report(request, writer.chain, reused=False)
                    if stop.is_set():
                        return None
        except LeaseLostError:
            return None
        writer.chain.end = None  # not needed any more, and would stay in memory until the run ends
        return writer.chain

    def _report(self, request: Request, chain: Chain, *, reused: bool) -> None:
        if self.on_epoch:
            number = chain.used(request.epochs) if chain.finished(request.epochs) else len(chain.epochs)
            self.on_epoch(request.spec.stage, number, request.epochs, chain.epochs[number - 1], reused)


@dataclass
class TrainedStage:
    """A stage at the end of its request."""

    task: StageTask
    chain: Chain
    scheduler: Scheduler
    device: torch.device

    @property
    def checkpoint(self) -> Checkpoint:
        """The one that the request resolves to."""
        return self.chain.resolve(self.task.request.epochs)

    @property
    def trained(self) -> list[tuple[int, Epoch]]:
        """The epochs, by number from 1, that this run trained; one appears twice if it had to be trained again."""
        return self.scheduler.trained[self.task.request.spec.address]

    @cached_property
    def network(self) -> nn.Module:
        """The checkpoint's network, frozen, on the stage's device."""
        network = empty_network(self.task.request)
        network.load_state_dict(self.weights(), assign=True)
        return network.to(self.device).requires_grad_(False)

    def weights(self) -> State:
        """The checkpoint's, from memory or the store; trained again where neither has them any more."""
        store = self.scheduler.store
        sources = iter((store, store, NoStore()))  # the first attempt may only find a longer chain
        while True:
            weights = self.chain.weights.get(self.checkpoint.epoch) or store.load_weights(self.checkpoint)
            if weights:
                return weights
            self.chain = replace(self.scheduler, store=next(sources)).run(self.task, self.device).chain

    def predictions(self, images: str, predict: Callable[[nn.Module], State]) -> State:
        """What the checkpoint's network predicts on an image set such as "stop", "score" or "train".

        It comes from the store, or is computed now by `predict`.
        """
        store = self.scheduler.store
        predictions = store.load_predictions(self.checkpoint, images)
        if predictions is None:
            predictions = predict(self.network)
            synchronize(self.device)  # the store's threads read it
            store.save_predictions(self.checkpoint, images, predictions)
        return {name: value.to(self.device) for name, value in predictions.items()}


def empty_network(request: Request) -> nn.Module:
    """A stage's network on the meta device: nothing is drawn and no memory taken."""
    with torch.device("meta"):
        return STAGES[request.spec.stage].network(request.spec.network, precision=request.spec.numerics.precision)
