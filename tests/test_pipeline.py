import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import moe.pipeline
import moe.scheduler
from moe import Config, run
from moe.config import BFLOAT16, FLOAT32
from moe.data.subset import subset
from moe.pipeline import predict, train_mixture
from moe.training.loop import Examples
from moe.training.numerics import best_precision
from tests.benchmarks.bits import digests
from tests.conftest import small_data

CPU = torch.device("cpu")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def result(tiny, data):
    return run(tiny, data)


def test_a_result_names_its_config_data_and_device(result, tiny):
    assert (result.config, result.dataset, result.data, result.device) == (tiny, "coloured", "f" * 64, "cpu")
    assert result.scored_examples == 100


def test_a_result_counts_parameters_epochs_and_seconds_of_all_stages(result):
    totals = result.totals
    assert totals.parameters == 11_836_616
    assert totals.epochs_trained == sum(len(stage.epochs) for stage in result.stages.values()) == 10
    assert (totals.epochs_reused, totals.seconds_reused) == (0, 0)
    assert 0 < totals.seconds < 60


def test_a_stages_result_has_its_epochs_best_epoch_and_why_it_stopped(result):
    assert list(result.stages) == ["baseline", "gate", "artificial", "natural", "mixture"]
    for stage in result.stages.values():
        assert len(stage.epochs) == 2
        assert stage.stopped == "epochs"
        losses = [epoch.validation_loss for epoch in stage.epochs]
        assert stage.best_epoch == losses.index(min(losses)) + 1


def test_the_mixture_learns(data):
    result = run(Config(epochs=4, train_examples=300, test_examples=100, batch_size=20), data)
    assert result.score.gate_accuracy > 0.6
    assert result.score.mixture_accuracy > 0.3
    assert result.score.artificial_accuracy > 0.4


def test_patience_ends_a_stage_and_the_result_has_it(data):
    config = Config(epochs=60, train_examples=40, test_examples=20, batch_size=20, patience=1, learning_rate=0.01)
    stages = run(config, data).stages
    assert any(stage.stopped == "patience" for stage in stages.values())
    for stage in stages.values():
        assert (stage.stopped == "patience") == (len(stage.epochs) < 60)


def test_a_run_repeats_bit_for_bit_and_another_seed_differs(result, tiny, data):
    again, other = (run(tiny.replace(seed=seed), data) for seed in (0, 1))
    histories = [
        [[epoch.validation_loss for epoch in stage.epochs] for stage in one.stages.values()]
        for one in (result, again, other)
    ]
    assert result.score == again.score
    assert histories[0] == histories[1] != histories[2]


def test_stages_side_by_side_give_the_same_bits(tiny, data):
    alone, beside = run(tiny, data, devices=[CPU]), run(tiny, data, devices=[CPU, CPU, CPU])
    assert alone.score == beside.score


def test_whoever_trains_stages_trains_them_all_on_one_stream(tiny, data, monkeypatch):
    streams = []

    @contextmanager
    def own_stream(device):
        streams.append(threading.current_thread())
        yield

    monkeypatch.setattr(moe.scheduler, "own_stream", own_stream)
    run(tiny.replace(epochs=1), data, devices=[CPU, CPU])
    assert len(streams) == len(set(streams)) == 3  # two side by side, and who trains the mixture


def test_a_failing_stage_fails_the_run_also_side_by_side(data):
    def refuse(stage, *_):
        raise RuntimeError(f"{stage} told to stop")

    for devices in ([CPU], [CPU, CPU]):
        with pytest.raises(RuntimeError, match="told to stop"):
            run(Config(train_examples=100, test_examples=50), data, devices=devices, on_epoch=refuse)


def test_an_error_ends_what_is_trained_beside_it_after_an_epoch(data):
    heard = []

    def refuse(stage, *_):
        heard.append(stage)
        if stage == "gate":
            raise RuntimeError("told to stop")

    config = Config(epochs=60, patience=60, train_examples=100, test_examples=50)
    with pytest.raises(RuntimeError, match="told to stop"):
        run(config, data, devices=[CPU, CPU], on_epoch=refuse)
    assert heard.count("baseline") < 30


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_result_has_the_same_bits_on_any_number_of_cpus_and_threads(tiny, data, precision):
    # a CPU without instructions for bfloat16 takes many times as long
    emulated = precision == BFLOAT16 and best_precision("cpu") == FLOAT32
    others = [(4, 2)] if emulated else [(1, 2), (2, 1), (4, 2), (5, 4)]
    config = tiny.replace(precision=precision, **({"epochs": 1, "train_examples": 20} if emulated else {}))

    def numbers(cpus, threads):
        torch.set_num_threads(threads)
        try:
            result = run(config, data, devices=[torch.device("cpu")] * cpus)
        finally:
            torch.set_num_threads(1)
        histories = [[(e.loss, e.validation_loss) for e in stage.epochs] for stage in result.stages.values()]
        return result.score, result.right, histories

    alone = numbers(1, 1)
    assert all(numbers(cpus, threads) == alone for cpus, threads in others)


