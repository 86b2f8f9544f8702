"""The searcher, called as Tune calls it."""

from ray.tune.search import Searcher

from moe.config import Config
from study.search.ledger import Ledger
from study.search.searcher import StudySearch
from study.search.stopping import Stop
from tests.study_helpers import a_result, a_study, silent


def result_row(suggestion, gain=0.01):
    """The last row of a trial."""
    return {"result": a_result(gain, Config(**suggestion["config"])).model_dump_json()}


class Driver:
    """Calls the searcher as Tune does, one trial after another."""

    def __init__(self, *records, concurrency=1, stop=None, **study):
        self.saved = []
        self.ledger = Ledger(a_study(**study), records, self.saved.append)
        self.searcher = StudySearch(self.ledger, silent(self.ledger), stop or Stop(), concurrency)
        self.count = 0

    def launch(self):
        self.count += 1
        return f"id{self.count}", self.searcher.suggest(f"id{self.count}")

    def finish(self, trial_id, suggestion, gain=0.01):
        row = result_row(suggestion, gain)
        self.searcher.on_trial_result(trial_id, row)
        self.searcher.on_trial_complete(trial_id, row | {"done": True})

    def run(self, gain=lambda config: 0.01):
        """All trials to the end; the configs, in their order."""
        configs = []
        while True:
            trial_id, suggestion = self.launch()
            if suggestion == Searcher.FINISHED:
                return configs
            configs.append(suggestion["config"])
            self.finish(trial_id, suggestion, gain(suggestion["config"]))

    def points(self, configs):
        return [tuple(self.ledger.study.space.point(Config(**config)).values()) for config in configs]


def epoch_row():
    metrics = {"loss": 2.0, "accuracy": 0.25, "validation_loss": 2.1, "validation_accuracy": 0.2, "seconds": 0.5}
    return {"stage": "gate", "epoch": 1, "epochs": 4, "reused": False, **metrics, "training_iteration": 1}
