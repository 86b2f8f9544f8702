import dataclasses
import hashlib
import json
import os
import resource
import struct
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from study.analyze import panels, plots
from study.analyze.__main__ import main
from study.analyze.analysis import examine
from study.analyze.compare import comparison
from study.analyze.figures import even
from study.analyze.importance import importances
from study.analyze.layout import Column, table
from study.analyze.luck import overshoot
from study.analyze.luck import words as luck_in_words
from study.analyze.text import report
from study.folder import Folder, FolderError
from study.select.choice import choose
from study.select.model import fit
from study.space import PRESETS, parse
from tests.study_helpers import a_record, a_study

SIZES = (6, 3, 2, 2, 2)
PNG = b"\x89PNG\r\n\x1a\n"
FIGURES = ["accuracies.png", "cost.png", "effects.png", "trials.png"]


# the model


class World:
    """A space of 144 configs whose true values are known: effects with an sd of 1.5, and what is a config's own."""

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


def test_many_replicates_tell_what_is_a_configs_own_beyond_the_sum_of_effects():
    world = World(0, own=2.0)
    places, values = world.trials(144, 30, noise=1.0)
    found = world.fit(places, values)
    error = np.sqrt(((found.estimate[found.config_of] - world.truth[places]) ** 2).mean())
    assert error == pytest.approx(1 / np.sqrt(30), rel=0.2)
    assert found.noise == pytest.approx(1.0, rel=0.05)


def test_a_lucky_trial_is_pulled_towards_the_others_by_more_than_one_among_its_peers():
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


# luck


def test_the_overshoot_among_equals_is_the_expected_maximum_of_the_tables():
    known = {1: 0.0, 2: 0.5642, 10: 1.5388, 20: 1.8675, 50: 2.2491, 100: 2.5076, 200: 2.7460}
    for draws, mean in known.items():
        assert overshoot(np.zeros(1), np.array([draws]), 1.0) == pytest.approx(mean, abs=2e-4)
    assert overshoot(np.zeros(1), np.array([50]), 0.0) == 0


@pytest.mark.parametrize(
    ("levels", "trials"),
    [
        ([0.0], 50),
        ([-4.15, -0.85, 0.85, 4.15], 50),  # two parameters with two levels each: truths that are far from normal
        ([-4.15, -0.85, 0.85, 4.15], 1000),
        (np.linspace(-3, 3, 50), 50),
    ],
)
def test_the_overshoot_is_that_of_simulated_winners(levels, trials):
    draw = np.random.default_rng(1)
    flattery, foreseen = [], []
    for _ in range(1000):
        truths = draw.choice(levels, trials)
        found = truths + 1.5 * draw.standard_normal(trials)
        flattery.append(found.max() - truths[found.argmax()])
        foreseen.append(overshoot(*np.unique(truths, return_counts=True), 1.5))
    assert np.mean(foreseen) == pytest.approx(np.mean(flattery), abs=0.1)


def test_luck_is_put_into_words_with_both_extremes_and_with_what_was_seen():
    gains = np.array([0.0, 0.05, 0.1])
    records = [a_record(n + 1, gain, epochs=2**n) for n, gain in enumerate(gains)]
    found = dataclasses.replace(fit(np.array([[0], [1], [2]]), gains, (3,), 0.01), noise=0.03)
    said = luck_in_words(choose(a_study(), records), found, gains, 3, "gain")
    assert "standard error of 0.98 points, from its images alone; noise between seeds comes on top" in said
    assert "The largest of 3 single trials flatters itself: by about " in said
    assert f"by {0.8463 * 0.98:.2f} if all configs were equal" in said
    assert "if all of the 3.00 points above are noise" in said
    assert f"Here: trial 3 found +10.00, its config's estimate is {100 * found.estimate[2]:+.2f}." in said
    quiet = dataclasses.replace(found, noise=0.005)
    assert "above are noise" not in luck_in_words(choose(a_study(), records), quiet, gains, 3, "gain")


# importances

GRIDS = {"epochs": (1, 2, 4, 8), "use_large_experts": (False, True), "patience": (1, 2)}


