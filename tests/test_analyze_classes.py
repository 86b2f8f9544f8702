"""Accuracy by class, confusion and sample images of a tiny study that was trained here, with a store."""

import dataclasses
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from moe import Store, run
from moe.bits import pack
from moe.config import CLASS_NAMES
from moe.data import cache as caches
from moe.data import load
from moe.data.dataset import ROWS, Arrays
from moe.data.subset import subset
from moe.files import user_cache
from study import machine
from study.analyze.analysis import examine
from study.analyze.classes import classes
from study.confirm.outcome import read_outcome
from study.folder import Folder
from study.space import parse
from study.study import COMPLETE, Record, Run
from tests.conftest import coloured
from tests.study_helpers import STARTED, a_study

SPACE = parse("one", {"epochs": [2], "train_examples": 60, "test_examples": 20, "batch_size": 20})
NAMES = CLASS_NAMES["shapes"]
LEFT_OUT = "are left out: this machine lacks"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Few coloured images in place of the shapes, in a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("MOE_STORE", "/nowhere")
        halves = [coloured(count, seed) for seed, count in enumerate(ROWS.values(), 1)]
        arrays = [part for images, labels in halves for part in (np.moveaxis(images.numpy(), 1, 3), labels.numpy())]
        caches.save(user_cache(), "shapes-1", Arrays(*map(np.ascontiguousarray, arrays)))
        yield load("shapes")


@pytest.fixture(scope="module")
def analysis(data, tmp_path_factory):
    """A study of one config on two seeds."""
    path = tmp_path_factory.mktemp("of")
    folder, study = Folder(path / "s"), a_study(space=SPACE, data=data.fingerprint)
    folder.trials.mkdir(parents=True)
    origin = {"command": "study.run", "commit": None, "versions": machine.versions(), "store": str(path / "store")}
    folder.write_study(study, Run(started=STARTED, **origin))
    with Store(str(path / "store")) as store:
        for replicate in (0, 1):
            config = study.config({"epochs": 0}, replicate)
            record = Record(trial=replicate + 1, replicate=replicate, config=config, started=STARTED)
            folder.write_record(record.ended_as(COMPLETE, result=run(config, data, store)))
    return examine(folder.path)


@pytest.fixture(scope="module")
def html(analysis):
    return "".join(classes(analysis, None))


def rows(html, title):
    """The numbers of the table below a title that begins so, by row."""
    body = re.search(rf"<h3>{title}.*?<tbody>(.*?)</tbody>", html, flags=re.S)[1]
    found = re.findall(r"<tr><th>(.*?)</th>(.*?)</tr>", body)
    return {name: [float(cell) for cell in re.findall(r">([^<>]+)</td>", cells)] for name, cells in found}


def test_the_classes_have_the_accuracies_that_the_pipeline_s_own_order_of_images_gives(html, analysis, data):
    table = rows(html, "The chosen config on its 100 scored images, 2 seeds")
    assert [*table] == [*NAMES, "all"]
    right, labels = [], subset(analysis.complete[0].config, data).score_labels.numpy()
    for record in analysis.complete:
        right.append(record.done.right.bits("mixture", len(labels)))
    for label, name in enumerate(NAMES):
        assert table[name][1] == round(100 * np.mean(right, 0)[labels == label].mean(), 1)
    score = [record.done.score for record in analysis.complete]
    assert table["all"][0] == pytest.approx(np.mean([100 * each.baseline_accuracy for each in score]), abs=0.05)


def test_the_steps_add_up_to_the_gain_of_each_class(html, analysis):
    for baseline, mixture, gain, expert, weights, _ in rows(html, "The chosen config").values():
        assert expert + weights == pytest.approx(gain, abs=0.011)
        assert mixture - baseline == pytest.approx(gain, abs=0.11)
    assert gain == pytest.approx(100 * np.mean([record.done.gain for record in analysis.complete]), abs=0.01)


