import dataclasses
import hashlib

import numpy as np
import pytest
import torch

import moe.data.subset
from moe.config import Config
from moe.data import DataError, holdout
from moe.data.subset import subset


def images_of(data, protocol="holdout", train_examples=100, test_examples=50, seed=0):
    config = Config(
        protocol=protocol, train_examples=train_examples, test_examples=test_examples, seed=seed, batch_size=10
    )
    return subset(config, data)


class TestHoldout:
    def test_every_validation_image_scores(self, data, monkeypatch):
        assert len(images_of(data).score_labels) == 10 * moe.data.subset.PER_CLASS
        monkeypatch.setattr(moe.data.subset, "PER_CLASS", 500)
        assert len(images_of(data).score_labels) == 5000

    def test_the_images_that_stop_are_the_first_of_those_that_score(self, data):
        narrow, wide = images_of(data), images_of(data, test_examples=80)
        assert (narrow.stopping, wide.stopping) == (50, 80)
        assert torch.equal(wide.score_images, narrow.score_images)

    def test_smaller_sets_nest_in_larger_ones(self, data):
        small, large = (images_of(data, train_examples=count) for count in (100, 300))
        assert torch.equal(large.train_images[:100], small.train_images)

    def test_no_image_both_teaches_and_scores_and_the_test_images_stay_closed(self, data):
        closed = dataclasses.replace(data, test_images=None, test_labels=None)
        images = images_of(closed, train_examples=1000, test_examples=50)
        taught = {image.numpy().tobytes() for image in images.train_images}
        assert len(taught) == 1000
        assert not any(image.numpy().tobytes() in taught for image in images.score_images)

    def test_every_class_is_there_from_ten_images_on(self, data):
        images = images_of(data, train_examples=10, test_examples=10)
        stopping = images.score_labels[: images.stopping]
        assert sorted(images.train_labels.tolist()) == sorted(stopping.tolist()) == list(range(10))

    def test_seeds_share_the_images_that_score_but_not_those_that_teach(self, data):
        first, second = (images_of(data, seed=seed) for seed in (0, 1))
        assert torch.equal(first.score_images, second.score_images)
        assert not torch.equal(first.train_images, second.train_images)


class TestNotebook:
    def test_it_takes_the_first_images_of_either_set(self, data):
        images = images_of(data, "notebook")
        assert torch.equal(images.train_images, data.train_images[:100])
        assert torch.equal(images.score_images, data.test_images[:50])

    def test_a_class_without_an_image_is_refused(self, data):
        lacking = dataclasses.replace(data, train_labels=data.train_labels % 9)
        with pytest.raises(DataError, match="train_examples is 100; expected more: class 9"):
            images_of(lacking, "notebook")


@pytest.fixture
def labels(monkeypatch):
    monkeypatch.setattr(moe.data.subset, "PER_CLASS", 500)
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.permutation(np.arange(50_000) % 10))


def test_validation_and_pool_share_no_image_and_leave_none_out(labels):
    pool, validation = holdout(labels, seed=3)
    assert (len(pool), len(validation)) == (45_000, 5_000)
    assert pool.dtype == validation.dtype == torch.int64
    assert torch.equal(torch.cat([pool, validation]).sort().values, torch.arange(50_000))


def test_every_tenth_prefix_of_either_is_balanced(labels):
    for indices in holdout(labels, seed=3):
        rounds = labels[indices].reshape(-1, 10).sort(1).values
        assert torch.equal(rounds, torch.arange(10).expand_as(rounds))


def test_validation_is_the_same_for_every_seed_and_the_pool_is_not(labels):
    (pool, validation), (other_pool, other_validation) = holdout(labels, 0), holdout(labels, 1)
    assert torch.equal(validation, other_validation)
    assert not torch.equal(pool, other_pool)
    assert torch.equal(pool, holdout(labels, 0)[0])
    assert len(set(pool[:5000].tolist()) & set(other_pool[:5000].tolist())) < 1000  # by chance, 556


def test_no_class_follows_another_in_a_fixed_order(labels):
    pool, _ = holdout(labels, 0)
    assert len(set(map(tuple, labels[pool].reshape(-1, 10).tolist()))) > 4000


def test_the_split_is_pinned_because_stored_results_rest_on_it(labels):
    pool, validation = holdout(labels, 7)
    digest = hashlib.sha256(pool.numpy().tobytes() + validation.numpy().tobytes()).hexdigest()
    assert digest[:16] == "5c54694592dcc529"


def test_the_split_leaves_the_global_generators_alone(labels):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    holdout(labels, 0)
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_a_class_with_too_few_images_is_refused(labels):
    rare = (labels == 4).nonzero().flatten()
    enough = torch.cat([(labels != 4).nonzero().flatten(), rare[:501]])
    assert len(holdout(labels[enough], 0)[0]) == 45_501 - 5_000
    with pytest.raises(DataError, match="class 4 has 500 training images; expected 501"):
        holdout(labels[enough[:-1]], 0)
