"""The store under kills, pauses and damage, for a while; and how the benchmark of that counts."""

from moe.stages import STAGES
from tests.benchmarks.chaos import MOST_WASTE, chaos
from tests.benchmarks.chaos_scene import NAMES, Scene
from tests.benchmarks.chaos_tally import events_in, tally


def counted(*events):
    """The epochs trained and needed of events in their order, of one chain."""
    count = tally([{"kind": kind, "at": at, "folder": "gate/a", **event} for at, (kind, event) in enumerate(events)])
    return count.trained, count.needed


def trained(*epochs):
    return [("trained", {"epoch": epoch}) for epoch in epochs]


COMMITTED, LOST = ("committed", {"epochs": 2}), ("lost", {"epochs": 2})
DAMAGED = ("damaged", {"path": "gate/a/b.safetensors"})
SET_ASIDE = (
    "warned",
    {"sentence": "gate/a/chain-0002.json in the store goes: b.safetensors is damaged; it is made again"},
)


class TestTally:
    def test_each_epoch_is_needed_once(self):
        assert counted(*trained(1, 2, 3), COMMITTED) == (3, 3)

    def test_an_epoch_trained_again_for_nothing_is_not_needed(self):
        assert counted(*trained(1, 2), COMMITTED, *trained(2)) == (3, 2)

    def test_what_was_committed_and_evicted_is_needed_again_once(self):
        assert counted(*trained(1, 2), COMMITTED, LOST, *trained(1, 2, 1)) == (5, 4)

    def test_what_was_not_yet_committed_when_the_chain_was_evicted_is_not_needed_again(self):
        assert counted(*trained(1, 2, 3), COMMITTED, LOST, *trained(3)) == (4, 3)

    def test_what_was_evicted_and_committed_anew_is_not_needed_again(self):
        assert counted(*trained(1, 2), COMMITTED, LOST, COMMITTED, *trained(1)) == (3, 2)

    def test_what_was_set_aside_is_needed_again_only_where_it_was_damaged_on_purpose(self):
        assert counted(*trained(1, 2), COMMITTED, DAMAGED, SET_ASIDE, *trained(1, 2)) == (4, 4)
        assert counted(*trained(1, 2), COMMITTED, SET_ASIDE, *trained(1, 2)) == (4, 2)


def test_kills_pauses_and_damage_bring_no_wrong_read_and_little_training_again(tmp_path, monkeypatch):
    for name in NAMES:
        monkeypatch.setitem(STAGES, name, STAGES[name])  # it puts its own networks there
    count = chaos(Scene(str(tmp_path), seconds=10), emit=lambda _: None)
    print(count.table())
    assert min(count.kills, count.damaged, count.reads) > 0
    assert (count.wrong, count.failed) == (0, 0), [e for e in events_in(tmp_path) if e["kind"] in ("failed", "raised")]
    assert count.ratio <= MOST_WASTE