def configs(count):
    draw = np.random.default_rng(0)
    return [{name: grid[draw.integers(len(grid))] for name, grid in GRIDS.items()} for _ in range(count)]


def test_what_sets_the_best_trials_apart_is_important_and_what_makes_bad_ones_is_not():
    tried = [{**config, "patience": 1} for config in configs(100)]
    gains = [10.0 if config["epochs"] == 8 else -10.0 * config["use_large_experts"] for config in tried]
    found = importances(GRIDS, tried, {"gain": gains})["gain"]
    assert found["epochs"] > 0.8
    assert found["patience"] == 0  # one value was tried
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("tried", "values", "why"),
    [
        (configs(1), [0.1], "they take 10 complete trials"),
        (configs(20), [0.1] * 20, "all trials found the same"),
        (configs(1) * 20, list(range(20)), "all trials have one config"),
        (configs(20), [0.1] * 19 + [0.0], ""),
    ],
)
def test_where_there_are_no_importances_it_is_said_why(tried, values, why):
    found = importances(GRIDS, tried, {"gain": values, "mixture_accuracy": values})
    assert found["gain"] == found["mixture_accuracy"]
    assert found["gain"] == why or not why


# what is said


def write(path, records, **study):
    """A study's folder with these records, quickly: files of a test need not outlive a crash."""
    folder = Folder(path)
    folder.trials.mkdir(parents=True)
    folder.write_study(a_study(name=path.name, **study), {})
    for record in records:
        (folder.trials / f"{record.trial:04d}.json").write_text(json.dumps(dataclasses.asdict(record)))
    return folder


def search(trials, space=PRESETS["notebook"], seed=0, noise=0.01, **fields):
    """Complete trials over a space, in which large baselines gain and epochs make accurate."""
    draw = np.random.default_rng(seed)
    positions = draw.permutation(space.size).tolist()
    for trial in range(1, trials + 1):
        values = space.values(space.at(positions[trial % space.size]))
        record = a_record(trial, 0.0, **{**values, **fields})
        gain = 0.02 + 0.03 * values.get("use_large_baseline_classifier", 0) + noise * draw.standard_normal()
        baseline = 0.2 + 0.03 * min(10, values.get("epochs", 1)) + 0.01 * draw.standard_normal()
        record.result.update(gain=gain, baseline_accuracy=baseline, mixture_accuracy=baseline + gain)
        record.result.update(epochs_reused=5, seconds_reused=30.0)
        yield record


def said(folder, rows=15, width=120):
    return report(examine(folder.path), rows, width)


def rows_of(text):
    """The lines of the first table, each split into its cells."""
    lines = text.split("\n")
    rule = next(number for number, line in enumerate(lines) if line.startswith("-----"))
    return [line.split() for line in lines[rule + 1 : lines.index("", rule)]]


def test_configs_are_ranked_by_their_estimate_with_luck_beside_it(tmp_path):
    records = list(search(40, noise=0.002))
    lucky = next(record for record in records if not record.config["use_large_baseline_classifier"])
    lucky.result.update(gain=0.08, mixture_accuracy=lucky.result["baseline_accuracy"] + 0.08)
    text = said(write(tmp_path / "ranked", records, space=PRESETS["notebook"]), rows=0)
    rows = rows_of(text)
    assert len(rows) == len({tuple(sorted(record.config.items())) for record in records})
    assert "+8.00" in text
    assert "+8.00" not in rows[0]
    estimates = [float(row[row.index("±") - 1]) for row in rows]
    assert estimates == sorted(estimates, reverse=True)
    best = [row for row in rows if row[0].startswith("*")]
    assert len(best) == 1


def test_how_the_study_chooses_is_said_as_it_is_and_one_trial_scatters_around_nothing(tmp_path):
    def flat(name, trials):
        return " ".join(said(write(tmp_path / name, search(trials), space=PRESETS["notebook"])).split())

    assert "With one trial per config that is the one with the largest value found; further seeds" in flat("few", 20)
    assert "It looks at each config's mean alone" in flat("repeated", 160)
    assert "They scatter around it by" in flat("two", 2)
    assert "number 1 here. Effects" in flat("one", 1)
    assert "scatter" not in flat("single", 1)


