"""The arms of a confirmation: mixture, baseline and controls as rows of a table, and when each is right. No torch.

    predicted classes, true labels --right--> (N,) bool per arm

What a gate decides between is predicted for both branches, so that the mixture under another gate, the true superclass
included, needs no further training or prediction.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe.bits import Bools
from moe.config import NATURAL

Classes = NDArray[np.uint8]  # (N,) predicted classes, or 1 where a gate picks the natural branch
Predicted = Mapping[str, Classes]  # by network, of each branch "network/artificial" and "network/natural"

GATE, IMPLIED, TRUTH = "gate", "implied", "truth"


@dataclass(frozen=True)
class Arm:
    """A classifier of all images."""

    words: str
    network: str  # in what is predicted
    gate: str | None = None  # what picks the branch, where there is one
    or_baseline: bool = False  # right also where the baseline is: the best that weights could do
    decisive: bool = False  # the mixture has to beat it
    exchanged: bool = False  # the mixture with one part exchanged, of interest beside the mixture only

    @property
    def competes(self) -> bool:
        """Whether it needs no label: the others are bounds, not competitors."""
        return self.gate != TRUTH and not self.or_baseline


ARMS = {
    "baseline": Arm("the baseline", "baseline"),
    "mixture": Arm("the mixture", "mixture", GATE),
    "average": Arm("the plain average of baseline and gated expert", "average", GATE),
    "experts": Arm("the experts alone", "expert", GATE),
    "oracle_gate": Arm("the mixture with the true superclass as its gate", "mixture", TRUTH),
    "implied_gate": Arm("the mixture with the baseline's superclass as its gate", "mixture", IMPLIED),
    "two_networks": Arm("the average of baseline and a second network", "two networks", decisive=True),
    "generalists": Arm("the mixture with generalists for experts", "generalists", GATE, decisive=True),
    "matched_ensemble": Arm("the average of as many networks as the mixture costs", "matched", decisive=True),
    "exchanged_experts": Arm("the mixture's subgates over generalists", "exchanged experts", GATE, exchanged=True),
    "exchanged_baseline": Arm(
        "the mixture over the average of two networks", "exchanged baseline", GATE, exchanged=True
    ),
    "oracle_subgates": Arm(
        "baseline or gated expert, whichever is right", "expert", GATE, or_baseline=True, exchanged=True
    ),
}
#: the names that `Predicted` has
NETWORKS = frozenset(
    {GATE, IMPLIED, "baseline"}
    | {arm.network for arm in ARMS.values() if arm.gate is None}
    | {f"{arm.network}/{branch}" for arm in ARMS.values() if arm.gate for branch in ("artificial", "natural")}
)
DECISIVE = tuple(name for name, arm in ARMS.items() if arm.decisive)


@dataclass(frozen=True)
class Difference:
    """The step from one arm to another, in what it means."""

    words: str
    arm: str
    minus: str


#: from the baseline to the mixture; they add up to the gain, image by image
STEPS = (
    Difference("ensemble effect: a second network, averaged", "two_networks", "baseline"),
    Difference("routing: a gated expert in the second network's place", "average", "two_networks"),
    Difference("weighting: the subgates' weights in place of equal ones", "mixture", "average"),
)

#: one part of the mixture exchanged, the others as they were trained
EXCHANGES = (
    Difference("gate by the true superclass", "oracle_gate", "mixture"),
    Difference("gate by the baseline's superclass", "implied_gate", "mixture"),
    Difference("experts by generalists", "exchanged_experts", "mixture"),
    Difference("subgates by equal weights", "average", "mixture"),
    Difference("subgates by the best weights that there are", "oracle_subgates", "mixture"),
    Difference("baseline by the average of two networks", "exchanged_baseline", "mixture"),
)


def right(arm: Arm, predicted: Predicted, labels: NDArray[np.int64]) -> Bools:
    """(N,) bool: whether the arm's prediction is the label."""
    classes = predicted[arm.network] if arm.gate is None else _gated(arm.network, arm.gate, predicted, labels)
    found: Bools = classes == labels
    return found | (predicted["baseline"] == labels) if arm.or_baseline else found


def _gated(network: str, gate: str, predicted: Predicted, labels: NDArray[np.int64]) -> Classes:
    natural = np.isin(labels, NATURAL) if gate == TRUTH else predicted[gate].astype(bool)
    return np.where(natural, predicted[f"{network}/natural"], predicted[f"{network}/artificial"])
