"""`python -m study.reproduce`: a tiny study on the built-in shapes, made without Ray, trained again and compared."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from moe import Config, Store, run
from moe.data import load
from study import machine
from study.analyze.tables import write_all
from study.folder import Folder, FolderError
from study.reproduce.circumstances import circumstances
from study.reproduce.numbers import compare, numbers
from study.reproduce.original import find
from study.reproduce.report import before, table, verdict, why
from study.space import parse
from study.study import COMPLETE, FAILED, Record, Study

SPACE = parse("two", {"epochs": [1, 2], "train_examples": 60, "test_examples": [50, 60], "batch_size": 20})
CPU = torch.device("cpu")
STARTED = "2026-03-01T00:00:00+00:00"


def config(epochs, **changes):
    return Config(epochs=epochs, train_examples=60, test_examples=50, batch_size=20, **changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study of two complete trials, a failed one and a running one; not to be changed."""
    data = load("shapes")
    folder = Folder(tmp_path_factory.mktemp("results") / "tiny")
    folder.trials.mkdir(parents=True)
    choices = {"objective": "gain", "sampler": "grid", "seed": 0, "protocol": "holdout"}
    about = {
        "precision": "float32",
        "dataset": "shapes",
        "data": data.fingerprint,
        "source": data.source,
        "data_folder": None,
        "trials": 2,
    }
    study = Study(name="tiny", space=SPACE, **choices, **about)
    past = {"started": "2026-01-01T00:00:00+00:00", "versions": machine.versions(), "commit": "a" * 40}
    later = {"started": "2026-05-01T00:00:00+00:00", "versions": {"torch": "9.9"}, "commit": "b" * 40}
    for this_run in (past, later):
        folder.write_study(study, this_run)
    records = [
        Record(trial=number, replicate=seed, config=config(epochs, seed=seed).as_dict(), started=STARTED)
        for number, (epochs, seed) in enumerate([(1, 0), (2, 0), (1, 7), (1, 8)], 1)
    ]
    for record, result in zip(
        records, [*(run(config(n), data, devices=[CPU], score_examples=60) for n in (1, 2)), None], strict=False
    ):
        state = COMPLETE if result else FAILED
        ended = {"result": result.as_dict()} if result else {"error": "the loss is nan"}
        folder.write_record(record.ended_as(state, **ended))
    folder.write_record(records[3])
    write_all(folder, study, folder.read_records(study))
    return folder.path


@pytest.fixture
def folder(made, tmp_path):
    """The same study, to be edited."""
    return Path(shutil.copytree(made, tmp_path / "tiny"))