def test_a_process_on_one_core_and_one_on_all_come_to_the_same_bits(tiny):
    config = tiny.replace(protocol="notebook")  # of real size: validation is smaller in this process only
    code = (
        "from moe.config import Config; from tests.conftest import small_data; from tests.benchmarks.bits import *;"
        f"print(digests(train_mixture({config!r}, small_data())))"
    )
    pins = (["taskset", "-c", str(min(os.sched_getaffinity(0)))], [])
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen([*pin, *command], stdout=subprocess.PIPE, text=True, cwd=ROOT) for pin in pins]
    found = {process.communicate()[0].strip() for process in running}
    assert found == {digests(train_mixture(config, small_data(), devices=[CPU]))}


def test_on_epoch_is_called_for_every_epoch(tiny, data):
    calls = []
    result = run(tiny, data, on_epoch=lambda stage, epoch, epochs, *_: calls.append((stage, epoch, epochs)))
    expected = [(name, n, 2) for name, stage in result.stages.items() for n in range(1, len(stage.epochs) + 1)]
    assert sorted(calls) == sorted(expected)  # stages are trained side by side


@pytest.mark.parametrize("protocol", ["holdout", "notebook"])
def test_frozen_networks_are_bit_identical_after_the_last_stage(protocol, tiny, data, monkeypatch):
    frozen = {}
    original = moe.pipeline._mixture_examples

    def remember(images, stages, predicted, threads):
        for name, stage in stages.items():
            frozen[name] = (stage.network, {k: v.clone() for k, v in stage.network.state_dict().items()})
        return original(images, stages, predicted, threads)

    monkeypatch.setattr(moe.pipeline, "_mixture_examples", remember)
    run(tiny.replace(protocol=protocol), data)
    assert len(frozen) == 4
    for network, before in frozen.values():
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())


@pytest.mark.parametrize(("stage", "classes"), [("baseline", 10), ("gate", 2), ("artificial", 4), ("natural", 6)])
def test_a_stage_sees_its_own_classes_and_is_stopped_by_those_among_the_stopping_images(data, stage, classes):
    config = Config(train_examples=100, test_examples=50)
    train, stop = moe.pipeline.examples(subset(config, data), stage, CPU)
    share = 1 if stage in {"baseline", "gate"} else classes / 10
    assert (len(train), len(stop)) == (100 * share, 50 * share)
    assert len(train.labels.unique()) == classes


class TestHoldout:
    def test_the_mixture_is_read_at_its_best_epoch(self, data):
        config = Config(epochs=8, train_examples=40, test_examples=20, batch_size=20, learning_rate=0.01, patience=8)
        mixture = run(config, data).stages["mixture"]
        losses = [epoch.validation_loss for epoch in mixture.epochs]
        assert mixture.best_epoch == losses.index(min(losses)) + 1


class TestNotebook:
    config = Config(
        epochs=8, train_examples=100, test_examples=50, batch_size=20, learning_rate=0.01, protocol="notebook"
    )

    def test_the_mixture_is_read_at_its_last_epoch_and_the_others_at_their_best(self, data):
        stages = run(self.config.replace(train_examples=40, test_examples=20), data).stages
        assert stages["mixture"].best_epoch == len(stages["mixture"].epochs)
        for name in ("baseline", "gate", "artificial", "natural"):
            losses = [epoch.validation_loss for epoch in stages[name].epochs]
            assert stages[name].best_epoch == losses.index(min(losses)) + 1

    def test_the_frozen_networks_keep_their_dropout_on_while_the_subgates_train(self, data, monkeypatch):
        calls = []
        original = moe.pipeline.run_frozen

        def remember(networks, images, generator=None, pool=None):
            outputs = original(networks, images, generator, pool)
            calls.append((generator, outputs, original(networks, images)))
            return outputs

        monkeypatch.setattr(moe.pipeline, "run_frozen", remember)
        run(self.config.replace(epochs=1), data)
        assert len(calls) == 5  # one for each batch
        for generator, under_dropout, without in calls:
            assert generator is not None
            assert not torch.equal(under_dropout.log_probs, without.log_probs)


def test_log_probabilities_are_bounded_and_sum_to_one(data):
    from moe.networks import build, vgg

    network = build(lambda: vgg("small", 10), torch.Generator().manual_seed(0)).requires_grad_(False)
    predicted = predict(network, data.test_images[:30])
    assert predicted.shape == (30, 10)
    torch.testing.assert_close(predicted.exp().sum(1), torch.ones(30))
    assert Examples(data.test_images, data.test_labels).logits(network, torch.arange(5)).shape == (5, 10)
