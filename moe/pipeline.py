"""The pipeline: a config in, a result out.

config -> plan -> four stages, side by side where there are devices -> mixture -> score
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from moe.config import HOLDOUT, Config
from moe.data import DataSet, load
from moe.data.subset import Subset, subset
from moe.metrics import score
from moe.networks import Subgates, ask, log_probs, opinion, own_branch, parameters, says_natural
from moe.result import Result, StageResult, Totals
from moe.scheduler import Supply, Task, Trained, Watch, blank
from moe.stages import STAGES, Spec, plan, resolved
from moe.store.nothing import NoStore
from moe.store.store import Store
from moe.training.loop import Examples, State, batches, stop_epoch, unit
from moe.training.numerics import available_devices, device_name, settle


def run(
    config: Config,
    data: DataSet | None = None,
    store: Store | None = None,
    *,
    devices: Sequence[torch.device] = (),
    score_examples: int | None = None,
    watch: Watch | None = None,
) -> Result:
    """Bring the five stages of a config to their end and score the mixture against its baseline.

    Args:
        data: by default CIFAR-10 if it can be had, else the built-in shapes.
        store: where stages are that were trained before, and where these go; by default everything is trained.
        devices: independent stages run side by side, one on each; by default all GPUs, else the CPU.
        score_examples: how many validation images to score on under `holdout`; by default `test_examples`.
        watch: told of each epoch, from the thread that trained it, and of the last one that the store has.

    Raises:
        DataError: the data cannot be had, or lack a class.
        TrainingError: a loss became infinite or NaN.
    """
    return train_mixture(config, data, store, devices=devices, score_examples=score_examples, watch=watch).result


@dataclass(frozen=True)
class Finished:
    """A run at its end: what it found, and the stages that it found it with."""

    result: Result
    stages: Mapping[str, Trained]

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The trained networks by stage, frozen; the mixture's own are the subgates. Needs the store still open."""
        return {name: self.stages[name].network for name in STAGES}


def train_mixture(
    config: Config,
    data: DataSet | None = None,
    store: Store | None = None,
    *,
    devices: Sequence[torch.device] = (),
    score_examples: int | None = None,
    watch: Watch | None = None,
) -> Finished:
    """As `run`, for those who also want the networks."""
    data = data or load()
    devices = tuple(devices) or available_devices()
    numerics = settle(devices[0], config.precision)
    began = time.perf_counter()
    requests = plan(config, data.fingerprint, numerics)
    images = subset_of(requests["baseline"].spec, data, score_examples).to(devices[0])
    shelf = store or NoStore()
    supply = Supply(shelf, watch)
    mixture = requests.pop("mixture")
    try:
        frozen = supply.all(
            [Task(request, partial(_lesson, images, name)) for name, request in requests.items()],
            _side_by_side(devices),
        )
        said = {name: _says_of_scored(stage, images) for name, stage in frozen.items()}
        task = Task(
            resolved(mixture, {name: stage.checkpoint for name, stage in frozen.items()}),
            lambda device: _mixture_lesson(images, frozen, said),
        )
        stages = {**frozen, "mixture": supply.one(task, devices[0])}
        scored = len(images.score_labels)
        weights = stages["mixture"].kept(f"score-{scored}", lambda subgates: _weights(subgates, images, said))
    finally:
        shelf.settle()
    results = {name: _stage_result(stages[name]) for name in STAGES}
    result = Result(
        config=config,
        dataset=data.name,
        data=data.fingerprint,
        scored_examples=scored,
        score=score(said, weights, images.score_labels),
        totals=_totals(results, time.perf_counter() - began),
        stages=results,
        device=device_name(devices[0]),
        threads=torch.get_num_threads(),
        instructions=numerics.instructions,
    )
    return Finished(result, stages)


