"""Accuracy in float32 and in bfloat16 over the same seeds, by which `--precision auto` was chosen.

    python -m tests.benchmarks.precision --data DIR [--seeds 10]

2,500 images, 4 epochs, all networks small, scored on the 5,000 validation images. `step` has the times.
"""

import argparse
import math
import statistics
from pathlib import Path

from moe.config import PRECISIONS, Config
from moe.data import load
from moe.pipeline import run
from moe.result import Score
from tests.benchmarks.report import circumstances

SCORES = ("baseline_accuracy", "gate_accuracy", "artificial_accuracy", "natural_accuracy", "mixture_accuracy", "gain")


def table(found: list[dict[str, Score]]) -> str:
    """Means in percent, and the mean of differences with its standard error.

    Args:
        found: by seed, then precision.
    """
    lines = ["| % | float32 | bfloat16 | difference ± standard error |", "|---|---|---|---|"]
    for name in SCORES:
        exact, rounded = ([100 * getattr(scores[precision], name) for scores in found] for precision in PRECISIONS)
        change = [b - a for a, b in zip(exact, rounded, strict=True)]
        error = statistics.stdev(change) / math.sqrt(len(change))
        means = f"{statistics.mean(exact):.2f} | {statistics.mean(rounded):.2f}"
        lines.append(f"| {name} | {means} | {statistics.mean(change):+.2f} ± {error:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Train with each seed in each precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with CIFAR-10")
    for name, default in {"seeds": 10, "train-examples": 2500, "epochs": 4}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    options = parser.parse_args()
    here = circumstances()
    data, found = load("auto", options.data), []
    print(data.source)
    for seed in range(options.seeds):
        scores = {}
        for precision in PRECISIONS:
            config = Config(
                epochs=options.epochs, train_examples=options.train_examples, seed=seed, precision=precision
            )
            scores[precision] = run(config, data).score
        found.append(scores)
        print(
            f"seed {seed}: " + ", ".join(f"{name} {scores[name].mixture_accuracy:.1%}" for name in scores),
            flush=True,
        )
    print(f"{table(found)}\n\n{here}")


if __name__ == "__main__":
    main()
