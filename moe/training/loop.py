"""One stage's training: epoch after epoch, to the end of a request or of patience.

    spec, images --train--> Chain: the metrics of every epoch, the weights that a request can resolve to,
                            and the state it takes to go on

No schedule depends on how many epochs are meant, and each epoch draws from its own generators: ten epochs contain
the five-epoch result, and stopping and going on gives the bits of going straight through.
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
from moe.networks import Opinion, build
from moe.result import Epoch
from moe.stages import STAGES, Checkpoint, Request, Spec
from moe.training.cuda_graph import finish, recorded

State = dict[str, Tensor]

EVALUATION_BATCH = {"cpu": 100, "cuda": 1000}  # where a larger one falls out of the cache, or keeps the GPU busy
_LEAST, _MOST = math.log(1e-7), math.log1p(-1e-7)  # Keras clips probabilities to [1e-7, 1 - 1e-7]


class TrainingError(Exception):
    """A training that cannot go on; the sentence says why."""


class End(NamedTuple):
    """What it takes to go on after an epoch, as tensors by name."""

    network: State
    optimizer: State  # "parameter/key" for each key of Adam's state


@dataclass
class Chain:
    """A stage as far as it has been trained."""

    spec: Spec
    epochs: list[Epoch] = field(default_factory=list)
    weights: dict[int, State] = field(default_factory=dict)  # by epoch, from 1; of those in memory
    end: End | None = None  # after the last epoch

    @property
    def losses(self) -> list[float]:
        """The validation loss of each epoch."""
        return [epoch.validation_loss for epoch in self.epochs]

    def finished(self, epochs: int) -> bool:
        """Whether a request for so many epochs has nothing left to train."""
        return len(self.epochs) >= epochs or stop_epoch(self.losses, self.spec.patience) is not None

    def resolve(self, epochs: int) -> Checkpoint:
        """The checkpoint that a request for so many epochs comes to."""
        losses = self.losses[: self.used(epochs)]
        epoch = len(losses) if reads_last(self.spec) else best_epoch(losses)
        return Checkpoint(self.spec.stage, self.spec.address, epoch)

    def used(self, epochs: int) -> int:
        """How many epochs a request for so many uses: fewer where patience ended first."""
        return min(epochs, stop_epoch(self.losses, self.spec.patience) or epochs)


def stop_epoch(losses: Sequence[float], patience: int) -> int | None:
    """The epoch, from 1, at whose end training stops: the `patience`-th in a row that is not below the best."""
    best, wait = math.inf, 0
    for epoch, loss in enumerate(losses, 1):
        best, wait = (loss, 0) if loss < best else (best, wait + 1)
        if wait >= patience:
            return epoch
    return None


def best_epoch(losses: Sequence[float]) -> int:
    """The epoch, from 1, with the lowest loss; the earliest on a tie."""
    return min(range(len(losses)), key=losses.__getitem__) + 1


def reads_last(spec: Spec) -> bool:
    """Whether a stage is read at its last epoch: the notebook reloads no weights before it scores the mixture."""
    return spec.protocol == NOTEBOOK and spec.stage == "mixture"


@dataclass(frozen=True)
class Examples:
    """Images on the device that trains on them, and their labels.

    The mixture's examples also carry what the frozen networks say: an Opinion where it is the same in every epoch,
    a function of (images in [0, 1], generator) where dropout makes it another for each batch, or None.
    """

    images: Tensor  # (N, 3, 32, 32) uint8
    labels: Tensor  # (N,) int64
    opinion: Opinion | Callable[[Tensor, Generator], Opinion] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def logits(self, network: nn.Module, rows: Tensor, generator: Generator | None = None) -> Tensor:
        """(rows, outputs) of the network on some of the images; with a generator, under dropout."""
        images = unit(self.images[rows])
        if self.opinion is None:
            return network(images, generator)  # type: ignore[no-any-return]
        if isinstance(self.opinion, Opinion):
            return network(images, generator, self.opinion[rows])  # type: ignore[no-any-return]
        assert generator is not None
        return network(images, generator, self.opinion(images, generator))  # type: ignore[no-any-return]


def unit(images: Tensor) -> Tensor:
    """(N, 3, 32, 32) bytes to floats in [0, 1], channels last in memory."""
    return images.float().div_(255).contiguous(memory_format=torch.channels_last)


def seed_of(spec: Spec, epoch: int, purpose: str) -> int:
    """Where the randomness of one purpose in one epoch of one stage begins; epoch 0 is the initial weights."""
    text = f"{spec.seed}/{spec.stage}/{epoch}/{purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(spec: Spec, epoch: int, purpose: str) -> Generator:
    """That randomness, drawn on the CPU."""
    return Generator().manual_seed(seed_of(spec, epoch, purpose))


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
    """Bring `chain` as far as `request` asks, giving each epoch as it is trained.

    Args:
        examples: what the stage learns from.
        validation: what stops it and chooses its checkpoint.

    Raises:
        TrainingError: the loss is not finite.
    """
    spec = request.spec
    network = initial(spec).to(device)
    optimizer = adam(network, spec.learning_rate)
    if chain.end is not None:
        _restore(network, optimizer, chain.end)
    practice = Practice(network, optimizer, examples, spec)
    while not chain.finished(request.epochs):
        began = time.perf_counter()
        number = len(chain.epochs) + 1
        chain.end = None  # until this epoch is whole: its tensors are those that are being trained
        loss, accuracy = practice.epoch(number)
        validation_loss, validation_accuracy = evaluate(network, validation, spec.stage)
        _check_finite(loss, validation_loss, spec, number)
        epoch = Epoch(
            loss=loss,
            accuracy=accuracy,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            seconds=time.perf_counter() - began,
        )
        chain.epochs.append(epoch)
        if reads_last(spec) or best_epoch(chain.losses) == number:
            chain.weights[number] = {name: value.clone() for name, value in network.state_dict().items()}
        chain.end = _end(network, optimizer)
        finish(device)
        yield epoch


def adam(network: nn.Module, learning_rate: float) -> torch.optim.Adam:
    """Keras' Adam: its epsilon, and otherwise torch's, which adds it after bias correction where Keras does before."""
    on_gpu = next(network.parameters()).is_cuda
    return torch.optim.Adam(network.parameters(), lr=learning_rate, eps=1e-7, fused=True, capturable=on_gpu)


def _end(network: nn.Module, optimizer: torch.optim.Adam) -> End:
    """The tensors themselves, no copies: the next epoch changes them."""
    named = network.named_parameters()
    state = {f"{name}/{key}": value for name, weight in named for key, value in optimizer.state[weight].items()}
    return End(network.state_dict(), state)


def _restore(network: nn.Module, optimizer: torch.optim.Adam, end: End) -> None:
    network.load_state_dict(end.network)
    weights = dict(network.named_parameters())
    for place, value in end.optimizer.items():
        name, key = place.rsplit("/", 1)
        like = weights[name] if value.dim() else value.to(weights[name].device)  # a count has no layout
        optimizer.state[weights[name]][key] = torch.empty_like(like).copy_(value)


def initial(spec: Spec) -> nn.Module:
    """A stage's network before its first epoch."""
    stage = STAGES[spec.stage]
    return build(
        lambda: stage.network(spec.network, precision=spec.numerics.precision),
        generator(spec, 0, "weights"),
    )


