"""The networks of the mixture, with Keras' initialisation and dropout that draws from a given generator.

A network called with images alone evaluates them; called with a generator as well, it applies dropout drawn from that
generator. There is no train or eval mode.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from moe.config import BFLOAT16, CLASSES, FLOAT32

IMAGE = (3, 32, 32)
BYTE = 256  # values that a byte can have

#: the convolutions of each block, as channels; a block ends in 2 x 2 max pooling
BLOCKS = {"small": ((32, 32), (64, 64)), "large": ((32, 32), (64, 64), (128, 128, 128))}

ARTIFICIAL_BRANCH, NATURAL_BRANCH = 0, 1


class DrawnNoise:
    """The random bytes of a network's dropouts for one batch, drawn from a generator before they are needed.

    So networks that share a generator can run side by side and get the noise that they get one after the other.
    """

    def __init__(self, network: nn.Module, images: int, generator: Generator) -> None:
        assert isinstance(network, Layers)
        self._words = deque(_random_words(images * size, generator) for size in network.dropout_sizes())

    def next(self) -> Tensor:
        """The bytes of the next dropout, as (words,) int64."""
        return self._words.popleft()


Noise = Generator | DrawnNoise


class Dropout(nn.Module):
    """Inverted dropout whose noise comes from the generator that is passed to it.

    Its probability is a multiple of 1/256: one random byte decides about a value, and a draw has eight.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.dropped = int(probability * BYTE)  # values of a byte that drop
        self.keep = 1 - self.dropped / BYTE
        assert 1 - self.keep == probability

    def forward(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """Drop values and scale up the others; without noise, return the values unchanged."""
        if noise is None:
            return values
        words = noise.next() if isinstance(noise, DrawnNoise) else _random_words(values.numel(), noise)
        kept = words.view(torch.uint8).as_strided(values.shape, values.stride()) >= self.dropped
        return (values * kept.to(values.dtype)).mul_(1 / self.keep)  # bfloat16 would round the factor, but not this


def _random_words(size: int, generator: Generator) -> Tensor:
    """At least so many random bytes, as (words,) int64."""
    words = torch.empty(-(-size // 8), dtype=torch.int64, device=generator.device)
    return words.random_(torch.iinfo(torch.int64).min, None, generator=generator)


class Layers(nn.Sequential):
    """Layers in sequence, with products in a precision; the generator is passed to those that draw noise."""

    def __init__(self, *layers: nn.Module, precision: str) -> None:
        super().__init__(*layers)
        self.precision = precision

    def forward(self, values: Tensor, noise: Noise | None = None) -> Tensor:
        """(N, ...) to (N, outputs); without noise, no dropout."""
        with torch.autocast(values.device.type, torch.bfloat16, enabled=self.precision == BFLOAT16):
            for layer in self:
                values = layer(values, noise) if isinstance(layer, Dropout) else layer(values)
        return values.float()

    def dropout_sizes(self) -> Iterator[int]:
        """How many values of an image each dropout sees, in their order; convolutions keep the size."""
        channels, side, _ = IMAGE
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                channels = layer.out_channels
            elif isinstance(layer, nn.MaxPool2d):
                assert isinstance(layer.kernel_size, int)
                side //= layer.kernel_size
            elif isinstance(layer, nn.Linear):
                channels, side = layer.out_features, 1
            elif isinstance(layer, Dropout):
                yield channels * side**2


def vgg(size: str, outputs: int, precision: str = FLOAT32) -> Layers:
    """The notebook's VGG-like classifier: (N, 3, 32, 32) images in [0, 1] to (N, outputs) logits.

    It is "small" (two blocks) or "large" (three blocks, but fewer parameters: its dense layer has fewer inputs).
    """
    layers: list[nn.Module] = []
    channels, side, _ = IMAGE
    for block in BLOCKS[size]:
        for width in block:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        layers.insert(-1, nn.MaxPool2d(2))  # before the ReLU: the same function, of a quarter of the values
        layers.append(Dropout(0.25))
        side //= 2
    return Layers(*layers, *_head(channels * side * side, outputs), precision=precision)


def subgate(precision: str = FLOAT32) -> Layers:
    """A branch's second gate: (N, 3, 32, 32) images to (N, 20) logits; their softmax gives the weights."""
    return Layers(*_head(IMAGE[0] * IMAGE[1] * IMAGE[2], 2 * CLASSES), precision=precision)


def _head(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(inputs, 512), nn.ReLU(inplace=True), Dropout(0.5), nn.Linear(512, outputs)]


class FrozenOutputs(NamedTuple):
    """Outputs of the four frozen networks that the subgates need: gate decision and log-probabilities."""

    natural: Tensor  # (N,) bool, where the gate picks the natural expert
    log_probs: Tensor  # (N, 10, 2) of the baseline and of the gated expert

    def __getitem__(self, rows: Tensor) -> "FrozenOutputs":  # type: ignore[override]
        """The outputs for some of the images."""
        return FrozenOutputs(self.natural[rows], self.log_probs[rows])


def frozen_outputs(log_probs: Mapping[str, Tensor], natural: Tensor | None = None) -> FrozenOutputs:
    """Combine the log-probabilities of the four frozen networks.

    Args:
        log_probs: of each network by stage, (N, 10), of the gate (N, 2).
        natural: (N,) bool, which branch to take; by default the gate's decision.
    """
    natural = picks_natural(log_probs["gate"]) if natural is None else natural
    expert = torch.where(natural[:, None], log_probs["natural"], log_probs["artificial"])  # (N, 10)
    return FrozenOutputs(natural, torch.stack((log_probs["baseline"], expert), 2))


def picks_natural(gate: Tensor) -> Tensor:
    """(N, 2) log-probabilities or logits of the gate to (N,) bool; a tie is natural, as in the notebook."""
    return ~(gate[:, ARTIFICIAL_BRANCH] > gate[:, NATURAL_BRANCH])


class Subgates(nn.Module):
    """The two second gates, one per superclass: the part of the mixture that its own stage trains."""

    def __init__(self, precision: str = FLOAT32) -> None:
        super().__init__()
        self.artificial = subgate(precision)
        self.natural = subgate(precision)

    def branches(self, images: Tensor, generator: Generator | None = None) -> Tensor:
        """(2, N, 10, 2) logits of the weights of baseline and expert per class, from both branches."""
        logits = [self.artificial(images, generator), self.natural(images, generator)]  # (N, 20) each
        return torch.stack(logits).view(len(logits), -1, CLASSES, 2)

    def forward(self, images: Tensor, generator: Generator | None, frozen: FrozenOutputs) -> Tensor:
        """(N, 10) log of the mixture's output, up to a constant per image, which softmax removes."""
        return blend(frozen.log_probs, select_branch(self.branches(images, generator), frozen.natural))


def select_branch(branches: Tensor, natural: Tensor) -> Tensor:
    """Of (2, N, 10, 2), artificial and natural, (N, 10, 2) of the branch that (N,) bool picks for each image."""
    return torch.where(natural[:, None, None], branches[NATURAL_BRANCH], branches[ARTIFICIAL_BRANCH])


def blend(log_probs: Tensor, weights: Tensor) -> Tensor:
    """log sum_k weight_k * prob_k over baseline and expert, both arguments (N, 10, 2), in log space.

    The weights are a softmax over all 20 logits of an image. Its normaliser is the same for each class and is left
    out, because the loss renormalises the mixture's output.
    """
    return torch.logsumexp(log_probs + weights, 2)


def run_frozen(
    networks: Mapping[str, nn.Module], images: Tensor, generator: Generator | None = None, pool: Executor | None = None
) -> FrozenOutputs:
    """The outputs of the four frozen networks for (N, 3, 32, 32) images.

    Args:
        generator: for dropout; without one there is none.
        pool: of threads to run the networks in side by side; the outputs are the same.
    """

    @torch.no_grad()
    def output(network: nn.Module, noise: Noise | None) -> Tensor:
        return log_probs(network(images, noise))

    if pool is None or generator is None:
        return frozen_outputs({name: output(network, generator) for name, network in networks.items()})
    noises = [DrawnNoise(network, len(images), generator) for network in networks.values()]
    return frozen_outputs(dict(zip(networks, pool.map(output, networks.values(), noises), strict=True)))


def log_probs(logits: Tensor) -> Tensor:
    """log softmax, at least -30: an expert's probabilities for foreign classes fall below 1e-11."""
    return logits.log_softmax(1).clamp(min=-30)


def build(make: Callable[[], nn.Module], generator: Generator) -> nn.Module:
    """A network with Keras' initial weights: Glorot-uniform kernels and zero biases, drawn from `generator`."""
    with torch.device("meta"):  # torch's own initial weights are not drawn
        network = make()
    network.to_empty(device="cpu").to(memory_format=torch.channels_last)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter, generator=generator)
        else:
            nn.init.zeros_(parameter)
    return network


def parameters(network: nn.Module) -> int:
    """The number of parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())
