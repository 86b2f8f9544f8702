"""Faults of a stage store that other users share: folders that may not be read, permissions."""

import os
import shutil
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from moe.store.store import Store
from tests.faults.store_scene import CHAIN, SPEC, age, command, train
from tests.faults.table import Fault, SkippedError
from tests.store_helpers import AT_ONCE, a_spec


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


def unreadable_stage(name: str, codes: tuple[int, int, int], folder: Path) -> None:
    """A folder at the top, such as lost+found, may not be read by this user; what else there is can be."""
    root = shared(0o777)
    before = os.umask(0o022)

    def others() -> None:
        printed = [command(root, *words) for words in (("ls",), ("verify",), ("gc", "--max-bytes", "0"))]
        assert tuple(code for code, _ in printed) == codes, printed
        assert all((f"Permission denied: {root / name}" in text) == (code == 4) for code, text in printed), printed
        assert "1 chain, 2 epochs" in printed[0][1]
        assert "none damaged" in printed[1][1]
        assert "Freed " in printed[2][1]
        assert "1 chain (" in printed[2][1]

    try:
        train(root, 2)
        age(root)
        (root / name).mkdir(parents=True)
        (root / name).chmod(0)
        as_user(others)
        assert not list(root.glob("baseline/*/*"))
    finally:
        os.umask(before)
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


FAULTS = (
    *(
        Fault(
            "C14",
            f"{name} may not be read",
            "ls, verify, gc",
            "the rest is done",
            partial(unreadable_stage, name, codes),
        )
        for name, codes in (
            ("lost+found", (4, 4, 4)),
            ("gate", (4, 4, 4)),
            ("aside", (0, 0, 4)),
            ("aside/gate", (0, 0, 4)),
            (f"aside/gate/{'a' * 32}", (0, 0, 4)),
        )
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
)