def _side_by_side(devices: Sequence[torch.device]) -> Sequence[torch.device]:
    """Where the frozen stages train at once: one GPU takes several of them, since one alone leaves it idle."""
    if devices[0].type == "cpu":
        return devices
    return tuple(devices) * -(-len(STAGES["mixture"].needs) // len(devices))


def subset_of(config: Config | Spec, data: DataSet, score_examples: int | None = None) -> Subset:
    """The images that a config, or the spec of one of its stages, asks for."""
    return subset(
        data,
        protocol=config.protocol,
        seed=config.seed,
        train_examples=config.train_examples,
        test_examples=config.test_examples,
        score_examples=score_examples,
    )


def examples(images: Subset, stage: str) -> tuple[Examples, Examples]:
    """What a frozen stage is trained on and what stops it: the images that it sees, under its labels."""
    stop = slice(images.stopping)
    return (
        _view(stage, images.train_images, images.train_labels),
        _view(stage, images.score_images[stop], images.score_labels[stop]),
    )


def _view(stage: str, images: Tensor, labels: Tensor) -> Examples:
    rows, labels = STAGES[stage].view(labels)
    return Examples(images[rows], labels[rows])


def _lesson(images: Subset, stage: str, device: torch.device) -> tuple[Examples, Examples]:
    return examples(images.to(device), stage)


def _stage_result(stage: Trained) -> StageResult:
    request, chain = stage.task.request, stage.chain
    used = chain.epochs[: chain.used(request.epochs)]
    here = {number for number, _ in stage.trained}
    reused = [epoch for number, epoch in enumerate(used, 1) if number not in here]
    return StageResult(
        epochs=tuple(used),
        best_epoch=chain.resolve(request.epochs).epoch,
        stopped="patience" if stop_epoch(chain.losses, chain.spec.patience) == len(used) else "epochs",
        parameters=parameters(blank(request)),
        epochs_trained=len(stage.trained),
        epochs_reused=len(reused),
        seconds=sum(epoch.seconds for _, epoch in stage.trained),
        seconds_reused=sum(epoch.seconds for epoch in reused),
    )


def _totals(stages: Mapping[str, StageResult], seconds: float) -> Totals:
    each = stages.values()
    return Totals(
        parameters=sum(stage.parameters for stage in each),
        seconds=seconds,
        seconds_reused=sum(stage.seconds_reused for stage in each),
        epochs_trained=sum(stage.epochs_trained for stage in each),
        epochs_reused=sum(stage.epochs_reused for stage in each),
    )


def _says(stage: Trained, of: str, images: Tensor) -> Tensor:
    """(N, outputs) log-probabilities of a frozen network."""
    return stage.kept(of, lambda network: {"log_probs": predict(network, images)})["log_probs"]


def _says_of_scored(stage: Trained, images: Subset) -> Tensor:
    """What a frozen network says of the scored images.

    The images that stop training are predicted by themselves, so that a mixture does not depend on how many others
    are scored: in another batch, another kernel may round otherwise.
    """
    scored = len(images.score_labels)
    said = [_says(stage, "stop", images.score_images[: images.stopping])]
    if scored > images.stopping:
        said.append(_says(stage, f"score-{scored}", images.score_images[images.stopping :]))
    return torch.cat(said)


@torch.no_grad()
def predict(network: nn.Module, images: Tensor) -> Tensor:
    """(N, 3, 32, 32) bytes to (N, outputs) log-probabilities, without dropout."""
    return torch.cat([log_probs(network(unit(part))) for part in batches(images)])


@torch.no_grad()
def probabilities(networks: Mapping[str, nn.Module], images: Tensor) -> dict[str, Tensor]:
    """By stage, (N, outputs) probabilities of (N, 3, 32, 32) bytes; the mixture's are renormalised.

    Args:
        networks: of all five stages, as a finished run has them.
    """
    said = {name: predict(networks[name], images) for name in STAGES["mixture"].needs}
    view = opinion(said)
    rows = batches(torch.arange(len(images), device=images.device))
    mixture = torch.cat([networks["mixture"](unit(images[part]), None, view[part]) for part in rows])
    return {**{name: values.exp() for name, values in said.items()}, "mixture": mixture.softmax(1)}


def _mixture_lesson(
    images: Subset, frozen: Mapping[str, Trained], said: Mapping[str, Tensor]
) -> tuple[Examples, Examples]:
    """What the mixture learns from and what stops it.

    Under `holdout` the frozen networks speak once for every image; under `notebook` their dropout stays on while
    the subgates train, so they speak anew for each batch.
    """
    stop = opinion({name: values[: images.stopping] for name, values in said.items()})
    validation = Examples(images.score_images[: images.stopping], images.score_labels[: images.stopping], stop)
    if next(iter(frozen.values())).chain.spec.protocol == HOLDOUT:
        learned = {name: _says(stage, "train", images.train_images) for name, stage in frozen.items()}
        return Examples(images.train_images, images.train_labels, opinion(learned)), validation
    speak = partial(ask, {name: stage.network for name, stage in frozen.items()})
    return Examples(images.train_images, images.train_labels, speak), validation


@torch.no_grad()
def _weights(subgates: nn.Module, images: Subset, said: Mapping[str, Tensor]) -> State:
    """(N, 10, 2) logits of the subgates' weights on the scored images: by the gate, and by the true superclass."""
    assert isinstance(subgates, Subgates)
    truth = STAGES["gate"].view(images.score_labels)[1] == 1
    branches = torch.cat([subgates.branches(unit(part)) for part in batches(images.score_images)], 1)
    return {"gate": own_branch(branches, says_natural(said["gate"])), "oracle": own_branch(branches, truth)}
