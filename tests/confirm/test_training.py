"""`python -m study.confirm` as it trains: interrupted, resumed, on diverging seeds."""

import json
import os
import signal
import time

import pytest

from moe.console import emit
from moe.data import DataError, load
from moe.training.loop import TrainingError
from study.confirm.__main__ import main
from study.confirm.outcome import read_outcome
from study.confirm.price import USUAL_DEVIATION
from study.search.resources import Resources
from study.select.interval import PERSISTENT, Noise, resolves
from tests.confirm.helpers import a_tiny_study, without_ray
from tests.run_helpers import launch


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


@pytest.mark.parametrize("when", ["seeds are trained", "the last seed has ended"])
def test_nothing_is_written_through_a_link_that_takes_the_folder_s_place(tmp_path, here, capsys, when, monkeypatch):
    folder = a_tiny_study(tmp_path)
    here += [1 if when == "seeds are trained" else 3]
    assert main([str(folder), "--seeds", "3", "--no-store"]) == (75 if here == [] else 0)
    (folder / "confirm" / "result.json").unlink(missing_ok=True)
    (folder / "confirm").rename(tmp_path / "outside")
    (folder / "confirm").symlink_to(tmp_path / "outside")
    before = sorted(os.listdir(tmp_path / "outside"))
    capsys.readouterr()
    assert main([str(folder), "--seeds", "3", "--no-store"]) == 4
    assert "confirm is a link" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path / "outside")) == before


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
        results[name] = read_outcome(home / "results" / name / "confirm" / "result.json").as_json()
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
