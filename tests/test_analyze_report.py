"""The report: the choice, the table of configs, effects, notes, and studies compared."""

import numpy as np
import pytest

from study.analyze.analysis import examine
from study.analyze.format import Column, fitted
from study.analyze.report import comparison, report
from study.space import PRESETS, parse
from tests.analyze_helpers import scored, search, weak, write
from tests.study_helpers import a_record, references

NOTEBOOK = {"space": PRESETS["notebook"]}


def said(folder, rows=15, width=120):
    return report(examine(folder.path), rows, width)


def flat(folder, **options):
    """The report with every run of white space as one space."""
    return " ".join(said(folder, **options).split())


def widest(text):
    return max(map(len, text.split("\n")))


def table_of(text):
    """The rows of the table of configs, each split into its cells."""
    lines = text.split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith("trial "))
    return [line.split() for line in lines[start + 1 : lines.index("", start)]]


def test_the_first_lines_say_what_is_chosen_with_the_estimate_of_the_model(tmp_path):
    folder = write(tmp_path / "first", search(40), **NOTEBOOK)
    analysis = examine(folder.path)
    first = flat(folder).removeprefix("first ===== ")
    assert first.startswith(" ".join(analysis.choice.why.split()))
    assert analysis.choice.estimate == analysis.best.estimate[analysis.best.promise.argmax()]


def test_configs_are_ranked_by_their_estimate_and_the_first_one_is_chosen(tmp_path):
    records = list(search(40, noise=0.002))
    place = next(n for n, record in enumerate(records) if not record.config.use_large_baseline_classifier)
    records[place] = scored(records[place], 0.08, 0.3)
    folder = write(tmp_path / "ranked", records, **NOTEBOOK)
    rows = table_of(said(folder, rows=0))
    assert len(rows) == 40
    estimates = [float(row[7]) for row in rows[1:]]  # the choice stands first
    assert estimates == sorted(estimates, reverse=True)
    assert int(rows[0][0]) == examine(folder.path).choice.trials[0]


def test_of_many_configs_the_best_are_shown_and_the_rest_counted(tmp_path):
    text = said(write(tmp_path / "many", search(40), **NOTEBOOK), rows=3)
    assert "The 3 best of 40 configs" in text
    assert len(table_of(text)) == 3


def test_with_one_seed_no_interval_is_stated_and_with_four_it_is(tmp_path):
    assert "No interval is stated: no config has 4 seeds." in flat(write(tmp_path / "one", search(20), **NOTEBOOK))
    replicated = [a_record(n + 1, 0.01 * (n % 3), replicate=n) for n in range(4)]
    text = said(write(tmp_path / "four", replicated))
    assert "±" in table_of(text)[0]
    assert "No interval" not in text


def test_the_best_observed_value_is_said_to_be_biased(tmp_path):
    gains = (0.0, 0.05, 0.1)
    text = flat(write(tmp_path / "bias", [a_record(n + 1, gain, epochs=2**n) for n, gain in enumerate(gains)]))
    assert "standard error of 0.98 points from its images alone; noise between seeds comes on top" in text
    assert "The best observed of 3 trials is biased upward (winner's curse): trial 3 found +10.00" in text


def test_one_trial_has_neither_scatter_nor_bias(tmp_path):
    text = flat(write(tmp_path / "single", search(1), **NOTEBOOK))
    assert "scatter" not in text
    assert "biased" not in text


def test_a_study_of_mixture_accuracy_is_ranked_by_it(tmp_path):
    text = said(write(tmp_path / "m", search(40), **NOTEBOOK, objective="mixture_accuracy"))
    assert "a config's expected mixture accuracy" in text
    assert text.index("mixture accuracy  ") < text.index(" gain", text.index("Effects"))
    assert table_of(text)[0][1] == "8"  # epochs


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_what_is_left_out_is_named(width, tmp_path):
    text = said(write(tmp_path / "wide", search(60), **NOTEBOOK), width=width)
    assert widest(text) <= width
    assert ("Left out for lack of width" in " ".join(text.split())) == (width < 120)


def test_a_table_leaves_out_first_what_is_spared_most():
    columns = [Column("kept", ["1"]), Column("spared last", ["22222"], 1), Column("first", ["33333"], 2)]
    assert fitted(columns, 19)[1] == []
    assert fitted(columns, 18)[1] == ["first"]
    assert fitted(columns, 11)[1] == ["spared last", "first"]
    assert fitted(columns, 19)[0] == "      spared\nkept    last  first\n1      22222  33333"


