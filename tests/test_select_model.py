"""The model of a study's trials, on worlds whose truth is known."""

import time

import numpy as np
import pytest

from study.select.model import fit
from study.select.trials import LEAST_SEEDS, Trials

SIZES = (6, 3, 2, 2, 2)


def of(points, values, sizes, image_noise, chains=None, image_part=0.0):
    """The model of trials that share no network, unless that is given."""
    own = np.arange(len(values)) if chains is None else chains
    noisy = np.zeros(len(values), bool)
    return fit(Trials(np.asarray(points), sizes, np.asarray(values, float), own, noisy, image_noise, image_part))


class World:
    """A space of 144 configs whose true values are known: effects with an sd of 1.5, and own deviations."""

    def __init__(self, seed, own=0.0):
        self.draw = np.random.default_rng(seed)
        self.points = np.array(list(np.ndindex(SIZES)))
        self.effects = [1.5 * self.draw.standard_normal(size) for size in SIZES]
        columns = zip(self.effects, self.points.T, strict=True)
        self.truth = sum(effects[column] for effects, column in columns) + own * self.draw.standard_normal(144)

    def trials(self, configs, replicates, noise):
        """Places of configs, one per trial, and what the trials found."""
        places = self.draw.permutation(144)[:configs].repeat(replicates)
        return places, self.truth[places] + noise * self.draw.standard_normal(len(places))

    def fit(self, places, values, image_noise=1.0):
        return of(self.points[places], values, SIZES, image_noise)


def covered(estimate, error, quantile, truth):
    return np.abs(estimate - truth) <= quantile * error


def test_effects_are_recovered_within_their_intervals():
    world = World(0)
    found = world.fit(*world.trials(144, 1, noise=0.5), image_noise=0.3)
    for effects, errors, truth in zip(found.effects, found.effect_errors, world.effects, strict=True):
        assert covered(effects, errors, found.quantile, truth - truth.mean()).all()
        assert errors.max() < 0.2
    assert found.noise == pytest.approx(0.5, rel=0.15)


def test_an_estimate_errs_less_than_half_as_much_as_what_one_trial_found():
    squares = np.zeros(2)
    for seed in range(30):
        world = World(seed)
        places, values = world.trials(50, 1, noise=1.5)
        found = world.fit(places, values)
        for place, estimate in enumerate((found.estimate[found.config_of], values)):
            squares[place] += ((estimate - world.truth[places]) ** 2).mean()
    assert np.sqrt(squares[0] / squares[1]) < 0.52


