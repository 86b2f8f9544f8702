"""The model of a study's trials, on worlds whose truth is known."""

import time

import numpy as np
import pytest

from study.select.model import LEAST_SEEDS, fit

SIZES = (6, 3, 2, 2, 2)


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
        return fit(self.points[places], values, SIZES, image_noise)


def covered(estimate, error, quantile, truth):
    return np.abs(estimate - truth) <= quantile * error


def test_effects_are_recovered_within_their_intervals():
    world = World(0)
    found = world.fit(*world.trials(144, 1, noise=0.5))
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
    assert np.sqrt(squares[0] / squares[1]) < 0.5


@pytest.mark.parametrize(("configs", "replicates", "own"), [(13, 1, 0.0), (50, 1, 0.0), (40, 3, 1.0)])
def test_95_in_100_intervals_hold_the_truth(configs, replicates, own):
    values_held, effects_held = [], []
    for seed in range(150):
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
    found = fit(np.array([[2, 1]]), np.array([0.03]), (6, 3), 0.01)
    assert found.estimate.tolist() == pytest.approx([0.03])
    assert found.error.tolist() == pytest.approx([0.01])
    assert found.quantile == pytest.approx(1.96, rel=1e-3)
    assert np.isnan(found.effects[0]).all()


def test_nothing_searched_makes_the_estimate_the_mean_over_seeds():
    values = np.array([0.01, 0.03, 0.02, 0.06])
    found = fit(np.zeros((4, 0), np.int64), values, (), 0.0)
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
    found = fit(points, np.array([1.0, 2.0, 1.5, 2.5]), (3, 2), 0.1)
    assert np.isnan(found.effects[0]).tolist() == [False, True, False]
    assert np.isnan(found.effects[1]).all()


def test_ten_thousand_trials_take_less_than_a_second():
    world = World(0)
    places = world.draw.integers(144, size=10_000)
    start = time.perf_counter()
    world.fit(places, world.draw.standard_normal(10_000))
    assert time.perf_counter() - start < 1


def test_a_config_with_fewer_than_four_seeds_has_no_interval():
    places = np.repeat([0, 1, 2], [1, LEAST_SEEDS - 1, LEAST_SEEDS])
    found = fit(places[:, None], np.arange(len(places)) / 100, (3,), 0.01)
    assert [found.interval(config) is None for config in range(3)] == [True, True, False]
    low, high = found.interval(2)
    assert low < found.estimate[2] < high


def test_the_best_config_has_the_highest_estimate_and_among_equals_the_highest_mean():
    found = fit(np.array([[0], [1], [2]]), np.array([0.01, 0.03, 0.02]), (3,), 0.02)
    assert found.best == found.estimate.argmax() == 1
    alike = fit(np.zeros((2, 0), np.int64), np.array([0.1, 0.2]), (), 0.0)
    assert alike.best == 0


def test_the_shares_of_the_variance_are_those_of_the_true_effects():
    world = World(0)
    found = world.fit(*world.trials(144, 1, noise=0.5))
    variances = [effects.var() for effects in world.effects]
    truth = np.array(variances) / (sum(variances) + 0.5**2)
    assert np.array(found.shares) == pytest.approx(truth, abs=0.05)
    assert sum(found.shares) < 1


def test_in_noise_alone_no_parameter_explains_a_fifth_of_the_variance():
    largest = []
    for seed in range(100):
        world = World(seed)
        places = world.draw.permutation(144)[:50]
        largest.append(max(world.fit(places, 1.8 * world.draw.standard_normal(50)).shares))
    assert np.mean(np.array(largest) < 0.2) >= 0.9


def test_a_parameter_with_one_tried_level_explains_nothing():
    points = np.array([[0, 1], [1, 1], [0, 1], [1, 1]])
    assert fit(points, np.array([1.0, 2.0, 1.1, 2.1]), (2, 2), 0.1).shares[1] == 0
