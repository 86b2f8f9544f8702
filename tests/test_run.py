"""`python -m study.run` as a person calls it: real Ray, real training on the built-in shapes, real kills."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from moe.machine import cpus
from study.conclusion import check_unchanged, conclude_finished
from study.definition import define
from study.files import seal
from study.folder import Folder, FolderError
from study.options import parse
from study.study import LOST, Run, now
from tests.study_helpers import a_folder, a_record, a_study

SPACE = "epochs: [1, 2]\ntrain_examples: [50, 60]\ntest_examples: 50\n"
ONE_POINT = "epochs: 1\ntrain_examples: 50\ntest_examples: 50\n"


SMALL = ("--dataset", "shapes", "--protocol", "notebook")  # scores 50 images; holdout takes seconds for 5,000
ONE_AT_A_TIME = ("--concurrency", "1", "--cpus-per-trial", "1")


def furnished(folder):
    """A working folder with spaces in it; results go into it."""
    for name, text in (("four", SPACE), ("one", ONE_POINT)):
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture
def home(tmp_path):
    return furnished(tmp_path)


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """Studies that nobody watches, one after the other beside the tests: where, and what each will have come to."""
    home = furnished(tmp_path_factory.mktemp("beside"))
    (home / "file").write_text("")
    three = ("--space", "four.yaml", "--trials", "3")  # two of them always share stages
    studies = {
        "with": (*three, *ONE_AT_A_TIME),
        "without": (*three, "--concurrency", "1", "--cpus-per-trial", str(min(2, cpus())), "--no-store"),
        "again": (*three, "--concurrency", str(min(2, cpus()))),
        "full": ("--space", "one.yaml", "--trials", "2", "--store", str(home / "file" / "below")),
    }
    with ThreadPoolExecutor(1) as lane:
        common = (call, home, *SMALL, "--name")
        yield home, {name: lane.submit(*common, name, *words) for name, words in studies.items()}
        lane.shutdown(cancel_futures=True)


def start(home, *arguments, **environment):
    """A study that is running, in a process group of its own as a terminal would have it."""
    if not {"--refine", "--resume"} & set(arguments):
        arguments += ("--refine", "0")
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "MOE_STORE": str(home / "stages"), **environment}
    environment = {name: value for name, value in environment.items() if value is not None}
    return subprocess.Popen(
        [sys.executable, "-m", "study.run", *arguments],
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def call(home, *arguments, **environment):
    """The exit code and what was printed."""
    with start(home, *arguments, **environment) as process:
        printed = process.communicate(timeout=200)[0]
    return process.returncode, printed


def until(process, text):
    """Read what a study prints up to a line that holds this; the lines so far."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError("".join(lines))


def records(home, name):
    return [json.loads(path.read_text()) for path in sorted((home / "results" / name / "trials").glob("*.json"))]


def children(pid):
    """The processes below one, as (pid, command line)."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == pid:
                found += [(int(path.name), (path / "cmdline").read_text()), *children(int(path.name))]
    return found


def below(pid):
    """The processes of a driver that hold a resource: its Ray and its workers, without Ray's two agents."""
    return [child for child, command in children(pid) if "Agent" not in command]


def gone(pids, within_s=20.0):
    """Whether all of these processes end in time."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not any(Path(f"/proc/{pid}").exists() and _alive(pid) for pid in pids):
            return True
        time.sleep(0.2)
    return False


def _alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


class Finished(NamedTuple):
    """A study of three trials that has ended."""

    home: Path
    code: int
    printed: str

    @property
    def folder(self):
        return self.home / "results" / "shapes-four-1"

    @property
    def about(self):
        return json.loads((self.folder / "study.json").read_text())["study"]

    def copy(self, home):
        """The same study in another working folder, to be changed."""
        shutil.copytree(self.home / "results", home / "results")
        shutil.copytree(self.home / "stages", home / "stages")
        return Finished(furnished(home), self.code, self.printed)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """As a new user has it: no data, Ray's authentication is on, and here there is no home to write a token to."""
    home = furnished(tmp_path_factory.mktemp("finished"))
    return Finished(home, *call(home, "--space", "four.yaml", "--trials", "3", RAY_AUTH_MODE=None, HOME="/dev/null"))


