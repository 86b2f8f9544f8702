from typing import get_args

import optuna
import pytest

from moe.config import Config
from study.search.samplers import distributions, grid_order, make, resolve
from study.space import PRESETS, Sampler, Space

EACH = pytest.mark.parametrize("name", [name for name in get_args(Sampler) if name not in ("auto", "grid")])
SMALL = Space(name="small", grids={"epochs": (1, 2, 4), "use_large_experts": (False, True)}, fixed={})
NOTHING = Space(name="nothing", grids={}, fixed={"epochs": 2})


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def proposed(sampler, space, trials):
    """The points of so many trials, each with a gain that depends on its point alone."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    points = []
    for _ in range(trials):
        trial = study.ask(distributions(space))
        points.append(dict(trial.params))
        study.tell(trial, (7 * space.position(trial.params) % 13) / 100)
    return points


@EACH
def test_every_proposal_is_a_point_of_the_space(name):
    space = PRESETS["notebook"]
    for point in proposed(make(name, 0), space, 12):
        assert space.point(Config(**space.values(point))) == point


@EACH
def test_a_seed_gives_the_same_points_again_and_another_seed_others(name):
    space = PRESETS["full"]
    first, again, other = (proposed(make(name, seed), space, 12) for seed in (3, 3, 4))
    assert first == again
    assert first != other


@EACH
def test_a_resumed_study_does_not_draw_its_first_points_again(name):
    space = PRESETS["full"]
    first, resumed = (proposed(make(name, 3, n), space, 8) for n in (0, 8))
    assert first != resumed


@EACH
def test_a_space_with_nothing_to_search_is_one_point_over_and_over(name):
    assert distributions(NOTHING) == {}
    assert proposed(make(name, 0), NOTHING, 12) == [{}] * 12


@EACH
def test_a_first_point_and_running_trials_are_taken_as_they_are(name):
    space = PRESETS["notebook"]
    study = optuna.create_study(direction="maximize", sampler=make(name, 0))
    study.enqueue_trial(space.at(5))
    running = [study.ask(distributions(space)) for _ in range(12)]
    assert space.position(running[0].params) == 5
    for trial in running:
        study.tell(trial, 0.01)
    assert space.position(study.ask(distributions(space)).params) < space.size


def test_an_index_runs_over_its_whole_grid():
    assert distributions(SMALL) == {
        "epochs": optuna.distributions.IntDistribution(0, 2),
        "use_large_experts": optuna.distributions.IntDistribution(0, 1),
    }


@EACH
def test_a_named_sampler_is_the_one_that_is_made(name):
    classes = {"tpe": "TPESampler", "gp": "GPSampler", "random": "RandomSampler", "qmc": "QMCSampler"}
    assert resolve(name, PRESETS["notebook"], 50) == name
    assert type(make(name, 0)).__name__ == classes[name]


@pytest.mark.parametrize(("trials", "sampler"), [(1, "tpe"), (143, "tpe"), (144, "grid"), (1000, "grid")])
def test_auto_is_grid_where_the_trials_suffice_for_every_point_and_else_tpe(trials, sampler):
    assert resolve("auto", PRESETS["notebook"], trials) == sampler
    assert resolve("auto", NOTHING, trials) == "grid"


def test_the_grid_s_order_holds_every_point_once_and_is_known():
    assert grid_order(SMALL, 1) == [0, 3, 5, 4, 2, 1]
    assert sorted(grid_order(PRESETS["notebook"], 7)) == list(range(144))
    assert grid_order(NOTHING, 0) == [0]


def test_a_seed_gives_the_same_order_again_and_another_seed_another():
    first, again, other = (grid_order(PRESETS["full"], seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other
