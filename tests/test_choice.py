import math
import random

import pytest

from study.select.choice import choose, image_noise, why
from tests.study_helpers import a_record, a_result, a_study


def test_no_complete_trial_gives_no_choice():
    assert choose(a_study(), []) is None


def test_the_noise_of_a_gain_comes_from_the_images_on_which_the_two_differ():
    assert image_noise(a_result(0.02, discordance=0.1), "gain") == pytest.approx(math.sqrt((0.1 - 0.0004) / 1000))
    assert image_noise(a_result(0.0, baseline=0.5), "mixture_accuracy") == pytest.approx(math.sqrt(0.25 / 1000))


def test_a_lucky_single_trial_loses_to_a_mean_over_many_seeds():
    lucky = [a_record(1, 0.05, epochs=4)]
    steady = [a_record(2 + n, 0.045 + 0.02 * (-1) ** n, replicate=n) for n in range(8)]
    rest = [a_record(10 + n, 0.02 * (-1) ** n, epochs=2, replicate=n) for n in range(4)]
    choice = choose(a_study(), lucky + steady + rest)
    assert choice.config["epochs"] == 1
    assert choice.noise_from == "replicates"
    assert choice.seeds == tuple(range(8))
    assert "seed" not in choice.config


def test_one_trial_alone_is_taken_as_it_is_with_the_noise_of_its_images():
    choice = choose(a_study(), [a_record(1, 0.03)])
    assert choice.estimate == choice.mean == 0.03
    assert choice.high - choice.estimate == pytest.approx(1.96 * image_noise(a_result(0.03), "gain"), rel=1e-3)


def test_replicates_of_one_config_have_the_interval_of_students_t():
    gains = (0.01, 0.05, -0.02, 0.03, 0.0)
    choice = choose(a_study(), [a_record(n, gain, replicate=n) for n, gain in enumerate(gains)])
    assert choice.estimate == pytest.approx(0.014)
    assert choice.high - choice.estimate == pytest.approx(2.776 * choice.noise / math.sqrt(5), rel=1e-3)


def test_where_noise_explains_everything_the_common_mean_is_expected_with_its_error():
    records = [a_record(n, gain, epochs=e) for n, (e, gain) in enumerate(((1, 0.010), (2, 0.011), (4, 0.012)), 1)]
    choice = choose(a_study(), records)
    assert choice.spread == 0
    assert choice.estimate == pytest.approx(0.011)
    assert choice.mean == 0.012
    assert choice.high - choice.estimate == pytest.approx(1.96 * choice.noise / math.sqrt(3), rel=1e-3)


def test_the_estimate_flatters_itself_less_than_the_largest_mean():
    """Over worlds with a true spread of 1 point and noise of 1.5, the chosen mean is too high, the estimate is not."""
    draw = random.Random(1)
    study = a_study()
    points = [study.space.values(point) for point in study.space.points()]
    observed, estimated, covered = 0.0, 0.0, 0.0
    worlds = 300
    for _ in range(worlds):
        truth = [draw.gauss(0, 0.01) for _ in points]
        records = [
            a_record(len(points) * r + n + 1, draw.gauss(truth[n], 0.015), replicate=r, **points[n])
            for n in range(len(points))
            for r in range(2)
        ]
        choice = choose(study, records)
        chosen = next(n for n, values in enumerate(points) if all(choice.config[k] == v for k, v in values.items()))
        observed += (choice.mean - truth[chosen]) / worlds
        estimated += (choice.estimate - truth[chosen]) / worlds
        covered += (choice.low <= truth[chosen] <= choice.high) / worlds
    assert observed > 0.005
    assert covered > 0.85
    assert abs(estimated) < 0.004


def test_the_reason_gives_the_numbers():
    sentence = why(choose(a_study(), [a_record(1, 0.03), a_record(2, 0.01, epochs=2)]), "gain")
    for part in ("gain of 2 configs", "observed +3.00 points over 1 seed,", "95 % interval", "from images"):
        assert part in sentence
