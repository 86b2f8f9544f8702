"""What a confirmation costs and what it can resolve, judged by the study's records. Arithmetic only."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from moe.config import Config
from moe.result import Result
from study.select.interval import PERSISTENT, Noise, crossed
from study.study import COMPLETE, Record

FEWEST_SEEDS = 3  # of a config, to see how its gain varies between them
USUAL_DEVIATION = 0.013  # of the gain between seeds, measured on CIFAR-10 at six epochs; 0.047 at two
USUAL_SHARE = 0.65  # what controls add to a run, where no run of the config shows it


class Seen(NamedTuple):
    """How a config's gain varies, and where that is from."""

    noise: Noise
    seeds: int  # that it was seen on; 0 where it is assumed


def _trials(records: Sequence[Record], config: Config) -> list[Record]:
    """The complete trials of a config, whatever their seed."""
    return [one for one in records if one.state == COMPLETE and one.config.replace(seed=config.seed) == config]


def seen(records: Sequence[Record], config: Config) -> Seen:
    """How the gain varies between the trials of a config."""
    results = [record.done for record in _trials(records, config)]
    rights = [(result.right, result.scored_examples) for result in results if result.right]
    if len(rights) >= FEWEST_SEEDS:
        bits = [
            right.bits("mixture", images).astype(np.int8) - right.bits("baseline", images).astype(np.int8)
            for right, images in rights
        ]
        return Seen(crossed(np.stack(bits)).noise, len(rights))
    discordance = fmean(result.score.discordance for result in results) if results else 0.15
    return Seen(Noise(USUAL_DEVIATION, discordance, PERSISTENT), 0)


def screened(records: Sequence[Record], config: Config) -> float | None:
    """The gain in the first trial of a config; None without one."""
    trials = _trials(records, config)
    return min(trials, key=lambda record: record.trial).done.gain if trials else None


def seconds(records: Sequence[Record], config: Config, members: int) -> float:
    """What one seed of a config takes with its controls, none of it reused; judged by its trials, or by all.

    Args:
        members: networks of the compute-matched ensemble that are trained for it alone.
    """
    if trials := _trials(records, config):
        return fmean(_with_controls(record.done, members) for record in trials)
    return (1 + USUAL_SHARE) * fmean(_alone(record.done) for record in records if record.state == COMPLETE)


def _alone(result: Result) -> float:
    return result.totals.seconds + result.totals.seconds_reused


def _with_controls(result: Result, members: int) -> float:
    stages = {name: stage.seconds + stage.seconds_reused for name, stage in result.stages.items()}
    if not stages:
        return (1 + USUAL_SHARE) * _alone(result)
    generalist = stages["artificial"] + stages["natural"]  # which see four and six of ten classes
    return _alone(result) + 2 * generalist + members * stages["baseline"] + stages["mixture"]
