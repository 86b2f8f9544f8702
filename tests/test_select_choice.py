import math

import numpy as np
import pytest

from study.select.choice import Observations, best_baselines, choose, image_noise, winners_curse
from study.space import PRESETS
from tests.analyze_helpers import search, weak
from tests.study_helpers import a_record, a_result, a_study


def test_no_complete_trial_gives_no_choice():
    assert choose(a_study(), []) is None


def test_the_noise_of_a_gain_comes_from_the_images_on_which_the_two_differ():
    assert image_noise(a_result(0.02, discordance=0.1), "gain") == pytest.approx(math.sqrt((0.1 - 0.0004) / 1000))
    assert image_noise(a_result(0.0, baseline=0.5), "mixture_accuracy") == pytest.approx(math.sqrt(0.25 / 1000))


def test_the_choice_has_the_highest_estimate_of_the_model_and_that_number():
    study, records = a_study(space=PRESETS["notebook"]), list(search(50))
    found, choice = Observations.of(study, records, "gain"), choose(study, records)
    assert choice.estimate == found.fit.estimate.max()
    assert choice == choose(study, records, found)
    assert choice.configs == 50


def test_a_high_single_trial_loses_to_a_mean_over_many_seeds():
    single = [a_record(1, 0.05, epochs=4)]
    steady = [a_record(2 + n, 0.045 + 0.02 * (-1) ** n, replicate=n) for n in range(8)]
    rest = [a_record(10 + n, 0.02 * (-1) ** n, epochs=2, replicate=n) for n in range(4)]
    choice = choose(a_study(), single + steady + rest)
    assert choice.config.epochs == 1
    assert choice.noise_from == "replicates"
    assert choice.seeds == tuple(range(8))


def test_one_trial_alone_is_taken_as_it_is_without_an_interval():
    choice = choose(a_study(), [a_record(1, 0.03)])
    assert choice.estimate == pytest.approx(0.03)
    assert choice.interval is None
    assert choice.noise == pytest.approx(image_noise(a_result(0.03), "gain"))


def test_the_noise_of_replicates_is_pooled_over_the_configs():
    gains = (0.01, 0.05, -0.02, 0.03, 0.0)
    choice = choose(a_study(), [a_record(n + 1, gain, replicate=n) for n, gain in enumerate(gains)])
    assert choice.mean == pytest.approx(0.014)
    assert choice.estimate == pytest.approx(0.014)
    assert choice.noise == pytest.approx(np.std(gains, ddof=1))


@pytest.mark.parametrize("noise", [0.015, 0.03])
def test_the_interval_of_one_config_holds_its_truth_in_nine_of_ten_worlds(noise):
    draw = np.random.default_rng(1)
    held = []
    for _ in range(300):
        gains = draw.normal(0.02, noise, 4)
        low, high = choose(a_study(), [a_record(n + 1, gain, replicate=n) for n, gain in enumerate(gains)]).interval
        held.append(low <= 0.02 <= high)
    assert np.mean(held) > 0.9


def test_where_nothing_helps_one_seed_states_no_interval_and_the_estimate_is_biased_less_than_the_best_value():
    study = a_study(space=PRESETS["notebook"])
    best, estimates = [], []
    for seed in range(50):
        draw = np.random.default_rng(seed)
        places = draw.permutation(study.space.size)[:50].tolist()
        records = [
            a_record(n, draw.normal(0, 0.018), **study.space.values(study.space.at(place)))
            for n, place in enumerate(places, 1)
        ]
        choice = choose(study, records)
        assert choice.interval is None
        best.append(max(record.objective("gain") for record in records))
        estimates.append(choice.estimate)
    assert np.mean(best) > 0.035
    assert np.mean(estimates) < np.mean(best) / 3


def test_where_nothing_helps_the_interval_of_the_best_of_many_replicated_configs_holds_zero():
    study, held = a_study(), []
    for seed in range(200):
        draw = np.random.default_rng(seed)
        records = [
            a_record(4 * place + n + 1, draw.normal(0, 0.018), replicate=n, **study.space.values(point))
            for place, point in enumerate(study.space.points())
            for n in range(4)
        ]
        low, high = choose(study, records).interval
        held.append(low <= 0 <= high)
    assert np.mean(held) >= 0.9


def test_the_best_baseline_is_that_of_as_many_training_examples():
    records = [a_record(1, 0.0), weak(2, 0.0, baseline=0.3, epochs=2), weak(3, 0.0, baseline=0.6, train_examples=1000)]
    assert best_baselines(records) == {5000: 0.5, 1000: 0.6}


def test_a_choice_whose_mixture_is_below_the_best_baseline_is_said_to_lose_first():
    choice = choose(a_study(), [a_record(1, 0.0, epochs=4), weak(2, 0.2, baseline=0.2)])
    assert choice.config.epochs == 1
    assert choice.gain_vs_best_baseline == pytest.approx(-0.1)
    assert not choice.beats_best_baseline
    assert choice.why.startswith(choice.loss)
    assert "10.00 points" in choice.loss
    fair = choose(a_study(), [a_record(1, 0.0, epochs=4), a_record(2, 0.2)])
    assert fair.beats_best_baseline
    assert fair.loss == ""


def test_the_reason_has_the_numbers_and_names_the_bias_and_the_missing_interval():
    choice = choose(a_study(), [a_record(1, 0.03), a_record(2, 0.01, epochs=2)])
    for part in (f"{100 * choice.estimate:+.2f} points", "+3.00 points", "2 configs", "winner's curse", "No interval"):
        assert part in choice.why


def test_the_reason_has_the_interval_where_there_is_one():
    choice = choose(a_study(), [a_record(n + 1, 0.01 * n, replicate=n) for n in range(4)])
    for bound in choice.interval:
        assert f"{100 * bound:+.2f} points" in choice.why
    assert "No interval" not in choice.why


def test_the_bias_of_the_best_among_equals_is_the_expected_maximum_of_the_tables():
    known = {1: 0.0, 2: 0.5642, 10: 1.5388, 20: 1.8675, 50: 2.2491, 100: 2.5076, 200: 2.7460}
    for draws, mean in known.items():
        assert winners_curse(np.zeros(1), np.array([draws]), 1.0) == pytest.approx(mean, abs=2e-4)
    assert winners_curse(np.zeros(1), np.array([50]), 0.0) == 0


@pytest.mark.parametrize(
    ("levels", "trials"),
    [
        ([0.0], 50),
        ([-4.15, -0.85, 0.85, 4.15], 50),  # two parameters with two levels each: truths that are far from normal
        ([-4.15, -0.85, 0.85, 4.15], 1000),
        (np.linspace(-3, 3, 50), 50),
    ],
)
def test_the_bias_of_the_best_is_that_of_simulated_winners(levels, trials):
    draw = np.random.default_rng(1)
    biases, expected = [], []
    for _ in range(1000):
        truths = draw.choice(levels, trials)
        found = truths + 1.5 * draw.standard_normal(trials)
        biases.append(found.max() - truths[found.argmax()])
        expected.append(winners_curse(*np.unique(truths, return_counts=True), 1.5))
    assert np.mean(expected) == pytest.approx(np.mean(biases), abs=0.1)
