"""Captured steps: which batches are captured, and that a replay does what the step does. CUDA graphs need a GPU."""

import gc
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import moe.training.loop
from moe.training.cuda_graph import CapturedStep, capture_graph, captured, own_stream
from tests.test_training_loop import CPU, figures, spec_and_examples, trained

NOISE = torch.Generator()


class FakeCapture:
    """Instead of CUDA: a replay runs the work again, on the values that its tensors then have."""

    def __init__(self):
        self.captures = 0
        self.replays = 0

    def __call__(self, work, generator):
        self.captures += 1

        def replay():
            self.replays += 1
            work()

        return replay


def test_a_cpu_runs_its_steps_directly():
    def step(rows):
        pass

    assert captured(step, NOISE, CPU) is step
    with own_stream(CPU):
        pass


def test_the_second_batch_of_each_size_is_captured_and_then_replayed():
    capture, seen = FakeCapture(), []
    step = CapturedStep(lambda rows: seen.append(rows.tolist()), NOISE, capture)
    batches = [[1, 2, 3], [4, 5, 6], [7], [8, 9, 10], [11], [12, 13, 14]]
    for batch in batches:
        step(torch.tensor(batch))
    assert seen == batches
    assert (capture.captures, capture.replays) == (2, 4)


def test_replays_read_their_rows_from_the_memory_that_was_captured():
    places = set()
    step = CapturedStep(lambda rows: places.add(rows.data_ptr()), NOISE, FakeCapture())
    step(torch.tensor([0, 1]))
    places.clear()
    for number in range(5):
        step(torch.tensor([number, number + 1]))
    assert len(places) == 1


def test_first_batches_and_captures_of_all_threads_run_one_at_a_time():
    running, most = [], []

    def step(rows):
        running.append(rows)
        most.append(len(running))
        time.sleep(0.01)
        running.pop()

    def capture(work, generator):
        work()
        return lambda: None

    def train():
        train_on = CapturedStep(step, NOISE, capture)
        for batch in (1, 2, 3):
            train_on(torch.tensor([batch]))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(train) for _ in range(4)]:
            done.result()
    assert most == [1] * 8


@pytest.mark.parametrize("stage", ["natural", "mixture"])
def test_training_by_replays_gives_the_bits_of_training_step_by_step(stage, data, monkeypatch):
    spec, learn, stop = spec_and_examples(stage, data, patience=9)
    plain, capture = trained(spec, learn, stop, 3), FakeCapture()
    monkeypatch.setattr(moe.training.loop, "captured", lambda step, noise, device: CapturedStep(step, noise, capture))
    replayed = trained(spec, learn, stop, 2, 3)
    assert capture.replays > capture.captures > 0
    assert figures(replayed) == figures(plain)
    epoch = plain.resolve(3).epoch
    assert all(torch.equal(value, replayed.weights[epoch][name]) for name, value in plain.weights[epoch].items())


def test_a_captured_step_is_freed_with_its_training_without_garbage_collection(data, monkeypatch):
    spec, learn, stop = spec_and_examples("natural", data)
    made = []

    def watched(step, noise, device):
        made.append(weakref.ref(captured_step := CapturedStep(step, noise, lambda work, noise: lambda: None)))
        return captured_step

    monkeypatch.setattr(moe.training.loop, "captured", watched)
    gc.disable()
    try:
        trained(spec, learn, stop, 2)
        assert [each() for each in made] == [None]
    finally:
        gc.enable()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_draws_new_noise_at_each_replay_and_depends_on_its_seed():
    device = torch.device("cuda")
    noise, drawn = torch.Generator(device), torch.empty(8, device=device)
    rows = torch.arange(3, device=device)
    with own_stream(device):
        step = CapturedStep(lambda rows: drawn.uniform_(generator=noise), noise, capture_graph)
        found = []
        for seed in (1, 1, 1, 2):
            noise.manual_seed(seed)
            step(rows)
            found.append(drawn.tolist())
            step(rows)
            found.append(drawn.tolist())
    assert found[0] == found[2] == found[4] != found[6]
    assert found[1] == found[3] == found[5] != found[0]