def test_a_study_of_mixture_accuracy_is_ranked_by_it(tmp_path):
    text = said(write(tmp_path / "m", search(40), space=PRESETS["notebook"], objective="mixture_accuracy"))
    assert "what to expect of a config's mixture accuracy" in text
    assert text.index("mixture accuracy  ") < text.index(" gain", text.index("Effects"))
    assert rows_of(text)[0][2] == "8"  # epochs


def test_no_line_is_wider_than_the_terminal_and_what_is_left_out_is_named(tmp_path):
    folder = write(tmp_path / "wide", search(60), space=PRESETS["notebook"])
    for width in (80, 100, 120, 200):
        text = said(folder, width=width)
        assert max(map(len, text.split("\n"))) <= width
        assert ("Left out for want of room" in text) == (width < 120)
    assert "seconds reused; trials.csv has every column" in " ".join(said(folder, width=80).split())


def test_a_table_first_closes_up_then_drops_what_can_be_spared():
    columns = [Column("kept", ["1"]), Column("spared last", ["22222"], 1), Column("first", ["33333"], 2)]
    assert table(columns, 19)[0].endswith("\n   1   22222  33333")
    assert table(columns, 18) == ("     spared\nkept   last first\n---- ------ -----\n   1  22222 33333", [])
    assert table(columns, 12)[1] == ["first"]
    assert table(columns, 1)[1] == ["spared last", "first"]


def test_failures_are_grouped_by_reason_and_running_trials_counted(tmp_path):
    records = [a_record(n, state="failed", epochs=2) for n in range(1, 12)]
    for record in records[:6]:
        object.__setattr__(record, "error", f"loss is nan in epoch {record.trial}")
    text = said(write(tmp_path / "failed", [*records, a_record(12, state="running")]))
    assert "0 of 5 trials complete, 11 failed, 1 under way, or left by an interruption" in text
    assert "6 failed (trials 1, 2, 3, ..., 6): loss is nan in epoch 1" in text
    assert "5 failed (trials 7, 8, 9, 10, 11): out of luck" in text


def test_a_best_level_at_the_edge_of_its_grid_is_named_unless_nothing_lies_beyond(tmp_path):
    space = parse("edges", {"epochs": [1, 2, 4], "train_examples": [1000, 20000, 45000], "patience": [1, 2]})
    records = []
    for trial, point in enumerate(space.points(), 1):
        gain = 0.01 * (point["epochs"] + point["train_examples"] + point["patience"])
        records.append(a_record(trial, gain, **space.values(point)))
    text = " ".join(said(write(tmp_path / "edges", records, space=space)).split())
    assert "epochs: the best value, 4, is the largest of its grid" in text
    assert "the best value, 45000" not in text  # there are no more images
    assert "patience: the best" not in text  # two levels have no inside
    assert "wider grid" not in said(
        write(tmp_path / "same", [dataclasses.replace(r, result=a_record(1).result) for r in records], space=space)
    )


def test_a_best_level_at_the_edge_that_may_be_noise_is_not_named(tmp_path):
    space = parse("edges", {"epochs": [1, 2, 4], "batch_size": [10, 20, 30, 40, 50, 60]})

    def text(name, slope):
        draw = np.random.default_rng(4)
        gains = [slope * point["epochs"] + 0.03 * draw.standard_normal() for point in space.points()]
        points = enumerate(zip(gains, space.points(), strict=True), 1)
        records = [a_record(number, gain, **space.values(point)) for number, (gain, point) in points]
        return said(write(tmp_path / name, records, space=space))

    assert "wider grid" not in text("noise", 0.01)
    assert "wider grid" in text("effect", 0.1)


def test_a_gain_over_a_weak_baseline_is_said_to_be_one(tmp_path):
    strong, weak = a_record(1, 0.0, epochs=4), a_record(2, 0.2)
    weak.result.update(baseline_accuracy=0.2, mixture_accuracy=0.4)
    text = " ".join(said(write(tmp_path / "weak", [strong, weak])).split())
    assert (
        "The gain of trial 2's config, which has the highest estimate, is over a weak baseline: its mixture lies"
        in text
    )
    assert "lies 10.0 points below the best baseline that the study has on as many training examples" in text
    assert "weak baseline" not in said(write(tmp_path / "fair", [strong, a_record(2, 0.2)]))


