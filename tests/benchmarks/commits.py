"""What keeping stages costs: the time of a trial that finds none, and what trials ask of the place where they are kept.

    python -m tests.benchmarks.commits --data DIR [--runs 5] [--epochs 2] [--train-examples 5000]

Alternating runs in one process: a config without a store, with an empty one on the local disk until everything is
written, and again when all its stages are stored. Prints the times, the ratio of the first two, and how many requests
with how many bytes each run sent to the place.
"""

import argparse
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moe import Config, Store, run
from moe.data import DataSet, load
from moe.machine import cpus
from moe.result import Result
from moe.store.location import place_at
from moe.training.numerics import available_devices, best_precision
from tests.benchmarks.report import circumstances, spread

READS, WRITES, LISTINGS, REST = "reads", "writes", "listings", "other requests"
KINDS = {"read": READS, "create": WRITES, "replace": WRITES, "files": LISTINGS, "folders": LISTINGS}


class Counted:
    """A place that counts its requests."""

    def __init__(self, folder: str) -> None:
        self._place = place_at(folder)
        self._one_at_a_time = threading.Lock()
        self.requests: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._place, name)
        if not callable(operation):
            return operation

        def counted(*arguments: Any) -> Any:
            answer = operation(*arguments)
            kind = KINDS.get(name, REST)
            with self._one_at_a_time:  # the store writes from several threads
                self.requests[kind] += 1
                if answer is not False:  # a file that was there already
                    self.bytes[kind] += sum(len(value) for value in (*arguments, answer) if isinstance(value, bytes))
            return answer

        return counted

    def report(self) -> str:
        """All requests since the last report, in words."""
        parts = [f"{self.requests[kind]} {kind}" for kind in (READS, WRITES, LISTINGS, REST)]
        parts += [f"{self.bytes[kind] / 1e6:.2f} MB of {kind}" for kind in (READS, WRITES)]
        self.requests.clear()
        self.bytes.clear()
        return ", ".join(parts)


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with CIFAR-10")
    for name, default in (("runs", 5), ("epochs", 2), ("train-examples", 5000)):
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    options = parser.parse_args()
    here = circumstances()
    data = load("auto", options.data)
    precision = best_precision(available_devices()[0].type)
    config = Config(epochs=options.epochs, train_examples=options.train_examples, precision=precision)
    run(Config(train_examples=100, test_examples=50), data)  # torch's lazy imports
    times = [measured(config, data) for _ in range(options.runs)]
    without, empty, stored = zip(*times, strict=True)
    ratios = [kept / bare for kept, bare in zip(empty, without, strict=True)]
    print(f"without a store        {spread(without)} s")
    print(f"with an empty store    {spread(empty)} s; over without: {spread(ratios)}")
    print(f"all stages stored      {spread(stored)} s")
    print(f"\n{data.source}; {cpus()} CPUs; {config}\n{here}")


def measured(config: Config, data: DataSet) -> tuple[float, float, float]:
    """The seconds of a run without a store, with an empty one, and of one that finds everything."""
    without, _ = _timed(lambda: run(config, data))
    with tempfile.TemporaryDirectory() as folder:
        place = Counted(folder)
        with Store(place) as store:
            empty, first = _timed(lambda: run(config, data, store))
            requests_empty = place.report()
            stored, second = _timed(lambda: run(config, data, store))
            requests_stored = place.report()
    if first.score != second.score:
        raise SystemExit("a stored run found something else")
    print(f"without {without:.2f} s")
    print(f"  with an empty store {empty:.2f} s: {requests_empty}")
    print(f"  all stored {stored:.3f} s: {requests_stored}", flush=True)
    return without, empty, stored


def _timed(work: Callable[[], Result]) -> tuple[float, Result]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


if __name__ == "__main__":
    main()
