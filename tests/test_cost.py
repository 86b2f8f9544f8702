import pytest

import moe.config
from moe.config import PRECISIONS, Config
from study.search.cost import Speed, calibrate, forecast, price
from study.search.resources import Resources
from study.space import PRESETS
from tests.study_helpers import a_study

SPEED = Speed(
    training={"small": 0.001, "large": 0.002, "subgates": 0.0002},
    evaluation={"small": 0.0002, "large": 0.0004, "subgates": 0.00002},
)


def total(config):
    return sum(p.epoch * config.epochs + p.prediction for p in price(config, SPEED).values())


def test_a_config_costs_its_epochs_of_every_stage_and_one_prediction_for_the_mixture(monkeypatch):
    config = Config(epochs=2, train_examples=1000, test_examples=100)
    networks = 1 + 1 + 0.4 + 0.6  # experts see their classes only
    stages = 2 * networks * (1000 * 0.001 + 100 * 0.0002)
    monkeypatch.setattr(moe.config, "VALIDATION_EXAMPLES", 5000)
    predictions = 4 * (1000 + 5000) * 0.0002
    subgates = 2 * (1000 * 0.0002 + 100 * 0.00002) + 5000 * 0.00002
    assert total(config) == pytest.approx(stages + predictions + subgates)


@pytest.mark.parametrize(
    "change",
    [{"epochs": 3}, {"train_examples": 2000}, {"use_large_experts": True}, {"protocol": "notebook"}],
)
def test_more_of_anything_costs_more(change):
    config = Config(epochs=2, train_examples=1000)
    assert total(config.replace(**change)) > total(config)


def test_a_study_costs_less_where_trials_share_stages():
    forecast_of = {n: forecast(a_study(trials=n, space=PRESETS["notebook"]), n, [], SPEED) for n in (1, 50, 144, 288)}
    assert forecast_of[1].shared == forecast_of[1].apart
    assert forecast_of[1].apart.cost == forecast_of[1].cheapest == forecast_of[1].dearest
    fifty = forecast_of[50]
    assert fifty.apart.stages == 250
    assert fifty.shared.stages <= 24 + 50  # four networks of two sizes at three numbers of examples; mixtures
    assert fifty.cheapest < fifty.apart.cost / 50 < fifty.dearest
    assert fifty.shared.cost < fifty.apart.cost / 2
    assert forecast_of[288].shared.cost == pytest.approx(
        2 * forecast_of[144].shared.cost
    )  # another seed shares nothing


def test_points_on_several_seeds_cost_as_often_as_there_are_seeds():
    one, three = (a_study(trials=10, seeds=seeds, space=PRESETS["notebook"]) for seeds in (1, 3))
    alone, together = forecast(one, 10, [], SPEED), forecast(three, 30, [], SPEED)
    assert together.shared.cost == pytest.approx(3 * alone.shared.cost)
    assert together.apart.cost == pytest.approx(3 * alone.apart.cost)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_the_store_has_of_recorded_trials_costs_nothing(precision):
    study = a_study(space=PRESETS["notebook"], precision=precision)
    default = study.space.values(study.space.default)
    longer = Config(**{**default, "epochs": 8}, precision=precision)
    fresh, resumed = forecast(study, 144, [], SPEED), forecast(study, 144, [longer], SPEED)
    assert resumed.apart == fresh.apart
    assert resumed.shared.epochs == fresh.shared.epochs - 5 * 8  # the longest of each of its chains


def test_a_calibration_finds_the_subgates_cheapest_and_training_dearer_than_evaluation(monkeypatch):
    monkeypatch.setattr("study.search.cost.CALIBRATION_STEPS", 2)
    speed = calibrate(Resources(cpus_per_trial=1, gpus_per_trial=0, concurrency=1), 50, "float32")
    assert speed.training["subgates"] < speed.training["small"]
    for name, seconds in speed.training.items():
        assert 0 < speed.evaluation[name] < seconds < 1