def test_the_notebook_protocol_is_said_to_score_on_what_stopped_training(tmp_path):
    folder = write(tmp_path / "n", [a_record(1, protocol="notebook")], protocol="notebook")
    assert "the test images that score a trial also stopped its training" in " ".join(said(folder).split())


def test_studies_that_were_not_measured_alike_are_not_compared_in_silence(tmp_path):
    one = examine(write(tmp_path / "one", search(12), space=PRESETS["notebook"]).path)
    alike = examine(write(tmp_path / "alike", [a_record(1, 0.02)]).path)
    other = examine(
        write(tmp_path / "other", [a_record(1, protocol="notebook")], protocol="notebook", data="e" * 64).path
    )
    assert "Not comparable" not in comparison([one, alike], 100)
    assert "Not comparable: the studies differ in data and protocol." in comparison([one, alike, other], 100)
    assert max(map(len, comparison([one, alike, other], 100).split("\n"))) <= 100


def test_in_protocol_notebook_studies_that_may_be_scored_on_the_same_numbers_of_images_compare(tmp_path):
    sizes = {"few": [500, 1000], "more": [500, 1000, 2000], "others": [500, 1000]}
    studies = {}
    for name, test_examples in sizes.items():
        space = parse("sized", {"epochs": [1, 2], "test_examples": test_examples})
        record = a_record(1, test_examples=500 if name == "few" else 1000, protocol="notebook")
        record.result["scored_examples"] = record.config["test_examples"]
        studies[name] = examine(write(tmp_path / name, [record], space=space, protocol="notebook").path)
    assert "Not comparable" not in comparison([studies["few"], studies["others"]], 100)
    assert "differ in scored images" in comparison([studies["few"], studies["more"]], 100)


def test_a_narrow_terminal_gets_blocks_of_studies_and_whole_names(tmp_path):
    names = ["one", "two", "a-study-with-a-long-name"]
    studies = [examine(write(tmp_path / name, search(12), space=PRESETS["notebook"]).path) for name in names]
    for width, blocks in ((60, 3), (100, 2), (160, 1)):
        text = comparison(studies, width)
        assert max(map(len, text.split("\n"))) <= width
        assert text.count("best estimate") == blocks
        assert text.count("use_large_baseline_classifier") == 3
        assert "a-study-with-a-long-name" in text
    for study in studies:
        text = report(study, 15, 60)
        effects = text[text.index("Effects") :]
        assert max(map(len, effects.split("\n"))) <= 60
        assert "Left out for want of room: mixture accuracy" in " ".join(effects.split())


# figures


def drawn(plot, folder):
    figure = Figure()
    plot(figure, examine(folder.path))
    figure.draw_without_rendering()
    return figure.axes


def test_failed_trials_are_on_the_axis_before_and_after_the_complete_ones(tmp_path):
    complete = [dataclasses.replace(record, trial=record.trial + 30) for record in search(5)]
    failed = [a_record(number, state="failed", test_examples=2000) for number in (1, 80)]
    folder = write(tmp_path / "failing", [*complete, *failed], space=PRESETS["notebook"])
    low, high = drawn(plots.trials, folder)[0].get_xlim()
    assert low < 1
    assert high > 80


def test_trials_far_apart_are_told_apart_and_their_cost_is_seen(tmp_path):
    numbers = [1, 3, 9999]
    records = [dataclasses.replace(r, trial=number) for r, number in zip(search(3), numbers, strict=True)]
    folder = write(tmp_path / "far", records, space=PRESETS["notebook"])
    assert min(np.diff(drawn(plots.trials, folder)[0].get_xticks())) > 100
    assert not drawn(plots.cost, folder)[0].patches  # bars would be a hundredth of a pixel wide
    near = write(tmp_path / "near", search(3), space=PRESETS["notebook"])
    assert drawn(plots.trials, near)[0].get_xticks().tolist() == [1, 2, 3]
    assert len(drawn(plots.cost, near)[0].patches) == 6


