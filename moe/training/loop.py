"""The training loop of one stage: epoch after epoch, until the request is fulfilled or patience runs out.

    request, examples --train--> Chain: the metrics of every epoch, the weights that a request can resolve to,
                                 and the state that training resumes from

No schedule depends on the total number of epochs, and each epoch draws from its own generators: ten epochs contain the
five-epoch result, and a resumed training gives the same bits as an uninterrupted one.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from moe.config import NOTEBOOK
from moe.networks import FrozenOutputs, build
from moe.result import Epoch
from moe.stages import STAGES, Checkpoint, Request, Spec
from moe.store.tensors import State
from moe.training.adam import Adam
from moe.training.cuda_graph import captured, synchronize

EVALUATION_BATCH = {"cpu": 100, "cuda": 1000}  # larger batches miss the CPU's cache; a GPU needs them to be busy
_LEAST, _MOST = math.log(1e-7), math.log1p(-1e-7)  # Keras clips probabilities to [1e-7, 1 - 1e-7]


class TrainingError(Exception):
    """A training that cannot continue; the sentence gives the reason."""


class End(NamedTuple):
    """The state that training resumes from after an epoch: tensors by name."""

    network: State
    optimizer: State  # "parameter/key" for each key of Adam's state


@dataclass
class Chain:
    """A stage as far as it has been trained."""

    spec: Spec
    epochs: list[Epoch] = field(default_factory=list)
    weights: dict[int, State] = field(default_factory=dict)  # by epoch, from 1; those in memory
    end: End | None = None  # after the last epoch

    @property
    def losses(self) -> list[float]:
        """The validation loss of each epoch."""
        return [epoch.validation_loss for epoch in self.epochs]

    def finished(self, epochs: int) -> bool:
        """Whether a request for so many epochs has nothing left to train."""
        return len(self.epochs) >= epochs or stop_epoch(self.losses, self.spec.patience) is not None

    def resolve(self, epochs: int) -> Checkpoint:
        """The checkpoint that a request for so many epochs resolves to."""
        losses = self.losses[: self.used(epochs)]
        epoch = len(losses) if uses_last_epoch(self.spec) else best_epoch(losses)
        return Checkpoint(self.spec.stage, self.spec.address, epoch)

    def used(self, epochs: int) -> int:
        """How many epochs a request for so many uses: fewer if patience ran out before."""
        return min(epochs, stop_epoch(self.losses, self.spec.patience) or epochs)


def stop_epoch(losses: Sequence[float], patience: int) -> int | None:
    """The epoch, from 1, after which training stops: the `patience`-th in a row without a new lowest loss."""
    best, wait = math.inf, 0
    for epoch, loss in enumerate(losses, 1):
        best, wait = (loss, 0) if loss < best else (best, wait + 1)
        if wait >= patience:
            return epoch
    return None


def best_epoch(losses: Sequence[float]) -> int:
    """The epoch, from 1, with the lowest loss; the earliest on a tie."""
    return min(range(len(losses)), key=losses.__getitem__) + 1


def uses_last_epoch(spec: Spec) -> bool:
    """Whether a request resolves to the last epoch: the notebook scores the mixture without reloading weights."""
    return spec.protocol == NOTEBOOK and spec.stage == "mixture"


@dataclass(frozen=True)
class Examples:
    """Images and labels, on the device that trains on them; for the mixture also the outputs of the frozen networks.

    Those are precomputed where they are the same in every epoch. Under dropout they differ for each batch and are
    computed by a function of (images in [0, 1], generator).
    """

    images: Tensor  # (N, 3, 32, 32) uint8
    labels: Tensor  # (N,) int64
    frozen: FrozenOutputs | Callable[[Tensor, Generator | None], FrozenOutputs] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def logits(self, network: nn.Module, rows: Tensor, generator: Generator | None = None) -> Tensor:
        """(rows, outputs) of the network on some of the images; with a generator, under dropout."""
        images = to_floats(self.images[rows])
        if self.frozen is None:
            return network(images, generator)  # type: ignore[no-any-return]
        frozen = self.frozen[rows] if isinstance(self.frozen, FrozenOutputs) else self.frozen(images, generator)
        return network(images, generator, frozen)  # type: ignore[no-any-return]


def to_floats(images: Tensor) -> Tensor:
    """(N, 3, 32, 32) bytes to floats in [0, 1], channels last in memory."""
    return images.float().div_(255).contiguous(memory_format=torch.channels_last)


def derive_seed(spec: Spec, epoch: int, purpose: str) -> int:
    """The seed for one purpose in one epoch of one stage; epoch 0 is the initial weights."""
    text = f"{spec.seed}/{spec.stage}/{epoch}/{purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(spec: Spec, epoch: int, purpose: str) -> Generator:
    """A CPU generator with that seed."""
    return Generator().manual_seed(derive_seed(spec, epoch, purpose))


def loss_of(stage: str, logits: Tensor, labels: Tensor) -> Tensor:
    """The mean categorical cross-entropy in nats, as Keras computes it.

    Args:
        logits: (N, outputs); of the mixture, the log of its output, which this loss renormalises and clips.
        labels: (N,) int64.
    """
    if stage != "mixture":
        return functional.cross_entropy(logits, labels)
    return functional.nll_loss(logits.log_softmax(1).clamp(_LEAST, _MOST), labels)


def train(
    request: Request, chain: Chain, examples: Examples, validation: Examples, device: torch.device
) -> Iterator[Epoch]:
    """Train `chain` to the end of `request` and yield each epoch when it is trained.

    Args:
        validation: decides when to stop and which checkpoint is best.

    Raises:
        TrainingError: the loss is not finite.
    """
    spec = request.spec
    network = initial_network(spec).to(device)
    optimizer = Adam(network, spec.learning_rate)
    if chain.end is not None:
        network.load_state_dict(chain.end.network)
        optimizer.restore(chain.end.optimizer)
    trainer = Trainer(network, optimizer, examples, spec)
    while not chain.finished(request.epochs):
        began = time.perf_counter()
        number = len(chain.epochs) + 1
        chain.end = None  # until this epoch is complete: its tensors are the ones being trained
        loss, accuracy = trainer.epoch(number)
        validation_loss, validation_accuracy = evaluate(network, validation, spec.stage)
        if not (math.isfinite(loss) and math.isfinite(validation_loss)):
            raise TrainingError(
                f"the loss of stage {spec.stage} is {loss} in training and {validation_loss} in validation "
                f"after epoch {number}; a learning_rate below {spec.learning_rate:g} may help"
            )
        epoch = Epoch(
            loss=loss,
            accuracy=accuracy,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            seconds=time.perf_counter() - began,
        )
        chain.epochs.append(epoch)
        if uses_last_epoch(spec) or best_epoch(chain.losses) == number:
            chain.weights[number] = {name: value.clone() for name, value in network.state_dict().items()}
        chain.end = End(network.state_dict(), optimizer.state)  # not copies: the next epoch changes them
        synchronize(device)
        yield epoch


def initial_network(spec: Spec) -> nn.Module:
    """A stage's network before its first epoch."""
    make = partial(STAGES[spec.stage].network, spec.network, precision=spec.numerics.precision)
    return build(make, generator(spec, 0, "weights"))