@pytest.mark.usefixtures("beside")  # which begins here
def test_a_study_without_data_or_network_ends_with_0(finished):
    assert finished.code == 0, finished.printed


def test_the_first_line_is_the_data_and_why_these(finished):
    first = next(line for line in finished.printed.splitlines() if not line.startswith("preparing"))  # on stderr
    assert first == f"Data: {finished.about['source']}"
    assert "shapes" in first
    assert "CIFAR-10" in first
    assert first in (finished.folder / "summary.md").read_text()


def test_progress_is_printed_without_the_tables_of_ray(finished):
    assert "| phase search: 3 of 3 trials done, best gain" in finished.printed
    assert "Trial status" not in finished.printed


def test_study_json_holds_what_was_searched_and_the_command(finished):
    assert finished.about["dataset"] == "shapes"
    assert finished.about["space"]["grids"]["epochs"] == [1, 2]
    runs = json.loads((finished.folder / "study.json").read_text())["runs"]
    assert [run["command"] for run in runs] == ["python -m study.run --space four.yaml --trials 3 --refine 0"]


def test_the_table_has_a_row_for_each_trial_with_its_gain(finished):
    table = pd.read_csv(finished.folder / "trials.csv")
    assert table["state"].tolist() == ["complete"] * 3
    assert (table["gain"] - (table["mixture_accuracy"] - table["baseline_accuracy"])).abs().max() < 1e-9


def test_the_trials_are_distinct_points_with_the_first_seed_and_the_notebooks_default_first(finished):
    table = pd.read_csv(finished.folder / "trials.csv")
    assert (table.loc[0, "epochs"], table.loc[0, "train_examples"]) == (1, 60)  # nearest to the notebook's default
    assert table["seed"].tolist() == [0] * 3
    assert len(table.drop_duplicates(["epochs", "train_examples"])) == 3


def test_the_folder_holds_records_and_what_is_derived_from_them_and_nothing_of_tune(finished):
    assert {path.name for path in finished.folder.iterdir()} == {
        "study.json", "trials", "trials.csv", "epochs.csv", "best.json", "summary.md", "study.db",
    }  # fmt: skip


def test_a_resume_of_a_finished_study_shows_its_summary_and_runs_nothing(finished):
    code, printed = call(finished.home, "--resume")
    assert code == 0, printed
    assert "trial 1 started" not in printed
    assert (finished.folder / "summary.md").read_text() in printed


def test_a_resume_with_more_trials_adds_them_to_those_there_were(finished, tmp_path):
    before = records(finished.home, "shapes-four-1")
    code, printed = call(finished.copy(tmp_path).home, "--resume", "--trials", "4")
    assert code == 0, printed
    after = records(tmp_path, "shapes-four-1")
    assert after[:3] == before
    assert len(after) == 4


@pytest.mark.parametrize(
    ("arguments", "given", "had"),
    [
        (("--space", "one.yaml"), "--space is epochs 1", "epochs [1, 2]"),
        (("--protocol", "notebook"), "--protocol is notebook", "holdout"),
        (("--seed", "1"), "--seed is 1", "has 0"),
        (("--data", "elsewhere"), "--data is elsewhere", "shapes"),
        (("--objective", "mixture_accuracy"), "--objective is mixture_accuracy", "gain"),
    ],
)
def test_a_resume_that_would_change_the_study_is_refused_with_the_difference(finished, arguments, given, had):
    code, printed = call(finished.home, "--resume", *arguments)
    assert code == 2
    for part in (given, "shapes-four-1", had):
        assert part in printed
    assert len(printed.splitlines()) == 1


def test_a_new_study_under_a_taken_name_is_refused(finished):
    code, printed = call(finished.home, "--name", "shapes-four-1")
    assert code == 2
    assert "--name is shapes-four-1" in printed
    assert "--resume" in printed


