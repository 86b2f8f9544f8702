import json

import pytest
import torch

from moe.config import Config
from moe.data import DataSet
from moe.training.loop import TrainingError
from study.machine import ClusterError
from study.search import trial, worker
from study.search.resources import Resources
from study.search.trial import EpochReport, Job
from study.search.worker import evaluate

ONE_CPU = Resources(cpus_per_trial=1, gpus_per_trial=0, concurrency=1)
CONFIG = Config(epochs=1, train_examples=100, test_examples=50)


@pytest.fixture
def a_job(data, monkeypatch):
    """Makes a job on the small data set, in a process that has loaded nothing yet."""

    def make(**changes):
        fields = {"dataset": "coloured", "folder": None, "data": data.fingerprint}
        return Job(**{**fields, "resources": ONE_CPU, "store": None, **changes})

    def load(*_, **__) -> DataSet:
        return data

    monkeypatch.setattr(worker, "load", load)
    cached = (worker.data, worker.store)
    for per_process in cached:
        per_process.cache_clear()
    yield make
    for per_process in cached:
        per_process.cache_clear()


def rows_of(job, config=CONFIG):
    """All rows that a trial sends."""
    rows = []
    evaluate(job, config, rows.append)
    return rows


def result_of(row):
    return json.loads(row["result"])


def warnings_in(rows):
    return [sentence for row in rows for sentence in row.get("warnings", ())]


def test_the_last_row_is_the_result(a_job):
    *_, last = rows_of(a_job())
    assert list(last) == ["result"]
    assert result_of(last)["scored_examples"] == 100
    assert result_of(last)["config"] == CONFIG.as_json()


def test_a_row_of_an_epoch_holds_stage_epoch_and_the_metrics_that_the_result_has(a_job, monkeypatch):
    monkeypatch.setattr(trial, "REPORT_EVERY_S", 0.0)
    *epochs, last = rows_of(a_job())
    assert [row["stage"] for row in epochs] == ["baseline", "gate", "artificial", "natural", "mixture"]
    for row in epochs:
        assert (row["epoch"], row["epochs"], row["reused"]) == (1, 1, False)
        metrics = result_of(last)["stages"][row["stage"]]["epochs"][0]
        assert {name: row[name] for name in metrics} == metrics
        assert row.keys() == EpochReport.model_fields.keys()


def test_a_row_of_a_stored_stage_is_marked_as_reused(a_job, monkeypatch, tmp_path):
    monkeypatch.setattr(trial, "REPORT_EVERY_S", 0.0)
    job = a_job(store=str(tmp_path / "store"))
    reused = [[row["reused"] for row in rows_of(job) if "stage" in row] for _ in range(2)]
    assert reused == [[False] * 5, [True] * 5]
    worker.store(job).close()


@pytest.mark.parametrize(("every_s", "rows"), [(0.0, 10), (1000.0, 1)])
def test_epochs_are_reported_no_more_often_than_allowed(a_job, monkeypatch, every_s, rows):
    monkeypatch.setattr(trial, "REPORT_EVERY_S", every_s)
    found = rows_of(a_job(), CONFIG.replace(epochs=2, train_examples=50, patience=9))
    assert ["result" in row for row in found] == [False] * rows + [True]


def test_a_trial_whose_stages_are_all_stored_has_the_same_result_in_well_under_a_second(a_job, tmp_path):
    job = a_job(store=str(tmp_path / "store"))
    first, second = (result_of(rows_of(job)[-1]) for _ in range(2))
    worker.store(job).close()
    assert (first["totals"]["epochs_trained"], first["totals"]["epochs_reused"]) == (5, 0)
    assert (second["totals"]["epochs_trained"], second["totals"]["epochs_reused"]) == (0, 5)
    assert second["totals"]["seconds"] < 1
    for name in ("totals", "stages"):
        del first[name], second[name]
    assert first == second


def test_a_warning_of_the_store_goes_along_with_the_next_row(a_job, tmp_path):
    (tmp_path / "file").write_text("")
    rows = rows_of(a_job(store=str(tmp_path / "file" / "below")))
    assert len(warnings_in(rows)) == 1
    assert "store" in warnings_in(rows)[0]
    assert "result" in rows[-1]


@pytest.mark.parametrize(("precision", "warnings"), [("float32", 0), ("bfloat16", 1)])
def test_bfloat16_on_a_cpu_without_its_units_is_warned_of(a_job, monkeypatch, precision, warnings):
    monkeypatch.setattr("moe.training.numerics._bfloat16_units", list)
    failing(monkeypatch, TrainingError("the loss is nan"))  # emulated bfloat16 would train for a minute
    found = warnings_in(rows_of(a_job(), CONFIG.replace(precision=precision)))
    assert len(found) == warnings
    assert all("bfloat16" in sentence for sentence in found)


def test_other_data_than_the_studys_fail_the_trial_with_a_sentence(a_job):
    rows = rows_of(a_job(data="0" * 64))
    assert [list(row) for row in rows] == [["error", "traceback"]]
    assert "expected 000000000000" in rows[0]["error"]


def failing(monkeypatch, error):
    """Let the pipeline raise this."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(worker.pipeline, "run", fail)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (TrainingError("the loss of stage gate is nan"), "the loss of stage gate is nan"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of GPU memory with batch_size 50"),
    ],
)
def test_an_error_caused_by_the_config_is_reported_and_the_process_continues(a_job, monkeypatch, error, sentence):
    failing(monkeypatch, error)
    [row] = rows_of(a_job())
    assert row["error"].startswith(sentence)
    assert "Traceback" in row["traceback"]


def test_any_other_error_is_reported_and_raised_so_that_the_process_is_not_used_again(a_job, monkeypatch):
    failing(monkeypatch, RuntimeError("CUDA error: an illegal\nmemory access"))
    rows = []
    with pytest.raises(RuntimeError):
        evaluate(a_job(), CONFIG, rows.append)
    assert "CUDA error: an illegal memory access" in rows[0]["error"]
    assert "\n" not in rows[0]["error"]


def allotted(gpus, cpus=1):
    return Resources(cpus_per_trial=cpus, gpus_per_trial=gpus, concurrency=1)


def see(monkeypatch, models):
    """Let torch see GPUs of these models."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(models))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(models))
    monkeypatch.setattr(torch.cuda, "get_device_name", models.__getitem__)


@pytest.mark.parametrize(("gpus", "visible", "expected"), [(1, 1, 1), (0.25, 1, 1), (2, 2, 2), (4, 4, 4)])
def test_devices_are_as_many_gpus_as_are_allotted(monkeypatch, gpus, visible, expected):
    see(monkeypatch, ["H200"] * visible)
    assert [device.type for device in worker.devices(allotted(gpus))] == ["cuda"] * expected


def test_without_an_allotted_gpu_the_device_is_the_cpu_whatever_is_visible(monkeypatch):
    see(monkeypatch, ["H200"] * 8)
    assert worker.devices(allotted(0, cpus=3)) == (torch.device("cpu"),) * 3


def test_a_trial_trains_on_gpus_of_one_model_since_its_stages_are_stored_under_it(monkeypatch):
    see(monkeypatch, ["H200", "L4", "H200"])
    assert [device.index for device in worker.devices(allotted(3))] == [0, 2]


def test_a_gpu_that_is_allotted_and_not_there_is_an_error(monkeypatch):
    see(monkeypatch, [])
    with pytest.raises(ClusterError, match=r"1 GPU a trial, but torch .* sees none"):
        worker.devices(allotted(1))
