"""The counts behind a comparison with the plain peer. What they compare takes minutes, and is run by hand."""

from collections import Counter
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from moe import Config, run
from moe.config import PRECISIONS
from moe.networks import Layers
from moe.pipeline import train_mixture
from moe.result import Epoch, StageResult
from moe.stages import PIPELINE
from moe.store.store import Store
from study.folder import Folder
from study.space import PRESETS, parse
from study.study import Run
from tests.benchmarks import fleet, overhead, parity, passes, peer, pipeline, records, replay, reuse
from tests.benchmarks.passes import Cost, Trial, assumed
from tests.study_helpers import STARTED, a_record, a_study

SMALL = {"train_examples": 40, "test_examples": 20, "batch_size": 40}
HASTY = {**SMALL, "patience": 1, "learning_rate": 0.005}
CONFIGS = [
    Config(epochs=2, **SMALL),
    Config(epochs=1, **SMALL),  # within the first
    Config(epochs=4, **SMALL),  # beyond it
    Config(epochs=2, **SMALL),  # all known
    Config(epochs=2, use_large_baseline_classifier=True, **SMALL),  # another baseline, so another mixture
    Config(epochs=1, **{**SMALL, "test_examples": 100}),  # all that are scored
    Config(epochs=10, **HASTY),
    Config(epochs=12, **HASTY),  # the same, since patience ends it
    Config(epochs=1, seed=1, **SMALL),
    Config(epochs=1, protocol="notebook", **SMALL),
    Config(epochs=2, protocol="notebook", **SMALL),  # its frozen networks run in every batch of the mixture
]
APART = [CONFIGS[0], CONFIGS[0], CONFIGS[5], CONFIGS[10]]


def test_what_has_to_give_equal_bits_does_and_is_trained_as_the_pipeline_trains(data, monkeypatch):
    monkeypatch.setattr(pipeline, "own_stream", lambda device: entered.append(device) or nullcontext())
    entered = []
    found = pipeline.check(data, torch.device("cpu"), "float32", 120)
    assert list(found.items()) == [("again", True), ("in two parts", True), ("beside other stages", True)]
    assert len(entered) == 4  # each time that a stage is trained alone


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_on_a_gpu_neither_recording_nor_stages_side_by_side_nor_resuming_changes_a_bit(precision, data):
    found = pipeline.check(data, torch.device("cuda", 0), precision)
    assert len(found) == 5
    assert all(found.values()), found


def test_runs_of_other_seeds_are_not_alike(data):
    one, again, other = (train_mixture(Config(seed=seed, **SMALL), data) for seed in (0, 0, 1))
    assert pipeline.alike(one, again)
    assert not pipeline.alike(one, other)


@contextmanager
def watched():
    """Counts, by outputs, the images that go forward and backward through each network."""
    images = Counter()

    def watch(network, _inputs, output):
        if isinstance(network, Layers):
            outputs = output.shape[1]
            images[outputs] += len(output)
            if output.requires_grad:
                output.register_hook(lambda gradient: images.update({outputs: len(gradient)}))

    hook = register_module_forward_hook(watch)
    try:
        yield images
    finally:
        hook.remove()


@pytest.mark.parametrize(("reuse", "configs", "known"), [(True, CONFIGS, [3, 7]), (False, APART, [])])
def test_our_passes_are_those_that_the_networks_make(data, tmp_path, reuse, configs, known):
    store = Store(str(tmp_path)) if reuse else None
    trials, seen = [], []
    for config in configs:
        with watched() as images:
            result = run(config, data, store)
        trials.append(Trial.of(result))
        subgates, odd = divmod(images[20], 2)  # two of them make one network
        assert not odd
        seen.append(Cost(images[10] + images[2] + subgates, subgates, result.totals.epochs_trained))
    if store:
        store.close()
    assert list(passes.ours_each(trials, reuse)) == seen
    assert passes.ours(trials, reuse) == sum(seen, Cost())
    assert [place for place, cost in enumerate(seen) if cost == Cost()] == known


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[6]])
def test_the_peers_passes_are_those_that_it_counts(data, config):
    found = peer.run_one(config, data, threads=torch.get_num_threads())
    trial = Trial(config, found["epochs"], found["epochs"])
    assert passes.peers([trial]).passes == found["passes"]
    assert passes.peers([trial]).epochs == sum(found["epochs"].values())