def test_a_parameter_has_a_row_with_its_share_of_the_variance_and_one_for_each_level(tmp_path):
    lines = said(write(tmp_path / "e", search(432), **NOTEBOOK)).split("\n")  # three seeds
    place = next(number for number, line in enumerate(lines) if line.startswith("use_large_baseline_classifier"))
    assert "% of variance" in lines[place]
    assert [line.split()[0] for line in lines[place + 1 : place + 3]] == ["False", "True"]
    effect = float(lines[place + 2].split()[2])
    assert effect == pytest.approx(1.5, abs=0.4)


def test_a_level_that_was_not_tried_has_no_trials_and_no_effect(tmp_path):
    lines = said(write(tmp_path / "two", [a_record(1, 0.01), a_record(2, 0.02, epochs=2)])).split("\n")
    assert ["4", "0", "-", "-"] in [line.split() for line in lines]


def test_one_seed_is_named_where_effects_are_shown(tmp_path):
    assert "All trials have seed 0" in flat(write(tmp_path / "one", search(20), **NOTEBOOK))
    assert "All trials have seed" not in flat(write(tmp_path / "more", search(160), **NOTEBOOK))


def test_failures_are_grouped_by_reason_and_running_trials_counted(tmp_path):
    records = [a_record(n, state="failed", epochs=2) for n in range(1, 12)]
    records[:6] = [record.replace(error=f"loss is nan in epoch {record.trial}") for record in records[:6]]
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
    same = [scored(record, 0.01, 0.5) for record in records]
    assert "wider grid" not in said(write(tmp_path / "same", same, space=space))


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


def test_a_gain_over_an_under_trained_baseline_is_said_to_be_one_in_the_first_lines(tmp_path):
    records = [a_record(1, 0.0, epochs=4), weak(2, 0.2, baseline=0.2)]
    losing = flat(write(tmp_path / "weak", records, reference=references(0.5)))
    assert losing.startswith("weak ==== The chosen config's mixture loses to the best baseline")
    assert "by 10.00 points (40.00% against 50.00%): its gain is over an under-trained baseline" in losing
    assert "loses" not in said(write(tmp_path / "fair", [a_record(1, 0.0, epochs=4), a_record(2, 0.2)]))


def test_the_notebook_protocol_is_said_to_score_on_what_stopped_training(tmp_path):
    folder = write(tmp_path / "n", [a_record(1, protocol="notebook")], protocol="notebook")
    assert "the test images that score a trial also stopped its training" in flat(folder)


def test_studies_that_were_not_measured_alike_are_not_compared_in_silence(tmp_path):
    one = examine(write(tmp_path / "one", search(12), space=PRESETS["notebook"]).path)
    alike = examine(write(tmp_path / "alike", [a_record(1, 0.02)]).path)
    record = a_record(1, protocol="notebook")
    record = record.replace(result=record.done.replace(data="e" * 64))
    other = examine(write(tmp_path / "other", [record], protocol="notebook", data="e" * 64).path)
    assert "Not comparable" not in comparison([one, alike], 100)
    assert "Not comparable: the studies differ in data and protocol." in comparison([one, alike, other], 100)
    assert max(map(len, comparison([one, alike, other], 100).split("\n"))) <= 100


def test_in_protocol_notebook_studies_that_may_be_scored_on_the_same_numbers_of_images_compare(tmp_path):
    sizes = {"few": [500, 1000], "more": [500, 1000, 2000], "others": [500, 1000]}
    studies = {}
    for name, test_examples in sizes.items():
        space = parse("sized", {"epochs": [1, 2], "test_examples": test_examples})
        record = a_record(1, test_examples=500 if name == "few" else 1000, protocol="notebook")
        record = record.replace(result=record.done.replace(scored_examples=record.config.test_examples))
        studies[name] = examine(write(tmp_path / name, [record], space=space, protocol="notebook").path)
    assert "Not comparable" not in comparison([studies["few"], studies["others"]], 100)
    assert "differ in scored images" in comparison([studies["few"], studies["more"]], 100)


@pytest.mark.parametrize(("width", "blocks"), [(60, 3), (100, 2), (160, 1)])
def test_a_narrow_terminal_gets_blocks_of_studies_and_whole_names(width, blocks, tmp_path):
    names = ["one", "two", "a-study-with-a-long-name"]
    studies = [examine(write(tmp_path / name, search(12), **NOTEBOOK).path) for name in names]
    text = comparison(studies, width)
    assert widest(text) <= width
    assert text.count("best estimate") == blocks
    assert text.count("use_large_baseline_classifier") == 3
    assert "a-study-with-a-long-name" in text


def test_studies_without_a_complete_trial_are_compared_too(tmp_path):
    begun = examine(write(tmp_path / "begun", []).path)
    assert "best estimate     -" in comparison([begun, begun], 100)
