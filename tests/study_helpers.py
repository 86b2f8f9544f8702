"""Studies and records that were never run, for tests of what is made of them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from moe.config import Config
from moe.result import Result, Score, Totals
from study.analyze.tables import write_all
from study.folder import Folder
from study.search.ledger import Ledger
from study.search.progress import Progress
from study.search.reference import missing_references
from study.space import parse
from study.study import COMPLETE, FAILED, RUNNING, Phase, Record, Reference, Run, State, Study, now

LARGE: dict[str, Any] = {"use_large_experts": True, "epochs": 4}
STARTED = datetime(2026, 1, 1, tzinfo=UTC)
SPACE = parse("small", {"epochs": [1, 2, 4], "use_large_experts": [False, True], "test_examples": 1000})


def a_study(**changes: Any) -> Study:
    """A study over six points."""
    fields: dict[str, Any] = {
        "name": "example",
        "space": SPACE,
        "objective": "gain",
        "sampler": "tpe",
        "seed": 0,
        "protocol": "holdout",
        "precision": "float32",
        "dataset": "shapes",
        "data": "d" * 64,
        "source": "shapes, drawn by code",
        "data_folder": None,
        "trials": 5,
    }
    return Study(**{**fields, **changes})


def a_folder(
    path: Path, study: Study | None = None, records: list[Record] | None = None
) -> tuple[Folder, Study, list[Record]]:
    """A study that ended: its choice has large experts and four epochs."""
    study = study or a_study()
    folder = Folder(path / study.name)
    (folder.path / "trials").mkdir(parents=True)
    folder.write_study(study, Run(started=now(), command="", commit=None, versions={}, store="default"))
    records = records or [a_record(1, gain=0.01), a_record(2, gain=0.05, **LARGE)]
    for record in records:
        folder.write_record(record)
    write_all(folder, study, records)
    return folder, study, records


def references(accuracy: float, train_examples: int = 5000) -> tuple[Reference, ...]:
    """What `a_study` has after its phase reference."""
    return (Reference(config=Config(epochs=4, train_examples=train_examples), accuracy=accuracy),)


def referred(study: Study) -> Study:
    """A study after its phase reference, whatever its space is."""
    found = (Reference(config=config, accuracy=0.5) for config in missing_references(study))
    return study.replace(reference=tuple(found))


def a_result(
    gain: float,
    config: Config | None = None,
    *,
    baseline: float = 0.5,
    discordance: float = 0.1,
    seconds: float = 60.0,
) -> Result:
    """What a run might have found."""
    score = Score(
        gain=gain,
        mixture_accuracy=baseline + gain,
        baseline_accuracy=baseline,
        gate_accuracy=0.9,
        artificial_accuracy=0.7,
        natural_accuracy=0.6,
        oracle_gate_accuracy=0.6,
        average_accuracy=0.5,
        discordance=discordance,
    )
    totals = Totals(parameters=11_836_616, seconds=seconds, seconds_reused=0.0, epochs_trained=5, epochs_reused=0)
    return Result(
        config=config or Config(test_examples=1000),
        dataset="shapes",
        data="d" * 64,
        scored_examples=1000,
        score=score,
        totals=totals,
        stages={},
        device="cpu",
        instructions="AVX512",
    )


def a_record(
    trial: int,
    gain: float | None = 0.01,
    state: State = COMPLETE,
    replicate: int = 0,
    phase: Phase = "search",
    **fields: Any,
) -> Record:
    """A trial at a point of the small space; `fields` are its config's."""
    config = Config(**{"test_examples": 1000, "seed": replicate, **fields})
    return Record(
        trial=trial,
        phase=phase,
        replicate=replicate,
        config=config,
        state=state,
        result=a_result(gain, config) if state == COMPLETE and gain is not None else None,
        error="out of luck" if state == FAILED else None,
        started=STARTED,
        ended=None if state == RUNNING else STARTED + timedelta(minutes=1),
    )


def silent(ledger: Ledger) -> Progress:
    """The progress of a study that nobody watches."""
    return Progress(ledger, terminal=False, emit=lambda line: None)
