"""A result as a value, as JSON and as a table."""

import pytest

from moe.config import Config
from moe.result import Epoch, Result, StageResult
from moe.schema import decode
from tests.study_helpers import a_result

EPOCH = Epoch(loss=1.0, accuracy=0.5, validation_loss=1.2, validation_accuracy=0.4, seconds=2.0)


def a_stage(epochs=2, reused=0, seconds=3.25):
    return StageResult(
        epochs=(EPOCH,) * epochs,
        best_epoch=1,
        stopped="epochs",
        parameters=2_168_362,
        epochs_trained=epochs - reused,
        epochs_reused=reused,
        seconds=seconds,
        seconds_reused=0.0,
    )


@pytest.fixture
def result():
    stages = {name: a_stage() for name in ("baseline", "gate", "artificial", "natural")} | {"mixture": a_stage(3, 1)}
    return a_result(0.0123, Config(test_examples=1000, seed=7)).replace(stages=stages)


def test_a_result_is_the_same_after_json(result):
    assert decode(Result, result.model_dump_json()) == result


def test_a_gain_that_is_not_the_difference_is_an_error(result):
    with pytest.raises(ValueError, match=r"gain is 0.5; expected 0.01"):
        result.score.replace(gain=0.5)


def test_a_result_prints_a_row_for_each_stage(result):
    heading, *rows = [line.split() for line in str(result).splitlines()[:6]]
    assert heading == ["stage", "accuracy", "epochs", "reused", "best", "stopped", "parameters", "seconds"]
    assert rows[0] == ["baseline", "50.00%", "2", "0", "1", "epochs", "2,168,362", "3.2"]
    assert [row[0] for row in rows] == list(result.stages)
    assert rows[-1][:4] == ["mixture", "51.23%", "3", "1"]


def test_a_result_prints_its_gain_with_images_data_protocol_and_seed(result):
    line = str(result).splitlines()[6]
    for part in ("+1.23 points", "1000 validation images", "shapes", "holdout", "float32", "seed 7"):
        assert part in line


def test_seconds_that_the_store_saved_are_printed_only_if_there_are_any(result):
    reused = result.replace(totals=result.totals.replace(seconds_reused=42.0))
    assert str(reused).splitlines()[-1].startswith("42 s")
    assert len(str(reused).splitlines()) == len(str(result).splitlines()) + 1


def test_a_stage_without_a_score_prints_no_accuracy(result):
    row = str(result.replace(stages={"another": a_stage()})).splitlines()[1].split()
    assert row[:2] == ["another", "2"]
