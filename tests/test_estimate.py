import dataclasses

import pytest

from moe.config import Config
from study.estimate import Speed, calibrate, price, study_seconds
from study.options import Resources
from study.space import PRESETS

SPEED = Speed(
    training={"small": 0.001, "large": 0.002, "subgate": 0.0001},
    evaluation={"small": 0.0002, "large": 0.0004, "subgate": 0.00001},
)


def test_a_config_costs_its_epochs_of_every_stage_and_one_reading_by_the_mixture():
    config = Config(epochs=2, train_examples=1000, test_examples=100)
    networks = 1 + 1 + 0.4 + 0.6  # experts see their classes only
    stages = 2 * networks * (1000 * 0.001 + 100 * 0.0002)
    readings = 4 * (1000 + 500) * 0.0002
    subgates = 2 * 2 * (1000 * 0.0001 + 100 * 0.00001)
    assert price(config, SPEED, score_examples=500) == pytest.approx(stages + readings + subgates)


@pytest.mark.parametrize(
    "change",
    [{"epochs": 3}, {"train_examples": 2000}, {"use_large_experts": True}, {"protocol": "notebook"}],
)
def test_more_of_anything_costs_more(change):
    config = Config(epochs=2, train_examples=1000)
    assert price(dataclasses.replace(config, **change), SPEED, 1000) > price(config, SPEED, 1000)


def test_a_study_costs_its_trials_over_those_at_once():
    whole, cheapest, dearest = study_seconds(PRESETS["notebook"], "holdout", 50, 2, SPEED, seed=0)
    assert cheapest < whole * 2 / 50 < dearest
    assert study_seconds(PRESETS["notebook"], "holdout", 100, 2, SPEED, seed=0)[0] == pytest.approx(2 * whole)


def test_a_calibration_finds_the_subgate_cheapest_and_training_dearer_than_evaluation():
    speed = calibrate(Resources(cpus_per_trial=1, gpus_per_trial=0, concurrency=1), batch_size=50)
    assert speed.training["subgate"] < speed.training["small"]
    for name, seconds in speed.training.items():
        assert 0 < speed.evaluation[name] < seconds < 1
