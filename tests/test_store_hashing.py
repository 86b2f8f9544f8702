"""Nothing that training reads is missing from the address."""

import threading
from functools import cached_property

import pytest

from moe import Config, run
from moe.config import NOT_SEEN
from moe.metrics import score
from moe.schema import fields
from moe.stages import PIPELINE, Spec, plan, resolved
from tests.store_helpers import (
    CPU,
    SMALL,
    a_spec,
    figures,
    same,
)
from tests.test_stages import another
from tests.test_store_runs import brought

BASE = Config(epochs=3, train_examples=20, test_examples=10, batch_size=20, learning_rate=0.01, patience=1)
CHANGES = {
    "epochs": 2,
    "batch_size": 10,
    "train_examples": 30,
    "test_examples": 20,
    "use_large_experts": True,
    "use_large_gating_mlp": True,
    "use_large_baseline_classifier": True,
    "learning_rate": 0.003,
    "patience": 3,
    "seed": 1,
    "protocol": "notebook",
    "precision": "bfloat16",
}


@pytest.fixture(scope="module")
def unchanged(data):
    return brought(BASE, data)[1]


class TestNothingIsReadThatIsNotHashed:
    @pytest.mark.parametrize("protocol", ["holdout", "notebook"])
    def test_training_reads_only_what_changes_the_address_and_nothing_of_the_config(self, protocol, data, monkeypatch):
        read, of_config, planned, quiet = set(), set(), threading.Event(), threading.Event()

        class HeardSpec(Spec):
            def __getattribute__(self, name):
                if not quiet.is_set():
                    read.add(name)
                return super().__getattribute__(name)

            @cached_property
            def address(self):
                quiet.set()  # it hashes all fields
                try:
                    return Spec.address.func(self)
                finally:
                    quiet.clear()

        class HeardConfig(Config):
            def __getattribute__(self, name):
                if planned.is_set():
                    of_config.add(name)
                return super().__getattribute__(name)

        def heard_plan(*arguments):
            requests = plan(*arguments)
            read.clear()
            planned.set()
            return requests

        monkeypatch.setattr("moe.stages.Spec", HeardSpec)

        def quiet_score(*arguments):
            planned.clear()  # the result holds the config, and checks it
            return score(*arguments)

        def quiet_resolved(*arguments):
            quiet.set()  # it makes another spec of all fields
            try:
                return resolved(*arguments)
            finally:
                quiet.clear()

        monkeypatch.setattr("moe.pipeline.plan", heard_plan)
        monkeypatch.setattr("moe.pipeline.resolved", quiet_resolved)
        monkeypatch.setattr("moe.pipeline.score", quiet_score)
        config = HeardConfig(**SMALL.as_json() | {"protocol": protocol})
        run(config, data)
        assert of_config & fields(Config).keys() == set()
        of_spec = fields(Spec).keys() - NOT_SEEN
        assert {"seed", "batch_size", "learning_rate", "patience", "network", "train_examples"} <= read
        methods = set(dir(Spec)) - fields(Spec).keys()
        assert read - methods <= of_spec
        spec = a_spec()
        for name in read & of_spec:
            assert spec.replace(**{name: another(getattr(spec, name))}).address != spec.address

    def agree(self, stages, others):
        """The stages with the same address in both, whose bits are seen to be the same."""
        shared = {name for name in PIPELINE if stages[name].chain.spec.address == others[name].chain.spec.address}
        for name in shared:
            one, other = stages[name], others[name]
            common = min(len(one.chain.epochs), len(other.chain.epochs))
            assert figures(one.chain)[:common] == figures(other.chain)[:common]
            if one.task.request.epochs == other.task.request.epochs:
                assert figures(one.chain) == figures(other.chain)
                assert one.checkpoint == other.checkpoint
            if one.checkpoint == other.checkpoint:
                assert same(one.weights(), other.weights())
        return shared

    @pytest.mark.parametrize("field", list(fields(Config)))
    def test_where_a_changed_choice_leaves_the_address_it_leaves_the_bits(self, field, data, unchanged):
        config = BASE.replace(**{field: CHANGES[field]})
        shared = self.agree(unchanged, brought(config, data)[1])
        expected = {
            "epochs": set(PIPELINE) - {"mixture"},
            "use_large_experts": {"baseline", "gate"},
            "use_large_gating_mlp": {"baseline", "artificial", "natural"},
            "use_large_baseline_classifier": {"gate", "artificial", "natural"},
        }
        assert shared - {"mixture"} == expected.get(field, set())

    def test_devices_are_in_no_address_and_change_no_bits(self, data, unchanged):
        assert self.agree(unchanged, brought(BASE, data, devices=[CPU] * 3)[1]) == set(PIPELINE)
