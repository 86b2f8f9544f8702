"""The pipeline: a config in, a result out.

config -> plan -> four stages, side by side where there are devices -> mixture -> score
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from moe.config import HOLDOUT, Config
from moe.data import DataSet, load
from moe.data.subset import Subset, subset
from moe.metrics import score, share
from moe.networks import Subgates, frozen_outputs, log_probs, parameters, picks_natural, run_frozen, select_branch
from moe.result import Result, Right, Score, StageResult, Totals
from moe.scheduler import OnEpoch, Scheduler, StageTask, TrainedStage, empty_network
from moe.schema import fields
from moe.stages import PIPELINE, STAGES, Request, plan, resolved
from moe.store.store import NoStore, Store
from moe.store.tensors import State
from moe.training.loop import Examples, batches, stop_epoch, to_floats
from moe.training.numerics import available_devices, configure_numerics, device_name, one_thread


@dataclass(frozen=True)
class TrainedMixture:
    """The result of a run and the stages it comes from."""

    result: Result
    stages: Mapping[str, TrainedStage]

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The trained networks by stage, frozen; the mixture's own are the subgates. The store has to be open."""
        return {name: self.stages[name].network for name in PIPELINE}


def run(
    config: Config,
    data: DataSet | None = None,
    store: Store | None = None,
    *,
    devices: Sequence[torch.device] = (),
    on_epoch: OnEpoch | None = None,
) -> Result:
    """Train the five stages of a config and score the mixture against its baseline.

    Args:
        data: by default CIFAR-10 if it is available, else the built-in shapes.
        store: where trained stages are loaded from and saved to; by default every stage is trained.
        devices: independent stages are trained side by side, one on each; `[torch.device("cpu")] * 2` takes two CPUs.
            By default all GPUs, else all CPUs. Each stage trains on one thread, so that the result has the same bits
            on any number of CPUs.
        on_epoch: called after each epoch, from the thread that trained it.

    Raises:
        DataError: the data are not available, or lack a class.
        TrainingError: a loss became infinite or NaN.
    """
    return train_mixture(config, data, store, devices, on_epoch).result


def train_mixture(
    config: Config,
    data: DataSet | None = None,
    store: Store | None = None,
    devices: Sequence[torch.device] = (),
    on_epoch: OnEpoch | None = None,
) -> TrainedMixture:
    """As `run`, but returns the trained networks as well."""
    data = data or load()
    devices = devices or available_devices()
    numerics = configure_numerics(devices[0], config.precision)
    began = time.perf_counter()
    opened = store or NoStore()
    requests = plan(config, data.fingerprint, numerics)
    images = subset(requests["baseline"].spec, data).to(devices[0])
    try:
        with one_thread():
            stages, scores, right = _train_and_score(requests, images, Scheduler(opened, on_epoch), devices)
    finally:
        opened.flush()
    results = {name: _stage_result(stages[name]) for name in PIPELINE}
    result = Result(
        config=config,
        dataset=data.name,
        data=data.fingerprint,
        scored_examples=len(images.score_labels),
        score=scores,
        right=right,
        totals=_totals(results, time.perf_counter() - began),
        stages=results,
        device=device_name(devices[0]),
        instructions=numerics.instructions,
    )
    return TrainedMixture(result, stages)


def baseline_accuracy(
    config: Config, data: DataSet, store: Store | None = None, devices: Sequence[torch.device] = ()
) -> float:
    """Train the baseline of a config alone; its accuracy on the images that a run is scored on."""
    devices = devices or available_devices()
    numerics = configure_numerics(devices[0], config.precision)
    opened = store or NoStore()
    request = plan(config, data.fingerprint, numerics)["baseline"]
    images = subset(request.spec, data).to(devices[0])
    try:
        with one_thread():
            stage = train_frozen([request], images, Scheduler(opened), devices)["baseline"]
            predicted = _log_probs(stage, "score", images.score_images)
    finally:
        opened.flush()
    return share(predicted.argmax(1) == images.score_labels)