def test_every_interval_of_the_estimate_is_within_the_figure(tmp_path):
    axes = drawn(plots.trials, write(tmp_path / "band", search(12, noise=0.05), space=PRESETS["notebook"]))[0]
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    low, high = axes.get_ylim()
    assert low < band.min()
    assert high > band.max()


def test_each_measure_has_an_axis_of_its_own_in_the_figure_of_effects(tmp_path):
    axes = drawn(panels.effects, write(tmp_path / "e", search(100), space=PRESETS["notebook"]))
    spans = {one.get_ylabel(): np.ptp(one.get_ylim()) for one in axes if one.get_ylabel()}
    assert set(spans) == {"gain", "mixture accuracy"}
    assert spans["gain"] < spans["mixture accuracy"] / 2
    assert len({round(float(np.ptp(one.get_ylim())), 6) for one in axes}) == 2
    assert len(axes) == 2 * len(PRESETS["notebook"].grids)


@pytest.mark.parametrize("text", ["a " * 100, "a word", "some-words-that-hang together, 50 of them" * 9])
def test_the_lines_of_a_caption_are_even_and_no_more_than_they_need_be(text):
    lines = even(text, 80)
    assert len(lines) == len(textwrap.wrap(text, 80))
    assert max(map(len, lines)) <= 80
    assert len(lines) < 2 or len(lines[-1]) > len(lines[0]) / 2


# the command


def call(*arguments, **environment):
    settings = {"env": {**os.environ, "COLUMNS": "110", **environment}, "check": False}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "study.analyze", *map(str, arguments)],
        capture_output=True,
        text=True,
        **settings,
    )


def without(folder, *modules):
    """A path on which these modules end the program that imports them."""
    for name in modules:
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')")
    return {"PYTHONPATH": f"{folder}:{Path.cwd()}"}


