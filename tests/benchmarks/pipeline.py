"""One pipeline against the plain peer, against its floor, and against itself: on a CPU or a GPU, without Ray.

    python -m tests.benchmarks.pipeline --data DIR                                       5,000 images, one epoch
    python -m tests.benchmarks.pipeline --data DIR --train-examples 45000 --epochs 10 --peer-epochs 1      on a GPU

Ours in each precision, its stages side by side on the CPUs that there are, and the peer, on as many threads, run
in turn. The peer may train fewer epochs, and its time is multiplied then. First it is checked that stages train to
the same bits alone, beside others and in two parts, and, on a GPU, by replays and step by step. The floor is what
the arithmetic of all training steps takes at the rate of a large matrix product, and their optimizer's memory
traffic at the rate of a large copy, one after the other.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import moe.training.loop
from moe.config import NOTEBOOK, PRECISIONS, Config
from moe.data import DataSet, load
from moe.data.subset import subset
from moe.machine import cpus
from moe.networks import IMAGE, parameters
from moe.pipeline import TrainedMixture, examples, train_mixture
from moe.stages import PIPELINE, STAGES, Request, plan
from moe.training.cuda_graph import own_stream
from moe.training.loop import Chain, train
from moe.training.numerics import available_cpus, available_gpus, configure_numerics, device_name, one_thread
from study.search.cost import SHARES
from tests.benchmarks.peer import run_one
from tests.benchmarks.report import circumstances, spread

ADAM_FLOATS = 7  # per weight and step: weight, gradient and two moments read, weight and moments written


@dataclass(frozen=True)
class Rates:
    """What a device does in a second."""

    operations: float
    floats: float


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """The seconds that work takes on a device."""
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def rates(device: torch.device, precision: str, repeats: int = 7) -> Rates:
    """The best of a few large matrix products, and of a few large copies."""
    side = 2048 if device.type == "cpu" else 8192
    left = torch.rand(side, side, device=device, dtype=getattr(torch, precision))
    values = torch.rand(side * side * 4, device=device)
    target = torch.empty_like(values)
    product = min(seconds_of(lambda: left @ left, device) for _ in range(repeats))
    copy = min(seconds_of(lambda: target.copy_(values), device) for _ in range(repeats))
    return Rates(2 * side**3 / product, 2 * values.numel() / copy)


def operations(network: nn.Module) -> int:
    """Multiplications and additions of a training step of one image: forward, and twice as many backward."""
    found = 0

    def count(layer: nn.Module, inputs: object, output: torch.Tensor) -> None:
        weight = layer.weight
        places = output.shape[2] * output.shape[3] if output.dim() == 4 else 1
        found_here = 2 * weight.numel() * places
        nonlocal found
        found += 3 * found_here

    hooks = [layer.register_forward_hook(count) for layer in network.modules() if hasattr(layer, "weight")]
    branches = [network.artificial, network.natural] if hasattr(network, "natural") else [network]
    with torch.no_grad():
        for branch in branches:
            branch(torch.zeros(1, *IMAGE))
    for hook in hooks:
        hook.remove()
    return found


def floor(config: Config, device: torch.device) -> float:
    """The least seconds for all training steps of a config."""
    rate, total = rates(device, config.precision), 0.0
    for stage in (STAGES[name] for name in PIPELINE):
        network = stage.network(stage.size(config))
        images = SHARES.get(stage.name, 1.0) * config.train_examples
        steps = images / config.batch_size
        arithmetic = images * operations(network) / rate.operations
        total += config.epochs * (arithmetic + steps * ADAM_FLOATS * parameters(network) / rate.floats)
    return total


def trained(request: Request, data: DataSet, device: torch.device, *upto: int) -> Chain:
    """A frozen stage's chain, brought to each number of epochs in turn."""
    chain = Chain(request.spec)
    learn, stop = examples(subset(request.spec, data), request.spec.stage, device)
    with one_thread(), own_stream(device):  # the default stream cannot be captured
        for epochs in upto:
            for _ in train(Request(request.spec, epochs), chain, learn, stop, device):
                pass
    return chain


def same(one: Chain, other: Chain) -> bool:
    """Whether two chains came to the same bits."""
    assert one.end
    assert other.end
    ends = zip(one.end, other.end, strict=True)
    return one.losses == other.losses and all(
        torch.equal(part[name], twin[name]) for part, twin in ends for name in part
    )