class Predictions(NamedTuple):
    """(N, outputs) log-probabilities of a frozen network."""

    scored: Tensor
    trained_on: Tensor | None  # under `holdout`; under `notebook` they change with each batch's dropout


def _train_and_score(
    requests: Mapping[str, Request], images: Subset, scheduler: Scheduler, devices: Sequence[torch.device]
) -> tuple[dict[str, TrainedStage], Score, Right]:
    """Train the frozen stages side by side, then the mixture on their outputs."""
    frozen = train_frozen([requests[name] for name in STAGES["mixture"].needs], images, scheduler, devices)
    mixture, predicted = train_subgates(requests["mixture"], frozen, images, scheduler, devices)
    scored = {name: each.scored for name, each in predicted.items()}
    weights = mixture.predictions("score", lambda network: _blend_weights(network, images, scored))
    return {**frozen, "mixture": mixture}, *score(scored, weights, images.score_labels)


def train_frozen(
    requests: Sequence[Request], images: Subset, scheduler: Scheduler, devices: Sequence[torch.device]
) -> dict[str, TrainedStage]:
    """Train stages that need no others, side by side."""
    tasks = [StageTask(request, partial(examples, images, request.spec.stage)) for request in requests]
    return scheduler.run_all(tasks, side_by_side(devices, len(tasks)))


def train_subgates(
    request: Request,
    frozen: Mapping[str, TrainedStage],
    images: Subset,
    scheduler: Scheduler,
    devices: Sequence[torch.device],
) -> tuple[TrainedStage, dict[str, Predictions]]:
    """Train a mixture's subgates on the outputs of trained stages, which are also returned.

    Args:
        frozen: by the stage whose part it has in the mixture; it need not be that stage.
    """
    threads = len(side_by_side(devices, len(frozen)))
    predicted = _predict_side_by_side(frozen, images, threads)
    task = StageTask(
        resolved(request, {name: stage.checkpoint for name, stage in frozen.items()}),
        lambda device: _mixture_examples(images, frozen, predicted, threads if device.type == "cpu" else 1),
    )
    return scheduler.run(task, devices[0]), predicted


def _totals(stages: Mapping[str, StageResult], seconds: float) -> Totals:
    """Sums over the stages; the whole run took `seconds`."""
    sums = {name: sum(getattr(stage, name) for stage in stages.values()) for name in fields(Totals)}
    return Totals(**{**sums, "seconds": seconds})


def side_by_side(devices: Sequence[torch.device], stages: int) -> Sequence[torch.device]:
    """A device for each of the stages that run at the same time: a GPU takes several, because one leaves it idle."""
    each = 1 if devices[0].type == "cpu" else -(-stages // len(devices))
    return (tuple(devices) * each)[:stages]


def examples(images: Subset, stage: str, device: torch.device) -> tuple[Examples, Examples]:
    """What a frozen stage is trained on and what stops it: the images that it sees, under its labels."""

    def seen(images: Tensor, labels: Tensor) -> Examples:
        rows, labels = STAGES[stage].view(labels)
        return Examples(images[rows], labels[rows])

    images, stop = images.to(device), slice(images.stopping)
    return seen(images.train_images, images.train_labels), seen(images.score_images[stop], images.score_labels[stop])


def _stage_result(stage: TrainedStage) -> StageResult:
    request, chain = stage.task.request, stage.chain
    used = chain.epochs[: chain.used(request.epochs)]
    here = {number for number, _ in stage.trained}
    reused = [epoch for number, epoch in enumerate(used, 1) if number not in here]
    return StageResult(
        epochs=tuple(used),
        best_epoch=chain.resolve(request.epochs).epoch,
        stopped="patience" if stop_epoch(chain.losses, chain.spec.patience) == len(used) else "epochs",
        parameters=parameters(empty_network(request)),
        epochs_trained=len(stage.trained),
        epochs_reused=len(reused),
        seconds=sum(epoch.seconds for _, epoch in stage.trained),
        seconds_reused=sum(epoch.seconds for epoch in reused),
    )


def _mixture_examples(
    images: Subset, frozen: Mapping[str, TrainedStage], predicted: Mapping[str, Predictions], threads: int
) -> tuple[Examples, Examples]:
    """The examples that the mixture is trained on and those that stop it.

    Under `holdout` the outputs of the frozen networks are computed once. Under `notebook` their dropout stays on while
    the subgates train, so they are computed for each batch, side by side in so many threads.
    """
    stop = frozen_outputs({name: each.scored[: images.stopping] for name, each in predicted.items()})
    validation = Examples(images.score_images[: images.stopping], images.score_labels[: images.stopping], stop)
    if trained_on := {name: each.trained_on for name, each in predicted.items() if each.trained_on is not None}:
        return Examples(images.train_images, images.train_labels, frozen_outputs(trained_on)), validation
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) if threads > 1 else None
    under_dropout = partial(run_frozen, {name: stage.network for name, stage in frozen.items()}, pool=pool)
    return Examples(images.train_images, images.train_labels, under_dropout), validation


