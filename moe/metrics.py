"""Accuracies of the mixture, its baseline and its controls.

log-probabilities on the scored images --score--> accuracies, gain, discordance; who is right on which image
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from moe.bits import pack
from moe.config import ARTIFICIAL, NATURAL
from moe.networks import blend, frozen_outputs, picks_natural
from moe.result import Right, Score
from moe.stages import by_superclass, only


def score(log_probs: Mapping[str, Tensor], weights: Mapping[str, Tensor], labels: Tensor) -> tuple[Score, Right]:
    """Score the mixture and its controls.

    Args:
        log_probs: of each frozen network by stage, (N, 10), of the gate (N, 2).
        weights: (N, 10, 2) logits of the weights under each gate: "gate", and "oracle" for the true superclass.
        labels: (N,) int64.
    """
    truth = by_superclass(labels)[1] == 1  # (N,) natural
    picked = picks_natural(log_probs["gate"])
    frozen, oracle = frozen_outputs(log_probs), frozen_outputs(log_probs, truth)
    classes = blend(frozen.log_probs, weights["gate"]).argmax(1), log_probs["baseline"].argmax(1)
    mixture, baseline = (predicted == labels for predicted in classes)
    average = torch.logsumexp(frozen.log_probs, 2).argmax(1) == labels
    oracle_gate = blend(oracle.log_probs, weights["oracle"]).argmax(1) == labels
    scored = Score(
        gain=(int(mixture.sum()) - int(baseline.sum())) / len(labels),
        mixture_accuracy=share(mixture),
        baseline_accuracy=share(baseline),
        gate_accuracy=share(picked == truth),
        artificial_accuracy=_own(log_probs["artificial"], labels, ARTIFICIAL),
        natural_accuracy=_own(log_probs["natural"], labels, NATURAL),
        oracle_gate_accuracy=share(oracle_gate),
        average_accuracy=share(average),
        discordance=share(mixture != baseline),
        constant=any(bool((predicted == predicted[0]).all()) for predicted in classes),
    )
    rights = {"baseline": baseline, "mixture": mixture, "average": average, "oracle": oracle_gate}
    return scored, Right(**{name: pack(right.cpu().numpy()) for name, right in rights.items()})


def _own(log_probs: Tensor, labels: Tensor, classes: tuple[int, ...]) -> float:
    rows, labels = only(classes)(labels)
    return share(log_probs[rows].argmax(1) == labels[rows])


def share(right: Tensor) -> float:
    """The fraction of true values in a (N,) bool tensor."""
    return int(right.sum()) / len(right)