def test_where_stages_stop_early_a_larger_number_of_epochs_costs_nothing():
    eight, thirty = (Config(epochs=epochs) for epochs in (8, 30))
    early = list(passes.ours_each([assumed(eight, 5), assumed(thirty, 5)], reuse=True))
    assert early[0].epochs == 5 * len(PIPELINE)
    assert early[1] == Cost()
    late = list(passes.ours_each([assumed(eight), assumed(thirty)], reuse=True))
    assert late[1].epochs == 4 * (30 - 8) + 30  # the mixture stands on other checkpoints


def test_images_that_cannot_be_shared_equally_are_refused():
    with pytest.raises(ValueError, match="asks for 1003 images; expected a multiple of 10"):
        passes.peers([assumed(Config(train_examples=1003))])


def test_a_simulated_study_is_searched_as_a_real_one():
    space = parse("four", {"epochs": [1, 2], "use_large_experts": [False, True], "test_examples": 100})
    configs = replay.searched(space, 10, seed=3)
    assert (configs[0].epochs, configs[0].use_large_experts) == (1, False)
    for point in space.points():
        seeds = [config.seed for config in configs if space.point(config) == point]
        assert seeds
        assert seeds == list(range(3000, 3000 + len(seeds)))


def test_a_replay_prints_passes_at_its_marks_with_and_without_reuse():
    text = replay.replay(PRESETS["notebook"], 12, 1)
    tables = text.split("\n\n")[1:]
    assert [table.splitlines()[0] for table in tables] == [
        "Every stage trains to its last epoch",
        "Every stage stops after 10 epochs",
        "Every stage stops after 5 epochs",
    ]
    labels = [line[:16].strip() for line in tables[0].splitlines()[2:]]
    assert labels == ["3 trials", "6 trials", "12 trials", "the first 1", "the last 1", "last / first"]
    mine, alone, theirs = map(float, tables[0].splitlines()[4][16:].split()[:3])
    assert mine < alone < theirs
    with pytest.raises(ValueError, match="--trials is 3"):
        replay.replay(PRESETS["notebook"], 3, 1)


def a_past(tmp_path, *, epochs_trained):
    """A study's folder with two trials, of one epoch and of two, whose first network is shared."""
    folder = Folder(tmp_path / "example")
    folder.trials.mkdir(parents=True)
    folder.write_study(a_study(trials=2), Run(started=STARTED, command="", commit=None, versions={}, store=""))
    for number, trained in enumerate(epochs_trained, 1):
        record = a_record(number, epochs=number)
        totals = record.done.totals.replace(epochs_trained=trained)
        stages = dict.fromkeys(PIPELINE, a_stage(number))
        folder.write_record(record.replace(result=record.done.replace(totals=totals, stages=stages)))
    return folder.path


def a_stage(epochs):
    """A stage that was read at the last of so many epochs."""
    epoch = Epoch(loss=1.0, accuracy=0.5, validation_loss=1.0, validation_accuracy=0.5, seconds=1.0)
    return StageResult(
        epochs=(epoch,) * epochs,
        best_epoch=epochs,
        stopped="epochs",
        parameters=1,
        epochs_trained=epochs,
        epochs_reused=0,
        seconds=1.0,
        seconds_reused=0.0,
    )


def test_the_passes_of_a_finished_study_are_counted(tmp_path):
    path = a_past(tmp_path, epochs_trained=(5, 6))  # four chains go on by one, the mixture is new
    assert reuse.complete(path).cost.epochs == 11
    assert "2 trials" in reuse.finished(path)


def test_a_study_that_did_not_begin_with_an_empty_store_is_refused(tmp_path):
    with pytest.raises(ValueError, match="15 epochs were trained; expected 11"):
        reuse.finished(a_past(tmp_path, epochs_trained=(5, 10)))


def found(trial, seconds):
    """What the peer would have found."""
    cost = passes.peers([trial])
    return {"epochs": trial.used, "passes": cost.passes, "seconds": seconds}


