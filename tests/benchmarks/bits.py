"""The bits of six configs: `python -m tests.benchmarks.bits --data DIR [--cpus N]`.

Prints the SHA-256 of all trained weights and of every score, one line per config; the same for any number of CPUs. A
change that is not meant to alter weights leaves this output as it was.
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch

from moe.config import Config
from moe.data import load
from moe.pipeline import TrainedMixture, train_mixture

LARGE = {"use_large_experts": True, "use_large_gating_mlp": True, "use_large_baseline_classifier": True}
CONFIGS = {
    "holdout, small": Config(epochs=2, train_examples=1000, test_examples=500),
    "holdout, large": Config(epochs=2, train_examples=600, test_examples=500, **LARGE),
    "holdout, stopped early": Config(epochs=12, train_examples=300, test_examples=200, patience=1, learning_rate=0.004),
    "holdout, bfloat16": Config(epochs=2, train_examples=600, test_examples=500, precision="bfloat16", seed=3),
    "notebook, small": Config(epochs=2, train_examples=1000, test_examples=500, protocol="notebook", seed=1),
    "notebook, large": Config(epochs=2, train_examples=600, test_examples=300, protocol="notebook", **LARGE),
}


def digests(finished: TrainedMixture) -> str:
    """The digests of a run's weights and scores, and how many epochs each stage took."""
    digest = hashlib.sha256()
    for name, network in finished.networks.items():
        for key, value in sorted(network.state_dict().items()):
            digest.update(f"{name}/{key}".encode())
            digest.update(value.contiguous().numpy().tobytes())
    assert finished.result.right
    score = json.dumps({**dict(finished.result.score), **dict(finished.result.right)}, sort_keys=True)
    epochs = [len(stage.epochs) for stage in finished.result.stages.values()]
    return f"weights {digest.hexdigest()} scores {hashlib.sha256(score.encode()).hexdigest()} epochs {epochs}"


def main() -> None:
    """Train the six configs and print their digests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, metavar="DIR", help="a folder with CIFAR-10")
    parser.add_argument("--cpus", type=int, default=1, help="stages at the same time (default: %(default)s)")
    arguments = parser.parse_args()
    data, devices = load("auto", arguments.data), [torch.device("cpu")] * arguments.cpus
    for name, config in CONFIGS.items():
        print(f"{name:24} {digests(train_mixture(config, data, devices=devices))}", flush=True)


if __name__ == "__main__":
    main()
