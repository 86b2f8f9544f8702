"""Studies with many trials that were never run, and the analyze command in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from moe.result import Epoch, StageResult
from study.files import seal
from study.folder import Folder
from study.space import PRESETS, Space
from study.study import Record, StudyFile
from tests.study_helpers import a_record, a_study

EPOCH = Epoch(loss=1.6789, accuracy=0.4321, validation_loss=1.7891, validation_accuracy=0.4123, seconds=1.234567)
STAGES = ("baseline", "gate", "artificial", "natural", "mixture")


def write(path: Path, records: Iterable[Record], **study: Any) -> Folder:
    """A study's folder with these records, quickly: files of a test need not outlive a crash."""
    folder = Folder(path)
    folder.trials.mkdir(parents=True)
    folder.definition.write_text(seal(StudyFile(study=a_study(name=path.name, **study), runs=()).as_json()))
    for record in records:
        (folder.trials / f"{record.trial:04d}.json").write_text(seal(record.as_json()))
    return folder


def scored(record: Record, gain: float, baseline: float) -> Record:
    """The record with another gain, over a baseline of that accuracy."""
    score = record.done.score.replace(gain=gain, baseline_accuracy=baseline, mixture_accuracy=baseline + gain)
    return record.replace(result=record.done.replace(score=score))


def weak(trial: int, gain: float, baseline: float, **fields: Any) -> Record:
    """A trial that gains over a baseline of that accuracy."""
    return scored(a_record(trial, 0.0, **fields), gain, baseline)


def trained(record: Record, epochs: int) -> Record:
    """The record with stages of so many epochs, of which five were reused."""
    stage = StageResult(
        epochs=(EPOCH,) * epochs,
        best_epoch=epochs,
        stopped="epochs",
        parameters=1_234_567,
        epochs_trained=0,
        epochs_reused=epochs,
        seconds=0.0,
        seconds_reused=epochs * EPOCH.seconds,
    )
    totals = record.done.totals.replace(epochs_reused=5, seconds_reused=30.0)
    return record.replace(result=record.done.replace(stages=dict.fromkeys(STAGES, stage), totals=totals))


def search(
    trials: int, space: Space = PRESETS["notebook"], seed: int = 0, noise: float = 0.01, **fields: Any
) -> Iterator[Record]:
    """Complete trials over a space, in which large baselines gain and epochs make accurate."""
    draw = np.random.default_rng(seed)
    positions = draw.permutation(space.size).tolist()
    for trial in range(1, trials + 1):
        values = space.values(space.at(positions[trial % space.size]))
        gain = 0.02 + 0.03 * values.get("use_large_baseline_classifier", 0) + noise * draw.standard_normal()
        baseline = 0.2 + 0.03 * min(10, values.get("epochs", 1)) + 0.01 * draw.standard_normal()
        record = a_record(trial, 0.0, replicate=(trial - 1) // space.size, **{**values, **fields})
        yield trained(scored(record, gain, baseline), min(4, values.get("epochs", 1)))


def call(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command; warnings are errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "study.analyze", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "110", **environment},
    )
