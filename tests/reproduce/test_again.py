"""`python -m study.reproduce`: trained again and equal, or different and why."""

import json
from pathlib import Path

import pytest
import torch

from moe import Store, run
from moe.console import Exit
from moe.data import load
from moe.export import load as load_mixture
from moe.pipeline import probabilities
from study import machine
from study.folder import FolderError
from study.reproduce.original import UnknownTrialError, find
from study.reproduce.report import FIRST_ROWS
from tests.reproduce.helpers import (
    CPU,
    NUMBERS,
    NUMBERS_AN_EPOCH,
    STAGES,
    config,
    edit,
    month,
    record,
    result,
    set_gain,
)


class TestTrainingAgain:
    def test_every_number_is_the_same_to_the_last_bit(self, outcome):
        assert outcome.code == Exit.DONE, outcome
        assert f"identical: all {NUMBERS + 2 * NUMBERS_AN_EPOCH} " in outcome.out

    def test_json_is_all_that_is_printed(self, made, command):
        done = command(made, "--trial", "1", "--json")
        found = json.loads(done.out)
        assert (done.code, found["study"], found["trial"], found["identical"]) == (Exit.DONE, "tiny", 1, True)
        assert len(found["numbers"]) == NUMBERS + NUMBERS_AN_EPOCH
        assert found["result"]["score"] == result(made).score.as_json()
        assert "identical: all" in done.err

    def test_the_trial_its_config_and_the_data_are_named(self, outcome):
        assert outcome.line("Trial 2 of study tiny: ").startswith("epochs 2, batch_size 20")
        assert outcome.line("Data: ") == load("shapes").source

    def test_the_same_conditions_are_named(self, outcome):
        same = outcome.line("Same as in the study: ")
        for name in ("torch", "numpy", "python", "device cpu", "instruction set", "data"):
            assert name in same

    def test_another_commit_is_named(self, outcome):
        assert outcome.line("Different from the study: ").startswith("code aaaaaaaaaaaa, here ")

    def test_the_table_has_the_gain_and_its_accuracies(self, outcome, made):
        rows = {line.split()[0]: line.split()[1:] for line in outcome.out.splitlines() if line.endswith("same")}
        score = result(made, 2).score
        values = [score.gain, score.mixture_accuracy, score.baseline_accuracy]
        assert rows == {name: [f"{value:.6f}"] * 2 + ["same"] for name, value in zip(FIRST_ROWS, values, strict=True)}

    def test_progress_is_shown_on_stderr(self, outcome):
        assert all(stage in outcome.err for stage in STAGES)

    def test_a_saved_mixture_names_its_study_and_trial(self, outcome, file):
        origin = load_mixture(file).description.origin
        assert (origin.study, origin.trial, origin.commit) == ("tiny", 2, machine.commit())
        assert origin.comparison.startswith("identical")
        assert "--save" in origin.command

    def test_a_saved_mixture_has_the_result_and_predicts(self, outcome, made, file):
        mixture = load_mixture(file)
        assert mixture.description.result.score == result(made, 2).score
        predicted = probabilities(mixture.networks, load("shapes").test_images[:5])
        assert predicted["mixture"].shape == (5, 10)


class TestDifferences:
    def test_an_edited_number_is_found_and_named(self, folder, command):
        edit(record(folder), "result", "stages", "gate", "epochs", 0, "validation_loss", to=0.25)
        outcome = command(folder, "--trial", "1")
        assert outcome.code == Exit.DIFFERS
        assert outcome.line("differs: ") == f"1 of {NUMBERS + NUMBERS_AN_EPOCH} numbers, " + (
            "stages.gate.epochs.1.validation_loss most"
        )

    def test_an_edited_gain_is_given_in_points(self, folder, command):
        set_gain(folder, 1, 0.5)
        outcome = command(folder, "--trial", "1")
        assert outcome.code == Exit.DIFFERS
        assert "from the study's +50.00" in outcome.out

    def test_epochs_from_a_store_are_counted(self, made, tmp_path, command):
        with Store(str(tmp_path)) as store:
            run(config(1), load("shapes"), store, devices=[CPU])
        outcome = command(made, "--trial", "1", "--store", tmp_path)
        assert outcome.code == Exit.DONE
        assert "5 of 5 epochs are from the store" in outcome.out

    def test_without_the_studys_gpu_the_cpu_is_used(self, folder, command, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        edit(record(folder), "result", "device", to="NVIDIA H200")
        outcome = command(folder, "--trial", "1")
        assert outcome.code in (Exit.DONE, Exit.DIFFERS)
        assert "device NVIDIA H200, here cpu" in outcome.line("Different from the study: ")


class TestOriginal:
    def test_the_default_is_the_first_trial_of_the_best_config(self, folder):
        for gains, best in (((-0.2, -0.1), 2), ((-0.1, -0.2), 1)):
            for number, gain in enumerate(gains, 1):
                set_gain(folder, number, gain + 0.2)
            assert find(folder, None).record.trial == best

    def test_a_folder_has_its_name_also_as_the_current_one(self, folder, monkeypatch):
        monkeypatch.chdir(folder)
        assert find(Path(), 1).study.name == "tiny"

    def test_the_command_that_resumes_has_the_name_and_the_folder(self, folder, monkeypatch):
        monkeypatch.chdir(folder)
        with pytest.raises(FolderError, match=r"study\.run --resume --name tiny --results /"):
            find(Path(), 4)

    @pytest.mark.parametrize(("started", "commit"), [(3, "a"), (5, "b"), (6, "b")])
    def test_a_trials_run_is_the_last_one_that_began_before_it(self, folder, started, commit):
        edit(record(folder), "started", to=month(started).isoformat())
        assert find(folder, 1).run.commit == commit * 40

    def test_a_trial_from_before_the_first_run_is_refused(self, folder):
        edit(record(folder), "started", to="2025-06-01T00:00:00Z")
        with pytest.raises(FolderError, match="no run that began before trial 1"):
            find(folder, 1)

    def test_the_trials_of_a_study_are_given_in_ranges(self, folder):
        record(folder, 2).unlink()
        with pytest.raises(UnknownTrialError, match="2; expected a trial of tiny: 1, 3 to 4"):
            find(folder, 2)

    def test_a_file_is_no_study(self, made):
        with pytest.raises(FolderError, match="holds no study"):
            find(made / "study.json", None)
