"""What tests of the store share: a training that takes no time, and places that fail when told to."""

import multiprocessing
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import torch

from moe.config import Config
from moe.result import Epoch
from moe.stages import Request, Spec, plan
from moe.store.files import Place, PlaceError, Remote
from moe.store.locks import Timing
from moe.store.manifest import epochs_of
from moe.store.store import Store
from moe.store.tensors import State
from moe.store.writer import ChainWriter
from moe.training.loop import Chain, End, best_epoch
from moe.training.numerics import Numerics

AT_ONCE = Timing(commit_every_s=0, ttl_s=0, rest_s=0, poll_s=0.01)  # commits each epoch, waits for nobody
LOSSES = (5.0, 4.0, 4.5, 4.2, 3.0, 3.5, 3.2, 1.0)  # of pretended epochs: 1, 2, 5 and 8 are the best so far
NUMERICS = Numerics(device="cpu", torch="2.15", instructions="AVX2")


def memory() -> Remote:
    """An empty place in memory, where an operation takes no time; the one before it is forgotten."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    return Remote(f"memory://{uuid.uuid4().hex}")


def a_spec(stage: str = "baseline", **choices: Any) -> Spec:
    """A spec for pretended training."""
    return plan(Config(train_examples=20, batch_size=10, patience=99, **choices), "f" * 64, NUMERICS)[stage].spec


def pretend(request: Request, chain: Chain, *_: object, bits: float = 0.0) -> Iterator[Epoch]:
    """In place of `train`: epochs whose tensors follow from those before them, changed in place as training does.

    Args:
        bits: what another machine would compute otherwise.
    """
    weight = chain.end.network["weight"].clone() if chain.end else torch.zeros(64)
    momentum = chain.end.optimizer["weight/exp_avg"].clone() if chain.end else torch.zeros(64)
    assert chain.finished(request.epochs) or (chain.end is None) == (not chain.epochs)
    while not chain.finished(request.epochs):
        number = len(chain.epochs) + 1
        chain.end = None
        momentum.mul_(0.9).add_(number + bits)
        weight.mul_(0.5).add_(momentum)
        loss, validation = float(weight[0]), LOSSES[number - 1]
        chain.epochs.append(
            Epoch(loss=loss, accuracy=0.5, validation_loss=validation, validation_accuracy=0.5, seconds=0.01)
        )
        if best_epoch(chain.losses) == number:
            chain.weights[number] = {"weight": weight.clone()}
        chain.end = End({"weight": weight}, {"weight/exp_avg": momentum, "weight/step": torch.tensor(float(number))})
        yield chain.epochs[-1]


def straight(spec: Spec, epochs: int, bits: float = 0.0) -> Chain:
    """A pretended chain that no store has seen, with the weights of each epoch that was the best so far."""
    chain = Chain(spec)
    for _ in pretend(Request(spec, epochs), chain, bits=bits):
        pass
    return chain


def open_writer(store: Store, spec: Spec) -> ChainWriter:
    """A writer, as soon as it can be had."""
    while (writer := store.open_writer(spec)) is None:
        pass
    return writer


def advance(store: Store, spec: Spec, epochs: int, bits: float = 0.0) -> Chain:
    """Bring a pretended chain to so many epochs, one operation on the place after the other."""
    with open_writer(store, spec) as writer:
        store.flush()
        for _ in pretend(Request(spec, epochs), writer.chain, bits=bits):
            writer.epoch_done()
            store.flush()
    store.flush()
    return writer.chain


def same(one: State | None, other: State | None) -> bool:
    """Whether two states are equal bit for bit, in the same layout."""
    return (
        one is not None
        and other is not None
        and one.keys() == other.keys()
        and all(torch.equal(value, other[name]) and value.dtype == other[name].dtype for name, value in one.items())
    )


class Ended(BaseException):
    """The process is no more; nothing catches this."""


class Faulty:
    """A place of which one operation goes wrong.

    Args:
        at: which operation, from 1; 0 for none.
        how: "ends": the process does, there and then; "half" or "zeros": it does while it writes, which leaves half
            of the content, or zeros in place of the second half; "once": the operation fails; "from then on": it and
            all that follow fail.
    """

    def __init__(self, place: Place, at: int = 0, how: str = "ends") -> None:
        self.place, self.at, self.how = place, at, how
        self.name = place.name
        self.operations: list[str] = []  # "create a/b" and so on
        self.newest = 0  # the most epochs that a manifest was written for
        self._lock = threading.Lock()

    def _do(self, name: str, path: str, operation: Callable[[], Any], content: bytes | None = None) -> Any:
        with self._lock:
            self.operations.append(f"{name} {path}".strip())
            number = len(self.operations)
        if self.at and number >= self.at:
            if self.how in ("ends", "half", "zeros"):
                if number == self.at and content is not None and self.how != "ends":
                    kept = content[: len(content) // 2]
                    self.place.replace(path, kept if self.how == "half" else kept.ljust(len(content), b"\0"))
                raise Ended
            if number == self.at or self.how == "from then on":
                raise PlaceError(f"{self.name}: told to fail")
        done = operation()
        if name == "create" and done:
            self.newest = max(self.newest, epochs_of(path.rsplit("/", 1)[-1]) or 0)
        return done

    def read(self, path: str) -> bytes | None:
        return self._do("read", path, lambda: self.place.read(path))

    def create(self, path: str, content: bytes) -> bool:
        return self._do("create", path, lambda: self.place.create(path, content), content)

    def replace(self, path: str, content: bytes) -> None:
        return self._do("replace", path, lambda: self.place.replace(path, content), content)

    def files(self, folder: str) -> dict[str, int]:
        return self._do("files", folder, lambda: self.place.files(folder))

    def folders(self, folder: str) -> list[str]:
        return self._do("folders", folder, lambda: self.place.folders(folder))

    def remove(self, path: str) -> None:
        return self._do("remove", path, lambda: self.place.remove(path))

    def move(self, path: str, to: str) -> bool:
        return self._do("move", path, lambda: self.place.move(path, to))

    def irregular(self, folder: str) -> dict[str, str]:
        return self._do("irregular", folder, lambda: self.place.irregular(folder))


def children() -> Any:
    """Processes that start at once, with all that a store needs imported, and share no thread with this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


