"""Known answers: parameter counts, Keras' losses, where a tie goes. The losses were computed by Keras 2 and 3."""

import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

from moe.config import Config
from moe.describe import Mixture, describe
from moe.networks import (
    BLOCKS,
    Dropout,
    FrozenOutputs,
    Subgates,
    blend,
    build,
    frozen_outputs,
    parameters,
    picks_natural,
    run_frozen,
    select_branch,
    subgate,
    vgg,
)
from moe.training.loop import loss_of

KERAS_OUTPUTS = [
    [0.0213, 0.0047, 0.0311, 0.0092, 0.0158, 0.0026, 0.0384, 0.0119, 0.0067, 0.0083],
    [0.0101, 0.0872, 0.0034, 0.0290, 0.0455, 0.0013, 0.0206, 0.0520, 0.0149, 0.0310],
    [2.5e-9, 0.0312, 0.0048, 0.0457, 0.0129, 0.0203, 0.0076, 0.0094, 0.0151, 0.0260],
]
KERAS_LABELS = [3, 1, 0]
KERAS_LOSSES = [2.791432, 1.218771, 16.118095]  # the last one is clipped at -log(1e-7)
KERAS_GRADIENT = [6.6666665] * 3 + [-102.02898] + [6.6666665] * 6  # of the first row's loss, by its outputs


@pytest.mark.parametrize(
    ("size", "outputs", "count"),
    [("small", 10, 2_168_362), ("large", 10, 1_488_810), ("small", 2, 2_164_258), ("large", 2, 1_484_706)],
)
def test_a_vgg_has_as_many_parameters_as_the_notebooks(size, outputs, count):
    network = vgg(size, outputs)
    assert parameters(network) == count
    assert network(torch.rand(3, 3, 32, 32)).shape == (3, outputs)


def test_the_subgates_and_the_whole_mixture_have_as_many_parameters_as_the_notebooks():
    assert parameters(subgate()) == 1_583_636
    assert parameters(Subgates()) == 3_167_272
    assert parameters(Mixture(Config())) == 11_836_616


def test_initial_weights_are_glorot_uniform_with_zero_biases_and_depend_on_the_generator_alone():
    first, again = (build(lambda: vgg("small", 10), torch.Generator().manual_seed(5)) for _ in range(2))
    other = build(lambda: vgg("small", 10), torch.Generator().manual_seed(6))
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        if name.endswith("bias"):
            assert not value.any()
    kernel = first[0].weight
    limit = math.sqrt(6 / (9 * 3 + 9 * 32))  # fan in and fan out of a 3 x 3 convolution
    assert not torch.equal(kernel, other[0].weight)
    assert 0.95 * limit < kernel.abs().max() <= limit


@pytest.mark.parametrize("row", range(3))
def test_the_mixtures_loss_is_keras_categorical_crossentropy(row):
    log_output = torch.tensor(KERAS_OUTPUTS[row])[None].log()
    loss = loss_of("mixture", log_output, torch.tensor(KERAS_LABELS[row : row + 1]))
    assert float(loss) == pytest.approx(KERAS_LOSSES[row], abs=2e-6)


def test_the_mixtures_loss_has_keras_gradient_and_none_where_keras_clips():
    outputs = torch.tensor(KERAS_OUTPUTS, requires_grad=True)
    losses = [
        loss_of("mixture", row[None].log(), torch.tensor([y])) for row, y in zip(outputs, KERAS_LABELS, strict=True)
    ]
    torch.stack(losses).sum().backward()
    torch.testing.assert_close(outputs.grad[0], torch.tensor(KERAS_GRADIENT), rtol=1e-5, atol=1e-4)
    assert not outputs.grad[2].any()


def test_the_loss_is_neither_that_of_raw_outputs_nor_that_of_outputs_taken_for_logits():
    outputs, labels = torch.tensor(KERAS_OUTPUTS), torch.tensor(KERAS_LABELS)
    ours = float(loss_of("mixture", outputs.log(), labels))
    assert ours == pytest.approx(6.709433, abs=1e-5)
    assert abs(ours - float(-outputs[range(3), labels].log().mean())) > 0.5
    assert abs(ours - float(torch.nn.functional.cross_entropy(outputs, labels))) > 0.5


def test_blending_in_log_space_is_the_notebooks_weighted_sum():
    probabilities = torch.rand(50, 10, 2).softmax(1)
    weights = torch.randn(50, 20)
    share = weights.softmax(1).view(50, 10, 2)  # one softmax over all 20, then the reshape
    output = (probabilities * share).sum(2)
    log_output = blend(probabilities.log(), weights.view(50, 10, 2))
    torch.testing.assert_close(log_output.softmax(1), output / output.sum(1, keepdim=True))
    assert torch.equal(log_output.argmax(1), output.argmax(1))


def test_a_tie_of_the_gate_is_natural():
    gate = torch.tensor([[0.5, 0.5], [0.6, 0.4], [0.4, 0.6]])
    assert picks_natural(gate).tolist() == [True, False, True]


