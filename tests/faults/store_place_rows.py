"""Faults of the stage store's place: what is no file, clocks, secrets."""

import contextlib
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

from moe.store.damage import find_damage
from moe.store.eviction import delete, plan_gc
from moe.store.files import Local
from moe.store.listing import read_entries
from moe.store.location import checked
from moe.store.store import Store
from tests.faults.hostile import FILES
from tests.faults.store_scene import CHAIN, PATTERNS, SPEC, age, command, train
from tests.faults.table import Fault
from tests.store_helpers import AT_ONCE, a_spec


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail if the block takes longer."""

    def late(*_: object) -> None:
        raise AssertionError(f"it takes longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def in_place_of(pattern: str, make: Callable[[Path], object], folder: Path) -> None:
    """Something else stands in place of a file."""
    root = folder / "store"
    train(root, 2)
    train(root, 2, a_spec(seed=1))
    path = next((root / CHAIN).glob(pattern))
    path.unlink()
    make(path)
    with within(20):
        code, printed = command(root, "ls")
        assert code == 0
        assert "2 chains" in printed
        train(root, 3)
        code, printed = command(root, "verify")
        assert code in (0, 5)
        assert command(root, "verify")[0] == 0
        age(root)
        assert command(root, "gc", "--max-bytes", "0")[0] in (0, 4)
    left = [path for path in root.rglob("*.safetensors") if path.is_file() and "aside" not in path.parts]
    assert left == [] or not path.with_name("x").exists()


def named_by_verify(pattern: str, make: Callable[[Path], object], folder: Path) -> None:
    """`verify` names what stands in place of a file."""
    root = folder / "store"
    train(root, 2)
    path = next((root / CHAIN).glob(pattern))
    path.unlink()
    make(path)
    with within(20):
        assert find_damage(Local(root), CHAIN).faults.get(path.name)
        code, printed = command(root, "verify")
    assert code == 5
    assert path.name in printed


def clock(days: float, folder: Path) -> None:
    """The clock is set while a study uses the store, and then set right again."""
    root, right = folder / "store", time.time()
    train(root, 2)
    with mock.patch("time.time", return_value=right + days * 86400), Store(str(root), timing=AT_ONCE) as store:
        store.chain(SPEC)
    plan = plan_gc(read_entries(Local(root)), {}, 0, right + 60)
    assert plan.chains == ()


def clock_corrected(folder: Path) -> None:
    """A study begins while the clock is days behind, and the clock is set right."""
    root, right = folder / "store", time.time()
    train(root, 2)
    shutil.rmtree(root)
    with mock.patch("time.time", return_value=right - 3 * 86400):
        store = Store(str(root), timing=replace(AT_ONCE, beat_s=0.02))
        writer = store.open_writer(SPEC)
        store.chain(SPEC)
        while not list(root.glob("*/*/used-*")):
            time.sleep(0.01)
    with store, writer:
        limit = time.monotonic() + 5
        while time.monotonic() < limit and plan_gc(read_entries(Local(root)), {}, 0, right).kept == ():
            time.sleep(0.02)
        assert read_entries(Local(root))[0].used > right - 3600


def clock_behind(alive: bool, folder: Path) -> None:
    """The trainer's machine has a clock that is days behind, and gc runs on another one."""
    root, right = folder / "store", time.time()
    timing, place = replace(AT_ONCE, beat_s=0.02 if alive else 3600), Local(root)
    with mock.patch("time.time", return_value=right - 3 * 86400):
        train(root, 2)
        store = Store(str(root), timing=timing)
        writer = store.open_writer(SPEC)
    with store, writer:
        plan = plan_gc(read_entries(place), {}, 0, right)
        assert [entry.folder for entry in plan.chains] == [CHAIN]
        done = delete(place, plan, pause_s=1)
        assert [entry.folder for entry in (done.used if alive else done.chains)] == [CHAIN]
        assert bool(list(root.glob("*/*/chain-*"))) == alive


# D21: secrets


def refused(location: str, folder: Path) -> None:
    """A location with a secret in it is refused without showing it, and names the environment."""
    try:
        checked(location)
    except ValueError as error:
        sentence = str(error)
    else:
        raise AssertionError("it is accepted")
    assert "hunter2" not in sentence
    assert "environment" in sentence


def accepted(location: str, folder: Path) -> None:
    """The normal form of Azure is not taken for a credential; at most its package is missing."""
    try:
        found = checked(location)
    except ValueError as error:
        found = str(error)
    assert found == location or "it needs another package" in found


NAMED = "it is named; ls, verify, gc and training end"


FAULTS = (
    *(
        Fault("B9", f"{kind} in place of {what}", "moe.store", NAMED, partial(in_place_of, pattern, make))
        for kind, make in FILES.items()
        for what, pattern in PATTERNS.items()
    ),
    *(
        Fault("C14", f"{kind} in place of {what}", "verify", "named, exit 5", partial(named_by_verify, pattern, make))
        for kind, make in FILES.items()
        for what, pattern in (("a manifest", "chain-*.json"), ("predictions", "predictions-*"))
    ),
    *(
        Fault("D19", f"the clock is set by {days} days", "gc", "nothing in use is deleted", partial(clock, days))
        for days in (-400, -2, 2, 400)
    ),
    Fault("D19", "the trainer's clock is days behind", "gc", "nothing in use is deleted", partial(clock_behind, True)),
    Fault("D19", "the clock of a dead trainer was days behind", "gc", "it is deleted", partial(clock_behind, False)),
    Fault("D19", "a clock that was days behind is set right", "gc", "nothing in use is deleted", clock_corrected),
    *(
        Fault("D21", f"a store's URL like {location}", "moe.store", "refused unshown", partial(refused, location))
        for location in (
            "s3://key:hunter2@bucket/a",
            "s3://bucket/a?secret=hunter2",
            "abfs://c@a.dfs.core.windows.net/x?sig=hunter2",
            "abfs://name:hunter2@a/x",
            "simplecache::s3://key:hunter2@bucket",
            "https://host/a?X-Amz-Signature=hunter2",
        )
    ),
    Fault(
        "D21",
        "abfs://container@account",
        "moe.store",
        "accepted",
        partial(accepted, "abfs://c@a.dfs.core.windows.net/x"),
    ),
)
