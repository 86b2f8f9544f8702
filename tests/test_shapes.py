import hashlib
import time

import numpy as np
import pytest

from moe.config import ARTIFICIAL, NATURAL
from moe.data import dataset, shapes


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(dataset.ROWS, "train", 600)
    monkeypatch.setitem(dataset.ROWS, "test", 200)


@pytest.fixture
def drawn(small):
    return shapes.draw()


def test_the_drawing_is_pinned_so_that_a_change_of_pixels_raises_the_version(drawn):
    digest = hashlib.sha256(drawn.train_images[:100].data).hexdigest()
    assert (shapes.VERSION, digest[:16]) == (1, "5e79ea002d0bf964")


def test_it_draws_the_same_pixels_every_time(drawn):
    assert shapes.draw().fingerprint == drawn.fingerprint


def test_the_arrays_are_of_the_form_of_cifar10(drawn):
    assert drawn.well_formed()


def test_classes_are_balanced_and_in_random_order(drawn):
    assert np.bincount(drawn.train_labels).tolist() == [60] * 10
    assert np.bincount(drawn.test_labels).tolist() == [20] * 10
    assert (np.diff(drawn.train_labels[:100]) % 10 != 1).sum() > 50


def test_no_image_occurs_twice(drawn):
    everything = np.concatenate([drawn.train_images, drawn.test_images])
    assert len({image.tobytes() for image in everything}) == len(everything)


def test_every_class_is_drawn_by_the_table_of_its_superclass():
    assert set(shapes.BARS) == set(ARTIFICIAL)
    assert set(shapes.LOBES) == set(NATURAL)
    assert set(shapes.COLOURS) == {*ARTIFICIAL, *NATURAL}


def test_colours_alone_tell_the_superclass_better_than_chance_but_not_well(drawn):
    """A least-squares fit on the mean colour stands for what needs no look at the figure."""
    natural = np.isin(drawn.train_labels, NATURAL)
    means = np.c_[drawn.train_images.mean((1, 2)), np.ones(len(natural))]
    fit = np.linalg.lstsq(means, natural, rcond=None)[0]
    unseen = np.c_[drawn.test_images.mean((1, 2)), np.ones(len(drawn.test_labels))] @ fit > 0.5
    assert 0.6 < (unseen == np.isin(drawn.test_labels, NATURAL)).mean() < 0.9


def test_drawing_all_of_it_takes_well_under_a_minute(small):
    start = time.process_time()
    shapes.draw()
    assert (time.process_time() - start) * 60_000 / 800 < 120
