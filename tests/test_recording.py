"""Recorded steps: what is recorded when, and that replays do what the steps do. CUDA's own part needs a GPU."""

import gc
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import moe.training.loop
from moe.training.cuda_graph import Recorded, as_graph, own_stream, recorded
from tests.test_training import CPU, figures, spec_and_examples, trained

NOISE = torch.Generator()


class Recorder:
    """In CUDA's place: a replay runs the work again, on whatever its tensors hold by then."""

    def __init__(self):
        self.recorded = 0
        self.replayed = 0

    def __call__(self, work, generator):
        self.recorded += 1

        def replay():
            self.replayed += 1
            work()

        return replay


def test_a_cpu_runs_its_steps_as_they_are():
    def step(rows):
        pass

    assert recorded(step, NOISE, CPU) is step
    with own_stream(CPU):
        pass


def test_the_second_batch_of_each_size_is_recorded_and_then_replayed():
    recorder, seen = Recorder(), []
    step = Recorded(lambda rows: seen.append(rows.tolist()), NOISE, recorder)
    batches = [[1, 2, 3], [4, 5, 6], [7], [8, 9, 10], [11], [12, 13, 14]]
    for batch in batches:
        step(torch.tensor(batch))
    assert seen == batches
    assert (recorder.recorded, recorder.replayed) == (2, 4)


def test_replays_read_their_rows_where_they_were_recorded():
    places = set()
    step = Recorded(lambda rows: places.add(rows.data_ptr()), NOISE, Recorder())
    step(torch.tensor([0, 1]))
    places.clear()
    for number in range(5):
        step(torch.tensor([number, number + 1]))
    assert len(places) == 1


def test_the_first_batches_and_recordings_of_all_threads_come_one_after_the_other():
    running, most = [], []

    def step(rows):
        running.append(rows)
        most.append(len(running))
        time.sleep(0.01)
        running.pop()

    def record(work, generator):
        work()
        return lambda: None

    def train():
        train_on = Recorded(step, NOISE, record)
        for batch in (1, 2, 3):
            train_on(torch.tensor([batch]))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(train) for _ in range(4)]:
            done.result()
    assert most == [1] * 8


@pytest.mark.parametrize("stage", ["natural", "mixture"])
def test_training_by_replays_gives_the_bits_of_training_step_by_step(stage, data, monkeypatch):
    spec, learn, stop = spec_and_examples(stage, data, patience=9)
    plain, recorder = trained(spec, learn, stop, 3), Recorder()
    monkeypatch.setattr(moe.training.loop, "recorded", lambda step, noise, device: Recorded(step, noise, recorder))
    replayed = trained(spec, learn, stop, 2, 3)
    assert recorder.replayed > recorder.recorded > 0
    assert figures(replayed) == figures(plain)
    epoch = plain.resolve(3).epoch
    assert all(torch.equal(value, replayed.weights[epoch][name]) for name, value in plain.weights[epoch].items())


def test_a_recording_goes_with_its_training_and_waits_for_no_search_for_cycles(data, monkeypatch):
    spec, learn, stop = spec_and_examples("natural", data)
    made = []

    def watched(step, noise, device):
        made.append(weakref.ref(recording := Recorded(step, noise, lambda work, noise: lambda: None)))
        return recording

    monkeypatch.setattr(moe.training.loop, "recorded", watched)
    gc.disable()
    try:
        trained(spec, learn, stop, 2)
        assert [each() for each in made] == [None]
    finally:
        gc.enable()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_draws_new_noise_at_each_replay_and_that_of_its_seed():
    device = torch.device("cuda")
    noise, drawn = torch.Generator(device), torch.empty(8, device=device)
    rows = torch.arange(3, device=device)
    with own_stream(device):
        step = Recorded(lambda rows: drawn.uniform_(generator=noise), noise, as_graph)
        found = []
        for seed in (1, 1, 1, 2):
            noise.manual_seed(seed)
            step(rows)
            found.append(drawn.tolist())
            step(rows)
            found.append(drawn.tolist())
    assert found[0] == found[2] == found[4] != found[6]
    assert found[1] == found[3] == found[5] != found[0]