def test_a_resume_on_other_data_is_refused_and_leaves_the_records(finished, tmp_path):
    study, data = finished.copy(tmp_path), finished.about["data"]
    for path in (study.folder / "study.json", *(study.folder / "trials").iterdir()):
        entries = json.loads(path.read_text().replace(data, "0" * 64))
        path.write_text(seal({name: value for name, value in entries.items() if name != "sha256"}))
    before = records(tmp_path, "shapes-four-1")
    code, printed = call(tmp_path, "--resume", "--trials", "5")
    assert code == 2
    for part in ("--data is", data[:12], "0" * 12):
        assert part in printed
    assert records(tmp_path, "shapes-four-1") == before


def test_a_driver_killed_in_mid_trial_loses_nothing_that_was_finished(home):
    arguments = (*SMALL, "--space", "four.yaml", "--trials", "4", "--name", "x")
    with start(home, *arguments, *ONE_AT_A_TIME) as driver:
        until(driver, "trial 2 started")
        processes = below(driver.pid)
        driver.kill()
    assert gone(processes)  # Ray does not outlive its driver
    before = records(home, "x")
    assert [record["state"] for record in before] == ["complete", "running"]

    code, printed = call(home, "--resume", "--name", "x", *ONE_AT_A_TIME)
    assert code == 0, printed
    after = records(home, "x")
    assert after[0] == before[0]
    assert after[1]["config"] == before[1]["config"]  # in flight: taken up again with its number and seed
    assert [record["state"] for record in after] == ["complete"] * 4
    assert "trial 1 started" not in printed
    assert not (home / "results" / "x" / ".tune").exists()


@pytest.mark.parametrize(("number", "complete"), [(signal.SIGTERM, 1), (signal.SIGINT, 0)])
def test_a_signal_ends_it_cleanly_with_75_and_the_command_to_resume(home, number, complete):
    arguments = (*SMALL, "--space", "four.yaml", "--trials", "50", "--name", "x")
    with start(home, *arguments, *ONE_AT_A_TIME) as driver:
        until(driver, f"trial {complete + 1} started")
        processes = below(driver.pid)
        began = time.monotonic()
        os.killpg(driver.pid, number)  # as Ctrl-C in a terminal and a batch system do
        printed = driver.communicate(timeout=120)[0]
        assert driver.returncode == 75
        assert time.monotonic() - began < 20  # Ray alone would take 60
    assert gone(processes)
    assert "python -m study.run --resume --name x" in printed
    assert "Traceback" not in printed
    states = [record["state"] for record in records(home, "x")]
    assert states[:complete] == ["complete"] * complete
    assert set(states) <= {"complete", "running"}
    assert len(pd.read_csv(home / "results" / "x" / "trials.csv")) == len(states)


def test_a_killed_worker_fails_its_trial_with_a_reason_and_is_replaced(home):
    arguments = (*SMALL, "--space", "four.yaml", "--trials", "2", "--name", "x")
    with start(home, *arguments, *ONE_AT_A_TIME) as driver:
        until(driver, "trial 1 started")
        deadline = time.monotonic() + 60
        workers: list[int] = []
        while not workers and time.monotonic() < deadline:
            workers = [pid for pid, command in children(driver.pid) if command.startswith("ray::ImplicitFunc")]
            time.sleep(0.05)
        os.kill(workers[0], signal.SIGKILL)
        printed = driver.communicate(timeout=200)[0]
        assert driver.returncode == 0, printed
    found = records(home, "x")
    assert [record["state"] for record in found] == ["failed", "complete", "complete"]
    assert found[0]["error"] == LOST
    assert f"trial 1 failed: {LOST}" in printed
    assert found[0]["error"] in (home / "results" / "x" / "summary.md").read_text()


def test_a_dry_run_prints_the_plan_and_its_cost_and_writes_nothing(home):
    code, printed = call(home, "--dataset", "shapes", "--dry-run", "--trials", "20")
    assert code == 0, printed
    for part in ("20 trials over 144 points", "100 stages", "distinct", "stage store", "Nothing was written"):
        assert part in printed
    assert not (home / "results").exists()