def contents(folder):
    """Every file of a folder with its content and time, but for figures."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "figures"]
    return {path: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}


def test_every_odd_study_is_analysed_without_torch_or_ray_and_only_figures_are_written(tmp_path):
    notebook = {"space": PRESETS["notebook"]}
    fixed = parse("fixed", {"epochs": 3})
    others = [a_record(31, state="running", test_examples=2000), a_record(32, state="failed", test_examples=2000)]
    under_way = [*search(30), *others]
    equal = [a_record(n, 0.01, replicate=n, epochs=2 ** (n % 3)) for n in range(1, 13)]
    optimistic = {"protocol": "notebook", "objective": "mixture_accuracy", **notebook}
    folders = {
        "one": write(tmp_path / "one", search(1), **notebook),
        "running": write(tmp_path / "running", under_way, **notebook),
        "all-failed": write(tmp_path / "all-failed", [a_record(n, state="failed") for n in (1, 2, 3)]),
        "begun": write(tmp_path / "begun", []),
        "equal": write(tmp_path / "equal", equal),
        "seeds": write(tmp_path / "seeds", search(4, fixed), space=fixed),
        "$\\odd$ 名": write(tmp_path / "$\\odd$ 名", search(70, protocol="notebook"), **optimistic),
    }
    before = contents(tmp_path)
    (tmp_path / "traps").mkdir()
    first, *others = (folder.path for folder in folders.values())
    done = call(first, "--rows", "3", *others, **without(tmp_path / "traps", "torch", "ray"))
    assert (done.returncode, done.stderr) == (0, "")
    assert {path: found for path, found in contents(tmp_path).items() if path.parent.name != "traps"} == before
    for name, folder in folders.items():
        drawn = sorted(path.name for path in (folder.path / "figures").glob("*"))
        assert drawn == {
            "one": [figure for figure in FIGURES if figure != "effects.png"],
            "seeds": [figure for figure in FIGURES if figure != "effects.png"],
            "all-failed": [],
            "begun": [],
        }.get(name, FIGURES)
        for figure in drawn:
            content = (folder.path / "figures" / figure).read_bytes()
            width, height = struct.unpack(">II", content[16:24])
            assert content.startswith(PNG)
            assert 900 < width < 2000
            assert 600 < height < 2000
            assert len(content) > 10_000
    assert "all-failed: no figures, since no trial is complete" in done.stdout
    assert "Not comparable: the studies differ in protocol" in done.stdout
    assert "nan" not in done.stdout.replace("nan in", "")


NINE_THOUSAND = {
    "epochs": list(range(1, 41)),
    "batch_size": [10, 20, 25, 50, 100],
    "train_examples": list(range(1000, 46000, 1000)),
}


@pytest.mark.parametrize("space", [PRESETS["notebook"], parse("wide", NINE_THOUSAND)], ids=["144", "9,000"])
def test_ten_thousand_trials_are_tabled_and_drawn_in_ten_seconds(space, tmp_path):
    folder = write(tmp_path / "large", search(10_000, space), space=space)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = call(folder.path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10  # whatever else this machine does
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (folder.path / "figures").iterdir()) == FIGURES


def test_ctrl_c_is_exit_code_130_without_a_word_from_the_first_import_on(tmp_path):
    (tmp_path / "pandas.py").write_text("raise KeyboardInterrupt")
    done = call("nowhere", **without(tmp_path, "torch"))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_full_disk_behind_the_tables_is_not_blamed_on_the_study(tmp_path):
    folder = write(tmp_path / "fine", search(2), space=PRESETS["notebook"])
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "study.analyze", "--no-figures", str(folder.path), "--rows", "3"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 4
    assert done.stderr == "python -m study.analyze: the output: No space left on device\n"


def test_a_study_can_be_read_while_its_driver_writes_it(tmp_path):
    records = list(search(20))
    folder = write(tmp_path / "busy", records[:1], space=PRESETS["notebook"])
    done = threading.Event()

    def drive():
        for record in records[1:] * 3:
            folder.write_record(dataclasses.replace(record, state="running", result=None))
            folder.write_record(record)
        done.set()

    driver = threading.Thread(target=drive)
    driver.start()
    sizes = []
    while not done.is_set():
        sizes.append(len(examine(folder.path).records))
    driver.join()
    assert sizes == sorted(sizes)
    assert len(examine(folder.path).table) == 20


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "STUDY"),
        (("results/x", "--rows", "-1"), "--rows is -1; expected a whole number from 0"),
        (("results/x", "--rows", "many"), "--rows is 'many'"),
        (("results/x", "--plot"), "--plot"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2_with_nothing_heavy_loaded(arguments, sentence, tmp_path):
    start = time.monotonic()
    done = call(*arguments, **without(tmp_path, "torch", "ray", "pandas", "numpy", "optuna", "matplotlib"))
    assert time.monotonic() - start < 2
    assert done.returncode == 2
    assert done.stderr.startswith("python -m study.analyze: ")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def command(monkeypatch, capsys):
    """The command within this process: its exit code, and what it printed and complained about."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["analyze", *map(str, arguments)])
        return main(), *capsys.readouterr()

    return run


def test_a_folder_that_is_no_study_or_is_damaged_is_one_sentence_and_exit_code_4(tmp_path, command):
    nowhere = f"python -m study.analyze: {tmp_path / 'nowhere'} holds no study; expected a folder with study.json\n"
    assert command(tmp_path / "nowhere") == (4, "", nowhere)
    with pytest.raises(FolderError, match="holds no study"):
        examine(tmp_path)
    folder = write(tmp_path / "half", search(2), space=PRESETS["notebook"])
    (folder.trials / "0002.json").write_text('{"trial": 2, "st')
    code, printed, complaint = command(folder.path)
    assert (code, printed) == (4, "")
    assert f"{folder.trials / '0002.json'} is damaged" in complaint


def test_figures_that_cannot_be_written_are_one_sentence_after_the_tables(tmp_path, command):
    folder = write(tmp_path / "taken", search(3), space=PRESETS["notebook"])
    (folder.path / "figures").write_text("a file in the folder's place")
    code, printed, complaint = command(folder.path)
    assert code == 4
    assert "3 configs" in printed
    assert complaint == f"python -m study.analyze: {folder.path / 'figures'}: File exists\n"
    assert command(folder.path, "--no-figures")[::2] == (0, "")