def _log_probs(stage: TrainedStage, name: str, images: Tensor) -> Tensor:
    """(N, outputs) log-probabilities of a frozen stage on the image set of that name."""
    return stage.predictions(name, lambda network: {"log_probs": predict(network, images)})["log_probs"]


def _predict_side_by_side(frozen: Mapping[str, TrainedStage], images: Subset, threads: int) -> dict[str, Predictions]:
    """What each frozen stage predicts, so many stages at the same time."""

    def predictions(stage: TrainedStage) -> Predictions:
        with one_thread():
            scored = _log_probs(stage, "score", images.score_images)
            holdout = stage.chain.spec.protocol == HOLDOUT
            return Predictions(scored, _log_probs(stage, "train", images.train_images) if holdout else None)

    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(frozen, pool.map(predictions, frozen.values()), strict=True))


@torch.no_grad()
def _blend_weights(subgates: nn.Module, images: Subset, predicted: Mapping[str, Tensor]) -> State:
    """(N, 10, 2) logits of the subgates' weights on the scored images: by the gate, and by the true superclass."""
    truth = STAGES["gate"].view(images.score_labels)[1] == 1
    branches = predict_branches(subgates, images.score_images)
    return {"gate": select_branch(branches, picks_natural(predicted["gate"])), "oracle": select_branch(branches, truth)}


@torch.no_grad()
def predict_branches(subgates: nn.Module, images: Tensor) -> Tensor:
    """(2, N, 10, 2) logits of the subgates' weights for (N, 3, 32, 32) bytes, from both branches."""
    assert isinstance(subgates, Subgates)
    return torch.cat([subgates.branches(to_floats(part)) for part in batches(images)], 1)


@torch.no_grad()
def predict(network: nn.Module, images: Tensor) -> Tensor:
    """(N, 3, 32, 32) bytes to (N, outputs) log-probabilities, without dropout."""
    return torch.cat([log_probs(network(to_floats(part))) for part in batches(images)])


@torch.no_grad()
def probabilities(networks: Mapping[str, nn.Module], images: Tensor) -> dict[str, Tensor]:
    """By stage, (N, outputs) probabilities of (N, 3, 32, 32) bytes; the mixture's are renormalised."""
    predicted = {name: predict(networks[name], images) for name in STAGES["mixture"].needs}
    frozen = frozen_outputs(predicted)
    rows = batches(torch.arange(len(images), device=images.device))
    mixture = torch.cat([networks["mixture"](to_floats(images[part]), None, frozen[part]) for part in rows])
    return {**{name: values.exp() for name, values in predicted.items()}, "mixture": mixture.softmax(1)}