@pytest.mark.parametrize("images", [1, 10, 50])  # where TensorFlow 2's switch was wrong at 10, right at 1
def test_each_image_takes_its_own_branch(images):
    natural = torch.arange(images) % 2 == 0
    others = {"baseline": torch.zeros(images, 10), "artificial": torch.full((images, 10), -1.0)}
    frozen = frozen_outputs({**others, "natural": torch.full((images, 10), -2.0)}, natural)
    assert torch.equal(frozen.log_probs[:, :, 1], torch.where(natural, -2.0, -1.0)[:, None].expand(-1, 10))
    subgates = Subgates()
    torch.nn.init.constant_(subgates.natural[-1].bias, 7.0)
    torch.nn.init.constant_(subgates.artificial[-1].bias, 5.0)
    for branch in (subgates.natural, subgates.artificial):
        torch.nn.init.zeros_(branch[-1].weight)
    weights = select_branch(subgates.branches(torch.rand(images, 3, 32, 32)), natural)
    assert torch.equal(weights[:, 0, 0], torch.where(natural, 7.0, 5.0))


def test_only_the_chosen_branch_learns():
    subgates = Subgates()
    frozen = FrozenOutputs(torch.tensor([True, True]), torch.rand(2, 10, 2).log())
    noise = torch.Generator().manual_seed(0)
    loss_of("mixture", subgates(torch.rand(2, 3, 32, 32), noise, frozen), torch.tensor([1, 2])).backward()
    assert all(parameter.grad.any() for parameter in subgates.natural.parameters())
    assert not any(parameter.grad.any() for parameter in subgates.artificial.parameters())


def test_dropout_is_inverted_and_draws_from_the_given_generator_alone():
    values = torch.ones(1000, 100)
    layer = Dropout(0.25)
    dropped = layer(values, torch.Generator().manual_seed(1))
    assert sorted(set(dropped.flatten().tolist())) == [0.0, pytest.approx(1 / 0.75)]
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    before = torch.get_rng_state()
    assert torch.equal(dropped, layer(values, torch.Generator().manual_seed(1)))
    assert not torch.equal(dropped, layer(values, torch.Generator().manual_seed(2)))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(layer(values), values)


def test_each_value_is_dropped_as_often_whichever_byte_of_a_draw_decides():
    dropped = Dropout(0.25)(torch.ones(80_000), torch.Generator().manual_seed(1)) == 0
    shares = dropped.view(-1, 8).float().mean(0)
    assert shares.tolist() == pytest.approx([0.25] * 8, abs=0.02)  # 4.6 standard errors


def test_dropout_keeps_the_memory_layout():
    values = torch.rand(4, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    dropped = Dropout(0.25)(values, torch.Generator().manual_seed(1))
    assert dropped.stride() == values.stride()
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], (values / 0.75)[kept])


@pytest.mark.parametrize("size", ["small", "large"])
def test_pooling_before_the_relu_is_the_notebooks_network(size):
    network, images = build(lambda: vgg(size, 10), torch.Generator().manual_seed(0)), torch.rand(5, 3, 32, 32)
    convolutions = iter([layer for layer in network if isinstance(layer, torch.nn.Conv2d)])
    values = images
    for block in BLOCKS[size]:
        for _ in block:
            values = next(convolutions)(values).relu()
        values = torch.nn.functional.max_pool2d(values, 2)
    torch.testing.assert_close(network(images), network[-1](network[-4](values.flatten(1)).relu()))


def test_bfloat16_rounds_products_and_nothing_that_is_kept():
    exact, rounded = (
        build(partial(vgg, "small", 10, precision), torch.Generator().manual_seed(0))
        for precision in ("float32", "bfloat16")
    )
    images = torch.rand(5, 3, 32, 32)
    assert {value.dtype for value in (*rounded.parameters(), rounded(images))} == {torch.float32}
    assert not torch.equal(exact(images), rounded(images))
    torch.testing.assert_close(exact(images), rounded(images), rtol=0.05, atol=0.02)
    rounded(images).sum().backward()
    assert {weight.grad.dtype for weight in rounded.parameters()} == {torch.float32}


def test_the_description_names_every_network_its_parameters_and_what_trains():
    text = describe(Config(use_large_experts=True))
    for part in ("1,488,810", "2,164,258", "[1, 64, 8, 8]", "mixture, as stage mixture trains it"):
        assert part in text
    assert "Units." not in text
    mixture = text[text.index("mixture, as stage") :]
    assert "Trainable params: 3,167,272" in mixture


@pytest.mark.parametrize("size", BLOCKS)
def test_frozen_networks_side_by_side_have_the_dropout_that_they_have_one_after_the_other(size):
    shapes = {"baseline": 10, "gate": 2, "artificial": 10, "natural": 10}
    seed = torch.Generator().manual_seed(1)
    networks = {name: build(partial(vgg, size, outputs), seed) for name, outputs in shapes.items()}
    images, noise, again = torch.rand(7, 3, 32, 32), *(torch.Generator().manual_seed(2) for _ in range(2))
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for _ in range(2):  # the generator goes on from where it was
            alone, beside = run_frozen(networks, images, noise), run_frozen(networks, images, again, pool)
            assert all(map(torch.equal, alone, beside))
    assert not torch.equal(alone.log_probs, run_frozen(networks, images).log_probs)
