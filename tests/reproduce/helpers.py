"""A study of two points, and ways to edit its records."""

import datetime
import json
from typing import NamedTuple

import torch

from moe import Config
from study.files import seal
from study.reproduce.original import find
from study.space import parse
from study.study import Run

SPACE = parse("two", {"epochs": [1, 2], "train_examples": 60, "test_examples": [50, 60], "batch_size": 20})

CPU = torch.device("cpu")

STAGES = ("baseline", "gate", "artificial", "natural", "mixture")

NUMBERS = 11 + 2 + 5 * 3  # scores with who is right, scored images and parameters, and three of each stage

NUMBERS_AN_EPOCH = 5 * 4


def month(number):
    return datetime.datetime(2026, number, 1, tzinfo=datetime.UTC)


def config(epochs, **changes):
    return Config(epochs=epochs, train_examples=60, test_examples=50, batch_size=20, **changes)


def a_run(started, commit, versions):
    return Run(started=started, command="study.run", commit=commit, versions=versions, store="none")


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    def line(self, start):
        """The rest of the line of stdout that starts so."""
        return next(line.removeprefix(start) for line in self.out.splitlines() if line.startswith(start))


def edit(path, *keys, to):
    """Put another value into a JSON file."""
    entries = json.loads(path.read_text())
    inner = entries
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    path.write_text(sealed(entries))


def sealed(entries):
    """The text of a study's file with these entries and their checksum."""
    return seal({name: value for name, value in entries.items() if name != "sha256"})


def record(folder, number=1):
    return folder / "trials" / f"{number:04d}.json"


def result(folder, number=1):
    return find(folder, number).result


def set_gain(folder, number, gain):
    """Edit a record's gain, and the accuracy that it follows from."""
    baseline = result(folder, number).score.baseline_accuracy
    entries = json.loads(record(folder, number).read_text())
    entries["result"]["score"] |= {"gain": gain, "mixture_accuracy": baseline + gain}
    entries["result"]["right"] = None
    record(folder, number).write_text(sealed(entries))
