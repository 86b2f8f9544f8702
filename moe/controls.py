"""A config's mixture and its controls: what they train, and the classes that they predict for the test images.

    config --> its five stages, generalists, subgates over generalists --> predicted classes, by name

Where a gate picks a branch, what both branches predict is kept. Labels of the test images play no part here; `moe.arms`
compares the predictions with them.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from moe.arms import Predicted
from moe.config import ARTIFICIAL, CLASSES, NATURAL, SUPERCLASSES, Config
from moe.data import DataSet
from moe.data.subset import Subset, subset
from moe.networks import ARTIFICIAL_BRANCH, IMAGE, NATURAL_BRANCH, blend, picks_natural
from moe.pipeline import predict, predict_branches, side_by_side, train_frozen, train_mixture, train_subgates
from moe.result import Result
from moe.scheduler import OnEpoch, TrainedStage
from moe.stages import GENERALISTS, MEMBERS, PIPELINE, STAGES, plan, request
from moe.store.store import Store
from moe.training.numerics import available_devices, configure_numerics, one_thread


@dataclass(frozen=True)
class Controlled:
    """A run of the pipeline, and what it and its controls predict for the test images."""

    result: Result  # on validation images, as of any run
    networks: int  # in the compute-matched ensemble, the baseline included
    predicted: Predicted


def run_controls(
    config: Config,
    data: DataSet,
    store: Store | None = None,
    devices: Sequence[torch.device] = (),
    on_epoch: OnEpoch | None = None,
) -> Controlled:
    """Train a config and its controls, and predict the test images; arguments and errors as of `moe.run`."""
    devices = devices or available_devices()
    result, stages = _train(config, data, store, devices, on_epoch)
    with one_thread():
        predicted = _predict(stages, members(config), data.test_images.to(devices[0]), devices)
    return Controlled(result, 1 + len(members(config)), predicted)


def _train(
    config: Config, data: DataSet, store: Store | None, devices: Sequence[torch.device], on_epoch: OnEpoch | None
) -> tuple[Result, dict[str, TrainedStage]]:
    """The run of the pipeline, and what a config and its controls train, by name as in `predictions`."""
    mixture = train_mixture(config, data, store, devices, on_epoch)
    numerics = configure_numerics(devices[0], config.precision)
    requests = plan(config, data.fingerprint, numerics)
    images = subset(requests["baseline"].spec, data).to(devices[0])
    scheduler = next(iter(mixture.stages.values())).scheduler
    names = dict.fromkeys((*GENERALISTS, *members(config)))
    try:
        with one_thread():
            wanted = [request(config, name, data.fingerprint, numerics) for name in names]
            stages = {**mixture.stages, **train_frozen(wanted, images, scheduler, devices)}
            in_place = {
                expert: _in_place_of(stages[expert], stages[name], images)
                for expert, name in zip(SUPERCLASSES, GENERALISTS, strict=True)
            }
            frozen = {"baseline": stages["baseline"], "gate": stages["gate"], **in_place}
            subgates, _ = train_subgates(requests["mixture"], frozen, images, scheduler, devices)
    finally:
        scheduler.store.flush()
    weights = {"weights": stages.pop("mixture"), "generalists' weights": subgates}
    return mixture.result, {**stages, **{f"in place of {name}": stage for name, stage in in_place.items()}, **weights}


def _in_place_of(expert: TrainedStage, generalist: TrainedStage, images: Subset) -> TrainedStage:
    """A generalist read after about as many updates as an expert: the best epoch until the nearest one."""
    batch_size = expert.chain.spec.batch_size

    def updates(stage: TrainedStage) -> int:
        seen = int(STAGES[stage.chain.spec.stage].view(images.train_labels)[0].sum())
        return -(-seen // batch_size)

    nearest = max(1, round(expert.checkpoint.epoch * updates(expert) / updates(generalist)))
    request = replace(generalist.task.request, epochs=nearest)
    return replace(generalist, task=replace(generalist.task, request=request))


def members(config: Config) -> tuple[str, ...]:
    """The generalists that make, with the baseline, an ensemble that takes as much training as the mixture."""
    same_size = config.use_large_experts == config.use_large_baseline_classifier
    return (GENERALISTS + MEMBERS if same_size else MEMBERS)[: _affordable(config) - 1]


def _affordable(config: Config) -> int:
    """How many networks of the baseline's size take as many products in training as the mixture; at least two."""
    labels = torch.arange(CLASSES)
    costs = {}
    for name in PIPELINE:
        stage = STAGES[name]
        with torch.device("meta"):
            network = stage.network(stage.size(config))
        costs[name] = float(stage.view(labels)[0].float().mean()) * products(network)
    return max(2, round(sum(costs.values()) / costs["baseline"]))


