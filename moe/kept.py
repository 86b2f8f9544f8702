"""What a store keeps of a run: its networks' predictions for the images that score it. Nothing is trained or computed.

requests --> checkpoints in the store --> log-probabilities, weights --> probabilities, and who is right
"""

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from moe.console import warn
from moe.metrics import score
from moe.networks import blend, frozen_outputs
from moe.result import Right
from moe.stages import STAGES, Checkpoint, Request, resolved
from moe.store.entries import Entries
from moe.store.files import Place
from moe.store.tensors import State
from moe.store.tolerant import TolerantFiles
from moe.training.loop import Chain


def kept_probabilities(
    place: Place, requests: Mapping[str, Request], labels: Tensor
) -> tuple[dict[str, Tensor], Right] | None:
    """By stage, (N, outputs) probabilities of the scored images, as `moe.pipeline.probabilities`; None if not kept.

    Args:
        labels: (N,) of the scored images.
    """
    sentence = partial(warn, "warning")
    entries = Entries(TolerantFiles(place, sentence, 0), sentence)
    checkpoints: dict[str, Checkpoint] = {}
    found: dict[str, State] = {}
    for name, request in requests.items():
        asked = resolved(request, checkpoints) if request.spec.inputs else request
        manifest = entries.newest(asked.spec)
        chain = Chain(asked.spec, list(manifest.epochs) if manifest else [])
        if not chain.finished(asked.epochs):
            return None
        checkpoints[name] = chain.resolve(asked.epochs)
        state = entries.load_predictions(checkpoints[name], "score")
        if state is None:
            return None
        found[name] = state
    log_probs = {name: found[name]["log_probs"] for name in STAGES["mixture"].needs}
    mixture = blend(frozen_outputs(log_probs).log_probs, found["mixture"]["gate"]).softmax(1)
    probabilities = {**{name: values.exp() for name, values in log_probs.items()}, "mixture": mixture}
    return probabilities, score(log_probs, found["mixture"], labels)[1]
