"""Faults of a study's folder: locks, other drivers, file systems."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from unittest import mock

from moe.store.files import Local
from study import lock
from study.folder import Folder
from tests.faults.folder_scene import OUTSIDE, WHERE, a_folder, contents, refused
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
        stack.enter_context(mock.patch.object(lock, "boot_id", return_value=boot))


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


def trials_a_link(state: str, folder: Path) -> None:
    """The folder of records becomes a link in mid-run."""
    driven = a_folder(folder)
    with driven.locked():
        driven.read_records(a_study())
        driven.trials.rename(folder / "outside")
        driven.trials.symlink_to(folder / "outside")
        before = contents(folder / "outside")
        refused(lambda: driven.write_record(a_record(4 if state == "new" else 3, 0.5, replicate=3)), "is a link")
    assert contents(folder / "outside") == before


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


ONE = "one of two drivers is refused, and a dead one's folder is free"
KEPT = "what another driver wrote stays as it is"


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
        Fault(
            "A1",
            f"trials becomes a link before a record that is {state}",
            WHERE,
            OUTSIDE,
            partial(trials_a_link, state),
        )
        for state in ("new", "replaced")
    ),
    *(
        Fault("H31", f"fsync is refused: {errno.errorcode[code]}", WHERE, "the study goes on", partial(no_fsync, code))
        for code in (errno.EINVAL, errno.ENOSYS)
    ),
    Fault("H31", "no hard links", WHERE, "the study goes on, and no record is replaced", no_links),
)