def test_the_peers_time_is_its_own_or_estimated_from_a_part(tmp_path):
    past = reuse.complete(a_past(tmp_path, epochs_trained=(5, 6)))
    one, two = past.trials
    whole = reuse.compare_round(past, 180, [0, 1], [found(one, 100), found(two, 200)], 360)
    assert (whole.their_seconds, whole.mine.epochs, whole.theirs.epochs) == (360, 11, 15)
    assert "ESTIMATED" not in str(whole)
    part = reuse.compare_round(past, 180, [1], [found(two, 180)], 999)
    share = passes.peers([one]).passes / passes.peers([two]).passes
    assert part.their_seconds == pytest.approx(180 * (1 + share))
    assert part.theirs == whole.theirs
    assert "ESTIMATED from trials 2: 180 s" in str(part)


def test_a_summary_has_median_and_extremes_of_each_rounds_ratio(tmp_path):
    past = reuse.complete(a_past(tmp_path, epochs_trained=(5, 7)))
    done = [
        reuse.compare_round(past, 100, [0, 1], [found(t, 1) for t in past.trials], wall) for wall in (300, 800, 400)
    ]
    text = reuse.summary(done)
    ratios = next(line for line in text.splitlines() if line.startswith("peer / ours"))
    assert ratios.split()[3:7] == ["4.00", "(3.00–8.00)", "1.36", "(1.36–1.36)"]
    assert text.count("12 epochs were trained; expected 11") == 3


def test_a_rounds_part_of_the_trials_is_always_the_same_and_never_more_than_there_are():
    assert reuse.sample(4, None, 1) == [0, 1, 2, 3]
    assert len(set(reuse.sample(50, 7, 1))) == 7
    assert reuse.sample(50, 7, 1) == reuse.sample(50, 7, 1) != reuse.sample(50, 7, 2)
    for wrong in (0, 5):
        with pytest.raises(ValueError, match=f"--peer-trials is {wrong}; expected 1 to 4"):
            reuse.sample(4, wrong, 1)


def test_trials_that_cost_nothing_take_as_many_workers_as_run_at_once():
    run = overhead.run(overhead.OURS, 10, 2)
    assert len(run.marks) == 10
    assert run.workers == 2
    assert run.began < run.first < run.marks[0].at < run.marks[-1].at < run.ended


def test_the_plainest_program_for_the_same_is_measured_alike():
    run = overhead.run(overhead.PLAIN, 10, 2)
    assert len(run.marks) == 10
    assert run.began < run.first < run.marks[0].at < run.marks[-1].at < run.ended


def test_costs_and_their_ratios_are_medians_over_the_rounds():
    marks = [overhead.Mark(at=10 + number, cpu=number / 2, kb=1024) for number in range(3)]
    runs = [
        overhead.Run(began=0, ended=14, first=first, marks=marks, worker_kb=2048, workers=2).figures(2)
        for first in (4, 9, 6)
    ]
    found = {(overhead.OURS, 3, 2): runs, (overhead.PLAIN, 3, 2): runs[:1] * 3}
    ours, plain = overhead.table(found).splitlines()[2:]
    assert ours.startswith("| study.run | 3 | 2 | 6.00 (4.00–9.00) | 1,000 (1,000–1,000) | 500 (500–500) | - |")
    assert plain.startswith("| plain Tune | 3 | 2 | 4.00 (4.00–4.00) |")
    assert "first s 1.50 (1.00–2.25), wall ms 1.00 (1.00–1.00)" in next(overhead.ratios(found))


def test_the_comparison_with_the_original_says_how_far_apart_they_are_and_how_fast():
    theirs, ours = (
        [{**dict.fromkeys(parity.STAGES, accuracy), "seconds": seconds} for accuracy, seconds in runs]
        for runs in ([(0.5, 30), (0.6, 40)], [(0.6, 10), (0.7, 10)])
    )
    *stages, times = parity.table(theirs, ours).splitlines()[1:]
    assert [line.split() for line in stages] == [
        [name, "55.00", "65.00", "+10.00", "±", "7.07", "1.4"] for name in parity.STAGES
    ]
    assert times == "Keras' time over ours: 3.50 (3.00–4.00)"


def test_so_many_records_are_read_by_the_commands_that_make_everything_else(tmp_path):
    folder = Folder(tmp_path / "free")
    records.write(folder, parse("large", overhead.SPACE), 12)
    assert all(seconds > 0 for seconds in records.derived(folder, 12))


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_a_driver_serves_more_workers_than_there_are(sampler):
    figures = fleet.serve(sampler, trials=12, at_once=5)
    assert all(value > 0 for value in figures.values())
    assert figures["driver MB"] > 50
