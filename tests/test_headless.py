"""`python -m study.run --worker`: processes that run a study together without Ray, some of them killed."""

import random
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

import study.headless
from moe import pipeline
from moe.config import Config
from moe.data import load
from moe.store.files import Local, PlaceError
from study.run import main
from tests.cli_helpers import outcomes, without
from tests.run_helpers import SMALL, call, furnished, records, start, until

SPACE = "epochs: [1, 2]\ntrain_examples: [50, 60, 70]\ntest_examples: 50\n"
WORKER = (*SMALL, "--trials", "all", "--worker", "--cpus-per-trial", "1")
POINTS = 6
ONE = (*WORKER, "--refine", "0", "--space", "one.yaml")
COSTS = ["started", "ended", "seconds", "seconds_reused", "epochs_trained", "epochs_reused"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = furnished(tmp_path_factory.mktemp("headless"))
    (folder / "six.yaml").write_text(SPACE)
    return folder


def worker(home, *words, space="six.yaml", **environment):
    return start(home, *WORKER, "--space", space, *words, **environment)


def ended(process):
    printed = process.communicate(timeout=200)[0]
    return process.returncode, printed


@pytest.fixture(scope="module")
def together(home):
    """Exit codes of the workers of a study and what they printed; one was killed and one was interrupted."""
    draw, printed = random.Random(5), []
    running = [worker(home, "--name", "together") for _ in range(2)]
    for end in (signal.SIGKILL, signal.SIGTERM):
        victim = running.pop(0)
        until(victim, "started")
        time.sleep(draw.uniform(0, 0.5))
        victim.send_signal(end)
        printed.append(ended(victim))
        running.append(worker(home, "--name", "together"))
    return [*printed, *map(ended, running)]


def test_workers_that_are_killed_lose_no_trial_and_run_none_twice(home, together):
    assert [code for code, _ in together] == [-9, 75, 0, 0], together
    found = records(home, "together")
    assert [record["state"] for record in found] == ["complete"] * POINTS
    assert len({str(record["config"]) for record in found}) == POINTS
    assert not (home / "results" / "together" / ".leases").exists()
    assert not (home / "results" / "together" / "resume.txt").exists()


def test_the_last_worker_writes_the_tables_and_the_others_say_so(home, together):
    assert sum("Next:" in text for _, text in together) == 1
    assert sum("another worker has written" in text for _, text in together) == 1
    assert len(pd.read_csv(home / "results" / "together" / "trials.csv")) == POINTS
    assert call(home, "--resume", "--name", "together")[0] == 0


def test_an_interrupted_worker_says_how_to_continue_and_its_trial_is_free_at_once(home, together):
    code, printed = together[1]
    assert code == 75
    command = printed.split("Continue with: ")[1]
    assert "--name together" in command
    assert "--worker" in command


def test_together_they_find_what_one_finds_alone_and_what_a_pipeline_finds(home, together):
    code, printed = ended(worker(home, "--name", "alone", MOE_STORE=str(home / "other")))
    assert code == 0, printed
    tables = [pd.read_csv(home / "results" / name / "trials.csv") for name in ("alone", "together")]
    fields = list(Config.model_fields)
    alone, both = (table.drop(columns=[*COSTS, "trial"]).sort_values(fields, ignore_index=True) for table in tables)
    pd.testing.assert_frame_equal(alone, both, check_exact=True)
    result = records(home, "alone")[0]["result"]
    again = pipeline.run(Config(**result["config"]), load("shapes"))
    assert again.as_json()["score"] == result["score"]


def test_a_trial_whose_worker_died_three_times_has_failed_and_another_seed_takes_its_place(home, here):
    words = [*ONE, "--name", "deadly"]
    program = (  # each worker a process, which need not import everything again
        "import os, study.driver, study.headless as it; from study.run import main\n"
        "it.evaluate = lambda *_: os.kill(os.getpid(), 9)\n"
        f"for _ in range(3):\n    if not (child := os.fork()): main({words})\n"
        "    print(os.waitpid(child, 0)[1], flush=True)"
    )
    died = subprocess.run([sys.executable, "-c", program], cwd=home, capture_output=True, text=True, timeout=200)
    assert [line for line in died.stdout.splitlines() if line.isdigit()] == ["9"] * 3, died.stderr
    code, printed = here("--name", "deadly")
    assert code == 0, printed
    assert "warning: trial 1 failed: its worker died 3 times" in here.printed
    failed, done = records(home, "deadly")
    assert (failed["state"], done["state"]) == ("failed", "complete")
    assert "died 3 times" in failed["error"]
    assert (failed["config"]["seed"], done["config"]["seed"]) == (0, 1)


@pytest.fixture
def here(home, monkeypatch, capsys):
    """A worker on one point, in this process; its exit code and errors."""
    monkeypatch.setenv("MOE_STORE", str(home / "stages"))
    monkeypatch.chdir(home)

    def run(*words):
        try:
            code = main([*ONE, *words])
        finally:
            torch.set_num_threads(1)
        printed = capsys.readouterr()
        run.printed = printed.out
        return code, printed.err

    return run


def test_interruptions_are_no_deaths(home, here, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(study.headless, "evaluate", stop)
        for _ in range(3):
            code, printed = here("--name", "patient")
            assert (code, printed.count("Continue with")) == (75, 1), printed
    assert here("--name", "patient")[0] == 0
    (done,) = records(home, "patient")
    assert (done["state"], done["config"]["seed"]) == ("complete", 0)


def test_a_study_that_is_moved_away_is_not_begun_again(home, here, monkeypatch):
    train = study.headless.evaluate

    def move(*rest):
        (home / "results" / "here").rename(home / "results" / "there")
        train(*rest)

    monkeypatch.setattr(study.headless, "evaluate", move)
    code, printed = here("--name", "here")
    assert (code, "was moved or replaced" in printed) == (4, True), printed
    assert not (home / "results" / "here" / "trials").exists()
    assert [record["state"] for record in records(home, "there")] == ["running"]


def test_leases_that_cannot_be_written_are_no_matter_of_the_store(home, here, monkeypatch):
    train, replace = study.headless.evaluate, Local.replace

    def fill(*rest):
        def put(place, path, content):
            if place.name.endswith(".leases"):
                raise PlaceError("no room")
            replace(place, path, content)

        monkeypatch.setattr(Local, "replace", put)
        train(*rest)

    monkeypatch.setattr(study.headless, "evaluate", fill)
    assert here("--name", "full")[0] == 0
    words = "results/full/.leases cannot be written (no room); another worker may train the same trial"
    assert words in here.printed
    assert "the store cannot" not in here.printed


@pytest.mark.parametrize("kind", ["link", "file"])
def test_nothing_is_written_through_what_stands_in_place_of_the_leases(home, here, tmp_path, kind):
    place = home / "results" / kind / ".leases"
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path) if kind == "link" else place.write_text("mine")
    code, printed = here("--name", kind)
    assert (code, len(printed.splitlines())) == (4, 1), printed
    assert not list(tmp_path.iterdir())
    assert kind == "link" or place.read_text() == "mine"


def test_a_trial_that_ends_unexpectedly_is_recorded_and_ends_its_worker_with_the_command_to_go_on(
    home, here, monkeypatch
):
    def fail(*_, **__):
        raise RuntimeError("broken")

    monkeypatch.setattr(pipeline, "run", fail)
    code, printed = here("--name", "broken")
    assert (code, "continue with: " in printed) == (4, True), printed
    assert "RuntimeError" in records(home, "broken")[0]["error"]


def test_a_worker_on_another_kind_of_machine_is_refused(home, here, monkeypatch):
    assert here("--name", "kinds")[0] == 0
    monkeypatch.setattr(study.headless, "configure_numerics", lambda *_: SimpleNamespace(instructions="others"))
    code, printed = here("--name", "kinds", "--trials", "2", "--sampler", "grid")
    assert (code, "or --mixed" in printed) == (4, True), printed
    assert len(records(home, "kinds")) == 1


def test_workers_that_begin_together_with_other_options_do_not_mix(home):
    both = [worker(home, "--name", "race", "--seed", seed, space="one.yaml") for seed in ("0", "1")]
    assert sorted(ended(process)[0] for process in both) in ([0, 2], [0, 4])
    assert len(records(home, "race")) == 1


def test_what_a_worker_cannot_have_is_refused_without_torch_or_ray(tmp_path):
    unfit = {
        ("--trials", "all"): "--name",
        ("--name", "x", "--trials", "all", "--no-store"): "a store",
        ("--name", "x", "--trials", "all", "--concurrency", "2"): "as many workers",
        ("--name", "x", "--trials", "all", "--address", "auto"): "no Ray",
        ("--name", "x", "--trials", "5"): "--trials all, or --sampler grid",
        ("--name", "x", "--trials", "all", "--sampler", "tpe"): "--trials all, or --sampler grid",
    }
    found = outcomes("study.run", [("--worker", *words) for words in unfit], without(tmp_path, "torch", "ray"))
    assert [outcome.code for outcome in found.values()] == [2] * len(unfit)
    for outcome, expected in zip(found.values(), unfit.values(), strict=True):
        assert expected in outcome.err
