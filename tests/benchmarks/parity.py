"""Our `notebook` protocol against the original notebook in Keras, on the same images over seeds.

    python -m tests.benchmarks.parity --keras PYTHON --data DIR [--seeds 8] [--epochs 4] [--train-examples 2500]
        [--precision float32|bfloat16]

PYTHON is an interpreter of an environment with `pip install tf_keras==2.21.0`. Prints, per stage, both mean test
accuracies, their difference and its standard error over seeds, and the ratio of the two programs' times, which are
taken in turn: Keras, ours, Keras, ... Both train and evaluate with two threads where there are two.
"""

import argparse
import json
import math
import os
import subprocess
import tempfile
from pathlib import Path
from statistics import fmean, variance
from typing import Any

import numpy as np

from moe import Config, run
from moe.config import PRECISIONS
from moe.data import DataSet, load
from moe.training.numerics import best_precision
from tests.benchmarks.report import circumstances, spread

KERAS = Path(__file__).with_name("keras_notebook.py")
STAGES = ("baseline", "gate", "artificial", "natural", "mixture")


def main() -> None:
    """Run both over the seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keras", required=True, help="a Python with tf_keras")
    parser.add_argument("--data", type=Path, help="a folder with CIFAR-10")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--train-examples", type=int, default=2500)
    parser.add_argument("--test-examples", type=int, default=1000)
    parser.add_argument("--precision", choices=PRECISIONS, default=best_precision("cpu"), help="ours (%(default)s)")
    parser.add_argument("--large", action="store_true", help="all networks large")
    options = parser.parse_args()
    here = circumstances()
    data = load("auto", options.data)
    flags = dict.fromkeys(("use_large_experts", "use_large_gating_mlp", "use_large_baseline_classifier"), options.large)
    config = Config(
        protocol="notebook",
        epochs=options.epochs,
        train_examples=options.train_examples,
        test_examples=options.test_examples,
        precision=options.precision,
        **flags,
    )
    run(Config(protocol="notebook", train_examples=100, test_examples=100), data)  # torch loads some parts lazily
    theirs, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        arrays = write_arrays(data, config, Path(folder))
        for seed in range(options.seeds):
            theirs.append(keras(options.keras, config, seed, arrays))
            ours.append(torch_run(config, seed, data))
            print(f"seed {seed}: Keras {line(theirs[-1])} | ours {line(ours[-1])}", flush=True)
    print(f"\n{data.source}; {config}\n{here}\n\n{table(theirs, ours)}")


def write_arrays(data: DataSet, config: Config, folder: Path) -> Path:
    """The first images of either set, as both programs take them."""
    path = folder / "arrays.npz"
    train, test = slice(config.train_examples), slice(config.test_examples)
    np.savez(
        path,
        x_train=data.train_images[train].permute(0, 2, 3, 1).numpy(),
        y_train=data.train_labels[train].numpy(),
        x_test=data.test_images[test].permute(0, 2, 3, 1).numpy(),
        y_test=data.test_labels[test].numpy(),
    )
    return path


def keras(python: str, config: Config, seed: int, arrays: Path) -> dict[str, float]:
    """Test accuracies of the five stages in Keras, and its seconds."""
    out = arrays.with_name("keras.json")
    numbers = {"epochs": config.epochs, "train-examples": config.train_examples, "test-examples": config.test_examples}
    command = [python, str(KERAS), "--arrays", str(arrays), "--json", str(out), "--seed", str(seed)]
    command += [text for name, value in numbers.items() for text in (f"--{name}", str(value))]
    if config.use_large_experts:
        command += ["--use-large-experts", "--use-large-gating-mlp", "--use-large-baseline-classifier"]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=quiet, check=False)
    if done.returncode:
        raise SystemExit(f"the notebook in Keras failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(out.read_text())
    return {**{name: found["stages"][name]["accuracy"] for name in STAGES}, "seconds": found["seconds"]}


def torch_run(config: Config, seed: int, data: DataSet) -> dict[str, float]:
    """The same of our pipeline."""
    result = run(config.replace(seed=seed), data)
    accuracies = {name: getattr(result.score, f"{name}_accuracy") for name in STAGES}
    return {**accuracies, "seconds": result.totals.seconds}


def line(found: dict[str, float]) -> str:
    """One run on one line."""
    return " ".join(f"{found[name]:.3f}" for name in STAGES) + f" {found['seconds']:.0f} s"


def table(theirs: list[dict[str, float]], ours: list[dict[str, float]]) -> str:
    """Means over seeds, in percent; the difference with its standard error; and the ratio of times."""
    lines = [f"{'stage':<12}{'Keras':>8}{'ours':>8}{'difference':>18}{'in standard errors':>20}"]
    for name in STAGES:
        before, after = ([100 * found[name] for found in runs] for runs in (theirs, ours))
        error = math.sqrt((variance(before) + variance(after)) / len(before))
        difference = fmean(after) - fmean(before)
        shown = f"{difference:+.2f} ± {error:.2f}"
        errors = difference / error if error else math.nan
        lines.append(f"{name:<12}{fmean(before):>8.2f}{fmean(after):>8.2f}{shown:>18}{errors:>20.1f}")
    ratios = [before["seconds"] / after["seconds"] for before, after in zip(theirs, ours, strict=True)]
    lines.append(f"Keras' time over ours: {spread(ratios)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
