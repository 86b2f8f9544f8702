"""Accuracies of the mixture, its baseline and its controls.

log-probabilities on the scored images --score--> accuracies, gain, discordance
"""

import torch
from torch import Tensor

from moe.config import ARTIFICIAL, NATURAL
from moe.networks import blend, opinion, says_natural
from moe.result import Score
from moe.stages import by_superclass, only


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