CPU = torch.device("cpu")
SPEC = a_spec()
SMALL = Config(epochs=2, train_examples=20, test_examples=10, batch_size=10)  # half a second
LONGER = SMALL.replace(epochs=3)


def figures(chain):
    return [(e.loss, e.accuracy, e.validation_loss, e.validation_accuracy) for e in chain.epochs]


def flip(place, path, at=-9):
    """Change one byte of a file."""
    content = bytearray(place.read(path))
    content[at] ^= 1
    place.replace(path, bytes(content))


def check(place, least, most, *, warnings=None):
    """See that a fresh store has the pretended chain right, with some number of epochs."""
    warned = []
    with Store(place, warn=warned.append, timing=AT_ONCE) as store:
        chain = store.chain(SPEC)
        expected = straight(SPEC, len(chain.epochs))
        assert least <= len(chain.epochs) <= most
        assert figures(chain) == figures(expected)
        for epochs in range(1, len(chain.epochs) + 1):
            best = best_epoch(chain.losses[:epochs])
            assert chain.resolve(epochs).epoch == best
            assert same(store.load_weights(chain.resolve(epochs)), expected.weights[best])
    if warnings is not None:
        assert warned == warnings


def check_it_goes_on(place, epochs):
    """See that a fresh store can bring the chain on, and that all of it is then there without a word."""
    with Store(place, warn=[].append, timing=AT_ONCE) as store:
        advance(store, SPEC, epochs)
    check(place, epochs, epochs, warnings=[])
    warned = []
    with Store(place, warn=warned.append, timing=AT_ONCE) as store:
        assert len(store.chain(SPEC).epochs) == epochs
        chain = advance(store, SPEC, epochs + 1)
        assert all(same(*parts) for parts in zip(chain.end, straight(SPEC, epochs + 1).end, strict=True))
    assert warned == []
