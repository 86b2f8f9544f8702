import io
import itertools
import subprocess
import sys

import pytest
import torch

from moe.config import Config
from moe.data.subset import subset
from moe.networks import FrozenOutputs, build, vgg
from moe.pipeline import examples
from moe.stages import PIPELINE, Request, plan
from moe.store.tensors import pack, unpack
from moe.training.adam import Adam
from moe.training.loop import Chain, End, Examples, TrainingError, best_epoch, derive_seed, stop_epoch, train
from moe.training.numerics import configure_numerics

CPU = torch.device("cpu")

# val_loss, the epoch after which Keras' EarlyStopping(patience=2) stopped, ModelCheckpoint(save_best_only)'s last
KERAS_STOPS = [
    ([3, 2, 1], None, 3),
    ([1, 2, 3, 4], 3, 1),
    ([1, 1, 1, 1], 3, 1),
    ([3, 2, 2.5, 1.9, 2, 2.1, 1], 6, 4),
    ([2, 1, 1, 0.5, 0.6, 0.6, 0.4], 6, 4),
    ([1, 1.1, 0.9, 0.95, 0.9, 0.8], 5, 3),
]


@pytest.mark.parametrize(("losses", "stop", "best"), KERAS_STOPS)
def test_stopping_and_choosing_are_keras(losses, stop, best):
    assert stop_epoch(losses, patience=2) == stop
    assert best_epoch(losses[:stop]) == best


def test_patience_counts_epochs_in_a_row():
    assert stop_epoch([1, 2, 0.9, 2, 3], 2) == 5
    assert stop_epoch([1, 2], 1) == 2
    assert stop_epoch([], 2) is None


def spec_and_examples(stage, data, **choices):
    config = Config(**{"train_examples": 100, "test_examples": 50, "batch_size": 20, **choices})
    spec = plan(config, data.fingerprint, configure_numerics(CPU, config.precision))[stage].spec
    learn, stop = examples(subset(config, data), stage, CPU)
    if stage == "mixture":
        learn, stop = (Examples(each.images, each.labels, made_up_outputs(each.labels)) for each in (learn, stop))
    return spec, learn, stop


def made_up_outputs(labels):
    """Outputs that frozen networks might have, right more often than not."""
    draw = torch.Generator().manual_seed(3)
    logits = torch.randn(len(labels), 10, 2, generator=draw)
    logits[range(len(labels)), labels] += 1.5
    return FrozenOutputs(torch.rand(len(labels), generator=draw) > 0.4, logits.log_softmax(1))


def trained(spec, learn, stop, *epochs):
    """A chain brought to each of the requests in turn, through bytes in between, as a store would keep it."""
    chain = Chain(spec)
    for upto in epochs:
        for _ in train(Request(spec, upto), chain, learn, stop, CPU):
            pass
        kept = io.BytesIO()
        torch.save({"weights": chain.weights, "end": tuple(chain.end)}, kept)
        kept.seek(0)
        loaded = torch.load(kept, weights_only=True)
        chain = Chain(spec, chain.epochs, loaded["weights"], End(*loaded["end"]))
    return chain


def figures(chain):
    return [(e.loss, e.accuracy, e.validation_loss, e.validation_accuracy) for e in chain.epochs]


@pytest.mark.parametrize(
    ("stage", "precision"),
    [*((stage, "float32") for stage in PIPELINE), ("natural", "bfloat16"), ("mixture", "bfloat16")],
)
def test_four_epochs_straight_equal_two_and_two_bit_for_bit(stage, precision, data):
    few = {"train_examples": 50, "test_examples": 10} if precision == "bfloat16" else {}  # it may be emulated
    spec, learn, stop = spec_and_examples(stage, data, patience=9, precision=precision, **few)
    straight, halves = trained(spec, learn, stop, 4), trained(spec, learn, stop, 2, 4)
    assert figures(straight) == figures(halves)
    assert straight.weights.keys() == halves.weights.keys()
    for epoch, weights in straight.weights.items():
        assert all(torch.equal(value, halves.weights[epoch][name]) for name, value in weights.items())
    for one, other in zip(straight.end, halves.end, strict=True):
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_ten_epochs_contain_the_five_epoch_result(data):
    spec, learn, stop = spec_and_examples("natural", data, patience=20)
    ten, five = trained(spec, learn, stop, 10), trained(spec, learn, stop, 5)
    assert figures(ten)[:5] == figures(five)
    assert ten.resolve(5) == five.resolve(5)
    epoch = five.resolve(5).epoch
    assert all(torch.equal(value, ten.weights[epoch][name]) for name, value in five.weights[epoch].items())


