"""One training step: its time in both precisions, what it is spent on, and what torch.compile would change.

    python -m tests.benchmarks.step [--rounds 5]

A batch of 50 random images on one thread, each network in turn. A step that is not faster in bfloat16 on a CPU with
instructions for it shows that oneDNN took a slow path (pytorch #183815). Where torch.compile trains to other bits, or
fails, it says so.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from moe.config import CLASSES, PRECISIONS
from moe.networks import IMAGE
from moe.training.numerics import available_devices, device_name, one_thread
from study.search.cost import Sample, samples
from tests.benchmarks.report import circumstances, spread

BATCH, STEPS = 50, 10
KINDS = {  # of operators, by what their name holds; the first that fits
    "convolution, backward": ("convolution_backward",),
    "convolution, forward": ("mkldnn_convolution", "convolution"),
    "dense layers": ("addmm", "aten::mm", "mkldnn_linear"),
    "pooling": ("max_pool2d",),
    "Adam": ("_fused_adam",),
    "dropout": ("random_", "aten::ge"),
    "copies and casts": ("copy_", "_to_copy", "contiguous", "clone", "cat", "index"),
    "ReLU and products": ("clamp", "threshold", "relu", "aten::mul"),
}


def seconds(sample: Sample) -> float:
    """Of a step, the mean of several after one to warm up."""
    sample.trainer.epoch(1)
    began = time.perf_counter()
    for _ in range(STEPS):
        sample.trainer.epoch(1)
    return (time.perf_counter() - began) / STEPS


def shares(sample: Sample) -> dict[str, float]:
    """The part of a step's time that each kind of operator takes."""
    sample.trainer.epoch(1)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(STEPS):
            sample.trainer.epoch(1)
    spent: Counter[str] = Counter()
    for event in seen.key_averages():
        kind = next((kind for kind, names in KINDS.items() if any(name in event.key for name in names)), "the rest")
        spent[kind] += event.self_cpu_time_total
    return {kind: taken / spent.total() for kind, taken in spent.most_common()}


def compiled(precision: str, deterministic: bool) -> str:
    """What torch.compile makes of the gradients of the small network: their time and bits, or why it fails."""
    plain, other = (next(samples(torch.device("cpu"), BATCH, precision)).network for _ in range(2))
    other.load_state_dict(plain.state_dict())
    images = torch.rand(BATCH, *IMAGE, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=torch.channels_last)
    torch._dynamo.reset()
    torch.use_deterministic_algorithms(deterministic)
    try:
        fast = torch.compile(other)
        same = all(map(torch.equal, gradients(plain, plain, images), gradients(fast, other, images)))
        ratios = [
            _timed(partial(gradients, plain, plain, images)) / _timed(partial(gradients, fast, other, images))
            for _ in range(5)
        ]
    except Exception as error:  # of whatever kind the compiler raises
        return f"fails: {' '.join(str(error).split())[:300]}"
    finally:
        torch.use_deterministic_algorithms(False)
    return f"{'equal' if same else 'other'} gradients, {spread(ratios)} times as fast"


def gradients(call: Callable[[Tensor], Tensor], network: nn.Module, images: Tensor) -> list[Tensor]:
    """Of a loss on the images, without dropout, by weight; `call` is the network, compiled or not."""
    network.zero_grad()
    labels = torch.arange(len(images)) % CLASSES
    functional.cross_entropy(call(images), labels).backward()  # type: ignore[no-untyped-call]
    return [weight.grad for weight in network.parameters() if weight.grad is not None]


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(STEPS):
        work()
    return (time.perf_counter() - began) / STEPS


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    options = parser.parse_args()
    here, device = circumstances(), available_devices()[0]
    times: dict[str, dict[str, list[float]]] = {precision: {} for precision in PRECISIONS}
    with one_thread():
        for _ in range(options.rounds):
            for precision in PRECISIONS:
                for sample in samples(device, BATCH, precision):
                    times[precision].setdefault(sample.size, []).append(1000 * seconds(sample))
        exact, rounded = (times[precision] for precision in PRECISIONS)
        for size in exact:
            ratios = [one / other for one, other in zip(exact[size], rounded[size], strict=True)]
            milliseconds = ", ".join(f"{precision} {spread(times[precision][size])} ms" for precision in PRECISIONS)
            print(f"{size}: {milliseconds}; float32 / bfloat16 {spread(ratios)}", flush=True)
        for precision in PRECISIONS:
            for sample in samples(device, BATCH, precision):
                parts = ", ".join(f"{kind} {share:.0%}" for kind, share in shares(sample).items() if share >= 0.01)
                print(f"{sample.size}, {precision}: {parts}", flush=True)
        for precision in PRECISIONS:
            for deterministic in (False, True):
                how = f"{precision}, {'deterministic' if deterministic else 'usual'} algorithms"
                print(f"torch.compile, {how}: {compiled(precision, deterministic)}", flush=True)
    print(f"\n{device_name(device)}, one thread; {here}")


if __name__ == "__main__":
    main()