class Practice:
    """A network's passes over its examples. Nothing in an epoch waits for the device until its end."""

    def __init__(self, network: nn.Module, optimizer: torch.optim.Adam, examples: Examples, spec: Spec) -> None:
        self._examples, self._spec = examples, spec
        device = examples.labels.device
        self._noise = Generator(device)
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)  # of loss and of right answers
        # no method: it would refer back to this object, and keep network and recording until Python looks for cycles
        learn = partial(_learn, network, optimizer, examples, spec.stage, self._noise, self._sums)
        self._step = recorded(learn, self._noise, device)

    def epoch(self, number: int) -> tuple[float, float]:
        """One pass in a fresh order: mean loss and accuracy, as they were on the way."""
        order = torch.randperm(len(self._examples), generator=generator(self._spec, number, "order"))
        self._noise.manual_seed(seed_of(self._spec, number, "dropout"))
        self._sums.zero_()
        for rows in torch.split(order.to(self._sums.device), self._spec.batch_size):
            self._step(rows)
        loss, accuracy = (self._sums / len(self._examples)).tolist()
        return loss, accuracy


def _learn(
    network: nn.Module,
    optimizer: torch.optim.Adam,
    examples: Examples,
    stage: str,
    noise: Generator,
    sums: Tensor,
    rows: Tensor,
) -> None:
    """One update; loss and right answers are added to the sums."""
    logits = examples.logits(network, rows, noise)
    labels = examples.labels[rows]
    loss = loss_of(stage, logits, labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    sums += torch.stack((loss.detach() * len(rows), (logits.detach().argmax(1) == labels).sum()))


def batches(values: Tensor) -> Sequence[Tensor]:
    """Values for as many images, cut into what is evaluated at a time."""
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


def _check_finite(loss: float, validation_loss: float, spec: Spec, number: int) -> None:
    if not (math.isfinite(loss) and math.isfinite(validation_loss)):
        raise TrainingError(
            f"the loss of stage {spec.stage} is {loss} in training and {validation_loss} in validation "
            f"after epoch {number}; a learning_rate below {spec.learning_rate:g} may help"
        )
