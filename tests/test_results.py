"""A study's results in Python, as a notebook has them."""

import io
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from moe.config import Config
from study import load
from study.columns import COLUMNS, EPOCHS
from study.folder import FolderError
from study.space import PRESETS
from tests.analyze_helpers import STAGES, search, write
from tests.study_helpers import a_record


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    others = [a_record(n, state=state, test_examples=2000) for n, state in ((31, "failed"), (32, "running"))]
    records = [*search(30), *others]
    return load(write(tmp_path_factory.mktemp("of") / "s", records, space=PRESETS["notebook"]).path)


def test_importing_the_package_is_cheap_and_load_is_not_hidden():
    code = "import sys, study; print([name for name in ('pandas', 'optuna', 'torch', 'ray') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}; from study import load"], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(("table", "columns"), [("trials", COLUMNS), ("epochs", EPOCHS)])
def test_the_tables_have_the_types_of_the_documentation(study, table, columns):
    types = {name: str(kind) for name, kind in getattr(study, table).dtypes.items()}
    assert types == {name: column.type for name, column in columns.items()}


def test_the_tables_are_those_of_the_records(study):
    assert study.trials["state"].value_counts().to_dict() == {"complete": 30, "failed": 1, "running": 1}
    rows = study.epochs[study.epochs.trial == 4]
    assert rows["stage"].unique().tolist() == list(STAGES)
    curves = study.epochs[study.epochs.stage == "mixture"].pivot(
        index="epoch", columns="trial", values="validation_accuracy"
    )
    assert curves.shape == (4, 30)


def test_curves_are_trials_and_epochs_in_one_file(study, tmp_path):
    study.curves.to_parquet(tmp_path / "curves.parquet")
    found = pd.read_parquet(tmp_path / "curves.parquet")
    complete = study.trials[study.trials.state == "complete"].reset_index(drop=True)
    pd.testing.assert_frame_equal(found[list(COLUMNS)], complete)
    rows = study.epochs[(study.epochs.trial == 4) & (study.epochs.stage == "gate")]
    curve = pd.DataFrame(list(found[found.trial == 4].gate_epochs.item()))
    pd.testing.assert_frame_equal(curve, rows[list(curve)].reset_index(drop=True))


def test_the_committed_curves_are_those_of_the_committed_study():
    folder = Path(__file__).parents[1] / "results" / "cifar-notebook"
    found, expected = pd.read_parquet(folder / "curves.parquet"), load(folder).curves
    assert found.to_json() == expected.to_json()


def test_the_estimate_of_a_tried_config_is_the_models_and_an_untried_one_has_one_too(study):
    fit = study.analysis.best
    place = 7
    found = study.estimate(study.records[place].config.replace(seed=9))
    assert found.value == pytest.approx(fit.estimate[fit.config_of[place]], abs=2e-4)
    assert (found.trials, found.low) == (1, None)
    tried = {tuple(study.study.space.point(record.config).values()) for record in study.records}
    untried = next(study.study.space.at(n) for n in range(144) if tuple(study.study.space.at(n).values()) not in tried)
    assert study.estimate(Config(**study.study.space.values(untried))).trials == 0
    with pytest.raises(ValueError, match="epochs"):
        study.estimate(Config(epochs=77, test_examples=2000))


def test_optuna_has_the_ended_trials_and_their_best(study):
    found = study.optuna()
    assert found.best_value == study.trials["gain"].max()
    assert found.best_trial.number == study.trials.set_index("trial")["gain"].idxmax()


def test_the_figures_are_matplotlibs(study, tmp_path):
    study.figures["cost"].savefig(tmp_path / "cost.svg")
    assert (tmp_path / "cost.svg").stat().st_size > 1000
    assert list(study.figures) == ["gains", "trials", "accuracies", "effects", "curves", "cost"]


def test_a_terminal_and_a_notebook_show_the_choice(study):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(study)
    assert "estimated gain" in console.export_text()
    assert "| trial |" in study._repr_markdown_()
    assert repr(study).startswith("<study s: 30 complete, 1 failed, 1 running. ")


def test_a_study_without_a_complete_trial_has_no_choice_and_empty_tables(tmp_path):
    study = load(write(tmp_path / "s", []).path)
    assert study.best is None
    assert dict(study.figures) == {}
    assert len(study.trials) == len(study.epochs) == len(study.curves) == len(study.optuna().trials) == 0
    assert repr(study) == "<study s: no trials>"
    with pytest.raises(ValueError, match="complete trial"):
        study.estimate(Config(test_examples=1000))
    with pytest.raises(FolderError):
        load(tmp_path / "nothing")
