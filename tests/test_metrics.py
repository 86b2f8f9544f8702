import pytest
import torch

from moe.metrics import score


def certain(classes, outputs):
    """Log-probabilities of networks that are sure of these classes."""
    logits = torch.zeros(len(classes), outputs)
    logits[range(len(classes)), classes] = 20.0
    return logits.log_softmax(1)


LABELS = torch.tensor([0, 1, 2, 3, 8])  # artificial, artificial, natural, natural, artificial
SAID = {
    "baseline": certain([0, 1, 2, 5, 3], 10),  # three of five
    "gate": certain([0, 1, 1, 1, 0], 2),  # wrong on the second
    "artificial": certain([0, 1, 0, 0, 8], 10),  # right on all its three
    "natural": certain([4, 4, 2, 5, 5], 10),  # one of its two
}


def leaning(images, expert):
    """Weights that go to the expert, or to the baseline."""
    weights = torch.zeros(images, 10, 2)
    weights[:, :, int(expert)] = 50.0
    return weights


def test_a_mixture_that_trusts_its_experts_is_scored_against_the_baseline():
    experts = leaning(5, expert=True)
    found, _ = score(SAID, {"gate": experts, "oracle": experts}, LABELS)
    assert found.baseline_accuracy == 3 / 5
    assert found.mixture_accuracy == 3 / 5  # images 0, 2 and 4; image 1 went to the natural expert
    assert found.gain == 0
    assert found.discordance == 2 / 5  # image 1 lost, image 4 won
    assert found.gate_accuracy == 4 / 5
    assert found.artificial_accuracy == 1
    assert found.natural_accuracy == 1 / 2
    assert found.oracle_gate_accuracy == 4 / 5


def test_a_mixture_that_trusts_its_baseline_has_no_gain():
    found, _ = score(SAID, dict.fromkeys(("gate", "oracle"), leaning(5, expert=False)), LABELS)
    assert (found.gain, found.discordance) == (0, 0)
    assert found.mixture_accuracy == found.oracle_gate_accuracy == found.baseline_accuracy


def test_the_average_is_the_plain_mean_of_baseline_and_gated_expert():
    said = {**SAID, "baseline": torch.full((5, 10), 0.1).log()}  # says nothing, so the gated expert decides
    found, _ = score(said, dict.fromkeys(("gate", "oracle"), leaning(5, expert=False)), LABELS)
    assert found.average_accuracy == pytest.approx(3 / 5)


def test_a_gain_is_exact():
    weights = dict.fromkeys(("gate", "oracle"), leaning(5, expert=True))
    said = {**SAID, "baseline": certain([1, 1, 1, 1, 1], 10)}
    found, _ = score(said, weights, LABELS)
    assert found.gain == 2 / 5
    assert found.constant  # such a baseline is beaten easily


def test_networks_that_predict_several_classes_are_not_marked():
    for expert in (True, False):
        assert not score(SAID, dict.fromkeys(("gate", "oracle"), leaning(5, expert=expert)), LABELS)[0].constant


def test_a_mixture_that_predicts_one_class_is_marked():
    said = {**SAID, **{name: certain([3] * 5, 10) for name in ("artificial", "natural")}}
    assert score(said, dict.fromkeys(("gate", "oracle"), leaning(5, expert=True)), LABELS)[0].constant
