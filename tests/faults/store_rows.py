"""Faults of the stage store: names, links, what is no file, other versions, other users, clocks, secrets."""

import contextlib
import io
import json
import os
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import torch

from moe.stages import Checkpoint
from moe.store.__main__ import main
from moe.store.entries import folder_of
from moe.store.files import Local
from moe.store.location import checked
from moe.store.maintenance import KEEP_S, find_damage, plan_gc, read_entries
from moe.store.manifest import canonical, digest
from moe.store.store import Store
from moe.store.tensors import pack
from tests.faults.hostile import FILES
from tests.faults.table import Fault, SkippedError
from tests.store_helpers import AT_ONCE, a_spec, advance, same, straight

SPEC = a_spec()
CHAIN = folder_of(SPEC)
CHECKPOINT = Checkpoint(SPEC.stage, SPEC.address, 2)
PREDICTED = {"log_probs": torch.arange(20.0).view(2, 10)}
OTHERS = {"log_probs": torch.zeros(2, 10)}


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


def command(root: Path, *words: str) -> tuple[int, str]:
    """The exit code of `python -m moe.store`, and what it printed."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main(["--store", str(root), *words])
    return int(code), output.getvalue()


def train(root: Path, epochs: int, spec=SPEC) -> list[str]:
    """Train a chain and store its second epoch's predictions; the warnings."""
    warned: list[str] = []
    with Store(str(root), warn=warned.append, timing=AT_ONCE) as store:
        chain = advance(store, spec, epochs)
        assert chain.losses == straight(spec, epochs).losses
        if store.load_predictions(replace(CHECKPOINT, address=spec.address), "stop") is None:
            store.save_predictions(replace(CHECKPOINT, address=spec.address), "stop", PREDICTED)
    return warned


def predictions(root: Path, checkpoint: Checkpoint = CHECKPOINT, images: str = "stop") -> tuple[object, list[str]]:
    """What the store has for a checkpoint and images, and the warnings."""
    warned: list[str] = []
    with Store(str(root), warn=warned.append, timing=AT_ONCE) as store:
        return store.load_predictions(checkpoint, images), warned


def age(root: Path) -> None:
    """Make every use an old one."""
    for path in root.glob("*/*/used-*"):
        if path.resolve().is_relative_to(root) and path.is_file():
            path.write_text(str(time.time() - 10 * KEEP_S))


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files below a folder, with what is in them."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# A2: names and links


def planted_manifest(name: str, folder: Path) -> None:
    """A manifest names a file outside of the store."""
    root, victim = folder / "store", folder / f"{'a' * 64}.safetensors"
    victim.write_bytes(b"mine")
    train(root, 2)
    path = next((root / CHAIN).glob("chain-*.json"))
    fields = json.loads(path.read_text())
    del fields["sha256"]
    fields["weights"]["1"]["sha256"] = name.replace("{}", "a" * 64)
    path.write_text(json.dumps({"sha256": digest(canonical(fields)), **fields}))
    shutil.copy(path, path.with_name("chain-0001.json"))
    train(root, 3)
    command(root, "verify")
    age(root)
    command(root, "gc", "--max-bytes", "0")
    assert victim.read_bytes() == b"mine"


def link_out(place: str, folder: Path) -> None:
    """A folder of the store is a link to one outside, which has files with our names."""
    root, outside = folder / "store", folder / "outside"
    train(root, 2)
    inside = root / place.format(chain=CHAIN, stage=SPEC.stage)
    outside.mkdir()
    if inside.exists():
        shutil.copytree(inside, outside, dirs_exist_ok=True)
        shutil.rmtree(inside)
    else:
        inside.parent.mkdir(parents=True, exist_ok=True)
        (outside / "file").write_text("mine")
    for path in outside.rglob("*.safetensors"):
        path.write_bytes(b"mine")
    inside.symlink_to(outside)
    before = snapshot(outside)
    train(root, 3)
    command(root, "ls")
    command(root, "verify")
    age(root)
    command(root, "gc", "--max-bytes", "0")
    assert snapshot(outside) == before


def linked_file(pattern: str, folder: Path) -> None:
    """A file of a chain is a link to one outside."""
    root, victim = folder / "store", folder / "mine"
    train(root, 2)
    victim.write_bytes(b"mine")
    for path in (root / CHAIN).glob(pattern):
        path.unlink()
        path.symlink_to(victim)
    train(root, 3)
    command(root, "verify")
    age(root)
    command(root, "gc", "--max-bytes", "0")
    assert victim.read_bytes() == b"mine"