def test_confusion_has_the_accuracies_on_its_diagonal_and_all_images_in_its_rows(html):
    by_class = rows(html, "The chosen config")
    for place, arm in enumerate(("baseline", "mixture")):
        matrix = rows(html, f"{arm}: ")
        for label, name in enumerate(NAMES):
            assert matrix[name][label] == pytest.approx(by_class[name][place], abs=0.51)
            assert sum(matrix[name]) == pytest.approx(100, abs=5)


def test_images_are_shown_with_what_each_part_said_of_them(html, analysis, data):
    counts = [int(number) for number in re.findall(r"<h3>The \w+ (?:is right|picks).*?: (\d+) of 100 images", html)]
    score = analysis.complete[0].done.score
    assert counts[0] - counts[1] == round(100 * score.gain)
    assert counts[2] == round(100 * (1 - score.gate_accuracy))
    cards = re.findall(
        r'<figure><img alt="" src="data:image/png;base64,[^"]*"><b>(\w+)</b><dl>(.*?)</dl></figure>', html
    )
    assert len(cards) == sum(min(4, count) for count in counts)
    for name, lines in cards[: min(4, counts[0])]:
        said = dict(re.findall(r'<dt>(\w+)</dt><dd class="(\w+)">', lines))
        assert (said["baseline"], said["mixture"]) == ("wrong", "right")
        assert [said["artificial"], said["natural"]].count("unasked") == 1
        assert f'<dt>mixture</dt><dd class="right">{name} ' in lines


def test_what_is_not_right_where_the_record_is_right_is_not_shown(analysis):
    records = []
    for record in analysis.records:
        turned = np.roll(record.done.right.bits("mixture", 100), 1)
        right = record.done.right.replace(mixture=pack(turned))
        records.append(record.replace(result=record.done.replace(right=right)))
    html = "".join(classes(dataclasses.replace(analysis, records=records), None))
    assert f"Confusion and sample images {LEFT_OUT} a store" in html
    assert "<img" not in html


def test_nothing_is_written_into_the_store_or_the_study(analysis, html):
    def files():
        return {path: path.stat().st_mtime_ns for path in analysis.folder.path.parent.rglob("*")}

    before = files()
    assert "".join(classes(analysis, None)) == html
    assert files() == before


def test_without_the_images_one_line_says_how_they_are_had(analysis, monkeypatch, tmp_path):
    monkeypatch.setenv("MOE_CACHE", str(tmp_path))
    html = "".join(classes(analysis, None))
    assert f"Accuracy by class, confusion and sample images {LEFT_OUT} the study's images" in html
    assert f"study.reproduce {analysis.folder.path} --store DIR" in html
    assert "<table" not in html


def test_with_the_images_alone_accuracy_by_class_takes_no_torch(analysis, monkeypatch):
    monkeypatch.delitem(sys.modules, "study.analyze.predictions", raising=False)
    other = Folder(analysis.folder.subfolder("other"))
    other.write_study(analysis.study, Run(started=STARTED, command="", commit=None, versions={}, store="none"))
    html = "".join(classes(dataclasses.replace(analysis, folder=other), None))
    assert rows(html, "The chosen config")
    assert f"Confusion and sample images {LEFT_OUT} a store" in html
    assert "study.analyze.predictions" not in sys.modules


def test_a_confirmation_s_steps_are_there_for_each_class(analysis):
    path = Path(__file__).parent.parent / "results" / "cifar-notebook" / "confirm" / "result.json"
    outcome = read_outcome(path)
    table = rows("".join(classes(analysis, outcome)), "The confirmation on 10,000 test images, 10 fresh seeds")
    choice = outcome.configs["choice"]
    assert [row[0] for row in table.values()][:10] == [round(100 * share, 2) for share in choice.gain.classes]
    for gain, *steps in table.values():
        assert sum(steps) == pytest.approx(gain, abs=0.02)
