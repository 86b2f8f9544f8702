import math

import numpy as np
import pytest

from study.select.choice import choose, gain_noise, image_noise, observations
from study.select.model import fit
from study.space import PRESETS
from study.study import REFINE_FROM
from tests.analyze_helpers import search, weak
from tests.study_helpers import a_record, a_result, a_study, references


def test_no_complete_trial_gives_no_choice():
    assert choose(a_study(), []) is None


def test_the_noise_of_a_gain_comes_from_the_images_on_which_the_two_differ():
    study, of_accuracy = a_study(reference=references(0.6)), pytest.approx(math.sqrt(0.25 / 1000))
    assert gain_noise(a_result(0.02, discordance=0.1)) == pytest.approx(math.sqrt((0.1 - 0.0004) / 1000))
    assert image_noise(study, a_record(1, 0.0), "mixture_accuracy") == of_accuracy
    assert image_noise(study, a_record(1, 0.0), "fair_gain") == of_accuracy  # its baseline is too weak
    assert image_noise(a_study(), a_record(1, 0.0), "fair_gain") == image_noise(a_study(), a_record(1, 0.0), "gain")


def test_the_choice_has_the_highest_estimate_of_the_model_and_that_number():
    study, records = a_study(space=PRESETS["notebook"]), list(search(50))
    found, choice = fit(observations(study, records, "gain")), choose(study, records)
    assert choice.estimate == found.estimate[found.promise.argmax()]
    assert choice == choose(study, records, None, found)
    assert choice.configs == 50


def test_a_high_single_trial_loses_to_a_mean_over_many_seeds():
    single = [a_record(1, 0.05, epochs=4)]
    steady = [a_record(2 + n, 0.045 + 0.02 * (-1) ** n, replicate=n) for n in range(8)]
    rest = [a_record(10 + n, 0.02 * (-1) ** n, epochs=2, replicate=n) for n in range(4)]
    choice = choose(a_study(), single + steady + rest)
    assert choice.config.epochs == 1
    assert choice.seeds == tuple(range(8))


def test_one_trial_alone_is_taken_as_it_is_without_an_interval():
    choice = choose(a_study(), [a_record(1, 0.03)])
    assert choice.estimate == pytest.approx(0.03)
    assert choice.interval is None
    assert choice.noise == pytest.approx(gain_noise(a_result(0.03)))


def test_the_noise_of_replicates_is_pooled_over_the_configs():
    gains = (0.01, 0.05, -0.02, 0.03, 0.0)
    choice = choose(a_study(), [a_record(n + 1, gain, replicate=n) for n, gain in enumerate(gains)])
    assert choice.mean == pytest.approx(0.014)
    assert choice.estimate == pytest.approx(0.014)
    assert choice.noise == pytest.approx(np.std(gains, ddof=1), rel=0.1)  # its images count as one more trial


@pytest.mark.parametrize("noise", [0.015, 0.03])
def test_the_interval_of_one_config_holds_its_truth_in_nine_of_ten_worlds(noise):
    draw = np.random.default_rng(1)
    held = []
    for _ in range(300):
        gains = draw.normal(0.02, noise, 4)
        low, high = choose(a_study(), [a_record(n + 1, gain, replicate=n) for n, gain in enumerate(gains)]).interval
        held.append(low <= 0.02 <= high)
    assert np.mean(held) > 0.9


def test_where_nothing_helps_one_seed_states_no_interval():
    study = a_study(space=PRESETS["notebook"])
    for seed in range(20):
        draw = np.random.default_rng(seed)
        places = draw.permutation(study.space.size)[:50].tolist()
        choice = choose(study, [_null(draw, study, n, place) for n, place in enumerate(places, 1)])
        assert choice.interval is None


def _null(draw, study, number, place, replicate=0):
    return a_record(number, draw.normal(0, 0.018), replicate=replicate, **study.space.values(study.space.at(place)))


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


def test_a_choice_that_loses_to_the_reference_is_said_to_first_with_the_best_by_fair_gain():
    study = a_study(reference=references(0.5))
    choice = choose(study, [a_record(1, 0.0, epochs=4), weak(2, 0.2, baseline=0.2)])
    assert (choice.config.epochs, choice.fairest.epochs) == (1, 4)
    assert choice.over_reference == pytest.approx(-0.1)
    assert choice.why.startswith(choice.standing)
    for part in ("loses", "10.00 points", "baseline minus 2 points: epochs=4"):
        assert part in choice.standing
    alone = choose(study, [a_record(1, 0.0, epochs=4), weak(2, 0.29, baseline=0.2)])  # it lacks less than the margin
    assert (alone.config, alone.over_reference) == (alone.fairest, pytest.approx(-0.01))
    assert "minus 2 points: the same config, " in alone.standing
    fair = choose(study, [a_record(1, 0.0, epochs=4), a_record(2, 0.2)])
    assert fair.over_reference == pytest.approx(0.2)
    assert "beats" in fair.standing
    assert choose(a_study(), [a_record(1, 0.0)]).standing == ""


def test_a_crippled_baseline_wins_by_gain_and_not_by_fair_gain():
    records = [a_record(1, 0.01, epochs=4), a_record(2, 0.01, epochs=2), weak(3, 0.1, baseline=0.3)]
    chosen = {
        objective: choose(a_study(objective=objective, reference=references(0.5)), records).config.epochs
        for objective in ("gain", "fair_gain")
    }
    assert chosen["gain"] == 1
    assert chosen["fair_gain"] != 1


def test_the_fall_on_fresh_seeds_is_that_of_the_refined_configs():
    fresh = [a_record(2 + n, 0.01, replicate=REFINE_FROM + n, phase="refine") for n in range(3)]
    choice = choose(a_study(), [a_record(1, 0.05), *fresh, a_record(9, 0.02, epochs=2)])
    assert (choice.screened, choice.fresh_mean) == (pytest.approx(0.05), pytest.approx(0.01))
    assert choice.regression == pytest.approx(0.04)


def test_the_reason_has_the_numbers_and_names_the_bias_and_the_missing_interval():
    choice = choose(a_study(), [a_record(1, 0.03), a_record(2, 0.01, epochs=2)])
    for part in (f"{100 * choice.estimate:+.2f} points", "+3.00 points", "2 configs", "winner's curse", "No interval"):
        assert part in choice.why


def test_the_reason_has_the_interval_where_there_is_one():
    choice = choose(a_study(), [a_record(n + 1, 0.01 * n, replicate=n) for n in range(4)])
    for bound in choice.interval:
        assert f"{100 * bound:+.2f} points" in choice.why
    assert "No interval" not in choice.why
