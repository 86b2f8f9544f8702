"""Faults of a study's folder: locks, links, edited and damaged records."""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from unittest import mock

import pytest

from moe.store.files import Local
from study import lock
from study.analyze.analysis import examine
from study.analyze.drawing import draw
from study.analyze.tables import write_all
from study.files import seal
from study.folder import Folder, FolderError
from study.study import Run, now
from tests.faults.hostile import FILES
from tests.faults.table import Fault
from tests.study_helpers import a_record, a_study

DRIVER = """
import sys
from pathlib import Path
from study import lock
from study.folder import Folder
lock.BEAT_S = 0.1
with Folder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.readline()
"""


def a_folder(path: Path, records: int = 3) -> Folder:
    """A study with complete trials."""
    folder = Folder(path / "x")
    with folder.locked():
        run = Run(started=now(), command="", commit=None, versions={}, store="none")
        folder.write_study(a_study(name="x"), run)
        for number in range(1, records + 1):
            folder.write_record(a_record(number, 0.01 * number, replicate=number))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All regular files below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def refused(act: Callable[[], object], part: str) -> None:
    """Check that an act raises a FolderError with these words in its sentence."""
    with pytest.raises(FolderError) as refusal:
        act()
    assert part in str(refusal.value)


def enter(folder: Path) -> None:
    """Take a folder as a driver does, and leave it."""
    with Folder(folder).locked():
        pass


