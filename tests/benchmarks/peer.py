"""The plain peer: the same study as a first version of it would be written, for comparison.

    python -m tests.benchmarks.peer --data DIR [--train-examples 1000] [--epochs 1]

Ray Tune with OptunaSearch; torchvision's CIFAR10, whose images pass through PIL and ToTensor one by one; DataLoader;
modules with train() and eval(). Every trial trains its five stages from nothing, and the frozen networks run again on
every batch of the mixture. It shares configs, data and the `holdout` split with the project, and nothing else.

An image pass is one image forward through one network, or backward through one; both subgates are one network.
Images are loaded by the training process itself (--workers 0) by default: on two CPU cores, one epoch of each stage
on 1,000 images took 14.5 s (median of 3) so, 16.9 s with one process for it and 17.3 s with two.
"""

import argparse
import copy
import math
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10
from torchvision.transforms import ToTensor

from moe.config import ARTIFICIAL, CLASSES, HOLDOUT, NATURAL, Config
from moe.data import DataSet, holdout, load

WORKERS = 0
EVALUATION_BATCH = 100  # on a CPU faster than 1,000
FOUND = ("gain", "mixture_accuracy", "baseline_accuracy", "epochs", "passes", "seconds")  # of a trial

Row = dict[str, Any]
Loss = Callable[[Tensor, Tensor], Tensor]


def classifier(layers: list[nn.Module], inputs: int, outputs: int) -> nn.Sequential:
    """A dense head over what comes out of some layers, all with Keras' initial weights."""
    head = (nn.Flatten(), nn.Linear(inputs, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, outputs))
    network = nn.Sequential(*layers, *head)
    for parameter in network.parameters():
        (nn.init.xavier_uniform_ if parameter.dim() > 1 else nn.init.zeros_)(parameter)
    return network


def vgg(large: bool, outputs: int) -> nn.Sequential:
    """(N, 3, 32, 32) images to (N, outputs) logits."""
    blocks = ((32, 32), (64, 64), (128, 128, 128)) if large else ((32, 32), (64, 64))
    layers: list[nn.Module] = []
    channels, side = 3, 32
    for block in blocks:
        for width in block:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers += [nn.MaxPool2d(2), nn.Dropout(0.25)]
        side //= 2
    return classifier(layers, channels * side * side, outputs)


class Subgates(nn.Module):
    """The second gates, one per branch."""

    def __init__(self) -> None:
        super().__init__()
        self.artificial = classifier([], 3 * 32 * 32, 2 * CLASSES)
        self.natural = classifier([], 3 * 32 * 32, 2 * CLASSES)

    def forward(self, images: Tensor, natural: Tensor) -> Tensor:
        """(N, 10, 2) weights of baseline and expert; `natural` (N, 1) is the branch that an image takes."""
        logits: Tensor = torch.where(natural, self.natural(images), self.artificial(images))
        return logits.softmax(1).view(-1, CLASSES, 2)


class Mixture(nn.Module):
    """Baseline, gate and experts, frozen, and the subgates that weigh them."""

    def __init__(self, frozen: dict[str, nn.Module]) -> None:
        super().__init__()
        self.frozen = nn.ModuleDict(frozen).requires_grad_(False)
        self.subgates = Subgates()

    def train(self, mode: bool = True) -> "Mixture":
        """As usual, but the frozen networks stay without dropout."""
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(N, 10) weighted probabilities; a row need not sum to one."""
        with torch.no_grad():
            outputs: dict[str, Tensor] = {name: network(images).softmax(1) for name, network in self.frozen.items()}
        natural = outputs["gate"][:, :1] <= outputs["gate"][:, 1:]
        expert = torch.where(natural, outputs["natural"], outputs["artificial"])
        weights = self.subgates(images, natural)
        return torch.stack((outputs["baseline"], expert), 2).mul(weights).sum(2)


def mixture_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Keras' categorical cross-entropy of outputs that do not sum to one."""
    probabilities = outputs / outputs.sum(1, keepdim=True)
    return functional.nll_loss(probabilities.clamp(1e-7, 1 - 1e-7).log(), labels)


def superclass(label: int) -> int:
    return int(label in NATURAL)


