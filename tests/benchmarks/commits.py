"""What keeping stages costs a trial that finds none of them: the same config without a store and with an empty one.

    python -m tests.benchmarks.commits --data DIR [--runs 5] [--epochs 2] [--train-examples 5000]

Alternating runs in one process; each with a store has a fresh one on the local disk, and is over when everything is
written. Prints the ratio of the times, and what a run costs whose stages are all stored.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from moe import Config, Store, run
from moe.data import load
from moe.result import Result
from study.machine import cpus, versions


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with CIFAR-10")
    for name, default in (("runs", 5), ("epochs", 2), ("train-examples", 5000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    data = load("auto", asked.data)
    config = Config(epochs=asked.epochs, train_examples=asked.train_examples)
    run(Config(train_examples=100, test_examples=50), data)  # torch's lazy imports
    ratios, again = [], []
    for number in range(asked.runs):
        without, _ = _timed(lambda: run(config, data))
        with tempfile.TemporaryDirectory() as folder, Store(folder) as store:
            within, first = _timed(lambda store=store: run(config, data, store))  # type: ignore[misc]
            stored, second = _timed(lambda store=store: run(config, data, store))  # type: ignore[misc]
        if first.score != second.score:
            raise SystemExit("a stored run found something else")
        ratios.append(within / without)
        again.append(stored)
        print(
            f"run {number + 1}: without {without:.2f} s, with an empty store {within:.2f} s, all stored {stored:.3f} s"
        )
    spread = f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    print(f"with an empty store / without: {spread}")
    print(f"all stages stored: {median(again):.3f} s ({min(again):.3f} to {max(again):.3f})")
    print(f"{cpus()} CPUs, {torch.get_num_threads()} threads; torch {versions()['torch']}; {data.source}")


def _timed(work: Callable[[], Result]) -> tuple[float, Result]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


if __name__ == "__main__":
    main()