class Trainer:
    """Trains a network on its examples. Nothing waits for the device before the end of an epoch."""

    def __init__(self, network: nn.Module, optimizer: Adam, examples: Examples, spec: Spec) -> None:
        self._examples, self._spec = examples, spec
        device = examples.labels.device
        self._noise = Generator(device)
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)  # of loss and of correct predictions
        # not a method: its reference to this object would hold network and graph until garbage collection
        learn = partial(_learn, network, optimizer, examples, spec.stage, self._noise, self._sums)
        self._step = captured(learn, self._noise, device)

    def epoch(self, number: int) -> tuple[float, float]:
        """One pass in a new order: mean loss and accuracy, each batch measured before its update."""
        order = torch.randperm(len(self._examples), generator=generator(self._spec, number, "order"))
        self._noise.manual_seed(derive_seed(self._spec, number, "dropout"))
        self._sums.zero_()
        for rows in torch.split(order.to(self._sums.device), self._spec.batch_size):
            self._step(rows)
        loss, accuracy = (self._sums / len(self._examples)).tolist()
        return loss, accuracy


def _learn(
    network: nn.Module,
    optimizer: Adam,
    examples: Examples,
    stage: str,
    noise: Generator,
    sums: Tensor,
    rows: Tensor,
) -> None:
    """One update; adds loss and correct predictions to the sums."""
    logits = examples.logits(network, rows, noise)
    labels = examples.labels[rows]
    loss = loss_of(stage, logits, labels)
    network.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    sums += torch.stack((loss.detach() * len(rows), (logits.detach().argmax(1) == labels).sum()))


def batches(values: Tensor) -> Sequence[Tensor]:
    """Split values, one per image, into batches for evaluation."""
    return torch.split(values, EVALUATION_BATCH[values.device.type])


@torch.no_grad()
def evaluate(network: nn.Module, examples: Examples, stage: str) -> tuple[float, float]:
    """Mean loss and accuracy over all examples, without dropout."""
    sums = torch.zeros(2, dtype=torch.float64, device=examples.labels.device)
    for rows in batches(torch.arange(len(examples), device=examples.labels.device)):
        logits = examples.logits(network, rows)
        labels = examples.labels[rows]
        sums += torch.stack((loss_of(stage, logits, labels).double() * len(rows), (logits.argmax(1) == labels).sum()))
    loss, accuracy = (sums / len(examples)).tolist()
    return loss, accuracy
