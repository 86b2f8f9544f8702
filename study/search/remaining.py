"""What a config still has to train: its stages' epochs less those in the store, as long as they took in a study."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from moe.config import Config
from moe.stages import STAGES, Checkpoint, Request, plan, resolved
from moe.store.entries import Entries
from moe.store.location import place_at
from moe.store.locks import Timing
from moe.store.tolerant import TolerantFiles
from moe.training.loop import Chain
from moe.training.numerics import configure_numerics
from study.study import COMPLETE, Record


class Remaining(NamedTuple):
    """The epochs of a config's five stages; fewer if patience ends one that is not stored yet."""

    epochs: int
    stored: int
    seconds: float | None  # of the others, one after the other; None if no trial has trained such a stage


def remaining(
    config: Config,
    data: str,
    records: Sequence[Record],
    location: str | None,
    device: torch.device,
    warn: Callable[[str], None],
) -> Remaining:
    """What a config has to train on this machine. Only a damaged manifest is set aside; nothing else is written.

    Args:
        data: the data set's fingerprint.
        records: of the study, whose epochs show how long one takes for an image.
        location: of the store; None for none.
        warn: called with a sentence when the store cannot be read.
    """
    requests = plan(config, data, configure_numerics(device, config.precision))
    entries = Entries(TolerantFiles(place_at(location), warn, Timing.rest_s), warn) if location else None
    checkpoints: dict[str, Checkpoint] = {}
    epochs, stored, seconds = 0, 0, list[float | None]()
    for name, request in requests.items():
        chain = _stored(request, checkpoints, entries)
        if chain.finished(request.epochs):
            checkpoints[name] = chain.resolve(request.epochs)
        used = chain.used(request.epochs)
        left = max(0, used - len(chain.epochs))
        epochs, stored = epochs + used, stored + used - left
        seconds.append(left and _seconds(records, config, name, left))
    known = [each for each in seconds if each is not None]
    return Remaining(epochs, stored, sum(known) if len(known) == len(seconds) else None)


def _stored(request: Request, checkpoints: dict[str, Checkpoint], entries: Entries | None) -> Chain:
    """A stage as far as it is stored; one that needs a checkpoint still to be trained counts as not stored."""
    needs = STAGES[request.spec.stage].needs
    if entries is None or not checkpoints.keys() >= {*needs}:
        return Chain(request.spec)
    spec = resolved(request, checkpoints).spec
    found = entries.newest(spec)
    return Chain(spec, list(found.epochs) if found else [])


def _seconds(records: Sequence[Record], config: Config, stage: str, epochs: int) -> float | None:
    """What so many epochs take by the trials with a network of that size, in proportion to their images."""
    size, seconds, images = STAGES[stage].size, 0.0, 0
    for record in records:
        if record.state == COMPLETE and stage in record.done.stages and size(record.config) == size(config):
            trained = record.done.stages[stage].epochs
            seconds += sum(epoch.seconds for epoch in trained)
            images += len(trained) * record.config.train_examples
    return epochs * config.train_examples * seconds / images if images else None
