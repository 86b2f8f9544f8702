"""What `python -m study.run` refuses, and the exit codes and sentences that it ends with."""

import errno
import json
import os
import subprocess
import sys
import time

import pytest

import study.driver
import study.search.loggers
from study.conclusion import check_unchanged, conclude_finished
from study.definition import define
from study.folder import Folder, FolderError
from study.options import parse
from study.run import main
from study.study import Run, now
from tests.run_helpers import furnished
from tests.study_helpers import a_folder, a_record, a_study, referred


def test_a_dry_run_prints_the_plan_and_its_cost_and_writes_nothing(home, command, monkeypatch):
    monkeypatch.setattr("study.search.cost.CALIBRATION_STEPS", 1)
    code, printed = command(home, "--dataset", "shapes", "--dry-run", "--trials", "20")
    assert code == 0, printed
    for part in ("20 trials over 144 points", "100 stages", "distinct", "stage store", "Nothing was written"):
        assert part in printed
    assert not (home / "results").exists()


def test_a_dry_run_prints_its_plan_and_cost_as_json_alone(home):  # torch and Ray are loaded for the calibration
    words = [sys.executable, "-m", "study.run", "--dataset", "shapes", "--dry-run", "--trials", "20", "--json"]
    done = subprocess.run(words, cwd=home, capture_output=True, text=True)
    plan = json.loads(done.stdout)
    assert plan["study"]["trials"] == plan["costs"]["trials"] == 20
    assert plan["costs"]["without_store"]["stages"] == 100
    assert plan["costs"]["with_store"]["seconds"] < plan["costs"]["without_store"]["seconds"]
    assert "Data: shapes" in done.stderr
    assert "leaked" not in done.stderr  # by triton, which a torch.optim.Adam would import for the calibration


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--resume",), "finds no study"),
        (("--resume", "--name", "nothing"), "expected a study in results"),
    ],
)
def test_a_resume_of_nothing_is_refused(home, command, arguments, part):
    code, printed = command(home, *arguments)
    assert code == 2
    assert part in printed


def test_results_that_cannot_be_written_are_one_sentence_and_exit_code_4(home, command):
    (home / "results").write_text("a file where a folder should be")
    code, printed = command(home, "--dataset", "shapes", "--space", "one.yaml", "--name", "x")
    assert code == 4
    assert "Traceback" not in printed
    assert "results" in printed


def test_too_many_failed_trials_are_exit_code_3_with_the_reason(tmp_path, monkeypatch, capsys):
    def fail(searcher, *_):
        while not searcher.ledger.too_many_failed:
            searcher.ledger.fail(searcher.ledger.start({}).trial, "the loss is nan")

    assert in_process(tmp_path, monkeypatch, fail) == 3
    printed = capsys.readouterr()
    assert "3 trials failed" in printed.err
    assert "the loss is nan" in printed.err
    assert "--resume --name x" in printed.err
    assert "trial 2: the loss is nan" in printed.out


