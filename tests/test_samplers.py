from typing import get_args

import optuna
import pytest
from optuna.trial import TrialState

from moe.config import Config
from study.search.samplers import GridSampler, distributions, make, resolve
from study.space import PRESETS, Sampler, Space

EACH = pytest.mark.parametrize("name", [name for name in get_args(Sampler) if name != "auto"])
RANDOM = pytest.mark.parametrize("name", [name for name in get_args(Sampler) if name not in ("auto", "grid")])
SMALL = Space(name="small", grids={"epochs": (1, 2, 4), "use_large_experts": (False, True)}, fixed={})
NOTHING = Space(name="nothing", grids={}, fixed={"epochs": 2})


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def proposed(sampler, space, trials, study=None):
    """The points of so many trials, each with a gain that depends on its point alone."""
    study = study or optuna.create_study(direction="maximize", sampler=sampler)
    study.sampler = sampler
    points = []
    for _ in range(trials):
        trial = study.ask(distributions(space))
        points.append(dict(trial.params))
        study.tell(trial, (7 * space.position(trial.params) % 13) / 100)
    return points


def positions(sampler, space, trials, study=None):
    return [space.position(point) for point in proposed(sampler, space, trials, study)]


@EACH
def test_every_proposal_is_a_point_of_the_space(name):
    space = PRESETS["notebook"]
    for point in proposed(make(name, space, 0), space, 12):
        assert space.point(Config(**space.values(point))) == point


@EACH
def test_a_seed_gives_the_same_points_again_and_another_seed_others(name):
    space = PRESETS["full"]
    first, again, other = (proposed(make(name, space, seed), space, 12) for seed in (3, 3, 4))
    assert first == again
    assert first != other


@RANDOM
def test_a_resumed_study_does_not_draw_its_first_points_again(name):
    space = PRESETS["full"]
    first, resumed = (proposed(make(name, space, 3, n), space, 8) for n in (0, 8))
    assert first != resumed


@EACH
def test_a_space_with_nothing_to_search_is_one_point_over_and_over(name):
    assert distributions(NOTHING) == {}
    assert proposed(make(name, NOTHING, 0), NOTHING, 12) == [{}] * 12


@EACH
def test_a_first_point_and_running_trials_are_taken_as_they_are(name):
    space = PRESETS["notebook"]
    study = optuna.create_study(direction="maximize", sampler=make(name, space, 0))
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


@RANDOM
def test_a_named_sampler_is_the_one_that_is_made(name):
    classes = {"tpe": "TPESampler", "gp": "GPSampler", "random": "RandomSampler", "qmc": "QMCSampler"}
    assert resolve(name, PRESETS["notebook"], 50) == name
    assert type(make(name, PRESETS["notebook"], 0)).__name__ == classes[name]


@pytest.mark.parametrize(("trials", "sampler"), [(1, "tpe"), (143, "tpe"), (144, "grid"), (1000, "grid")])
def test_auto_is_grid_where_the_trials_suffice_for_every_point_and_else_tpe(trials, sampler):
    assert resolve("auto", PRESETS["notebook"], trials) == sampler
    assert resolve("auto", NOTHING, trials) == "grid"


def test_grid_takes_every_point_once_in_each_round_and_in_the_same_order():
    order = positions(GridSampler(SMALL, 1), SMALL, 18)
    assert sorted(order[:6]) == list(range(6))
    assert order[:6] == order[6:12] == order[12:]


def test_the_grid_s_order_is_known():
    assert positions(make("grid", SMALL, 1), SMALL, 6) == [0, 3, 5, 4, 2, 1]


def test_grid_goes_on_in_its_order_after_a_resume():
    space = PRESETS["notebook"]
    straight = positions(make("grid", space, 7), space, 50)
    study = optuna.create_study(direction="maximize")
    before = positions(make("grid", space, 7), space, 20, study)
    after = positions(make("grid", space, 7, recorded=20), space, 30, study)
    assert before + after == straight


def test_grid_skips_points_that_are_complete_running_or_failed_wherever_they_came_from():
    order = positions(GridSampler(SMALL, 1), SMALL, 6)
    study = optuna.create_study(direction="maximize", sampler=GridSampler(SMALL, 1))
    for position, state in ((order[0], TrialState.COMPLETE), (order[2], TrialState.FAIL)):
        value = 0.5 if state == TrialState.COMPLETE else None
        params = SMALL.at(position)
        study.add_trial(
            optuna.create_trial(state=state, value=value, params=params, distributions=distributions(SMALL))
        )
    running = study.ask(distributions(SMALL))
    study.enqueue_trial(SMALL.at(order[4]))
    rest = [SMALL.position(study.ask(distributions(SMALL)).params) for _ in range(3)]
    assert SMALL.position(running.params) == order[1]
    assert rest == [order[4], order[3], order[5]]
    assert SMALL.position(study.ask(distributions(SMALL)).params) == order[0]


def test_grid_counts_a_trial_that_got_its_point_after_others_were_asked_for():
    order = positions(GridSampler(SMALL, 1), SMALL, 6)
    study = optuna.create_study(direction="maximize", sampler=GridSampler(SMALL, 1))
    late = study.ask()
    second = study.ask(distributions(SMALL))
    for name, distribution in distributions(SMALL).items():
        late.suggest_int(name, distribution.low, distribution.high)
    taken = [SMALL.position(trial.params) for trial in (second, late, study.ask(distributions(SMALL)))]
    assert taken == order[:3]


def test_grid_refuses_a_field_that_is_not_searched():
    study = optuna.create_study(sampler=GridSampler(SMALL, 1))
    with pytest.raises(KeyError, match="patience is not searched"):
        study.ask({"patience": optuna.distributions.IntDistribution(0, 2)})


def test_grid_looks_at_each_trial_once_however_many_points_it_proposes(monkeypatch):
    space, looked = PRESETS["notebook"], []
    position = Space.position
    monkeypatch.setattr(Space, "position", lambda *given: looked.append(given) or position(*given))
    study = optuna.create_study(direction="maximize", sampler=make("grid", space, 0))
    for _ in range(50):
        study.tell(study.ask(distributions(space)), 0.01)
    assert len(looked) == 49
