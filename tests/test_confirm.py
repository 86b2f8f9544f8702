"""`python -m study.confirm`: what is refused, what is fixed, and one confirmation from nothing to its verdict."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace

import numpy as np
import pytest

from moe.arms import ARMS
from moe.console import emit
from moe.data import DataError, load
from moe.training.loop import TrainingError
from study.analyze.tables import write_all
from study.confirm.__main__ import main
from study.confirm.options import parse
from study.confirm.outcome import conclude, scored
from study.confirm.plan import CHOICE, SeedRecord, openings, packed_classes, planned_trials
from study.confirm.planning import planned
from study.confirm.price import USUAL_DEVIATION, seconds, seen
from study.confirm.report import report
from study.files import seal
from study.folder import Folder, FolderError
from study.search.resources import Resources
from study.select.interval import PERSISTENT, Noise, resolves
from study.space import parse as parse_space
from tests.run_helpers import launch
from tests.study_helpers import LARGE, STARTED, a_folder, a_record, a_study


def plan_of(path, *words, study=None):
    folder = Folder(path / "example")
    study = study or folder.read_study()
    options = parse([str(folder.path), *words])
    return planned(options, folder.path, study, folder.read_records(study), "python -m study.confirm")


def test_the_plan_names_the_choice_and_the_default_on_seeds_that_no_trial_had(tmp_path):
    _, study, records = a_folder(
        tmp_path, a_study(seed=3), [a_record(1, 0.01, seed=3000), a_record(2, 0.05, seed=3000, **LARGE)]
    )
    confirmation, plan = plan_of(tmp_path, "--seeds", "4")
    assert (confirmation.path.name, confirmation.planned) == ("confirm", False)
    assert [each.role for each in plan.configs] == ["choice", "default"]
    assert plan.configs[0].config == records[1].config.replace(seed=3500)
    assert plan.configs[1].config == records[0].config.replace(seed=3500)
    assert plan.seeds == (3500, 3501, 3502, 3503)
    assert [each.screened for each in plan.configs] == [0.05, 0.01]
    assert (plan.margin, plan.earlier, plan.data) == (0.01, (), study.data)


def test_a_choice_that_is_the_default_is_confirmed_once(tmp_path):
    a_folder(tmp_path, records=[a_record(1, gain=0.05)])
    assert [each.role for each in plan_of(tmp_path)[1].configs] == ["choice"]


def test_a_study_of_protocol_notebook_is_refused(tmp_path, capsys):
    study = a_study(protocol="notebook")
    a_folder(tmp_path, study, [a_record(1, protocol="notebook")])
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "example")])
    assert ended.value.code == 2
    assert "notebook" in capsys.readouterr().err


def test_trials_after_best_json_are_refused_by_what_it_says_not_by_its_time(tmp_path, capsys):
    folder, *_ = a_folder(tmp_path)
    text = (folder.path / "best.json").read_text()
    os.utime(folder.path / "best.json", (0, 0))
    assert plan_of(tmp_path)
    folder.write_record(a_record(3, gain=0.02, epochs=2))
    (folder.path / "best.json").write_text(text)  # newer than every record
    with pytest.raises(FolderError, match=r"best\.json"):
        plan_of(tmp_path)
    assert main([str(folder.path)]) == 4
    assert "--resume --name example" in capsys.readouterr().err


def test_a_running_study_is_refused(tmp_path, capsys):
    folder, *_ = a_folder(tmp_path)
    with folder.locked():
        assert main([str(folder.path)]) == 4
    assert "in use" in capsys.readouterr().err


def test_a_record_that_was_edited_is_refused(tmp_path):
    a_folder(tmp_path)
    confirmation, plan = plan_of(tmp_path)
    confirmation.write_plan(plan)
    finish(confirmation, plan)
    path = confirmation.path / "choice-0500.json"
    path.write_text(path.read_text().replace('"networks": 3', '"networks": 4'))
    with pytest.raises(FolderError, match="checksum"):
        confirmation.read_records(plan)


def test_a_study_without_complete_trials_is_refused(tmp_path):
    folder, *_ = a_folder(tmp_path, records=[a_record(1, state="failed")])
    assert main([str(folder.path)]) == 4


@pytest.mark.parametrize("words", [("--seeds", "5"), ("--margin", "2")])
def test_a_plan_never_changes(tmp_path, words):
    a_folder(tmp_path)
    confirmation, plan = plan_of(tmp_path)
    confirmation.write_plan(plan)
    assert plan_of(tmp_path) == (confirmation, plan)
    assert plan_of(tmp_path, "--seeds", "10", "--margin", "1", "--again") == (confirmation, plan)
    with pytest.raises(SystemExit) as ended:
        plan_of(tmp_path, *words)
    assert ended.value.code == 2


def test_a_plan_for_another_choice_is_not_resumed(tmp_path):
    folder, study, records = a_folder(tmp_path)
    confirmation, plan = plan_of(tmp_path)
    confirmation.write_plan(plan)
    records.append(a_record(3, gain=0.2, epochs=2))
    folder.write_record(records[-1])
    write_all(folder, study, records)
    with pytest.raises(FolderError, match="was planned"):
        plan_of(tmp_path)


def test_another_confirmation_has_other_seeds_and_names_the_earlier_ones_of_all_studies_with_these_data(tmp_path):
    a_folder(tmp_path)
    first, plan = plan_of(tmp_path, "--seeds", "3")
    first.write_plan(plan)
    finish(first, plan)
    for name, data in (("twin", "d" * 64), ("stranger", "e" * 64)):
        shutil.copytree(tmp_path / "example", tmp_path / name)
        changed = seal(plan.replace(study=name, data=data).as_json())
        (tmp_path / name / "confirm" / "plan.json").write_text(changed)
    second, other = plan_of(tmp_path, "--again", "--seeds", "3")
    assert second.path.name == "confirm-2"
    assert other.seeds == (503, 504, 505)
    assert [words.split(" on ")[0] for words in other.earlier] == ["example", "twin"]
    assert openings(tmp_path, "e" * 64)[0].startswith("stranger on 20")


def test_a_confirmation_that_was_moved_away_leaves_no_number_and_no_seed_to_another(tmp_path):
    folder, *_ = a_folder(tmp_path)
    for name in ("confirm", "confirm-2"):
        confirmation, plan = plan_of(tmp_path, "--again", "--seeds", "3")
        assert confirmation.path.name == name
        confirmation.write_plan(plan)
        finish(confirmation, plan)
    (folder.path / "confirm").rename(folder.path / "confirm-old")
    third, plan = plan_of(tmp_path, "--again", "--seeds", "3")
    assert (third.path.name, plan.seeds) == ("confirm-3", (506, 507, 508))
    assert len(plan.earlier) == 2
    shutil.rmtree(folder.path / "confirm-old")
    assert plan_of(tmp_path, "--again", "--seeds", "3")[0] == third
    assert plan_of(tmp_path, "--again", "--seeds", "3")[1].seeds == plan.seeds
    assert plan_of(tmp_path)[0].path.name == "confirm-2"


def finish(confirmation, plan, gain=0.2, failed=()):
    """Scored records of made-up predictions, in which the mixture is right more often, and the result."""
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
    confirmation.result.write_text(json.dumps(outcome.as_json()))
    return outcome


def test_a_finished_confirmation_is_shown_again(tmp_path, capsys):
    folder, *_ = a_folder(tmp_path)
    confirmation, plan = plan_of(tmp_path)
    confirmation.write_plan(plan)
    finish(confirmation, plan)
    assert main([str(folder.path)]) == 0
    assert "Verdict: improves" in capsys.readouterr().out
    assert main([str(folder.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "improves"


def test_a_damaged_result_is_one_sentence(tmp_path, capsys):
    folder, *_ = a_folder(tmp_path)
    confirmation, plan = plan_of(tmp_path)
    confirmation.write_plan(plan)
    finish(confirmation, plan)
    for damage in (b"{", b"\xff", b"{}"):
        confirmation.result.write_bytes(damage)
        for words in ((), ("--json",)):
            assert main([str(folder.path), *words]) == 4
            printed = capsys.readouterr()
            assert (printed.out, len(printed.err.splitlines())) == ("", 1)
            assert "confirm/result.json is damaged (" in printed.err


def test_seeds_that_failed_are_reported_and_below_nine_of_ten_there_is_no_verdict(tmp_path):
    a_folder(tmp_path)
    confirmation, plan = plan_of(tmp_path)
    confirmation.write_plan(plan)
    outcome = finish(confirmation, plan, failed={501})
    assert outcome.verdict == "improves"
    assert outcome.configs["choice"].failed == ("seed 501: diverged",)
    assert "seed 501: diverged" in report(outcome, "shapes")
    assert finish(confirmation, plan, failed={501, 502}).verdict == "no verdict"


def test_the_outcome_is_that_of_the_bits(tmp_path):
    a_folder(tmp_path)
    confirmation, plan = plan_of(tmp_path)
    confirmation.write_plan(plan)
    outcome = finish(confirmation, plan)
    choice = outcome.configs["choice"]
    records = [each for each in confirmation.read_records(plan).values() if each.role == CHOICE]
    bits = {name: np.stack([record.bits(name) for record in records]) for name in ARMS}
    assert choice.arms["mixture"].accuracy == bits["mixture"].mean()
    gain = bits["mixture"].mean() - bits["baseline"].mean()
    assert choice.gain.difference == pytest.approx(gain)
    assert sum(step.difference for step in choice.steps) == pytest.approx(gain)
    for label in range(10):
        assert sum(step.classes[label] for step in choice.steps) == pytest.approx(choice.gain.classes[label])
    assert choice.better == (bits["mixture"].mean(1) > bits["baseline"].mean(1)).sum()
    assert choice.flattery == pytest.approx(0.05 - gain)
    assert choice.arms["oracle_gate"].mixture_minus is None  # a bound, no competitor
    assert [statement.words for statement in outcome.statements] == list(plan.contrasts[3:])
    assert all(statement.adjusted_p >= statement.p for statement in outcome.statements)


def test_what_varies_is_seen_on_three_seeds_of_the_choice_or_assumed():
    records = [a_record(number, replicate=number) for number in range(1, 5)]
    assert seen(records, records[0].config).seeds == 0  # results without bits
    assert seconds(records, records[0].config, 0) == pytest.approx(1.65 * 60)


TINY = {"train_examples": 60, "test_examples": 20, "batch_size": 20}


@pytest.fixture
def here(monkeypatch, data):
    """Training in this process, one seed after the other."""
    few = replace(data, test_images=data.test_images[:100], test_labels=data.test_labels[:100])
    return without_ray(monkeypatch, few)


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


def test_ended_after_any_seed_and_resumed_it_has_the_bytes_of_one_that_was_not(tmp_path, here, capsys):
    words = ("--seeds", "3", "--no-store")
    straight, stopped = (a_tiny_study(tmp_path / name) for name in ("straight", "stopped"))
    assert main([str(straight), *words]) == 0
    capsys.readouterr()
    here += [1, 1]
    for ended in (1, 2):
        assert main([str(stopped), *words]) == 75
        written = [json.loads(path.read_text()) for path in (stopped / "confirm").glob("*-*.json")]
        assert len(written) == ended
        assert all(record["right"] is None and record["predicted"] for record in written)
        assert not (stopped / "confirm" / "result.json").exists()
        printed = capsys.readouterr()
        assert "Verdict" not in printed.out
        assert "Continue with: python -m study.confirm" in printed.err
    plan = (stopped / "confirm" / "plan.json").read_bytes()
    assert main([str(stopped), *words]) == 0
    assert "Verdict: no verdict" in capsys.readouterr().out
    assert (stopped / "confirm" / "plan.json").read_bytes() == plan
    results = [(folder / "confirm" / "result.json").read_bytes() for folder in (straight, stopped)]
    assert results[0] == results[1]
    for path in (straight / "confirm").glob("*-*.json"):
        one, other = (json.loads((folder / "confirm" / path.name).read_text()) for folder in (straight, stopped))
        assert one["predicted"] is other["predicted"] is None
        assert one["right"] == other["right"]


def test_a_dry_run_prints_price_and_power_and_writes_nothing(tmp_path, here, capsys):
    folder = a_tiny_study(tmp_path)
    before = sorted(folder.rglob("*"))
    assert main([str(folder), "--dry-run", "--seeds", "10"]) == 0
    printed = capsys.readouterr().out
    assert "10 fresh seeds, from 500 on" in printed
    usual = Noise(USUAL_DEVIATION, 0.1, PERSISTENT)  # of a config with one seed
    assert f"gains of {100 * resolves(10, usual, 100):.1f} points" in printed
    assert sorted(folder.rglob("*")) == before


def test_the_result_as_json_is_all_that_is_printed_on_a_cluster_too(tmp_path, here, capsys, monkeypatch):
    def check_nodes(*_):
        emit("ok      nodes           1: node 10.0.0.1")
        return Resources(cpus_per_trial=1, gpus_per_trial=0, concurrency=1), "float32"

    monkeypatch.setattr("study.confirm.run.check_nodes", check_nodes)
    words = ("--seeds", "3", "--no-store", "--json", "--address", "auto")
    assert main([str(a_tiny_study(tmp_path)), *words]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["verdict"] == "no verdict"
    assert "ok      nodes" in printed.err


def test_a_seed_that_diverges_is_recorded_and_another_error_is_not(tmp_path, here, capsys, monkeypatch):
    def run_controls(config, *_):
        raise TrainingError("the loss is nan") if config.seed == 500 else DataError("no data here")

    monkeypatch.setattr("study.confirm.seed.run_controls", run_controls)
    folder = a_tiny_study(tmp_path)
    assert main([str(folder), "--seeds", "3", "--no-store"]) == 4
    assert "no data here" in capsys.readouterr().err
    written = {path.name: json.loads(path.read_text()) for path in (folder / "confirm").glob("*-*.json")}
    assert sorted(written) == ["choice-0500.json"]
    assert all(record["error"] == "the loss is nan" for record in written.values())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with two studies of the same trial on the built-in shapes."""
    home = tmp_path_factory.mktemp("confirm")
    choices = {"epochs": 2, "train_examples": 50, "test_examples": 50, "use_large_experts": True}
    study = a_tiny_study(home, load("shapes").fingerprint, **choices)
    for name in ("straight", "killed"):
        shutil.copytree(study, home / "results" / name)
    return home