# A5: predictions


def renamed_predictions(make: Callable[[Path, Path], object], folder: Path) -> None:
    """Predictions are replaced by others, under a name with their own hash."""
    root = folder / "store"
    train(root, 3)
    (path,) = (root / CHAIN).glob("predictions-*")
    make(root, path)
    found, warned = predictions(root)
    assert found is None or same(found, PREDICTED)
    assert warned or found is not None
    again = folder / "again"
    shutil.copytree(root, again)
    assert command(again, "verify")[0] == (5 if not warned and found is None else command(again, "verify")[0])


def own_hash(root: Path, path: Path) -> None:
    path.unlink()
    packed = pack(OTHERS)
    path.with_name(f"predictions-0002-stop-{digest(packed)}.safetensors").write_bytes(packed)


def overwritten(root: Path, path: Path) -> None:
    path.write_bytes(pack(OTHERS))


def of_another_chain(root: Path, path: Path) -> None:
    other = a_spec(seed=1)
    train(root, 3, other)
    path.unlink()
    (theirs,) = (root / folder_of(other)).glob("predictions-*")
    shutil.copy(theirs, path.with_name(theirs.name))


def of_other_images(root: Path, path: Path) -> None:
    with Store(str(root), timing=AT_ONCE) as store:
        store.chain(SPEC)
        store.save_predictions(CHECKPOINT, "train", OTHERS)
    theirs = next((root / CHAIN).glob("predictions-0002-train-*"))
    theirs.replace(path.with_name(theirs.name.replace("-train-", "-stop-")))
    path.unlink()


def of_other_weights(root: Path, path: Path) -> None:
    kept = path.read_bytes()
    shutil.rmtree(path.parent)
    with Store(str(root), timing=AT_ONCE) as store:
        advance(store, SPEC, 3, bits=1.0)
    path.write_bytes(kept)


def verify_names_them(folder: Path) -> None:
    """`verify` finds replaced predictions as well."""
    root = folder / "store"
    train(root, 3)
    own_hash(root, next((root / CHAIN).glob("predictions-*")))
    code, printed = command(root, "verify")
    assert code == 5
    assert "predictions-0002-stop-" in printed


# A6: versions


def later_format(how: str, folder: Path) -> None:
    """A chain of a later version lies in the store."""
    root = folder / "store"
    train(root, 2)
    path = next((root / CHAIN).glob("chain-*.json"))
    fields = {**json.loads(path.read_text()), "format": 99}
    if how == "another name":
        path = path.rename(path.with_name("chain-0002-v99.cbor"))
        path.write_bytes(b"\x00other")
    elif how == "another seal":
        path.write_text(json.dumps({**fields, "sha256": {"blake3": "x"}}))
    else:
        del fields["sha256"]
        path.write_text(json.dumps({"sha256": digest(canonical(fields)), **fields}))
    before = snapshot(root)
    age(root)
    assert command(root, "verify")[0] == 0
    assert command(root, "gc", "--max-bytes", "0")[0] == 0
    assert {name: content for name, content in snapshot(root).items() if "used" not in name} == {
        name: content for name, content in before.items() if "used" not in name
    }


def two_versions(folder: Path) -> None:
    """Another version uses the store at the same time."""
    root = folder / "store"
    train(root, 3)
    with mock.patch("moe.store.manifest.FORMAT", 99):
        later = a_spec()
        assert later.address != SPEC.address
        assert train(root, 3, later) == []
    with Store(str(root), timing=AT_ONCE) as store:
        assert len(store.chain(SPEC).epochs) == 3


# B9 and C14: what is no file

PATTERNS = {
    "a manifest": "chain-*.json",
    "weights": "[0-9a-f]*.safetensors",
    "predictions": "predictions-*",
    "a note of use": "used-*",
    "a lease": "lease-*.json",
    "a beat": "lease-*.beat",
}


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


def unreadable_folder(folder: Path) -> None:
    """The folder of a chain may not be read by this user."""
    root = shared(0o755)
    try:
        train(root, 2)
        train(root, 2, a_spec(seed=1))
        (root / CHAIN).chmod(0)
        as_user(lambda: _goes_on(root))
    finally:
        shutil.rmtree(root)