def other_driver(folder: Path) -> "subprocess.Popen[str]":
    """Another process that drives the folder until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


# A1: one driver at a time


def no_flock(code: int) -> mock._patch:  # type: ignore[type-arg]
    """A file system whose flock gives this error."""
    return mock.patch.object(fcntl, "flock", side_effect=OSError(code, os.strerror(code)))


def quick(stack: ExitStack, boot: str | None = None) -> None:
    """Short times; and as if this process were on another machine."""
    stack.enter_context(mock.patch.object(lock, "BEAT_S", 0.1))
    stack.enter_context(mock.patch.object(lock, "STALE_S", 1.0))
    if boot:
        stack.enter_context(mock.patch.object(lock, "_boot", return_value=boot))


def second_driver(
    spoil: Callable[[Path], object], flock_error: int | None, boot: str | None, sign: int, folder: Path
) -> None:
    """A second driver comes while the first one runs, after something happened to `.lock`."""
    held = a_folder(folder).path
    with ExitStack() as stack:
        quick(stack, boot)
        if flock_error:
            stack.enter_context(no_flock(flock_error))
        process = stack.enter_context(other_driver(held))
        try:
            spoil(held / ".lock")
            time.sleep(0.3)
            if sign:
                process.send_signal(sign)
            refused(partial(enter, held), "in use by another driver")
        finally:
            process.kill()
    with ExitStack() as stack:
        quick(stack)
        enter(held)  # and when it is dead, the folder is free again


def linked(path: Path) -> None:
    """Put a link to a file outside in place of `.lock`."""
    victim = path.parent.parent / "victim"
    victim.write_text("mine")
    path.unlink()
    path.symlink_to(victim)


def victim_stays(spoil: Callable[[Path], object], folder: Path) -> None:
    """What `.lock` links to stays as it is."""
    held = a_folder(folder).path
    (held / ".lock").write_text("")
    spoil(held / ".lock")
    with ExitStack() as stack:
        quick(stack)
        enter(held)
    assert (folder / "victim").read_text() == "mine"


def taken_over(act: Callable[[Folder], object], folder: Path) -> None:
    """Another driver took the folder, as after a pause on a file system without flock; the first one goes on."""
    first = a_folder(folder)
    before = None
    with ExitStack() as stack:
        quick(stack)
        stack.enter_context(mock.patch.object(lock, "BEAT_S", 60.0))
        stack.enter_context(no_flock(errno.ENOSYS))
        stack.enter_context(first.locked())
        stack.enter_context(Folder(first.path).locked())
        before = contents(first.trials)
        refused(partial(act, first), "took it over")
    assert contents(first.trials) == before


def written_by_another(state: str, folder: Path) -> None:
    """A record of a number that this driver is about to use, or has in hand, was written by another one."""
    mine, other = a_folder(folder), Folder(folder / "x")
    mine.read_records(a_study())
    if state == "new":
        other.write_record(a_record(4))
    else:
        other.read_records(a_study())
        other.write_record(a_record(3, 0.5, replicate=3))
    before = contents(mine.trials)
    refused(lambda: mine.write_record(a_record(4 if state == "new" else 3, replicate=3)), "stays as it is")
    assert contents(mine.trials) == before


def moved(folder: Path) -> None:
    """The folder is moved away while a driver writes to it."""
    driven = a_folder(folder)
    with driven.locked():
        driven.path.rename(folder / "y")
        shutil.copytree(folder / "y", folder / "x")
        refused(lambda: driven.write_record(a_record(9)), "moved")
        shutil.rmtree(folder / "x")
        (folder / "y").rename(folder / "x")


def no_fsync(code: int, folder: Path) -> None:
    """The file system refuses fsync."""
    with mock.patch.object(os, "fsync", side_effect=OSError(code, os.strerror(code))):
        found = a_folder(folder)
        Local(folder / "store").create("a/b", b"x")
        assert Local(folder / "store").read("a/b") == b"x"
    assert len(found.read_records(a_study())) == 3


def no_links(folder: Path) -> None:
    """The file system has no hard links."""
    with mock.patch.object(os, "link", side_effect=OSError(errno.EPERM, "no links")):
        found = a_folder(folder)
        refused(lambda: Folder(found.path).write_record(a_record(3)), "stays as it is")
    assert len(found.read_records(a_study())) == 3


# A2: links out of the folder


def outputs(folder: Folder) -> None:
    """Write everything that is derived from the records."""
    analysis = examine(folder.path)
    with folder.locked():
        write_all(folder, analysis.study, analysis.records)
    draw(analysis)


def linked_output(name: str, is_folder: bool, folder: Path) -> None:
    """An output is a link to something outside."""
    study, outside = a_folder(folder), folder / "outside"
    if is_folder:
        outside.mkdir()
        for file in ("trials.png", "effects.png", "0001.json", "mine"):
            (outside / file).write_text("mine")
        target = study.path / name
        shutil.rmtree(target, ignore_errors=True)
    else:
        outside.write_text("mine")
        target = study.path / name
        target.parent.mkdir(exist_ok=True)
    target.symlink_to(outside)
    before = contents(folder / "outside") if is_folder else outside.read_bytes()
    with suppress(FolderError):
        outputs(study)
    assert (contents(outside) if is_folder else outside.read_bytes()) == before


def hostile_record(kind: str, name: str, folder: Path) -> None:
    """Something that is no regular file is in place of a file of the study."""
    study = a_folder(folder)
    path = study.path / name
    path.unlink()
    FILES[kind](path)
    refused(lambda: examine(study.path), path.name) if path.exists() or path.is_symlink() else None


# A4: what is in the records


def flips(name: str, folder: Path) -> None:
    """Each digit of a file in turn is another one."""
    study = a_folder(folder, records=1)
    path = study.path / name
    content = path.read_bytes()
    places = [found.start() for found in re.finditer(rb"[0-9]", content)]
    for place in places[:: max(1, len(places) // 60)]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        refused(lambda: examine(study.path), f"{path} ")


def edited(change: Callable[[str], str], part: str, folder: Path) -> None:
    """A record was edited by hand."""
    study = a_folder(folder)
    path = study.trials / "0002.json"
    path.write_text(change(path.read_text()))
    refused(lambda: examine(study.path), part)
    refused(lambda: examine(study.path), str(path))


def accepted(name: str, change: Callable[[str], str], folder: Path) -> None:
    """An edit is accepted by the command that the refusal names, and everything else stays as it is."""
    study = a_folder(folder)
    path = study.path / name
    path.write_text(change(path.read_text()))
    others = {file: content for file, content in contents(study.path).items() if file != name}
    refused(lambda: examine(study.path), "python -m study.analyze --accept ")
    assert study.accept_edits() == [path]
    assert len(examine(study.path).records) == 3
    assert {file: content for file, content in contents(study.path).items() if file != name} == others


def impossible(change: Callable[[dict[str, object]], object], folder: Path) -> None:
    """A record whose checksum is right says what cannot be."""
    study = a_folder(folder)
    path = study.trials / "0002.json"
    entries = json.loads(path.read_text())
    del entries["sha256"]
    change(entries)
    path.write_text(seal(entries))
    refused(lambda: examine(study.path), "0002.json is damaged")


def _gain(entries: dict[str, object]) -> None:
    entries["result"]["score"]["gain"] = 0.5  # type: ignore[index]


def _config(entries: dict[str, object]) -> None:
    entries["config"]["epochs"] = entries["result"]["config"]["epochs"] = 3  # type: ignore[index]


ONE = "one of two drivers is refused, and a dead one's folder is free"
KEPT = "what another driver wrote stays as it is"
OUTSIDE = "nothing outside the folder is changed"
NAMED = "refused with the file at fault"
ACCEPT = "refused with the command that accepts an edit"
TWICE = '"state": "failed", "state": "complete"'
HELD = (
    ("nothing happened to .lock", lambda path: None, None, None, 0),
    (".lock is deleted", Path.unlink, None, None, 0),
    (".lock is emptied", lambda path: path.write_text(""), None, None, 0),
    (".lock is a link", linked, None, None, 0),
    ("the first driver is stopped", lambda path: None, None, None, signal.SIGSTOP),
    ("flock is local to a machine", lambda path: None, errno.EBADF, "another", 0),
    ("flock is missing: ENOSYS", lambda path: None, errno.ENOSYS, None, 0),
    ("flock is missing: ENOLCK", lambda path: None, errno.ENOLCK, None, 0),
    ("flock is missing: EOPNOTSUPP", lambda path: None, errno.EOPNOTSUPP, "another", 0),
    ("flock is missing and .lock is deleted", Path.unlink, errno.ENOSYS, "another", 0),
)
WHERE = "study.folder"
FAULTS = (
    *(Fault("A1", what, WHERE, ONE, partial(second_driver, *how)) for what, *how in HELD),
    Fault("A1", "the .lock of before is a link", WHERE, OUTSIDE, partial(victim_stays, linked)),
    Fault(
        "A1",
        "a driver is paused and taken over",
        WHERE,
        KEPT,
        partial(taken_over, lambda x: x.write_record(a_record(9))),
    ),
    Fault(
        "A1",
        "study.json after a take-over",
        WHERE,
        KEPT,
        partial(taken_over, lambda x: x.write_study(a_study(), x.read_runs()[0])),
    ),
    Fault("A1", "a number that another driver used", WHERE, KEPT, partial(written_by_another, "new")),
    Fault("A1", "a record that another driver replaced", WHERE, KEPT, partial(written_by_another, "old")),
    Fault("A1", "the folder is moved in mid-run", WHERE, "nothing is written into another folder", moved),
    *(
        Fault("A2", f"{name} is a link to a folder", WHERE, OUTSIDE, partial(linked_output, name, True))
        for name in ("figures", "trials")
    ),
    *(
        Fault("A2", f"{name} is a link to a file", WHERE, OUTSIDE, partial(linked_output, name, False))
        for name in (
            "trials.csv",
            "best.json",
            "summary.md",
            "study.db",
            "study.db-journal",
            "figures/trials.png",
            "figures",
        )
    ),
    *(
        Fault("A4", f"another digit in {name}", WHERE, NAMED, partial(flips, name))
        for name in ("study.json", "trials/0001.json")
    ),
    Fault(
        "A4",
        "a key twice",
        WHERE,
        NAMED,
        partial(edited, lambda text: text.replace('"state": "complete"', TWICE), "'state' twice"),
    ),
    Fault(
        "A4", "a record without its end", WHERE, NAMED, partial(edited, lambda text: text[: len(text) // 2], "no JSON")
    ),
    Fault(
        "A4",
        "a record without a checksum",
        WHERE,
        ACCEPT,
        partial(edited, lambda text: re.sub(r'  "sha256".*\n', "", text), "--accept"),
    ),
    Fault(
        "A4",
        "a record edited by hand",
        WHERE,
        ACCEPT,
        partial(accepted, "trials/0002.json", lambda text: text.replace('"seconds": 60.0', '"seconds": 61.0')),
    ),
    Fault(
        "A4",
        "a record in another layout",
        WHERE,
        ACCEPT,
        partial(accepted, "trials/0002.json", lambda text: json.dumps(json.loads(text))),
    ),
    Fault(
        "A4",
        "study.json edited by hand",
        WHERE,
        ACCEPT,
        partial(accepted, "study.json", lambda text: text.replace('"trials": 5', '"trials": 6')),
    ),
    Fault("A4", "a gain that is no difference", WHERE, NAMED, partial(impossible, _gain)),
    Fault("A4", "a config off the space", WHERE, NAMED, partial(impossible, _config)),
    *(
        Fault("B9", f"{kind} in place of {name}", WHERE, NAMED, partial(hostile_record, kind, name))
        for kind in FILES
        for name in ("study.json", "trials/0002.json")
    ),
    *(
        Fault("H31", f"fsync is refused: {errno.errorcode[code]}", WHERE, "the study goes on", partial(no_fsync, code))
        for code in (errno.EINVAL, errno.ENOSYS)
    ),
    Fault("H31", "no hard links", WHERE, "the study goes on, and no record is replaced", no_links),
)