def test_training_depends_on_seed_and_stage(data):
    chains = {}
    for stage, seed in (("baseline", 0), ("baseline", 1), ("mixture", 0)):
        spec, learn, stop = spec_and_examples(stage, data, seed=seed)
        chains[stage, seed] = trained(spec, learn, stop, 1)
    assert len({figures(chain)[0] for chain in chains.values()}) == 3


def test_randomness_outside_the_training_plays_no_part(data):
    spec, learn, stop = spec_and_examples("gate", data)
    torch.manual_seed(1)
    first = trained(spec, learn, stop, 2)
    torch.manual_seed(2)
    torch.rand(5)
    assert figures(trained(spec, learn, stop, 2)) == figures(first)


def test_a_stage_stops_when_patience_ends_and_is_read_at_its_best_epoch(data):
    spec, learn, stop = spec_and_examples("baseline", data, patience=1, learning_rate=0.01)
    chain = trained(spec, learn, stop, 50)
    assert len(chain.epochs) == stop_epoch(chain.losses, 1) < 50
    assert chain.resolve(50).epoch == best_epoch(chain.losses)
    assert max(chain.weights) == chain.resolve(50).epoch
    assert chain.finished(60)


def stepped(gradients, start):
    """Parameters after steps of our optimizer along these gradients."""
    network = torch.nn.ParameterList([torch.tensor(start)])
    optimizer = Adam(network, 1e-3)
    for gradient in gradients:
        network[0].grad = torch.tensor(gradient)
        optimizer.step()
    return network[0].detach()


def test_the_optimizer_is_keras_adam():
    after = stepped([[0.1, -0.02, 3.0], [0.05, 0.04, -1.0], [-0.2, 0.001, 0.5]], [1.0, -0.5, 0.25])
    torch.testing.assert_close(after, torch.tensor([0.998274207, -0.499663413, 0.248194367]), rtol=0, atol=2e-7)


def test_the_optimizers_epsilon_is_keras():
    assert float(stepped([[1e-6]], [1.0])) == pytest.approx(1 - 1e-3 * 1e-6 / (1e-6 + 1e-7), abs=1e-7)


def test_the_optimizer_gives_the_bits_of_torchs_own_and_continues_from_its_stored_state():
    ours, theirs, resumed = (
        build(lambda: vgg("small", 10), torch.Generator().manual_seed(0)).requires_grad_() for _ in range(3)
    )
    optimizer = Adam(ours, 1e-3)
    expected = torch.optim.Adam(theirs.parameters(), lr=1e-3, eps=1e-7, fused=True)
    images = torch.rand(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    for _ in range(3):
        step(ours, optimizer, images)
        step(theirs, expected, images)
    stored = {
        f"{name}/{key}": value
        for name, weight in theirs.named_parameters()
        for key, value in expected.state[weight].items()
    }
    assert {name: (value.dtype, value.stride()) for name, value in optimizer.state.items()} == {
        name: (value.dtype, value.stride()) for name, value in stored.items()
    }
    resumed.load_state_dict(theirs.state_dict())
    continued = Adam(resumed, 1e-3)
    continued.restore(unpack(pack(stored)))
    for network, each in ((ours, optimizer), (theirs, expected), (resumed, continued)):
        step(network, each, images)
    for weight, *others in zip(*(network.parameters() for network in (ours, theirs, resumed)), strict=True):
        assert all(torch.equal(weight, other) for other in others)


def step(network, optimizer, images):
    network.zero_grad()
    network(images).square().sum().backward()
    optimizer.step()


def test_training_does_not_import_torchs_compiler(tmp_path):
    program = (
        "import sys; from moe import Config, run; from moe.data import load\n"
        "run(Config(train_examples=50, test_examples=50), load('shapes'))\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False).returncode == 0


def test_every_seed_stage_epoch_and_purpose_draws_for_itself():
    specs = [
        plan(Config(seed=seed), "data", configure_numerics(CPU))[stage].spec
        for seed in (0, 1)
        for stage in ("gate", "mixture")
    ]
    kinds = itertools.product(specs, (1, 2), ("order", "dropout"))
    assert len({derive_seed(*kind) for kind in kinds}) == 4 * 2 * 2


def test_a_loss_that_is_not_finite_fails_with_stage_epoch_and_a_way_out(data):
    spec, learn, stop = spec_and_examples("baseline", data)
    wild = spec.model_copy(update={"learning_rate": 1e30})  # which no config may have
    with pytest.raises(TrainingError, match=r"stage baseline .* epoch \d; a learning_rate below 1e\+30 may help"):
        trained(wild, learn, stop, 5)
