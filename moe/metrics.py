"""What one run of the pipeline found.

log-probabilities on the scored images --score--> accuracies, gain, discordance
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from moe.config import ARTIFICIAL, NATURAL, Config
from moe.networks import blend, opinion, says_natural
from moe.stages import by_superclass, only
from moe.training.loop import Chain, Epoch, stop_epoch


@dataclass(frozen=True)
class Score:
    """Fractions of the scored images; an expert's accuracy is on its own classes."""

    gain: float  # mixture_accuracy - baseline_accuracy
    mixture_accuracy: float
    baseline_accuracy: float
    gate_accuracy: float
    artificial_accuracy: float
    natural_accuracy: float
    oracle_gate_accuracy: float  # the mixture with the true superclass in the gate's place
    average_accuracy: float  # the plain mean of baseline and gated expert
    discordance: float  # exactly one of mixture and baseline is right


@dataclass(frozen=True)
class StageResult:
    """What a stage came to within one run."""

    epochs: tuple[Epoch, ...]  # those that the run used
    best_epoch: int  # the one it was read at, from 1
    stopped: str  # "epochs": as many as the config allows; "patience": no lower validation loss
    parameters: int
    epochs_trained: int  # by this run
    epochs_reused: int  # from the store
    seconds: float  # of the epochs trained
    seconds_reused: float  # of the epochs reused, where they were trained

    @classmethod
    def of(cls, chain: Chain, epochs: int, parameters: int, trained: Sequence[tuple[int, Epoch]]) -> "StageResult":
        """What `chain` came to for a request of so many epochs, some of them, by number from 1, trained in this run."""
        used = chain.epochs[: chain.used(epochs)]
        here = {number for number, _ in trained}
        reused = [epoch for number, epoch in enumerate(used, 1) if number not in here]
        return cls(
            epochs=tuple(used),
            best_epoch=chain.resolve(epochs).epoch,
            stopped="patience" if stop_epoch(chain.losses, chain.spec.patience) == len(used) else "epochs",
            parameters=parameters,
            epochs_trained=len(trained),
            epochs_reused=len(reused),
            seconds=sum(epoch.seconds for _, epoch in trained),
            seconds_reused=sum(epoch.seconds for epoch in reused),
        )


@dataclass(frozen=True)
class Result:
    """All that a run of the pipeline found, and what it had to train."""

    config: Config
    dataset: str
    data: str  # the data set's fingerprint
    scored_examples: int
    score: Score
    stages: dict[str, StageResult]
    seconds: float  # training and evaluation, without loading
    device: str
    threads: int
    instructions: str  # of the CPU, or the GPU's model and CUDA's version

    @property
    def gain(self) -> float:
        """Mixture minus baseline accuracy."""
        return self.score.gain

    @property
    def parameters(self) -> int:
        """Of the whole mixture."""
        return sum(stage.parameters for stage in self.stages.values())

    def row(self) -> dict[str, Any]:
        """The fields of a results table, by column."""
        stages = self.stages.values()
        return {
            "dataset": self.dataset,
            **self.config.as_dict(),
            **asdict(self.score),
            "parameters": self.parameters,
            "seconds": self.seconds,
            "seconds_reused": sum(stage.seconds_reused for stage in stages),
            "epochs_trained": sum(stage.epochs_trained for stage in stages),
            "epochs_reused": sum(stage.epochs_reused for stage in stages),
            "device": self.device,
            "threads": self.threads,
        }

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON would have it."""
        stages = {name: asdict(stage) for name, stage in self.stages.items()}
        more = {"instructions": self.instructions, "data": self.data, "scored_examples": self.scored_examples}
        return {**self.row(), **more, "stages": stages}


def score(said: dict[str, Tensor], weights: dict[str, Tensor], labels: Tensor) -> Score:
    """Score the mixture and its controls.

    Args:
        said: log-probabilities of each frozen network, (N, 10), of the gate (N, 2).
        weights: (N, 10, 2) logits of the weights under each gate: "gate", and "oracle" for the true superclass.
        labels: (N,) int64.
    """
    truth = by_superclass(labels)[1] == 1  # (N,) natural
    choice = says_natural(said["gate"])
    view, oracle = opinion(said), opinion(said, truth)
    mixture = blend(view.log_probs, weights["gate"]).argmax(1) == labels
    baseline = said["baseline"].argmax(1) == labels
    images = len(labels)
    return Score(
        gain=(int(mixture.sum()) - int(baseline.sum())) / images,
        mixture_accuracy=share(mixture),
        baseline_accuracy=share(baseline),
        gate_accuracy=share(choice == truth),
        artificial_accuracy=_own(said["artificial"], labels, ARTIFICIAL),
        natural_accuracy=_own(said["natural"], labels, NATURAL),
        oracle_gate_accuracy=share(blend(oracle.log_probs, weights["oracle"]).argmax(1) == labels),
        average_accuracy=share(torch.logsumexp(view.log_probs, 2).argmax(1) == labels),
        discordance=share(mixture != baseline),
    )


def _own(log_probs: Tensor, labels: Tensor, classes: tuple[int, ...]) -> float:
    rows, labels = only(classes)(labels)
    return share(log_probs[rows].argmax(1) == labels[rows])


def share(right: Tensor) -> float:
    """The fraction of true values in a (N,) bool tensor."""
    return int(right.sum()) / len(right)