def alike(one: TrainedMixture, other: TrainedMixture) -> bool:
    """Whether all five stages of two runs came to the same bits."""
    losses = [[run.stages[name].chain.losses for name in PIPELINE] for run in (one, other)]
    ours, theirs = (
        [value for network in run.networks.values() for value in network.state_dict().values()] for run in (one, other)
    )
    return losses[0] == losses[1] and all(map(torch.equal, ours, theirs))


def check(data: DataSet, device: torch.device, precision: str, images: int = 970) -> dict[str, bool]:
    """By way of training, whether it gives the same bits; three epochs also replay the last, smaller batch."""
    config = Config(epochs=3, train_examples=images, test_examples=100, patience=9, precision=precision)
    requests = plan(config, data.fingerprint, configure_numerics(device, precision))
    alone = {name: trained(requests[name], data, device, 3) for name in ("natural", "gate")}
    beside = train_mixture(config, data, devices=[device] * 2)  # two workers; on a GPU it takes four
    found = {
        "again": same(alone["natural"], trained(requests["natural"], data, device, 3)),
        "in two parts": same(alone["natural"], trained(requests["natural"], data, device, 1, 3)),
        "beside other stages": all(chain.losses == beside.stages[name].chain.losses for name, chain in alone.items()),
    }
    if device.type == "cuda":
        dropping = config.replace(protocol=NOTEBOOK)  # dropout stays on in the frozen networks
        with step_by_step():
            found["step by step"] = alike(beside, train_mixture(config, data, devices=[device]))
            plain = train_mixture(dropping, data, devices=[device])
        found["step by step, notebook"] = alike(plain, train_mixture(dropping, data, devices=[device]))
    return found


@contextmanager
def step_by_step() -> Iterator[None]:
    """Train without CUDA graphs."""
    usual = moe.training.loop.captured
    moe.training.loop.captured = lambda step, noise, device: step  # type: ignore[assignment]
    try:
        yield
    finally:
        moe.training.loop.captured = usual


def main() -> None:
    """Check, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with CIFAR-10")
    defaults = {"runs": 5, "train-examples": 5000, "test-examples": 1000, "epochs": 1, "batch-size": 50}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    parser.add_argument("--peer-epochs", type=int, metavar="N", help="of the peer (default: as many); 0: no peer")
    options = parser.parse_args()
    here = circumstances()
    data, devices = load("auto", options.data), available_gpus()[:1] or available_cpus()
    device = devices[0]
    usual = Config(
        epochs=options.epochs,
        patience=10_000,
        **{name: getattr(options, name) for name in ("train_examples", "test_examples", "batch_size")},
    )
    print(f"{device_name(device)}, {cpus()} CPUs; {here}")
    print(
        f"{data.source}\n{options.train_examples:,} images, {options.epochs} epochs each stage, "
        f"batches of {options.batch_size}"
    )
    for precision in PRECISIONS:
        print(
            f"{precision}: same bits " + ", ".join(f"{k}: {v}" for k, v in check(data, device, precision).items()),
            flush=True,
        )
    peer_epochs = options.epochs if options.peer_epochs is None else options.peer_epochs
    times: dict[str, list[float]] = {}
    for _ in range(options.runs):
        for precision in PRECISIONS:
            config = usual.replace(precision=precision)
            result = train_mixture(config, data, devices=devices).result
            times.setdefault(precision, []).append(result.totals.seconds)
        if peer_epochs:
            found = run_one(usual.replace(epochs=peer_epochs), data, cpus())
            times.setdefault("peer", []).append(found["seconds"] * options.epochs / peer_epochs)
        print({name: round(taken[-1], 2) for name, taken in times.items()}, flush=True)
    print(f"\nmedian (least–most) of {options.runs} runs")
    for precision in PRECISIONS:
        print(f"{precision:<10} seconds     {spread(times[precision])}")
        least = floor(usual.replace(precision=precision), device)
        print(
            f"{precision:<10} over floor  {spread([taken / least for taken in times[precision]])}   floor {least:.2f} s"
        )
        if peer_epochs:
            ratios = [peer / ours for peer, ours in zip(times["peer"], times[precision], strict=True)]
            print(f"{precision:<10} peer / ours {spread(ratios)}")


if __name__ == "__main__":
    main()