def _goes_on(root: Path) -> None:
    for words in (("ls",), ("verify",), ("gc", "--max-bytes", "0")):
        code, printed = command(root, *words)
        assert code == 4, (words, code, printed)
        assert "Permission denied" in printed


# D18: users


def shared(mode: int) -> Path:
    """A folder that other users reach, with these permissions."""
    root = Path(tempfile.mkdtemp(prefix="store-", dir="/tmp"))
    root.chmod(mode)
    return root


def as_user(function: Callable[[], object], user: int = 12345, group: int = 0) -> None:
    """Run a function in a process of another user, in the root's group, with the usual umask."""
    if os.getuid() != 0:
        raise SkippedError("only root can become another user")
    if (child := os.fork()) == 0:
        code = 1
        try:
            os.umask(0o022)
            os.setgroups([group])
            os.setgid(54321)
            os.setuid(user)
            function()
            code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def second_user(mode: int, folder: Path) -> None:
    """A second user of a shared store reads the first one's chains, goes on with them and keeps what he trains."""
    root = shared(mode)
    before = os.umask(0o022)
    try:
        train(root, 2)

        def second() -> None:
            with Store(str(root), timing=AT_ONCE) as store:
                assert len(store.chain(SPEC).epochs) == 2
            assert train(root, 4) == []
            assert train(root, 2, a_spec(seed=1)) == []

        as_user(second)
        assert (root / CHAIN / "used-12345").exists()
        assert train(root, 5) == []
        with Store(str(root), timing=AT_ONCE) as store:
            assert [len(store.chain(spec).epochs) for spec in (SPEC, a_spec(seed=1))] == [5, 2]
    finally:
        os.umask(before)
        shutil.rmtree(root)


def permissions(mode: int, folder: Path) -> None:
    """What is made in a store has the permissions of its top folder, whatever the umask."""
    root, before = folder / "store", os.umask(0o077)
    try:
        root.mkdir()
        root.chmod(mode)
        train(root, 2)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o7777 for path in root.rglob("*") if path.is_dir()} == {mode}
    assert {path.stat().st_mode & 0o7777 for path in root.rglob("*") if path.is_file()} == {mode & 0o666}


# D19: clocks


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


OUTSIDE, NAMED = "nothing outside is written or deleted", "it is named; ls, verify, gc and training end"
FAULTS = (
    *(
        Fault("A2", f"a manifest names {name}", "moe.store", OUTSIDE, partial(planted_manifest, name))
        for name in ("../../../{}", "/tmp/{}", "..", "{}\n", "{}/../../{}")
    ),
    *(
        Fault("A2", f"{place} is a link out of the store", "moe.store", OUTSIDE, partial(link_out, place))
        for place in ("{chain}", "{stage}", "aside", "aside/{stage}", "aside/{chain}")
    ),
    *(
        Fault("A2", f"{what} is a link to a file outside", "moe.store", OUTSIDE, partial(linked_file, pattern))
        for what, pattern in PATTERNS.items()
    ),
    *(
        Fault("A5", f"predictions are {what}", "moe.store", "never used", partial(renamed_predictions, make))
        for what, make in (
            ("others, named by their own hash", own_hash),
            ("written over", overwritten),
            ("those of another chain", of_another_chain),
            ("those of other images", of_other_images),
            ("those of other weights", of_other_weights),
        )
    ),
    Fault("A5", "predictions are others, named by their own hash", "verify", "named, exit 5", verify_names_them),
    *(
        Fault("A6", f"a later version's chain with {how}", "verify, gc", "left alone", partial(later_format, how))
        for how in ("the same seal", "another seal", "another name")
    ),
    Fault("A6", "two versions on one store", "moe.store", "each finds its own chains", two_versions),
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
    Fault("C14", "a chain's folder may not be read", "ls, verify, gc", "the rest is done, exit 4", unreadable_folder),
    *(
        Fault("D18", f"a second user of a store of mode {mode:o}", "moe.store", "keeps too", partial(second_user, mode))
        for mode in (0o777, 0o775, 0o2775, 0o1777)
    ),
    *(
        Fault(
            "D18", f"a store of mode {mode:o}", "moe.store", "all in it has its permissions", partial(permissions, mode)
        )
        for mode in (0o700, 0o755, 0o2770, 0o1777)
    ),
    *(
        Fault("D19", f"the clock is set by {days} days", "gc", "nothing in use is deleted", partial(clock, days))
        for days in (-400, -2, 2, 400)
    ),
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
