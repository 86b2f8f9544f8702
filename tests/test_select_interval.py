"""The interval over seeds and images: known answers, coverage, power."""

import math

import numpy as np
import pytest
from scipy import stats

from study.select.interval import Crossed, Noise, crossed, holm, resolves, seeds_needed

POINT = 0.01
IMAGES = 10_000


def test_the_variances_of_a_small_table_are_those_computed_by_hand():
    found = crossed(np.array([[1, 0, -1, 0], [0, 0, 0, 1]]))
    assert found.mean == 0.125
    assert found.between_seeds == 0.015625
    assert found.between_images == pytest.approx(0.0572917, abs=1e-7)
    assert found.both == pytest.approx(0.0572917, abs=1e-7)
    assert found.variance == 0.015625


def test_equal_seeds_leave_mcnemars_variance_between_images():
    row = np.array([1, 0, -1, 0, 1, 1, 0, 0])
    found = crossed(np.tile(row, (6, 1)))
    assert (found.between_seeds, found.both) == (0, 0)
    assert found.variance == found.between_images == pytest.approx(row.var(ddof=1) / len(row))
    assert found.freedom == pytest.approx(len(row) - 1)


def test_equal_images_leave_students_interval_of_the_seeds():
    values = np.array([1, 0, 1, 1, 0, 1])
    found = crossed(np.tile(values[:, None], (1, 50)))
    expected = stats.t.interval(0.95, 5, values.mean(), stats.sem(values))
    assert found.freedom == pytest.approx(5)
    assert found.interval == pytest.approx(expected)
    assert found.same_images == pytest.approx(expected)
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def draw(rng, seeds, deviation, discordance=0.14, persistent=0.3, mean=0.0, rows=None):
    """The statistics of one confirmation; of independent normal parts, means and variances have these distributions."""
    part, rest = persistent * discordance, (1 - persistent) * discordance
    rows = rng.normal(0, deviation, seeds) if rows is None else rows
    values = mean + rows + rng.normal(0, math.sqrt(part / IMAGES)) + rng.normal(0, math.sqrt(rest / IMAGES), seeds)
    columns, both = IMAGES - 1, (seeds - 1) * (IMAGES - 1)
    return Crossed(
        mean=float(values.mean()),
        between_seeds=float(values.var(ddof=1)) / seeds,
        between_images=(part + rest / seeds) * rng.chisquare(columns) / columns / IMAGES,
        both=rest * rng.chisquare(both) / both / (seeds * IMAGES),
        seeds=seeds,
        images=IMAGES,
    )


def covered(intervals):
    return np.mean([low <= 0 <= high for low, high in intervals])


def test_the_interval_covers_95_percent_and_the_one_of_these_images_less():
    rng = np.random.default_rng(1)
    drawn = [draw(rng, seeds=10, deviation=POINT) for _ in range(4000)]
    assert 0.93 < covered(each.interval for each in drawn) < 0.97
    assert 0.90 < covered(each.same_images for each in drawn) < 0.93


def test_the_interval_of_right_and_wrong_answers_covers():
    """Whole tables of -1, 0 and 1, in which seeds differ by a point and images by how likely they are to differ."""
    rng, images, covers = np.random.default_rng(2), 1_000, 0
    for _ in range(400):
        tilt = rng.beta(1, 1, images) - 0.5  # an image's own leaning, of mean 0
        chance = 0.5 + 0.8 * tilt + rng.normal(0, POINT / 0.2, (10, 1))
        differ = rng.random((10, images)) < 0.2
        table = differ * np.sign(chance - rng.random((10, images)))
        low, high = crossed(table).interval
        covers += low <= 0 <= high
    assert 0.92 < covers / 400 < 0.98


def test_the_noise_that_is_seen_is_the_noise_that_was_drawn():
    rng = np.random.default_rng(3)
    noises = [draw(rng, seeds=20, deviation=1.3 * POINT).noise for _ in range(200)]
    seeds, discordance, persistent = np.array(noises).mean(0)
    assert seeds == pytest.approx(1.3 * POINT, rel=0.05)
    assert (discordance, persistent) == (pytest.approx(0.14, rel=0.02), pytest.approx(0.3, rel=0.05))


def test_few_seeds_have_no_interval():
    assert draw(np.random.default_rng(0), seeds=4, deviation=POINT).interval is None
    with pytest.raises(ValueError, match="1 seeds"):
        crossed(np.zeros((1, 10)))


def test_a_difference_that_is_always_nought_is_no_difference():
    found = crossed(np.zeros((6, 20)))
    assert (found.interval, found.p, found.image_part) == ((0, 0), 1, 0)


def equal_rows(seeds, images):
    """Differences of right and wrong whose mean is 0.3 for each seed, each time on other images."""
    draw = np.random.default_rng(0)
    return np.array([draw.permutation(np.arange(images) % 10 < 3) for _ in range(seeds)], np.int64)


@pytest.mark.parametrize(
    "table",
    [
        np.eye(10)[:8],  # equal means of the seeds, and images that differ less than single answers
        np.eye(10),  # equal means of the seeds and of the images
        equal_rows(10, 100),  # whose means differ by rounding
        np.vstack([equal_rows(9, 1000), np.arange(1000)[None] % 1000 < 301]),  # by one image of one seed
    ],
)
def test_seeds_that_hardly_differ_leave_an_interval_of_numbers(table):
    found = crossed(table)
    low, high = found.interval
    assert low < found.mean < high
    assert high - low < 2
    assert 0 < found.p < 1
    assert found.freedom >= 1


@pytest.mark.parametrize("seeds", [5, 10, 20])
def test_holm_finds_nothing_among_seven_nulls_in_about_95_percent(seeds):
    rng = np.random.default_rng(seeds)
    found = [min(holm([draw(rng, seeds, POINT).p for _ in range(7)])) for _ in range(600)]
    assert np.mean(np.array(found) < 0.05) < 0.075


def test_holm_multiplies_the_smallest_most_and_keeps_their_order():
    assert holm([0.04, 0.01, 0.03]) == [0.06, 0.03, 0.06]
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("deviation", "points", "seeds"), [(1.3, 1, 20), (1.3, 2, 6), (1.0, 1, 12), (0.5, 1, 6), (1.3, 0.5, 80)]
)
def test_the_seeds_needed_are_those_simulated(deviation, points, seeds):
    noise = Noise(deviation * POINT, 0.15, persistent=0.04)
    found = seeds_needed(points * POINT, noise, IMAGES)
    assert 0.6 * seeds <= found <= 1.25 * seeds  # the simulation tried 3, 4, 5, 6, 8, 10, 12, 15, 20, ... seeds
    assert resolves(found, noise, IMAGES) <= points * POINT


def test_ten_seeds_of_the_measured_deviation_resolve_about_a_point_and_a_half():
    assert resolves(10, Noise(1.3 * POINT, 0.15, 0.04), IMAGES) == pytest.approx(0.0138, abs=0.0005)


def test_no_number_of_seeds_resolves_less_than_the_images_do():
    assert seeds_needed(0.5 * POINT, Noise(POINT, 0.14, persistent=0.3), IMAGES) is None
