"""The pipeline: a config in, a result out.

config -> plan -> four stages, side by side where there are devices -> mixture -> score
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import SimpleQueue

import torch
from torch import Tensor, nn

from moe.config import ARTIFICIAL, HOLDOUT, NATURAL, Config
from moe.data import DataError, DataSet, holdout, load
from moe.networks import Mixture, Subgates, log_probs, opinion, parameters, says_natural
from moe.numerics import available_devices, device_name, settle
from moe.result import Result, StageResult, score
from moe.stages import STAGES, Request, plan, resolved
from moe.training import EVALUATION_BATCH, Chain, Epoch, Examples, train, unit

#: told (stage, epoch from 1, epochs at most, what the epoch came to); an exception from it ends the run
Watch = Callable[[str, int, int, Epoch], None]


@dataclass(frozen=True)
class Split:
    """The images of one run: to learn from, to stop by, and to score on. The second is a prefix of the third."""

    train_images: Tensor  # (N, 3, 32, 32) uint8
    train_labels: Tensor  # (N,)
    score_images: Tensor
    score_labels: Tensor
    stopping: int  # how many of the scored images stop training

    def to(self, device: torch.device) -> "Split":
        """The same images on a device."""
        tensors = ("train_images", "train_labels", "score_images", "score_labels")
        return replace(self, **{name: getattr(self, name).to(device) for name in tensors})

    def examples(self, stage: str) -> tuple[Examples, Examples]:
        """What a stage learns from and what stops it."""
        stop = slice(self.stopping)
        return (
            _viewed(stage, self.train_images, self.train_labels),
            _viewed(stage, self.score_images[stop], self.score_labels[stop]),
        )


def split(config: Config, data: DataSet, score_examples: int | None = None) -> Split:
    """Cut a data set as the config's protocol says.

    Args:
        score_examples: how many images to score on under `holdout`, at least `test_examples`, which is the default.

    Raises:
        DataError: a class has no image to learn from or to stop by.
    """
    if config.protocol == HOLDOUT:
        scored = max(config.test_examples, score_examples or 0)
        pool, validation = holdout(data.train_labels, config.seed)
        rows, score_rows = pool[: config.train_examples], validation[:scored]
        images, labels = data.train_images, data.train_labels
        cut = (images[rows], labels[rows], images[score_rows], labels[score_rows])
    else:
        train, test = slice(config.train_examples), slice(config.test_examples)
        cut = (
            data.train_images[train],
            data.train_labels[train],
            data.test_images[test],
            data.test_labels[test],
        )
    _require_every_class(config, "train_examples", cut[1])
    _require_every_class(config, "test_examples", cut[3][: config.test_examples])
    return Split(*cut, config.test_examples)


def _require_every_class(config: Config, field: str, labels: Tensor) -> None:
    missing = sorted(set(ARTIFICIAL + NATURAL) - set(labels.tolist()))
    if missing:
        raise DataError(
            f"{field} is {getattr(config, field)}; expected more: class {missing[0]} has no image among them"
        )


def _viewed(stage: str, images: Tensor, labels: Tensor) -> Examples:
    rows, labels = STAGES[stage].view(labels)
    return Examples(images[rows], labels[rows])


def run(
    config: Config,
    data: DataSet | None = None,
    *,
    devices: Sequence[torch.device] = (),
    score_examples: int | None = None,
    watch: Watch | None = None,
) -> Result:
    """Train the five stages of a config and score the mixture against its baseline.

    Args:
        data: by default CIFAR-10 if it can be had, else the built-in shapes.
        devices: independent stages run side by side, one on each; by default all GPUs, else the CPU.
        score_examples: how many validation images to score on under `holdout`; by default `test_examples`.
        watch: told of each epoch, from the thread that trained it.

    Raises:
        DataError: the data cannot be had, or lack a class.
        TrainingError: a loss became infinite or NaN.
    """
    data = data or load()
    devices = tuple(devices) or available_devices()
    numerics = settle(devices[0])
    began = time.perf_counter()
    cut = split(config, data, score_examples)
    requests = plan(config, data.fingerprint, numerics)
    mixture = requests.pop("mixture")
    chains = _side_by_side(requests, cut, devices, watch)
    cut = cut.to(devices[0])
    networks = {name: _network(chain, config.epochs, devices[0]) for name, chain in chains.items()}
    checkpoints = {name: chain.resolve(config.epochs) for name, chain in chains.items()}
    said = {name: predict(network, cut.score_images) for name, network in networks.items()}
    chain = Chain(resolved(mixture, checkpoints).spec)
    learn, stop = _mixture_examples(config, cut, networks, said)
    _advance(Request(chain.spec, config.epochs), chain, learn, stop, devices[0], watch)
    chains["mixture"] = chain
    networks["mixture"] = _network(chain, config.epochs, devices[0])
    return Result(
        config=config,
        dataset=data.name,
        data=data.fingerprint,
        scored_examples=len(cut.score_labels),
        score=score(said, _weights(networks["mixture"], cut, said), cut.score_labels),
        stages={name: StageResult.of(chains[name], config.epochs, parameters(networks[name])) for name in STAGES},
        seconds=time.perf_counter() - began,
        device=device_name(devices[0]),
        threads=torch.get_num_threads(),
    )


def _side_by_side(
    requests: dict[str, Request], cut: Split, devices: Sequence[torch.device], watch: Watch | None
) -> dict[str, Chain]:
    """Train stages that do not need one another, as many at a time as there are devices."""
    free: SimpleQueue[torch.device] = SimpleQueue()
    for device in devices:
        free.put(device)

    def one(request: Request) -> Chain:
        device = free.get()
        try:
            learn, stop = cut.to(device).examples(request.spec.stage)
            chain = Chain(request.spec)
            _advance(request, chain, learn, stop, device, watch)
            return chain
        finally:
            free.put(device)

    if len(devices) == 1:  # in this thread, where torch's thread count has been set
        return {name: one(request) for name, request in requests.items()}
    with ThreadPoolExecutor(len(devices)) as pool:
        futures = {name: pool.submit(one, request) for name, request in requests.items()}
        try:
            return {name: future.result() for name, future in futures.items()}
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _advance(
    request: Request, chain: Chain, learn: Examples, stop: Examples, device: torch.device, watch: Watch | None
) -> None:
    """Train a chain to the end of a request, keeping the weights that it resolves to."""
    for epoch in train(request, chain, learn, stop, device):
        kept = chain.resolve(request.epochs).epoch
        chain.weights = {kept: chain.weights[kept]}
        if watch:
            watch(request.spec.stage, len(chain.epochs), request.epochs, epoch)


def _network(chain: Chain, epochs: int, device: torch.device) -> nn.Module:
    """The network of the checkpoint that a request for so many epochs resolves to."""
    with torch.device("meta"):  # nothing is drawn, and no memory taken, for weights that are there already
        network = STAGES[chain.spec.stage].network(chain.spec.network)
    network.load_state_dict(chain.weights[chain.resolve(epochs).epoch], assign=True)
    return network.to(device).requires_grad_(False)


@torch.no_grad()
def predict(network: nn.Module, images: Tensor) -> Tensor:
    """(N, 3, 32, 32) bytes to (N, outputs) log-probabilities, without dropout."""
    return torch.cat([log_probs(network(unit(part))) for part in torch.split(images, EVALUATION_BATCH)])


def _mixture_examples(
    config: Config, cut: Split, networks: dict[str, nn.Module], said: dict[str, Tensor]
) -> tuple[Examples, Examples]:
    """What the mixture learns from and what stops it.

    Under `holdout` the frozen networks speak once for every image; under `notebook` their dropout stays on while
    the subgates train, so they speak anew for each batch.
    """
    stop = opinion({name: values[: cut.stopping] for name, values in said.items()})
    validation = Examples(cut.score_images[: cut.stopping], cut.score_labels[: cut.stopping], stop)
    if config.protocol == HOLDOUT:
        learned = {name: predict(network, cut.train_images) for name, network in networks.items()}
        return Examples(cut.train_images, cut.train_labels, opinion(learned)), validation
    frozen = Mixture(networks, Subgates())
    return Examples(cut.train_images, cut.train_labels, frozen.opinion), validation


@torch.no_grad()
def _weights(subgates: nn.Module, cut: Split, said: dict[str, Tensor]) -> dict[str, Tensor]:
    """(N, 10, 2) logits of the subgates' weights on the scored images: by the gate, and by the true superclass."""
    assert isinstance(subgates, Subgates)
    truth = STAGES["gate"].view(cut.score_labels)[1] == 1
    branches = {"gate": says_natural(said["gate"]), "oracle": truth}
    rows = torch.split(torch.arange(len(truth), device=truth.device), EVALUATION_BATCH)
    return {
        name: torch.cat([subgates.weights(unit(cut.score_images[part]), natural[part]) for part in rows])
        for name, natural in branches.items()
    }
