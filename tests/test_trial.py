import dataclasses
import json

import pytest
import torch

import moe.data
import moe.pipeline
from moe.config import Config
from moe.training.loop import TrainingError
from study.machine import ClusterError
from study.search import trial
from study.search.trial import Job, devices, evaluate


@pytest.fixture
def job(data, monkeypatch):
    monkeypatch.setattr(moe.data, "load", lambda *_, **__: data)
    kept = (trial._data, trial._store)
    for per_process in kept:
        per_process.cache_clear()
    fields = {"dataset": "coloured", "folder": None, "data": data.fingerprint, "score_examples": 100}
    yield Job(**fields, cpus=1, gpus=0, store=None)
    for per_process in kept:
        per_process.cache_clear()


CONFIG = Config(epochs=1, train_examples=100, test_examples=50).as_json()


def test_a_trial_reports_its_progress_and_last_its_result(job):
    rows = []
    evaluate(job, CONFIG, rows.append)
    *progress, last = rows
    assert progress[0] == {"stage": "baseline", "epoch": 1, "epochs": 1}
    result = json.loads(last["result"])
    assert result["scored_examples"] == 100
    assert result["config"] == CONFIG


@pytest.mark.parametrize(("every_s", "told"), [(0.0, 10), (1000.0, 1)])
def test_progress_is_told_of_each_epoch_but_not_more_often_than_it_may(job, monkeypatch, every_s, told):
    monkeypatch.setattr(trial, "REPORT_EVERY_S", every_s)
    rows = []
    evaluate(job, {**CONFIG, "epochs": 2, "train_examples": 50, "patience": 9}, rows.append)
    assert ["result" in row for row in rows] == [False] * told + [True]


def test_a_trial_whose_stages_are_all_stored_finds_the_same_in_well_under_a_second(job, tmp_path):
    job = dataclasses.replace(job, store=str(tmp_path / "store"))
    rows = []
    for _ in range(2):
        evaluate(job, CONFIG, rows.append)
    first, second = (json.loads(row["result"]) for row in rows if "result" in row)
    assert (first["totals"]["epochs_trained"], first["totals"]["epochs_reused"]) == (5, 0)
    assert (second["totals"]["epochs_trained"], second["totals"]["epochs_reused"]) == (0, 5)
    assert second["totals"]["seconds"] < 1
    for name in ("totals", "stages"):
        del first[name], second[name]
    assert first == second
    trial._store(job).close()


def test_what_the_store_warns_of_goes_along_with_the_next_report(job, tmp_path):
    (tmp_path / "file").write_text("")
    rows = []
    evaluate(dataclasses.replace(job, store=str(tmp_path / "file" / "below")), CONFIG, rows.append)
    warnings = [sentence for row in rows for sentence in row.get("warnings", ())]
    assert len(warnings) == 1
    assert "the store cannot be written" in warnings[0]
    assert "result" in rows[-1]


def test_bfloat16_on_a_cpu_without_its_units_is_warned_of(job, monkeypatch):
    monkeypatch.setattr(moe.training.numerics, "_bfloat16_units", list)
    warned = {}
    for precision in ("float32", "bfloat16"):
        rows = []
        evaluate(job, {**CONFIG, "precision": precision}, rows.append)
        warned[precision] = [sentence for row in rows for sentence in row.get("warnings", ())]
    assert warned["float32"] == []
    assert "bfloat16 may be slow on" in warned["bfloat16"][0]


def test_other_data_than_the_studys_fail_the_trial_with_a_sentence(job):
    rows = []
    evaluate(dataclasses.replace(job, data="0" * 64), CONFIG, rows.append)
    assert [list(row) for row in rows] == [["error", "traceback"]]
    assert "expected 000000000000" in rows[0]["error"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (TrainingError("the loss of stage gate is nan"), "the loss of stage gate is nan"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of GPU memory with batch_size 50"),
    ],
)
def test_what_the_config_brings_about_is_reported_and_the_process_goes_on(job, monkeypatch, error, sentence):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(moe.pipeline, "run", fail)
    rows = []
    evaluate(job, CONFIG, rows.append)
    assert rows[0]["error"].startswith(sentence)
    assert "Traceback" in rows[0]["traceback"]


def test_anything_else_is_reported_and_raised_so_that_the_process_is_not_used_again(job, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CUDA error: an illegal\nmemory access")

    monkeypatch.setattr(moe.pipeline, "run", fail)
    rows = []
    with pytest.raises(RuntimeError):
        evaluate(job, CONFIG, rows.append)
    assert "CUDA error: an illegal memory access" in rows[0]["error"]
    assert "\n" not in rows[0]["error"]


def see(monkeypatch, models):
    """Let torch see GPUs of these models."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(models))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(models))
    monkeypatch.setattr(torch.cuda, "get_device_name", models.__getitem__)


@pytest.mark.parametrize(("gpus", "visible", "expected"), [(1, 1, 1), (0.25, 1, 1), (2, 2, 2), (4, 4, 4), (0, 8, 0)])
def test_devices_come_from_the_allotment_and_not_from_what_can_be_seen(monkeypatch, gpus, visible, expected):
    see(monkeypatch, ["H200"] * visible)
    found = devices(gpus)
    assert [device.type for device in found] == ["cuda"] * expected or (
        expected == 0 and found == (torch.device("cpu"),)
    )


def test_a_trial_trains_on_gpus_of_one_model_since_its_stages_are_filed_under_it(monkeypatch):
    see(monkeypatch, ["H200", "L4", "H200"])
    assert [device.index for device in devices(3)] == [0, 2]


def test_a_gpu_that_was_allotted_and_is_not_there_is_an_error(monkeypatch):
    see(monkeypatch, [])
    with pytest.raises(ClusterError, match=r"1 GPUs a trial, but torch .* sees none"):
        devices(1)
