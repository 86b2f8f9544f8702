"""A study of one config to confirm, in this process."""

import numpy as np

from moe.arms import ARMS
from study.confirm.options import parse
from study.confirm.outcome import conclude, scored
from study.confirm.plan import SeedRecord, packed_classes, planned_trials
from study.confirm.planning import planned
from study.folder import Folder
from study.space import parse as parse_space
from tests.study_helpers import STARTED, a_folder, a_record, a_study


def plan_of(path, *words, study=None):
    folder = Folder(path / "example")
    study = study or folder.read_study()
    options = parse([str(folder.path), *words])
    return planned(options, folder, study, folder.read_records(study), "python -m study.confirm")


def finish(confirmation, plan, gain=0.2, failed=()):
    """Scored records of made-up predictions, in which the mixture is right more often, and the result."""
    for path in [*confirmation.path.glob("*-*.json"), *confirmation.path.glob("result.json")]:
        path.unlink()
    labels = np.arange(200) % 10
    rng = np.random.default_rng(0)
    for role, config in planned_trials(plan):
        common = {"role": role, "config": config, "started": STARTED, "ended": STARTED, "seconds": 1.0}
        if config.seed in failed:
            confirmation.write_record(SeedRecord(**common, state="failed", error="diverged"))
            continue
        predicted = {}
        names = {"baseline", "two networks", "matched", "gate", "implied"}
        names |= {f"{arm.network}/{gate}" for arm in ARMS.values() if arm.gate for gate in ("artificial", "natural")}
        for name in sorted(names):
            right = rng.random(len(labels)) < 0.5 + gain * name.startswith("mixture")
            predicted[name] = packed_classes(np.where(right, labels, (labels + 1) % 10).astype(np.uint8))
        record = SeedRecord(**common, state="complete", images=len(labels), networks=3, predicted=predicted)
        confirmation.write_record(scored(record, labels))
    outcome = conclude(plan, confirmation.read_records(plan), labels)
    confirmation.write_result(outcome)
    return outcome


TINY = {"train_examples": 60, "test_examples": 20, "batch_size": 20}


def without_ray(monkeypatch, data):
    """Training in this process on these data; a number in the list ends it after so many seeds."""
    ends = []

    def run_tasks(work, tasks, config, resources, address, stop, done, stall_s):
        for number, task in enumerate(tasks):
            if ends and number == ends[0]:
                del ends[0]
                stop.signalled = True
                return
            done(work(task, lambda *_: None))

    monkeypatch.setattr("study.confirm.run.run_tasks", run_tasks)
    monkeypatch.setattr("study.confirm.run.load_data", lambda folder, study: data)
    monkeypatch.setattr("study.search.worker.data", lambda job: data)
    return ends


def a_tiny_study(path, data="f" * 64, **choices):
    """One config, which is the choice and the default, on the data of these tests."""
    choices = {"epochs": 1, **TINY, **choices}
    record = a_record(1, 0.01, **choices)
    study = a_study(space=parse_space("small", choices), data=data)
    return a_folder(path, study, [record.replace(result=record.done.replace(data=data))])[0].path
