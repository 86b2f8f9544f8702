"""`python -m study.reproduce`: a tiny study on the built-in shapes, made without Ray, trained again and compared."""

import datetime
import io
import json
import math
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from moe import Config, Store, run
from moe.console import Exit
from moe.data import load
from moe.export import load as load_mixture
from moe.pipeline import probabilities
from study import machine
from study.files import seal
from study.folder import Folder, FolderError
from study.reproduce.__main__ import main
from study.reproduce.compare import compare, conditions
from study.reproduce.original import UnknownTrialError, find
from study.reproduce.report import FIRST_ROWS, comparison_table, describe_conditions, explanation, verdict
from study.space import parse
from study.study import COMPLETE, FAILED, Record, Run, Study
from tests.cli_helpers import outcomes, without

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


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study of two complete trials, a failed one and a running one; not to be changed."""
    data = load("shapes")
    folder = Folder(tmp_path_factory.mktemp("results") / "tiny")
    folder.trials.mkdir(parents=True)
    study = Study(
        name="tiny",
        space=SPACE,
        objective="gain",
        sampler="grid",
        seed=0,
        protocol="holdout",
        precision="float32",
        dataset="shapes",
        data=data.fingerprint,
        source=data.source,
        data_folder=None,
        trials=2,
    )
    folder.write_study(study, a_run(month(1), "a" * 40, machine.versions()))
    folder.write_study(study, a_run(month(5), "b" * 40, {"torch": "9.9"}))
    for number, (epochs, replicate) in enumerate([(1, 0), (2, 0), (1, 1), (1, 2)], 1):
        choices = config(epochs, seed=replicate)
        record = Record(trial=number, replicate=replicate, config=choices, started=month(3))
        if number <= 2:
            record = record.ended_as(COMPLETE, result=run(choices, data, devices=[CPU]))
        if number == 3:
            record = record.ended_as(FAILED, error="the loss is nan")
        folder.write_record(record)
    return folder.path


@pytest.fixture
def folder(made, tmp_path):
    """The same study, to be edited."""
    return Path(shutil.copytree(made, tmp_path / "tiny"))


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    def line(self, start):
        """The rest of the line of stdout that starts so."""
        return next(line.removeprefix(start) for line in self.out.splitlines() if line.startswith(start))


@pytest.fixture
def command(capsys):
    """Runs the command in this process."""

    def call(*arguments):
        try:
            code = main([str(word) for word in arguments])
        except SystemExit as end:
            code = end.code
        finally:
            torch.set_num_threads(1)
        return Outcome(code, *capsys.readouterr())

    return call


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


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("saved") / "mixture.safetensors"


@pytest.fixture(scope="module")
def outcome(made, file):
    """Of the second trial."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(made), "--trial", "2", "--save", str(file)])
    return Outcome(code, out.getvalue(), err.getvalue())


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


#: arguments, and what the sentence on stderr has to hold
WRONG = (
    ([], "results/NAME"),
    (["STUDY", "--trial", "x"], "--trial is 'x'; expected"),
    (["STUDY", "--trial", "9"], "--trial is 9; expected a trial of tiny: 1 to 4"),
    (["STUDY", "--trial", "-1"], "--trial is -1; expected a trial of tiny: 1 to 4"),
    (["STUDY", "--data", "."], "--data is .; expected none"),  # the study is on shapes
    (["STUDY", "--data", "nowhere"], "--data is nowhere; expected"),
    (["STUDY", "--data", ""], "--data is ''; expected"),
    (["STUDY", "--save", "TAKEN.safetensors"], "TAKEN.safetensors; expected"),
    (["STUDY", "--save", "m"], "--save is m; expected"),
    (["STUDY", "--save", ""], "--save is ''; expected"),
    (["STUDY", "--save", "/nowhere/m.safetensors"], "--save is /nowhere/m.safetensors; expected"),
    (["STUDY", "--store", "warp://x"], "--store is warp://x; expected"),
)