def test_a_logger_that_cannot_be_used_leaves_no_study(tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise OSError("no such service")

    with monkeypatch.context() as patch:
        patch.setitem(study.search.loggers.LOGGERS, "tensorboard", broken)
        assert in_process(tmp_path, patch, lambda *_: None, "--log", "tensorboard") == 4
    assert "--log tensorboard cannot be used: OSError: no such service" in capsys.readouterr().err
    assert not (tmp_path / "results" / "x" / "study.json").exists()
    assert in_process(tmp_path, monkeypatch, lambda *_: None) == 75  # under the same name


def test_a_full_disk_ends_it_with_4_and_one_sentence(tmp_path, monkeypatch, capsys):
    def fill(searcher, *_):
        searcher.ledger.start({})
        assert searcher.stop.now()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results/x/trials/0001.json")

    monkeypatch.setattr(Folder, "write_record", full)
    assert in_process(tmp_path, monkeypatch, fill) == 4
    *before, error = capsys.readouterr().err.splitlines()
    assert before in ([], ["preparing shapes, once: up to half a minute"])
    for part in ("results/x", os.strerror(errno.ENOSPC), "python -m study.run --resume --name x"):
        assert part in error


def test_a_signal_between_the_study_and_its_first_trial_ends_it_with_tables_too(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("study.driver.wanted_references", interrupted)
    assert in_process(tmp_path, monkeypatch, lambda *_: None) == 75
    printed = capsys.readouterr()
    assert "--resume --name x" in printed.err
    assert "trials.csv" in printed.out
    assert "best.json" not in printed.out  # nothing is complete
    assert {path.name for path in (tmp_path / "results" / "x").iterdir()} >= {"resume.txt", "trials.csv", "summary.md"}


def in_process(folder, monkeypatch, search, *words):
    """The exit code of a study of four trials in which this stands for the search under Ray."""
    monkeypatch.setattr(study.driver, "search", search)
    monkeypatch.chdir(furnished(folder))
    return main(["--dataset", "shapes", "--space", "one.yaml", "--name", "x", "--trials", "4", *words])


def test_a_cluster_that_does_not_answer_is_one_sentence_and_exit_code_4_within_seconds(home, command):
    began = time.monotonic()
    code, printed = command(home, "--dataset", "shapes", "--address", "127.0.0.1:9", "--trials", "1")
    assert code == 4
    assert "Ray at 127.0.0.1:9" in printed.splitlines()[-1]
    assert "Traceback" not in printed
    assert time.monotonic() - began < 30  # Ray alone would try for minutes


def test_a_study_that_another_driver_began_or_changed_meanwhile_is_left_to_it(tmp_path):
    folder = Folder(tmp_path / "example")
    with folder.locked():
        check_unchanged(folder, None)
        folder.write_study(a_study(trials=9), Run(started=now(), command="", commit=None, versions={}, store="none"))
        check_unchanged(folder, a_study(trials=9))
        for before, word in ((None, "begun"), (a_study(trials=5), "changed")):
            with pytest.raises(FolderError, match=f"was {word} by another driver meanwhile"):
                check_unchanged(folder, before)


@pytest.mark.parametrize("words", [("--trials", "1"), ("--trials", "3"), ("--refine", "0"), ("--refine-seeds", "2")])
def test_what_a_resume_changes_is_in_study_json_though_no_trial_is_missing(tmp_path, words):
    path = a_folder(tmp_path, referred(a_study(name="x", trials=2, refine=0)))[0].path
    if words[1] == "3":
        Folder(path).write_record(a_record(3, gain=0.02, epochs=2))
    request = define(parse(["--resume", "--name", "x", "--results", str(tmp_path), *words]), "")
    assert conclude_finished(request) == 0
    assert Folder(path).read_study() == request.study
    assert len(Folder(path).read_runs()) == 1


def test_a_margin_of_a_resume_is_compared_in_points(tmp_path, capsys):
    folder = Folder(tmp_path / "x")
    with folder.locked():
        run = Run(started=now(), command="", commit=None, versions={}, store="none")
        folder.write_study(a_study(name="x", margin=0.07), run)
    words = ("--resume", "--name", "x", "--results", str(tmp_path), "--margin")
    assert define(parse([*words, "7"]), "").study.margin == 0.07
    with pytest.raises(SystemExit):
        define(parse([*words, "3.5"]), "")
    assert "--margin is 3.5; study x has 7, and a study never changes" in capsys.readouterr().err


def test_a_resume_keeps_the_resources_of_its_space_or_takes_those_of_the_file_it_is_given(tmp_path):
    file, folder = tmp_path / "small.yaml", Folder(tmp_path / "x")
    text = "epochs: [1, 2, 4]\nuse_large_experts: [false, true]\ntest_examples: 1000\n"
    words = ("--resume", "--name", "x", "--results", str(tmp_path))

    def resumed(cpus, *more):
        file.write_text(f"{text}resources: [{{epochs: 4, cpus: {cpus}}}]\n")
        return define(parse([*words, *more]), "").study

    file.write_text(text)
    with folder.locked():
        run = Run(started=now(), command="", commit=None, versions={}, store="none")
        folder.write_study(a_study(name="x"), run)
        folder.write_study(resumed(2, "--space", str(file)))
    assert [resumed(3, *more).space.resources[0].cpus for more in ((), ("--space", str(file)))] == [2, 3]
    assert resumed(2).replace(space=a_study().space) == a_study(name="x")