def test_a_dry_run_prints_its_plan_and_cost_as_json_alone(home):  # torch and Ray are loaded for the calibration
    words = [sys.executable, "-m", "study.run", "--dataset", "shapes", "--dry-run", "--trials", "20", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(words, cwd=home, env=environment, capture_output=True, text=True)
    plan = json.loads(done.stdout)
    assert plan["study"]["trials"] == plan["costs"]["trials"] == 20
    assert plan["costs"]["without_store"]["stages"] == 100
    assert plan["costs"]["with_store"]["seconds"] < plan["costs"]["without_store"]["seconds"]
    assert "Data: shapes" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--resume",), "finds no study"),
        (("--resume", "--name", "nothing"), "expected a study in results"),
    ],
)
def test_a_resume_of_nothing_is_refused(home, arguments, part):
    code, printed = call(home, *arguments)
    assert code == 2
    assert part in printed


def test_results_that_cannot_be_written_are_one_sentence_and_exit_code_4(home):
    (home / "results").write_text("a file where a folder should be")
    code, printed = call(home, "--dataset", "shapes", "--space", "one.yaml", "--name", "x")
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

    monkeypatch.setattr("study.driver.opened", interrupted)
    assert in_process(tmp_path, monkeypatch, lambda *_: None) == 75
    assert "--resume --name x" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "results" / "x").iterdir()} >= {"resume.txt", "trials.csv", "summary.md"}


def in_process(folder, monkeypatch, search):
    """The exit code of a study of four trials in which this stands for the search under Ray."""
    import study.driver
    from study.run import main

    (folder / "one.yaml").write_text(ONE_POINT)
    monkeypatch.setattr(study.driver, "search", search)
    monkeypatch.chdir(folder)
    return main(["--dataset", "shapes", "--space", "one.yaml", "--name", "x", "--trials", "4"])


def test_a_reader_that_goes_away_and_a_terminal_without_plus_minus_end_no_study(home):
    arguments = ("--dataset", "shapes", "--space", "one.yaml", "--trials", "1", "--name", "x")
    with start(home, *arguments, PYTHONIOENCODING="ascii") as driver:
        until(driver, "Study x")
        driver.stdout.close()
        assert driver.wait(timeout=100) == 0
    assert [record["state"] for record in records(home, "x")] == ["complete"]
    assert (home / "results" / "x" / "summary.md").exists()


def test_a_cluster_that_does_not_answer_is_one_sentence_and_exit_code_4_within_seconds(home):
    began = time.monotonic()
    code, printed = call(home, "--dataset", "shapes", "--address", "127.0.0.1:9", "--trials", "1")
    assert code == 4
    assert "Ray at 127.0.0.1:9" in printed.splitlines()[-1]
    assert "Traceback" not in printed
    assert time.monotonic() - began < 30  # Ray alone would try for minutes


def test_a_study_finds_the_same_with_and_without_the_store_and_on_any_number_of_cpus(beside):
    home, studies = beside
    for name in ("with", "without", "again"):
        code, printed = studies[name].result()
        assert code == 0, printed
    tables = {name: pd.read_csv(home / "results" / name / "trials.csv") for name in ("with", "without", "again")}
    costs = ["started", "ended", "seconds", "seconds_reused", "epochs_trained", "epochs_reused"]
    for name in ("without", "again"):
        pd.testing.assert_frame_equal(
            tables["with"].drop(columns=costs), tables[name].drop(columns=costs), check_exact=True
        )
    epochs = {name: (table["epochs_trained"].sum(), table["epochs_reused"].sum()) for name, table in tables.items()}
    assert epochs["without"][1] == epochs["again"][0] == 0
    assert epochs["with"][1] > 0
    assert sum(epochs["with"]) == epochs["without"][0] == epochs["again"][1]
    assert f"{epochs['with'][1]} (" in (home / "results" / "with" / "summary.md").read_text()


def test_a_store_that_cannot_be_written_is_only_warned_of(beside):
    code, printed = beside[1]["full"].result()
    assert code == 0, printed
    assert printed.count("warning: the store cannot be written") == 1


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
    path = a_folder(tmp_path, a_study(name="x", trials=2, refine=0))[0].path
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
