"""Stages as a table, those of the pipeline and those of its controls, and the specs that they are trained from.

    Config --plan--> five Requests, one per stage of the pipeline: a Spec and the epochs that it may use

A spec is everything that decides a stage's weights except how long it trains; its hash is their address in the store.
Nothing here trains, reads a file or draws a random number.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from torch import Tensor, nn

from moe.config import ARTIFICIAL, CLASSES, FLOAT32, NATURAL, NOT_SEEN, SIZE_FLAGS, Config
from moe.networks import ARTIFICIAL_BRANCH, NATURAL_BRANCH, Subgates, vgg
from moe.store.manifest import address_of
from moe.training.numerics import Numerics

View = Callable[[Tensor], tuple[Tensor, Tensor]]


def every_class(labels: Tensor) -> tuple[Tensor, Tensor]:
    """All images with their own labels: (N,) bool of the images taken, and (N,) labels."""
    return labels >= 0, labels


def by_superclass(labels: Tensor) -> tuple[Tensor, Tensor]:
    """All images, labelled 0 artificial and 1 natural."""
    natural = _among(labels, NATURAL)
    return labels >= 0, natural.long() * NATURAL_BRANCH + (~natural).long() * ARTIFICIAL_BRANCH


def only(classes: tuple[int, ...]) -> View:
    """The images of these classes, with their labels among all ten."""
    return lambda labels: (_among(labels, classes), labels)


def _among(labels: Tensor, classes: tuple[int, ...]) -> Tensor:
    return (labels[:, None] == labels.new_tensor(classes)).any(1)


@dataclass(frozen=True)
class Stage:
    """One training: a row of the table below."""

    name: str
    network: Callable[..., nn.Module]  # from a size, small or large, and a precision
    view: View  # which images it trains on, with which labels
    size_flag: str | None = None  # the config's field that makes its network large
    needs: tuple[str, ...] = ()
    control: bool = False  # no part of the pipeline: a confirmation trains it
    version: int = 2  # increase it when a code change alters the weights

    def size(self, config: Config) -> str:
        """The size of its network in a config."""
        return "large" if self.size_flag and getattr(config, self.size_flag) else "small"


ten_way = partial(vgg, outputs=CLASSES)
two_way = partial(vgg, outputs=2)

#: networks for all classes beside the baseline, each with random numbers of its own: of the experts' size, and of the
#: baseline's, as many as an ensemble can have that costs no more than a mixture
GENERALISTS = ("generalist-1", "generalist-2")
MEMBERS = ("generalist-3", "generalist-4", "generalist-5", "generalist-6")

STAGES = {
    stage.name: stage
    for stage in (
        Stage("baseline", ten_way, every_class, SIZE_FLAGS["baseline"]),
        Stage("gate", two_way, by_superclass, SIZE_FLAGS["gate"]),
        Stage("artificial", ten_way, only(ARTIFICIAL), SIZE_FLAGS["artificial"]),
        Stage("natural", ten_way, only(NATURAL), SIZE_FLAGS["natural"]),
        Stage(
            "mixture",
            lambda size, precision=FLOAT32: Subgates(precision),
            every_class,
            needs=("baseline", "gate", "artificial", "natural"),
        ),
        *(Stage(name, ten_way, every_class, SIZE_FLAGS["natural"], control=True) for name in GENERALISTS),
        *(Stage(name, ten_way, every_class, SIZE_FLAGS["baseline"], control=True) for name in MEMBERS),
    )
}

#: the stages of the pipeline
PIPELINE = tuple(name for name, stage in STAGES.items() if not stage.control)


def networks(config: Config) -> nn.ModuleDict:
    """The untrained networks of a config, by stage."""
    return nn.ModuleDict(
        {name: STAGES[name].network(STAGES[name].size(config), precision=config.precision) for name in PIPELINE}
    )


@dataclass(frozen=True)
class Checkpoint:
    """A stage's weights after a given epoch."""

    stage: str
    address: str
    epoch: int


class Spec(Config):
    """Everything that decides a stage's weights except how long it trains: a config's choices, and the fields below.

    The fields in `NOT_SEEN` have their defaults here and are not hashed.
    """

    stage: str
    version: int
    network: str
    data: str  # the data set's fingerprint
    numerics: Numerics
    inputs: "tuple[Checkpoint, ...] | tuple[Request, ...]" = ()  # requests in a plan, checkpoints after training

    def hashed(self) -> dict[str, Any]:
        """The fields that decide the weights, as JSON has them."""
        return self.model_dump(mode="json", exclude=NOT_SEEN)

    @cached_property
    def address(self) -> str:
        """128 bits of the SHA-256 of these fields, as hex."""
        return address_of(self.hashed())


@dataclass(frozen=True)
class Request:
    """A spec and the epochs that it may use."""

    spec: Spec
    epochs: int


def plan(config: Config, data: str, numerics: Numerics) -> dict[str, Request]:
    """The five requests of a config, by stage, in the table's order.

    The mixture's inputs are still requests: their checkpoints are known after training.
    """
    assert numerics.precision == config.precision
    requests: dict[str, Request] = {}
    for stage in PIPELINE:
        inputs = tuple(requests[name] for name in STAGES[stage].needs)
        requests[stage] = request(config, stage, data, numerics, inputs)
    return requests


def request(config: Config, stage: str, data: str, numerics: Numerics, inputs: "tuple[Request, ...]" = ()) -> Request:
    """What a config asks of one stage."""
    row = STAGES[stage]
    spec = Spec(
        stage=stage,
        version=row.version,
        network=row.size(config),
        data=data,
        numerics=numerics,
        inputs=inputs,
        **{name: value for name, value in config if name not in NOT_SEEN},
    )
    return Request(spec, config.epochs)


def resolved(request: Request, checkpoints: Mapping[str, Checkpoint]) -> Request:
    """The request with the checkpoints of its inputs."""
    inputs = tuple(checkpoints[name] for name in STAGES[request.spec.stage].needs)
    return replace(request, spec=request.spec.replace(inputs=inputs))