@pytest.fixture(scope="module")
def refusals(made, tmp_path_factory):
    """What each comes to without torch, and what stands for the words that are no paths."""
    place = tmp_path_factory.mktemp("wrong")
    (place / "m.safetensors").touch()
    words = {"STUDY": str(made), "TAKEN.safetensors": str(place / "m.safetensors")}
    calls = {tuple(arguments): tuple(words.get(word, word) for word in arguments) for arguments, _ in WRONG}
    found = outcomes("study.reproduce.__main__", calls.values(), without(place, "torch"))
    return {arguments: found[call] for arguments, call in calls.items()}, words


class TestUsage:
    @pytest.mark.parametrize(("arguments", "part"), WRONG, ids=[part for _, part in WRONG])
    def test_a_wrong_option_is_refused_in_one_sentence_without_torch(self, refusals, arguments, part):
        found, words = refusals
        code, out, err, seconds = found[tuple(arguments)]
        assert (code, out) == (Exit.USAGE, "")
        assert part.replace("TAKEN.safetensors", words["TAKEN.safetensors"]) in err
        assert len(err.splitlines()) == 1
        assert seconds < 5

    def test_the_version_is_printed(self, command):
        code, out, _ = command("--version")
        assert (code, out.split()[0]) == (0, "moe-study")

    def test_ctrl_c_has_the_exit_code_of_a_command_that_cannot_be_resumed(self, made, command, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr("study.reproduce.__main__.find", interrupt)
        assert command(made).code == Exit.CTRL_C


def damaged(change, part, *arguments):
    return pytest.param(change, part, arguments, id=part)


@pytest.mark.parametrize(
    ("change", "part", "arguments"),
    [
        damaged(shutil.rmtree, "holds no study", "--trial", 1),
        damaged(lambda f: (f / "study.json").write_text("no JSON"), "study.json is damaged"),
        damaged(lambda f: (f / "study.json").write_text("[]"), "study.json is damaged (it is"),
        damaged(
            lambda f: (f / "study.json").unlink() or (f / "study.json").mkdir(), "study.json is damaged (it is a folder"
        ),
        damaged(lambda f: record(f).write_text("no JSON"), "0001.json is damaged", "--trial", 1),
        damaged(lambda f: edit(record(f), "result", "score", "gain", to="x"), "gain is 'x'; expected", "--trial", 1),
        damaged(lambda f: edit(record(f), "result", "score", "gain", to=0.9), "gain is 0.9; expected", "--trial", 1),
        damaged(lambda f: edit(record(f), "result", "stages", to=3), "stages is 3; expected", "--trial", 1),
        damaged(lambda f: edit(record(f), "result", "score", to={}), "result.score.gain is missing", "--trial", 1),
        damaged(lambda f: [path.unlink() for path in (record(f), record(f, 2))], "no complete trial"),
        damaged(lambda f: edit(record(f), "started", to="2025-06-01T00:00:00Z"), "no run that began before trial 1"),
        damaged(lambda f: None, "trial 3 failed", "--trial", 3),
        damaged(lambda f: None, "study.run --resume --name tiny --results /", "--trial", 4),
        damaged(lambda f: edit(f / "study.json", "study", "data_folder", to="else/where"), "else/where, which is not"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_sentence_and_exit_code_4(folder, change, part, arguments, command):
    set_gain(folder, 1, 0.9 - result(folder).score.baseline_accuracy)  # the best trial
    change(folder)
    code, out, err = command(folder, *arguments)
    assert (code, out) == (Exit.ENVIRONMENT, "")
    assert part in err
    assert len(err.splitlines()) == 1


def test_a_path_that_is_too_long_is_one_sentence_and_exit_code_4(command):
    code, _, err = command("x" * 5000)
    assert (code, len(err.splitlines())) == (Exit.ENVIRONMENT, 1)


def test_other_data_are_refused_before_training(folder, command):
    edit(folder / "study.json", "study", "data", to="0" * 64)
    for number in (1, 2):
        edit(record(folder, number), "result", "data", to="0" * 64)
    code, out, err = command(folder, "--trial", "1")
    assert (code, out) == (Exit.ENVIRONMENT, "")
    assert load("shapes").fingerprint[:12] in err
    assert "0" * 12 in err
    assert "--data" in err


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


def change_loss(found, stage, epoch, value):
    """The same result with another training loss."""
    one = found.stages[stage]
    epochs = list(one.epochs)
    epochs[epoch] = epochs[epoch].replace(loss=value)
    return found.replace(stages={**found.stages, stage: one.replace(epochs=tuple(epochs))})


def change_stage(found, stage, **changes):
    return found.replace(stages={**found.stages, stage: found.stages[stage].replace(**changes)})


def differing(then, now):
    return [one.name for one in compare(then, now) if one.differs]


@pytest.fixture(scope="module")
def found(made):
    return result(made, 2)


class TestCompare:
    def test_scores_stages_and_epochs_are_compared(self, found):
        then = {one.name: one.then for one in compare(found, found)}
        assert len(then) == NUMBERS + 2 * NUMBERS_AN_EPOCH
        assert then["score.gain"] == found.gain
        assert then["stages.natural.epochs.2.loss"] == found.stages["natural"].epochs[1].loss
        assert then["stages.mixture.stopped"] == "epochs"
        assert then["stages.mixture.best_epoch"] == found.stages["mixture"].best_epoch
        assert then["scored_examples"] == 100

    def test_times_and_reuse_are_not_compared(self, found):
        other = found.replace(totals=found.totals.replace(seconds=1e6, epochs_reused=9, epochs_trained=0))
        other = change_stage(other, "gate", seconds=1e6, epochs_reused=2, epochs_trained=0)
        assert differing(found, other) == []

    def test_one_bit_is_a_difference(self, found):
        loss = found.stages["gate"].epochs[0].loss
        assert differing(found, change_loss(found, "gate", 0, loss)) == []
        assert differing(found, change_loss(found, "gate", 0, math.nextafter(loss, 9))) == ["stages.gate.epochs.1.loss"]

    def test_a_word_and_an_epoch_that_only_one_result_has_are_infinitely_far_apart(self, found):
        shorter = change_stage(found, "gate", epochs=found.stages["gate"].epochs[:1], stopped="patience", best_epoch=1)
        for one in (*compare(found, shorter), *compare(shorter, found)):
            if one.name == "stages.gate.stopped" or one.name.startswith("stages.gate.epochs.2."):
                assert one.differs
                assert one.distance == math.inf

    def same(self, original):
        now = original.result
        return {"device": "cpu", "instructions": now.instructions, "data": now.data}

    def test_only_the_code_differs_on_the_same_machine(self, made):
        found = conditions(find(made, 1), **self.same(find(made, 1)))
        assert [one.name for one in found if one.differs] == ["code"]

    @pytest.mark.parametrize(
        ("change", "name"),
        [
            ({"device": "NVIDIA H200"}, "device"),
            ({"instructions": "AVX9"}, "instruction set"),
            ({"data": "0" * 64}, "data"),
        ],
    )
    def test_a_condition_that_differs_is_named(self, made, change, name):
        original = find(made, 1)
        found = conditions(original, **{**self.same(original), **change})
        assert [one.name for one in found if one.differs] == [name, "code"]

    def test_a_version_that_differs_or_is_not_recorded_is_named(self, folder):
        edit(record(folder), "started", to=month(6).isoformat())  # its run recorded the version of torch only
        found = {one.name: one for one in conditions(find(folder, 1), **self.same(find(folder, 1)))}
        assert (found["torch"].then, found["torch"].now) == ("9.9", machine.versions()["torch"])
        assert (found["numpy"].then, found["numpy"].differs) == ("not recorded", True)

    @pytest.mark.parametrize(
        ("then", "now", "differs"),
        [
            ("a" * 40, "a" * 40, False),
            ("a" * 40, "b" * 40, True),
            ("a" * 40, "a" * 40 + "+", True),
            ("a" * 40 + "+", "a" * 40 + "+", True),  # changes since a commit may be others each time
            (None, "a" * 40, True),
            ("a" * 40, None, True),
            (None, None, True),
        ],
    )
    def test_code_is_the_same_at_the_same_commit_without_changes(self, folder, monkeypatch, then, now, differs):
        monkeypatch.setattr(machine, "commit", lambda: now)
        edit(folder / "study.json", "runs", 0, "commit", to=then)
        found = conditions(find(folder, 1), **self.same(find(folder, 1)))
        assert [one.differs for one in found if one.name == "code"] == [differs]


class TestReport:
    @pytest.fixture
    def numbers(self, found):
        """A word, then 13 losses that differ by ever more."""
        other = change_stage(found, "gate", stopped="patience")
        for place in range(10):
            stage, epoch = STAGES[place // 2], place % 2
            other = change_loss(other, stage, epoch, found.stages[stage].epochs[epoch].loss + 1e-7 * (place + 1))
        return compare(found, change_stage(other, "natural", best_epoch=9))

    def test_the_table_has_the_largest_differences_first_and_counts_the_rest(self, numbers):
        lines = comparison_table(numbers).splitlines()
        assert len(lines) == 1 + len(FIRST_ROWS) + 10 + 1
        assert [line.split()[0] for line in lines[1:4]] == list(FIRST_ROWS)
        assert lines[4].split() == ["stages.gate.stopped", "epochs", "patience", "different"]
        assert lines[5].split()[0] == "stages.natural.best_epoch"
        assert lines[6].split()[0] == "stages.mixture.epochs.2.loss"
        assert lines[6].endswith("+1.0e-06")
        assert lines[-1].startswith("and 2 more")
        assert lines[-1].endswith("2.0e-07")

    def test_the_verdict_counts_the_differences_and_names_the_largest(self, numbers):
        assert verdict(numbers).startswith(f"differs: 12 of {len(numbers)} numbers, stages.gate.stopped")

    def test_without_a_difference_all_are_identical(self, found):
        numbers = compare(found, found)
        assert verdict(numbers).startswith(f"identical: all {len(numbers)} ")

    def test_a_difference_in_gain_is_set_against_the_noise_over_images(self, found):
        score = {"gain": 0.02, "mixture_accuracy": 0.4, "baseline_accuracy": 0.38, "discordance": 0.1}
        then = found.replace(score=found.score.replace(**score), scored_examples=2000, right=None)
        now = then.replace(score=then.score.replace(gain=0.015, mixture_accuracy=0.395))
        text = explanation(then, now, [])
        assert "-0.50 points from the study's +2.00" in text
        assert "0.71" in text  # 100 * sqrt((0.1 - 0.015**2) / 2000)

    def test_what_differs_may_explain_a_difference(self, made, found):
        known = conditions(find(made, 2), device="cpu", instructions="AVX9", data=found.data)
        text = explanation(found, found, known)
        assert "instruction set " in text
        assert "here AVX9" in text

    def test_where_nothing_differs_the_record_may_have_been_edited(self, found):
        assert "edited" in explanation(found, found, [])

    def test_changes_since_a_commit_are_named_as_such(self, folder, found, monkeypatch):
        monkeypatch.setattr(machine, "commit", lambda: "a" * 40 + "+")
        edit(folder / "study.json", "runs", 0, "commit", to="a" * 40 + "+")
        known = conditions(find(folder, 2), device="cpu", instructions=found.instructions, data=found.data)
        assert "code aaaaaaaaaaaa with changes both then and here" in describe_conditions(known)