@pytest.mark.parametrize(("configs", "replicates", "own"), [(13, 1, 0.0), (50, 1, 0.0), (40, 3, 1.0)])
def test_95_in_100_intervals_hold_the_truth(configs, replicates, own):
    values_held, effects_held = [], []
    for seed in range(150 // replicates):
        world = World(seed, own)
        places, values = world.trials(configs, replicates, noise=1.0)
        found = world.fit(places, values)
        truth = world.truth[places]
        of_trial = found.estimate[found.config_of], found.error[found.config_of]
        values_held.extend(covered(*of_trial, found.quantile, truth))
        for effects, errors, true in zip(found.effects, found.effect_errors, world.effects, strict=True):
            tried = ~np.isnan(effects)
            if tried.any():
                difference = true - true[tried].mean()
                effects_held.extend(covered(effects, errors, found.quantile, difference)[tried])
    assert 0.92 < np.mean(values_held) < 0.98
    assert 0.90 < np.mean(effects_held) < 0.98


def test_many_replicates_show_a_configs_own_deviation_from_the_sum_of_effects():
    world = World(0, own=2.0)
    places, values = world.trials(144, 30, noise=1.0)
    found = world.fit(places, values)
    error = np.sqrt(((found.estimate[found.config_of] - world.truth[places]) ** 2).mean())
    assert error == pytest.approx(1 / np.sqrt(30), rel=0.2)
    assert found.noise == pytest.approx(1.0, rel=0.05)


def test_one_outlier_among_many_trials_is_shrunk_by_four_fifths():
    places = np.arange(144)
    values = np.zeros(144)
    values[7] = 5.0
    found = World(0).fit(places, values)
    assert found.estimate[7] < 1.0


def test_one_trial_is_its_own_estimate_with_the_noise_of_its_images():
    found = of(np.array([[2, 1]]), np.array([0.03]), (6, 3), 0.01)
    assert found.estimate.tolist() == pytest.approx([0.03])
    assert found.error.tolist() == pytest.approx([0.01])
    assert found.quantile == pytest.approx(1.96, rel=1e-3)
    assert np.isnan(found.effects[0]).all()


def test_nothing_searched_makes_the_estimate_the_mean_over_seeds():
    values = np.array([0.01, 0.03, 0.02, 0.06])
    found = of(np.zeros((4, 0), np.int64), values, (), 0.0)
    assert found.estimate.tolist() == pytest.approx([0.03])
    assert found.effects == ()


def test_equal_values_make_no_effects_and_no_certainty():
    world = World(0)
    found = world.fit(np.arange(12), np.full(12, 0.02), image_noise=0.01)
    assert found.estimate == pytest.approx(np.full(12, 0.02))
    assert found.error.min() > 0
    assert np.nanmax(np.abs(found.effects[3])) < 1e-12


def test_a_level_never_tried_and_a_parameter_with_one_level_have_no_effect():
    points = np.array([[0, 1], [2, 1], [0, 1], [2, 1]])
    found = of(points, np.array([1.0, 2.0, 1.5, 2.5]), (3, 2), 0.1)
    assert np.isnan(found.effects[0]).tolist() == [False, True, False]
    assert np.isnan(found.effects[1]).all()


def test_ten_thousand_trials_take_a_second_or_two():
    world = World(0)
    places = world.draw.integers(144, size=10_000)
    start = time.process_time()
    world.fit(places, world.draw.standard_normal(10_000))
    assert time.process_time() - start < 4


def test_a_config_with_fewer_than_four_seeds_has_no_interval():
    places = np.repeat([0, 1, 2], [1, LEAST_SEEDS - 1, LEAST_SEEDS])
    found = of(places[:, None], np.arange(len(places)) / 100, (3,), 0.01)
    assert [found.interval(config) is None for config in range(3)] == [True, True, False]
    low, high = found.interval(2)
    assert low < found.estimate[2] < high


def test_the_best_config_has_the_highest_estimate_and_among_equals_the_highest_mean():
    found = of(np.array([[0], [1], [2]]), np.array([0.01, 0.03, 0.02]), (3,), 0.02)
    assert found.best == found.estimate.argmax() == 1
    alike = of(np.zeros((2, 0), np.int64), np.array([0.1, 0.2]), (), 0.0)
    assert alike.best == 0


def test_the_importances_are_the_shares_of_the_true_effects():
    world = World(0)
    found = world.fit(*world.trials(144, 1, noise=0.5), image_noise=0.3)
    variances = [effects.var() for effects in world.effects]
    truth = np.array(variances) / (sum(variances) + 0.5**2)
    assert [each.share for each in found.importances] == pytest.approx(truth, abs=0.06)
    assert all(each.low <= each.share <= each.high and not each.chance for each in found.importances)


def test_shares_do_not_depend_on_which_configs_a_sampler_preferred():
    world = World(0)
    places = np.argsort(np.abs(world.truth - np.median(world.truth)))[:70]  # their effects nearly cancel
    found = world.fit(places, world.truth[places] + 0.5 * world.draw.standard_normal(70), image_noise=0.3)
    variances = [effects.var() for effects in world.effects]
    truth = np.array(variances) / (sum(variances) + 0.5**2)
    assert [each.share for each in found.importances] == pytest.approx(truth, abs=0.12)


def test_in_noise_alone_no_parameter_is_more_than_chance():
    named = []
    for seed in range(100):
        world = World(seed)
        places = world.draw.permutation(144)[:50]
        found = world.fit(places, 1.8 * world.draw.standard_normal(50)).importances
        named.append(any(not each.chance for each in found))
    assert np.mean(named) <= 0.1


def test_a_parameter_with_one_tried_level_explains_nothing():
    points = np.array([[0, 1], [1, 1], [0, 1], [1, 1]])
    found = of(points, np.array([1.0, 2.0, 1.1, 2.1]), (2, 2), 0.1).importances[1]
    assert (found.share, found.chance) == (0, True)


def test_parameters_that_act_together_are_found_with_one_trial_of_each_config():
    draw = np.random.default_rng(0)
    points = np.array(list(np.ndindex(SIZES)))
    truth = 4 * (points[:, 2] == points[:, 4])  # no effect of either alone
    found = of(points, truth + draw.standard_normal(144), SIZES, 0.5)
    assert np.sqrt(((found.estimate - truth) ** 2).mean()) < 0.6
    assert np.abs(found.effects[2]).max() < 0.4


def test_noise_that_a_network_shares_makes_the_error_larger():
    world = World(0)
    places, values = world.trials(144, 1, noise=1.0)
    shared = np.unique(world.points[places][:, [0, 1, 4]], axis=0, return_inverse=True)[1]
    together, alone = (of(world.points[places], values, SIZES, 1.0, networks) for networks in (shared, None))
    assert together.error.mean() > 1.1 * alone.error.mean()


def test_what_one_seed_of_each_baseline_found_is_no_effect_of_the_baseline():
    points = np.array(list(np.ndindex(SIZES)))
    chains = np.unique(points[:, [1, 4]], axis=0, return_inverse=True)[1]
    named = 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        values = np.sqrt(0.8) * draw.standard_normal(6)[chains] + np.sqrt(0.2) * draw.standard_normal(144)
        named += any(not found.chance for found in of(points, values, SIZES, 0.1, chains).importances)
    assert named <= 2


def test_an_estimate_is_no_surer_than_its_configs_own_seeds():
    places, values = World(0).trials(40, 1, noise=0.1)
    wild = np.array([-9.0, -4.0, 1.0, 6.0])
    points = World(0).points[[*places, *[places[0]] * 4]]
    found = of(points, np.concatenate([values, values[0] + wild]), SIZES, 0.01)
    own = found.config_of[0]
    assert found.error[own] > 0.7 * np.std([0.0, *wild], ddof=1) / np.sqrt(5)


def test_the_part_of_the_image_noise_that_stays_is_in_every_error():
    values = np.array([0.01, 0.03, 0.02, 0.06])
    with_part, without = (of(np.zeros((4, 0), np.int64), values, (), 0.01, None, part) for part in (0.01**2, 0.0))
    assert with_part.error[0] ** 2 == pytest.approx(without.error[0] ** 2 + 0.01**2)