#: how the first stages see the images, where not all of them under their own labels
VIEWS: dict[str, Row] = {
    "gate": {"target": superclass},
    "artificial": {"only": ARTIFICIAL},
    "natural": {"only": NATURAL},
}


def cifar10(data: DataSet, rows: Tensor, only: Sequence[int] | None = None, target: Any = None) -> CIFAR10:
    """torchvision's data set over some of the training images, those of a few classes perhaps."""
    if only is not None:
        rows = rows[torch.isin(data.train_labels[rows], torch.tensor(only))]
    dataset = CIFAR10.__new__(CIFAR10)  # its constructor would read files, and the images are here already
    dataset.data = data.train_images[rows].permute(0, 2, 3, 1).contiguous().numpy()
    dataset.targets = data.train_labels[rows].tolist()
    dataset.transform, dataset.target_transform = ToTensor(), target
    return dataset


class Trainer:
    """Trains and evaluates a trial's networks, and counts the image passes of those that `count` was given."""

    def __init__(self, config: Config, workers: int) -> None:
        self.config, self.workers, self.passes = config, workers, 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def count(self, network: nn.Module) -> None:
        network.register_forward_hook(self._forward)

    def _forward(self, network: nn.Module, inputs: Any, output: Tensor) -> None:
        self.passes += len(output)
        if output.requires_grad:
            output.register_hook(self._backward)  # type: ignore[no-untyped-call]

    def _backward(self, gradient: Tensor) -> None:
        self.passes += len(gradient)

    def loader(self, dataset: CIFAR10, batch_size: int, shuffle: bool) -> DataLoader[Any]:
        workers: Row = {"num_workers": self.workers, "persistent_workers": self.workers > 0}
        return DataLoader(dataset, batch_size, shuffle, pin_memory=self.device.type == "cuda", **workers)

    def batches(self, loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in loader:
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def fit(self, network: nn.Module, loss_of: Loss, learn: CIFAR10, stop: CIFAR10) -> int:
        """Train until patience or epochs end, and go back to the best epoch; the number of epochs trained."""
        training = self.loader(learn, self.config.batch_size, shuffle=True)
        validation = self.loader(stop, EVALUATION_BATCH, shuffle=False)
        learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(learned, lr=self.config.learning_rate, eps=1e-7)  # Keras' epsilon
        best_loss, wait, epoch = math.inf, 0, 0
        best = network.state_dict()
        while epoch < self.config.epochs and wait < self.config.patience:
            epoch += 1
            network.train()
            for images, labels in self.batches(training):
                optimizer.zero_grad()
                loss_of(network(images), labels).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            loss, _ = self.evaluate(network, loss_of, validation)
            if loss < best_loss:
                best_loss, wait = loss, 0
                best = copy.deepcopy(network.state_dict())
            else:
                wait += 1
        network.load_state_dict(best)
        return epoch

    @torch.no_grad()
    def evaluate(self, network: nn.Module, loss_of: Loss, loader: DataLoader[Any]) -> tuple[float, float]:
        """Mean loss and accuracy."""
        network.eval()
        loss, right, total = 0.0, 0, 0
        for images, labels in self.batches(loader):
            outputs = network(images)
            loss += loss_of(outputs, labels).item() * len(labels)
            right += int((outputs.argmax(1) == labels).sum())
            total += len(labels)
        return loss / total, right / total


def run_one(config: Config, data: DataSet, threads: int, workers: int = WORKERS) -> Row:
    """Train the five stages of a config, whose protocol has to be `holdout`, and score mixture and baseline."""
    began = time.perf_counter()
    if config.protocol != HOLDOUT:
        raise ValueError(f"protocol is {config.protocol!r}; expected {HOLDOUT!r}")
    torch.set_num_threads(threads)
    torch.manual_seed(config.seed)
    pool, validation = holdout(data.train_labels, config.seed)
    learn, stop = pool[: config.train_examples], validation[: config.test_examples]
    trainer, epochs = Trainer(config, workers), {}
    networks: dict[str, nn.Module] = {
        "baseline": vgg(config.use_large_baseline_classifier, CLASSES),
        "gate": vgg(config.use_large_gating_mlp, 2),
        "artificial": vgg(config.use_large_experts, CLASSES),
        "natural": vgg(config.use_large_experts, CLASSES),
    }
    for name, network in networks.items():
        trainer.count(network.to(trainer.device))
        learned, stopped = (cifar10(data, rows, **VIEWS.get(name, {})) for rows in (learn, stop))
        epochs[name] = trainer.fit(network, functional.cross_entropy, learned, stopped)
    mixture = Mixture(networks).to(trainer.device)
    trainer.count(mixture.subgates)
    epochs["mixture"] = trainer.fit(mixture, mixture_loss, cifar10(data, learn), cifar10(data, stop))
    scored = trainer.loader(cifar10(data, validation[: config.scored_examples]), EVALUATION_BATCH, shuffle=False)
    _, baseline_accuracy = trainer.evaluate(networks["baseline"], functional.cross_entropy, scored)
    _, mixture_accuracy = trainer.evaluate(mixture, mixture_loss, scored)
    gain, seconds = mixture_accuracy - baseline_accuracy, time.perf_counter() - began
    found = (gain, mixture_accuracy, baseline_accuracy, epochs, trainer.passes, seconds)
    return dict(zip(FOUND, found, strict=True))


def run_study(
    configs: list[Config], dataset: str, folder: Path | None, cpus: int, workers: int = WORKERS
) -> tuple[list[Row], float]:
    """Run these configs under Ray Tune, one after another, each on `cpus` CPUs and a GPU where there is one.

    By Tune's default every trial gets a process of its own, which takes seconds to start.

    Returns:
        What `run_one` found for each, in their order, and the seconds of it all, Ray's start included.
    """
    began = time.perf_counter()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # else Tune prints tables
    if "RAY_AUTH_MODE" not in os.environ:  # else Ray would write a token to the home folder
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import optuna
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = folder and folder.resolve()  # a trial runs in a folder of its own

    def trainable(config: Row) -> None:
        data = load(dataset, folder, download=False)
        tune.report(run_one(Config(**config), data, cpus, workers))

    rows = [dict(config) for config in configs]
    values = {name: sorted({row[name] for row in rows}) for name in rows[0]}
    searched = {name: tune.choice(values[name]) for name in values if len(values[name]) > 1 or name == "seed"}
    points = [{name: row[name] for name in searched} for row in rows]
    allotment = {"cpu": cpus, "gpu": min(1, torch.cuda.device_count())}
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as scratch:  # short: Ray's sockets lie below it
        ray.init("local", num_cpus=cpus, num_gpus=allotment["gpu"], _temp_dir=scratch, **quiet)
        try:
            search = {"search_alg": OptunaSearch(points_to_evaluate=points), "metric": "gain", "mode": "max"}
            results = tune.Tuner(
                tune.with_resources(trainable, allotment),
                param_space={**rows[0], **searched},  # what is not searched is the same in all
                tune_config=tune.TuneConfig(num_samples=len(configs), max_concurrent_trials=1, **search),
                run_config=tune.RunConfig(storage_path=f"{scratch}/tune", verbose=0),
            ).fit()
        finally:
            ray.shutdown()
        if results.errors:
            raise results.errors[0]
        if [result.config for result in results] != rows:
            raise RuntimeError("Tune ran other configs than it was given")
    return [{name: result.metrics[name] for name in FOUND} for result in results], time.perf_counter() - began


def main() -> None:
    """Train one config, without Ray."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with CIFAR-10")
    numbers = {"train-examples": 1000, "test-examples": 1000, "epochs": 1, "seed": 0}
    for name, default in {**numbers, "threads": torch.get_num_threads(), "workers": WORKERS}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    options = vars(parser.parse_args())
    folder, threads, workers = (options.pop(name) for name in ("data", "threads", "workers"))
    config = Config(**options)
    found = run_one(config, load("auto", folder), threads, workers)
    print(
        f"gain {100 * found['gain']:+.2f} points, mixture {found['mixture_accuracy']:.1%}, "
        f"baseline {found['baseline_accuracy']:.1%}, {found['passes']:,} passes, {found['seconds']:.1f} s"
    )


if __name__ == "__main__":
    main()
