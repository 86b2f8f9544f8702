"""The controls of a confirmation: their streams, sizes and checkpoints, and their scores recomputed in float64."""

import numpy as np
import pytest
import torch

from moe import controls
from moe.arms import ARMS, STEPS, right
from moe.config import ARTIFICIAL, NATURAL, Config
from moe.controls import members, products, run_controls
from moe.networks import vgg
from moe.pipeline import train_mixture
from moe.stages import GENERALISTS, MEMBERS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tiny, data):
    """A config and its controls: the trained networks, and what was predicted for the test images."""
    config = tiny.replace(epochs=3)
    result, stages = controls._train(config, data, None, [CPU], None)
    predicted = controls._predict(stages, members(config), data.test_images, [CPU])
    return config, result, stages, predicted


def test_generalists_differ_from_the_baseline_and_are_as_good(run):
    trained = [run[2][name] for name in ("baseline", *GENERALISTS)]
    first, *others = ([value.clone() for value in stage.network.state_dict().values()] for stage in trained)
    assert all(not torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True) if a.dim() > 1)
    accuracies = [stage.chain.epochs[-1].validation_accuracy for stage in trained]
    assert max(accuracies) - min(accuracies) < 0.35  # of 20 images
    assert not torch.equal(others[0][0], others[1][0])


def test_the_run_is_that_of_the_pipeline_alone(run, data):
    config, result, _, _ = run
    alone = train_mixture(config, data, devices=[CPU]).result
    assert result.score == alone.score
    assert result.right == alone.right


def test_a_generalist_stands_in_after_as_many_updates_as_the_expert(run, tiny):
    _, _, stages, _ = run
    # 24 images of 60 are artificial, 36 natural: two batches of 20 an epoch each, against three
    for expert in ("artificial", "natural"):
        epoch = stages[expert].checkpoint.epoch
        assert stages[f"in place of {expert}"].task.request.epochs == {1: 1, 2: 1, 3: 2}[epoch]
    names = [checkpoint.stage for checkpoint in stages["generalists' weights"].chain.spec.inputs]
    assert names == ["baseline", "gate", *GENERALISTS]
    assert stages["generalists' weights"].chain.spec.address != stages["weights"].chain.spec.address


def test_products_of_the_small_network():
    convolutions = 32 * 32 * 9 * (3 * 32 + 32 * 32) + 16 * 16 * 9 * (32 * 64 + 64 * 64)
    assert products(vgg("small", 10)) == convolutions + 64 * 8 * 8 * 512 + 512 * 10


@pytest.mark.parametrize(
    ("large", "networks"),
    [
        ((), GENERALISTS),  # 1 + 1 + .4 + .6 and the subgates: three networks
        (("experts", "gating_mlp", "baseline_classifier"), GENERALISTS),
        (("baseline_classifier",), MEMBERS[:1]),
        (("experts",), MEMBERS[:3]),
        (("experts", "gating_mlp"), MEMBERS[:4]),
        (("gating_mlp",), (*GENERALISTS, MEMBERS[0])),
    ],
)
def test_the_matched_ensemble_costs_as_much_as_the_mixture(large, networks):
    assert members(Config(**{f"use_large_{name}": True for name in large})) == networks


def outputs64(network, images):
    """(N, outputs) probabilities in float64."""
    with torch.no_grad():
        return network.double()(images.double() / 255).softmax(1).numpy()


def test_every_arm_is_right_where_a_float64_computation_is(run, data):
    _, _, stages, predicted = run
    images, labels, rows = data.test_images[:100], data.test_labels[:100].numpy(), np.arange(100)
    p = {name: outputs64(_vgg(stage), images) for name, stage in stages.items() if "weights" not in name}
    place = {name: p[f"in place of {name}"] for name in ("artificial", "natural")}
    natural, truth = p["gate"][:, 1] >= p["gate"][:, 0], np.isin(labels, NATURAL)
    implied = p["baseline"][:, NATURAL].sum(1) >= p["baseline"][:, ARTIFICIAL].sum(1)
    baseline, two = p["baseline"], (p["baseline"] + p["generalist-1"]) / 2

    def expert(of, gate):
        return np.where(gate[:, None], of["natural"], of["artificial"])

    def mixture(of, subgates, gate, general=baseline):
        weights = [_weights(subgates, branch, images) for branch in ("artificial", "natural")]
        return (np.where(gate[:, None, None], weights[1], weights[0]) * np.stack((general, expert(of, gate)), 2)).sum(2)

    own, others = stages["weights"], stages["generalists' weights"]
    expected = {
        "baseline": baseline,
        "mixture": mixture(p, own, natural),
        "average": (baseline + expert(p, natural)) / 2,
        "experts": expert(p, natural),
        "oracle_gate": mixture(p, own, truth),
        "implied_gate": mixture(p, own, implied),
        "two_networks": two,
        "generalists": mixture(place, others, natural),
        "matched_ensemble": (baseline + p["generalist-1"] + p["generalist-2"]) / 3,
        "exchanged_experts": mixture(place, own, natural),
        "exchanged_baseline": mixture(p, own, natural, two),
    }
    found = {
        name: right(arm, {key: each[rows] for key, each in predicted.items()}, labels) for name, arm in ARMS.items()
    }
    for name, output in expected.items():
        assert (found[name] == (output.argmax(1) == labels)).all(), name
    either = (expected["baseline"].argmax(1) == labels) | (expected["experts"].argmax(1) == labels)
    assert (found["oracle_subgates"] == either).all()
    assert set(found) == {*expected, "oracle_subgates"}
    gain = found["mixture"].mean() - found["baseline"].mean()
    assert sum(found[step.arm].mean() - found[step.minus].mean() for step in STEPS) == pytest.approx(gain)


def _vgg(stage):
    """A copy of a stage's network, which a test may turn into float64."""
    network = controls.STAGES[stage.chain.spec.stage].network(stage.chain.spec.network)
    network.load_state_dict(stage.network.state_dict())
    return network


def _weights(subgates, branch, images):
    """(N, 10, 2) weights of a branch in float64, a softmax over all twenty."""
    network = controls.STAGES["mixture"].network("small")
    network.load_state_dict(subgates.network.state_dict())
    return outputs64(getattr(network, branch), images).reshape(-1, 10, 2)


def test_predictions_do_not_depend_on_test_labels_or_on_a_store(tiny, data, tmp_path):
    from dataclasses import replace

    from moe.store.store import Store

    shuffled = replace(data, test_labels=torch.zeros_like(data.test_labels))
    alone = run_controls(tiny, data, devices=[CPU])
    with Store(str(tmp_path)) as store:
        first, again = (run_controls(tiny, shuffled, store, [CPU, CPU]) for _ in range(2))
    for other in (first, again):
        assert all((alone.predicted[name] == other.predicted[name]).all() for name in alone.predicted)
    assert again.result.totals.epochs_trained == 0
    assert alone.networks == 3