def test_a_confirmation_killed_between_seeds_and_resumed_gives_the_bytes_of_one_without_ray(home, monkeypatch, capsys):
    words = ("--seeds", "3", "--concurrency", "1")
    folder = home / "results" / "killed"
    with launch(home, "study.confirm", "results/killed", *words, MOE_STORE=str(home / "other")) as process:
        while not (ended := list((folder / "confirm").glob("choice-*.json"))) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        printed = process.communicate(timeout=100)[0]
    assert process.returncode == 75, printed
    assert 1 <= len(ended) < 3
    assert "Continue with: python -m study.confirm results/killed" in printed
    assert "%" not in printed.split("trainings to go")[1]
    plan = (folder / "confirm" / "plan.json").read_bytes()
    assert not (folder / "confirm" / "result.json").exists()
    assert all(json.loads(path.read_text())["right"] is None for path in ended)

    with launch(home, "study.confirm", "results/killed", *words, "--json", MOE_STORE=str(home / "other")) as process:
        printed = {"killed": process.communicate(timeout=200)[0]}
    assert process.returncode == 0, printed
    without_ray(monkeypatch, load("shapes"))
    assert main([str(home / "results" / "straight"), *words, "--json", "--no-store"]) == 0
    printed["straight"] = capsys.readouterr().out
    results = {}
    for name, text in printed.items():
        results[name] = json.loads((home / "results" / name / "confirm" / "result.json").read_text())
        assert json.loads(text[text.index("{") :]) == results[name]
    assert (folder / "confirm" / "plan.json").read_bytes() == plan
    assert results["killed"].pop("earlier") == []
    assert [words.split(" on ")[0] for words in results["straight"].pop("earlier")] == ["killed"]
    assert results["killed"] | {"study": "straight"} == results["straight"]
    assert results["straight"]["verdict"] == "no verdict"  # three seeds
    assert results["straight"]["images"] == 500
    paths = [sorted((home / "results" / name / "confirm").glob("choice-*.json")) for name in results]
    bits = [[json.loads(path.read_text())["right"] for path in each] for each in paths]
    assert bits[0] == bits[1]
    assert len(bits[0]) == 3