def products(network: nn.Module) -> int:
    """Multiplications of one image's forward pass, those by weights."""
    side, total = IMAGE[1], 0
    for layer in network.modules():
        if isinstance(layer, nn.MaxPool2d):
            side //= 2
        elif isinstance(layer, nn.Conv2d):
            total += side**2 * layer.weight.numel()
        elif isinstance(layer, nn.Linear):
            total += layer.weight.numel()
    return total


def _predict(
    stages: Mapping[str, TrainedStage], members: Sequence[str], images: Tensor, devices: Sequence[torch.device]
) -> Predicted:
    """What all arms predict for (N, 3, 32, 32) bytes."""
    distinct = {stage.checkpoint: stage for stage in stages.values()}  # a generalist may stand in as it is

    def output(stage: TrainedStage) -> Tensor:
        with one_thread():
            return (predict_branches if stage.checkpoint.stage == "mixture" else predict)(stage.network, images)

    with ThreadPoolExecutor(len(side_by_side(devices, len(distinct)))) as pool:
        outputs = dict(zip(distinct, pool.map(output, distinct.values()), strict=True))
    return predictions({name: outputs[stage.checkpoint] for name, stage in stages.items()}, members)


def predictions(outputs: Mapping[str, Tensor], members: Sequence[str]) -> Predicted:
    """The predicted classes of all arms.

    Args:
        outputs: log-probabilities by stage, (N, 10), of the gate (N, 2), of "in place of" each expert (N, 10); and the
            logits of the "weights" and the "generalists' weights", (2, N, 10, 2).
        members: of the compute-matched ensemble, beside the baseline.
    """
    baseline, general = outputs["baseline"], outputs[GENERALISTS[0]]
    averaged = mean(baseline, general)
    found = {
        "gate": picks_natural(outputs["gate"]),
        "implied": ~(_mass(baseline, ARTIFICIAL) > _mass(baseline, NATURAL)),
        "baseline": baseline.argmax(1),
        "two networks": averaged.argmax(1),
        "matched": mean(baseline, *(outputs[name] for name in members)).argmax(1),
    }
    for name, branch in zip(SUPERCLASSES, (ARTIFICIAL_BRANCH, NATURAL_BRANCH), strict=True):
        expert, in_place = outputs[name], outputs[f"in place of {name}"]
        weights, general_weights = outputs["weights"][branch], outputs["generalists' weights"][branch]
        of_branch = {
            "mixture": blend(torch.stack((baseline, expert), 2), weights),
            "average": mean(baseline, expert),
            "expert": expert,
            "generalists": blend(torch.stack((baseline, in_place), 2), general_weights),
            "exchanged experts": blend(torch.stack((baseline, in_place), 2), weights),
            "exchanged baseline": blend(torch.stack((averaged, expert), 2), weights),
        }
        found |= {f"{arm}/{name}": output.argmax(1) for arm, output in of_branch.items()}
    return {name: values.to(torch.uint8).cpu().numpy() for name, values in found.items()}


def mean(*log_probs: Tensor) -> Tensor:
    """The log of the mean of probabilities, each (N, 10)."""
    return torch.stack(log_probs).logsumexp(0) - torch.tensor(float(len(log_probs))).log()


def _mass(log_probs: Tensor, classes: tuple[int, ...]) -> Tensor:
    return log_probs[:, list(classes)].logsumexp(1)