def call(*arguments, **environment):
    """The exit code, and what the command prints to stdout and to stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "study.reproduce", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout, done.stderr


def within(monkeypatch, capsys, *arguments):
    """The same, in this process."""
    from study.reproduce.__main__ import main

    monkeypatch.setattr(sys, "argv", ["study.reproduce", *map(str, arguments)])
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    finally:
        torch.set_num_threads(1)
    return code, *capsys.readouterr()


#: a program that calls the command with each list of words, from the first import on, and tells what came of it
EACH = """
import contextlib, io, json, sys, time
for words in sys.argv[1:]:
    began, printed, shown, code = time.monotonic(), io.StringIO(), io.StringIO(), None
    sys.argv = ["study.reproduce", *json.loads(words)]
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(shown):
        from study.reproduce.__main__ import main
        try:
            code = main()
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, printed.getvalue(), shown.getvalue(), time.monotonic() - began]))
"""


def edit(path, *keys, to):
    """Put another value into a JSON file."""
    entries = json.loads(path.read_text())
    inner = entries
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    path.write_text(json.dumps(entries))


def record(folder, number=1):
    return folder / "trials" / f"{number:04d}.json"


def test_a_trial_comes_out_again_to_the_last_bit_shows_its_progress_and_is_kept(made, tmp_path):
    code, printed, shown = call(made, "--trial", "2", "--save", tmp_path / "m", OMP_NUM_THREADS="2")
    assert code == 0, printed + shown
    for part in (
        "Trial 2 of study tiny: epochs 2",
        "Data: shapes, drawn by code",
        f"As in the study: torch {machine.versions()['torch']}",
        "device cpu, threads 1, instruction set ",
        *(["Not as in the study: code aaaaaaaaaaaa, here "] if machine.commit() else []),  # else it is not known here
        "identical: all 71 recorded numbers came out again, to the last bit",
    ):
        assert part in printed
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.endswith("same")}
    assert list(rows) == ["gain", "mixture_accuracy", "baseline_accuracy"]
    found = json.loads(record(made, 2).read_text())["result"]
    assert rows["gain"] == [f"{found['gain']:.6f}"] * 2 + ["same"]
    for stage in ("baseline", "gate", "artificial", "natural", "mixture"):
        assert stage in shown  # its bar
    about = json.loads((tmp_path / "m" / "mixture.json").read_text())
    assert (about["made"]["study"], about["made"]["trial"]) == ("tiny", 2)
    assert about["made"]["compared"].startswith("identical")
    assert about["result"]["gain"] == found["gain"]
    assert about["classes"][2] == "peanut"

    from moe.export import load as load_mixture
    from moe.pipeline import probabilities

    said = probabilities(load_mixture(tmp_path / "m").networks, load("shapes").test_images[:5])
    assert said["mixture"].shape == (5, 10)


def test_a_number_that_was_edited_is_found_and_named(folder, monkeypatch, capsys):
    edit(record(folder), "result", "stages", "gate", "epochs", 0, "validation_loss", to=0.25)
    edit(record(folder), "result", "gain", to=0.5)
    code, printed, _ = within(monkeypatch, capsys, folder, "--trial", "1")
    assert code == 5
    assert "differs: 2 of 51 recorded numbers" in printed
    lines = [line.split("  ")[0] for line in printed.split("difference\n")[1].splitlines()]
    assert lines[:5] == ["gain", "mixture_accuracy", "baseline_accuracy", "gate, epoch 1: validation_loss", ""]
    assert "points from the study's +50.00" in printed
    assert "What may explain it: code aaaaaaaaaaaa, here " in printed or not machine.commit()


def test_wrong_usage_and_unknown_trials_are_refused_in_time_without_torch(made, tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mixture.json").write_text("")
    wrong = (
        ((), "results/NAME"),
        ((made, "--trial", "x"), "--trial is 'x'; expected a whole number"),
        ((made, "--trial", "9"), "--trial is 9; expected a trial of tiny: 1 to 4\n"),
        ((made, "--trial", "-1"), "--trial is -1; expected a trial of tiny: 1 to 4\n"),
        ((made, "--data", "nowhere"), "--data is nowhere; expected none: the study is on shapes"),
        ((made, "--save", tmp_path / "m"), "which holds mixture.json already"),
        ((made, "--data", ""), "--data is ''; expected a folder"),
        ((made, "--save", ""), "--save is ''; expected a folder"),
        ((made, "--save", "/proc/m"), "--save is /proc/m; expected a folder that can be written (/proc: "),
        ((made, "--store", "warp://x"), "--store is warp://x; expected a folder"),
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    lines = [json.dumps([str(word) for word in arguments]) for arguments, _ in wrong]
    done = subprocess.run(
        [sys.executable, "-c", EACH, *lines], capture_output=True, text=True, check=True, env=environment
    )
    for (_, part), line in zip(wrong, done.stdout.splitlines(), strict=True):
        code, printed, shown, seconds = json.loads(line)
        assert (code, printed) == (2, "")
        assert part in shown
        assert len(shown.splitlines()) == 1
        assert seconds < 5
    assert call(PYTHONPATH=environment["PYTHONPATH"])[0] == 2


def test_more_threads_than_processors_are_named(folder, monkeypatch, capsys):
    many = machine.cpus() + 1
    edit(record(folder), "result", "threads", to=many)
    code, printed, _ = within(monkeypatch, capsys, folder, "--trial", "1")
    assert code in (0, 5)  # the record's numbers are those of one thread
    assert f"threads {many}, instruction set" in printed
    assert f"{many} threads share {machine.cpus()} CPU" in printed


def test_other_data_are_refused_before_anything_is_trained(folder, monkeypatch, capsys):
    edit(folder / "study.json", "data", to="0" * 64)
    for number in (1, 2):
        edit(record(folder, number), "result", "data", to="0" * 64)
    code, printed, shown = within(monkeypatch, capsys, folder, "--trial", "1")
    assert (code, printed) == (4, "")
    assert "the data are 6faac6e88b0c" in shown
    assert "study tiny was made on 000000000000: name the folder that holds those in --data" in shown
    assert len(shown.splitlines()) == 1


def test_an_older_record_is_compared_as_far_as_it_goes(folder, monkeypatch, capsys):
    entries = json.loads(record(folder).read_text())
    del entries["result"]["stages"], entries["result"]["threads"], entries["result"]["oracle_gate_accuracy"]
    record(folder).write_text(json.dumps(entries))
    edit(folder / "study.json", "runs", to=None)
    code, printed, _ = within(monkeypatch, capsys, folder, "--trial", "1")
    assert code == 0
    assert "identical: all 10 recorded numbers" in printed
    assert "the record lacks 41 that are known now, such as oracle_gate_accuracy" in printed
    assert "Not known of the study: torch (here " in printed


def test_what_a_store_had_is_said(made, tmp_path, monkeypatch, capsys):
    with Store(str(tmp_path)) as store:
        run(config(1), load("shapes"), store, devices=[CPU], score_examples=60)
    code, printed, _ = within(monkeypatch, capsys, made, "--trial", "1", "--store", tmp_path)
    assert code == 0
    assert "5 of 5 epochs came from the store and were not trained again" in printed


def test_a_gpu_that_is_not_here_is_named_and_the_cpu_taken(folder, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    edit(record(folder), "result", "device", to="NVIDIA H200")
    code, printed, _ = within(monkeypatch, capsys, folder, "--trial", "1")
    assert code in (0, 5)
    assert "device NVIDIA H200, here cpu" in printed


def damaged(change, part, *arguments):
    return pytest.param(change, part, arguments, id=part)


@pytest.mark.parametrize(
    ("change", "part", "arguments"),
    [
        damaged(shutil.rmtree, "holds no study", "--trial", 1),
        damaged(lambda f: (f / "study.json").write_text("{"), "study.json is damaged"),
        damaged(lambda f: (f / "study.json").write_text("[]"), "study.json is damaged (not a JSON object)"),
        damaged(lambda f: edit(f / "study.json", "dataset", to="mnist"), "'mnist'; expected cifar10 or shapes"),
        damaged(lambda f: record(f).write_text("{"), "0001.json is damaged", "--trial", 1),
        damaged(lambda f: edit(record(f), "result", "gain", to="x"), "gain is 'x'; expected", "--trial", 1),
        damaged(lambda f: edit(record(f), "result", "gain", to=float("nan")), "gain is nan; expected", "--trial", 1),
        damaged(lambda f: edit(record(f), "result", "stages", to=3), "stages is 3; expected", "--trial", 1),
        damaged(lambda f: edit(record(f), "result", "threads", to=0), "threads is 0; expected 1", "--trial", 1),
        damaged(lambda f: [path.unlink() for path in (record(f), record(f, 2))], "no complete trial"),
        damaged(lambda f: None, "trial 3 failed and left no numbers to compare: the loss is nan", "--trial", 3),
        damaged(lambda f: None, "study.run --resume --name tiny --results /", "--trial", 4),
        damaged(
            lambda f: edit(f / "study.json", "data_folder", to="else/where"), "had its data in else/where, which is"
        ),
    ],
)
def test_a_folder_that_does_not_serve_is_one_sentence_and_exit_code_4(
    folder, change, part, arguments, monkeypatch, capsys
):
    change(folder)
    code, printed, shown = within(monkeypatch, capsys, folder, *arguments)
    assert (code, printed) == (4, "")
    assert part in shown
    assert len(shown.splitlines()) == 1


class TestOriginal:
    def test_it_is_the_first_trial_of_the_config_that_the_study_would_choose_as_far_as_it_has_come(self, folder):
        (folder / "best.json").unlink()  # as in a study that is under way
        gains = {number: json.loads(record(folder, number).read_text())["result"]["gain"] for number in (1, 2)}
        assert find(folder, None).record.trial == max(gains, key=gains.get)
        edit(record(folder, 1), "result", "gain", to=-0.5)
        assert find(folder, None).record.trial == 2
        edit(record(folder, 2), "result", "gain", to=-0.6)
        assert find(folder, None).record.trial == 1

    def test_a_study_has_its_name_from_wherever_it_is_seen(self, folder, monkeypatch):
        monkeypatch.chdir(folder)
        assert find(Path(), None).study.name == "tiny"
        with pytest.raises(FolderError, match=r"study\.run --resume --name tiny --results /.* completes it"):
            find(Path(), 4)

    def test_the_run_that_made_a_trial_is_the_last_one_that_began_before_it(self, folder):
        assert (find(folder, 1).run["commit"], find(folder, 1).run_known) == ("a" * 40, True)
        edit(record(folder), "started", to="2026-06-01T00:00:00+00:00")
        assert find(folder, 1).run["commit"] == "b" * 40
        edit(record(folder), "started", to="2025-06-01T00:00:00+00:00")
        assert (find(folder, 1).run["commit"], find(folder, 1).run_known) == ("b" * 40, False)

    def test_numbers_are_named_in_few_words(self, folder, capsys):
        record(folder, 2).unlink()
        with pytest.raises(SystemExit):
            find(folder, 2)
        assert "expected a trial of tiny: 1, 3 to 4" in capsys.readouterr().err

    def test_a_file_is_no_study(self, made):
        with pytest.raises(FolderError, match="holds no study"):
            find(made / "study.json", None)


class TestNumbers:
    def test_every_number_but_times_and_reuse_has_a_name(self, made):
        result = json.loads(record(made, 2).read_text())["result"]
        named = numbers(result)
        assert named["gain"] == result["gain"]
        assert named["natural, epoch 2: loss"] == result["stages"]["natural"]["epochs"][1]["loss"]
        assert named["mixture: stopped"] == "epochs"
        assert (named["mixture: epochs"], named["mixture: best_epoch"]) == (
            2,
            result["stages"]["mixture"]["best_epoch"],
        )
        assert named["scored_examples"] == 60
        assert len(named) == 11 + 5 * (4 + 2 * 4)
        assert not any("second" in name or "reused" in name or "trained" in name for name in named)

    def test_one_bit_is_a_difference(self):
        import math

        then = {"gain": 0.1, "loss": 2.0}
        assert compare(then, {"gain": 0.1, "loss": 2.0}).identical
        found = compare(then, {"gain": 0.1, "loss": math.nextafter(2.0, 3.0)})
        assert [one.name for one in found.differences] == ["loss"]

    def test_the_worst_is_first_and_words_and_what_is_missing_before_all(self):
        then = {"a": 1.0, "b": 1.0, "c: stopped": "epochs", "d": 1}
        found = compare(then, {"a": 1.1, "b": 3.0, "c: stopped": "patience", "e": 1})
        assert [one.name for one in found.differences] == ["c: stopped", "d", "b", "a"]
        assert found.unrecorded == ("e",)

    @pytest.mark.parametrize("value", [None, True, "x", float("nan"), float("inf"), [1]])
    def test_what_is_no_number_is_refused(self, value):
        with pytest.raises(ValueError, match=r"gain is .*; expected a number"):
            numbers({"gain": value})

    @pytest.mark.parametrize(
        ("stages", "part"),
        [
            ([], "stages is"),
            ({"gate": 1}, "gate is 1"),
            ({"gate": {"epochs": 3}}, "epochs are 3"),
            ({"gate": {"epochs": [1]}}, "epoch 1 is 1"),
        ],
    )
    def test_what_is_no_stage_is_refused(self, stages, part):
        with pytest.raises(ValueError, match=part):
            numbers({"stages": stages})


class TestReport:
    then = {"gain": 0.02, "mixture_accuracy": 0.4, "baseline_accuracy": 0.38}  # noqa: RUF012

    def test_the_table_names_the_worst_and_counts_the_rest(self):
        names = [f"gate, epoch {n}: loss" for n in range(1, 15)]
        off = {name: 1 + 1e-7 * n for n, name in enumerate(names, 1)}
        found = compare({**self.then, **dict.fromkeys(names, 1.0)}, {**self.then, **off})
        lines = table(found).splitlines()
        assert len(lines) == 1 + 3 + 10 + 1
        assert lines[1].split() == ["gain", "0.020000", "0.020000", "same"]
        assert [line.split("  ")[0] for line in lines[4:-1]] == names[:3:-1]
        assert lines[4].endswith("+1.4e-06")
        assert lines[-1].startswith("and 4 more")
        assert lines[-1].endswith("at most 4.0e-07")
        assert verdict(found) == "differs: 14 of 17 recorded numbers, gate, epoch 14: loss most"

    def test_a_difference_is_held_against_the_noise_and_explained_as_far_as_it_can_be(self, made):
        found = compare(self.then, {**self.then, "gain": 0.015})
        original = find(made, 1)
        result = {"discordance": 0.1, "gain": 0.02, "scored_examples": 2000}
        same = {"device": "cpu", "threads": 1, "instructions": "", "data": original.study.data}
        alike = [one for one in circumstances(original, **same) if one.name not in ("code", "instruction set")]
        said = why(found, alike, result)
        assert "The gain is -0.50 points from the study's +2.00" in said
        assert "over its images is 0.71" in said
        assert "has the record been edited?" in said
        other = why(found, circumstances(original, **{**same, "threads": 2, "instructions": "AVX9"}), result)
        assert "threads 1, here 2; instruction set " in other
        assert "here AVX9" in other

    def test_what_the_study_did_not_record_is_said_to_be_unknown(self, made):
        original = find(made, 1)
        del original.result["instructions"]
        same = {"device": "cpu", "threads": 1, "data": original.study.data}
        known = circumstances(original, instructions="AVX9", **same)
        assert "Not known of the study: instruction set (here AVX9)" in before(known, 2, 1)

    def test_changes_since_a_commit_may_be_others_each_time(self, made, monkeypatch):
        monkeypatch.setattr(machine, "commit", lambda: "a" * 40 + "+")
        original = find(made, 1)
        original = dataclasses.replace(original, run={**original.run, "commit": "a" * 40 + "+"})
        same = {"device": "cpu", "threads": 1, "data": original.study.data}
        known = circumstances(original, instructions=original.result["instructions"], **same)
        assert [one.name for one in known if one.differs] == ["code"]
        assert "code aaaaaaaaaaaa with changes both then and here" in before(known, 2, 1)
