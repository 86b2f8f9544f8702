"""What the figures show."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from study.analyze import drawing, figures
from study.analyze.analysis import examine
from study.space import PRESETS
from tests.analyze_helpers import search, write
from tests.study_helpers import a_record, references


def drawn(plot, folder):
    figure = Figure()
    plot(figure, examine(folder.path))
    figure.draw_without_rendering()
    return figure.axes


def test_failed_trials_are_on_the_axis_before_and_after_the_complete_ones(tmp_path):
    complete = [record.replace(trial=record.trial + 30) for record in search(5)]
    failed = [a_record(number, state="failed", test_examples=2000) for number in (1, 80)]
    folder = write(tmp_path / "failing", [*complete, *failed], space=PRESETS["notebook"])
    low, high = drawn(figures.trials, folder)[0].get_xlim()
    assert low < 1
    assert high > 80


def test_trials_far_apart_are_told_apart_and_their_cost_is_seen(tmp_path):
    numbers = [1, 3, 9999]
    records = [r.replace(trial=number) for r, number in zip(search(3), numbers, strict=True)]
    folder = write(tmp_path / "far", records, space=PRESETS["notebook"])
    assert min(np.diff(drawn(figures.trials, folder)[0].get_xticks())) > 100
    near = write(tmp_path / "near", search(3), space=PRESETS["notebook"])
    assert drawn(figures.trials, near)[0].get_xticks().tolist() == [1, 2, 3]
    for study in (folder, near):
        assert {bars.get_linewidth()[0] >= 1 for bars in drawn(figures.cost, study)[0].collections} == {True}


def test_one_seed_has_no_band_around_its_estimate(tmp_path):
    axes = drawn(figures.trials, write(tmp_path / "one", search(12), space=PRESETS["notebook"]))[0]
    assert not axes.collections


def test_every_interval_of_the_estimate_is_within_the_figure(tmp_path):
    records = [a_record(n + 1, 0.05 * (-1) ** n, replicate=n) for n in range(12)]
    axes = drawn(figures.trials, write(tmp_path / "band", records))[0]
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    low, high = axes.get_ylim()
    assert low < band.min()
    assert high > band.max()


def test_each_measure_has_an_axis_of_its_own_in_the_figure_of_effects(tmp_path):
    axes = drawn(figures.effects, write(tmp_path / "e", search(100), space=PRESETS["notebook"]))
    spans = {one.get_ylabel(): np.ptp(one.get_ylim()) for one in axes if one.get_ylabel()}
    assert set(spans) == {"gain", "mixture accuracy"}
    assert spans["gain"] < spans["mixture accuracy"] / 2
    assert len({round(float(np.ptp(one.get_ylim())), 6) for one in axes}) == 2
    assert len(axes) == 2 * len(PRESETS["notebook"].grids)


def test_the_chosen_config_is_marked_and_each_number_of_epochs_has_its_colour(tmp_path):
    folder = write(tmp_path / "a", search(60), space=PRESETS["notebook"])
    legend = [text.get_text() for text in drawn(figures.accuracies, folder)[0].get_legend().get_texts()]
    assert legend == ["no gain", "chosen config", *(f"epochs {number}" for number in (1, 2, 3, 4, 6, 8))]


def test_the_front_is_what_nothing_is_above_in_both():
    baseline, gain = np.array([0.3, 0.5, 0.5, 0.4, 0.2]), np.array([0.10, 0.02, 0.01, 0.01, 0.10])
    assert figures.front(baseline, gain).tolist() == [0, 1]
    assert figures.front(np.zeros(1), np.zeros(1)).tolist() == [0]


def test_each_gain_has_the_interval_of_its_images_and_each_config_with_seeds_that_of_its_estimate(tmp_path):
    records = [a_record(n + 1, 0.05 + 0.01 * (n % 3), replicate=n, epochs=4) for n in range(4)]
    folder = write(tmp_path / "bars", [*records, a_record(5, 0.02, epochs=1)], reference=references(0.6))
    axes = drawn(figures.gains, folder)[0]
    images, _, seeds, *_ = axes.containers
    bars = [np.ptp(line[:, 1]) for line in images.lines[2][0].get_segments()]
    assert np.allclose(bars, 200 * figures.image_halves(examine(folder.path)))
    assert len(seeds.lines[2][0].get_segments()) == 1
    assert any("60.0" in text.get_text() for text in axes.get_legend().get_texts())


def test_title_and_caption_lie_over_no_label(tmp_path):
    folder = write(tmp_path / "all", search(20), space=PRESETS["notebook"])
    for name, figure in drawing.figures(examine(folder.path)).items():
        FigureCanvasAgg(figure).draw()
        labels = [label for axes in figure.axes for label in (axes.xaxis.label, axes.yaxis.label, axes.title)]
        labels += [label for label in (figure._supxlabel, figure._supylabel) if label]
        boxes = [label.get_window_extent() for label in labels if label.get_text() and label.get_visible()]
        for text in figure.texts:
            if text not in labels:
                assert not any(text.get_window_extent().overlaps(box) for box in boxes), f"{name}: {text.get_text()}"
