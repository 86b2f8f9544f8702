"""The lock of a study's folder: one driver at a time, on one machine or on several that share it.

    the folder itself is locked by flock     the system releases it when the driver dies; nothing to delete by mistake
    .lock                                    who drives, and a count that goes up while he lives

flock may be missing, as on Windows, or be valid on one machine only. A driver that it does not know of is recognised
by `.lock`: while its count goes up, the folder is in use. Before anything is written, `check` finds out whether another
one took over.
"""

import os
import socket
import stat
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

from moe.console import warn
from moe.files import NOFOLLOW, NONBLOCK, read_regular
from moe.machine import boot_id
from moe.schema import Model, decode
from study.files import create_text, write_text

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BEAT_S = 4.0
TELL_S = 1.0  # of such a wait, after which that is said
STALE_S = 20.0  # without a beat after which a driver on another machine counts as dead
_MOST = 4096  # bytes of `.lock`


class FolderError(Exception):
    """A study folder that cannot be used; the sentence says why and what to do."""


class InUseError(FolderError):
    """Another driver holds the folder now."""


class Claim(Model):
    """What `.lock` holds; always as long, so that it can be written in place."""

    token: str
    host: str
    boot: str  # of the machine's kernel, by which machines with one name differ
    beat: str  # how many times it was written, in ten digits

    def text(self) -> str:
        """The content of the file."""
        return self.model_dump_json() + "\n"


class Lock:
    """The lock of a folder, held until `release`.

    Raises:
        FolderError: another driver holds it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / ".lock"
        self._claim = Claim(token=uuid.uuid4().hex, host=socket.gethostname(), boot=boot_id(), beat="0" * 10)
        self._using = threading.Lock()
        self._released = threading.Event()
        self._held = os.open(folder, os.O_RDONLY) if fcntl else None  # meanwhile no other folder gets its number
        self._place = os.stat(folder)
        try:
            self._acquire()
        except BaseException:
            self._close()
            raise
        self._thread = threading.Thread(target=self._keep_beating, name="lock", daemon=True)
        self._thread.start()

    def _close(self) -> None:
        if self._held is not None:
            os.close(self._held)

    def _flock(self) -> bool:
        """Lock the folder itself; whether the system, and the file system, can do that."""
        if self._held is None:
            return False
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._in_use("") from None
        except OSError:
            return False
        return True

    def _acquire(self) -> None:
        locked = self._flock()
        if self._path.is_dir() and not self._path.is_symlink():  # all else can be replaced
            raise FolderError(f"{self._path} is a folder; expected a file that drivers write, or nothing: move it away")
        while not create_text(self._path, self._claim.text()):
            other = self._read()
            # flock is ours: on this machine its driver is dead
            if (locked and other and other.boot and other.boot == self._claim.boot) or self._is_still(other):
                write_text(self._path, self._claim.text())
                return

    def _is_still(self, other: Claim | None) -> bool:
        """Wait until a driver that flock does not know of has had time for a beat; False if it lets go meanwhile."""
        began, told = time.monotonic(), False
        while (waited := time.monotonic() - began) < STALE_S:
            time.sleep(min(0.5, STALE_S / 4))
            if (now := self._read()) != other and now:
                raise self._in_use(f" on {now.host}")
            if not os.path.lexists(self._path):
                return False
            if waited > TELL_S and not told:
                told, host = True, other.host if other else "another machine"
                warn(
                    str(self._path), f"a driver on {host} has left it; {STALE_S:.0f} s will show whether it still runs"
                )
        return True

    def _in_use(self, where: str) -> InUseError:
        return InUseError(f"{self._folder} is in use by another driver{where}; wait for it or stop it")

    def _read(self) -> Claim | None:
        with suppress(OSError, ValueError):
            return decode(Claim, read_regular(self._path, _MOST))
        return None

    def check(self) -> None:
        """Write the next beat.

        Raises:
            FolderError: the folder was moved, or another driver holds it now.
            OSError: it cannot be known.
        """
        with self._using:
            if not os.path.samestat(os.stat(self._folder), self._place):
                raise FolderError(f"{self._folder} was moved or replaced while a study ran in it")
            self._claim = self._claim.replace(beat=f"{int(self._claim.beat) + 1:010d}")
            if not self._beat() and not create_text(self._path, self._claim.text()):
                if (other := self._read()) and other.token != self._claim.token:
                    raise self._in_use(f" on {other.host}, which took it over")
                write_text(self._path, self._claim.text())  # over what is no claim, such as a link

    def _beat(self) -> bool:
        """Write in place what is ours, so that nothing of another driver is ever overwritten; whether it was ours."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | NOFOLLOW | NONBLOCK)
        except OSError:
            return False
        with suppress(ValueError), open(descriptor, "r+b", buffering=0) as file:
            content = file.read(_MOST) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
            if decode(Claim, content).token == self._claim.token:
                file.seek(0)
                file.write(self._claim.text().encode())
                return True
        return False

    def _keep_beating(self) -> None:
        while not self._released.wait(BEAT_S):
            with suppress(OSError, FolderError):  # who writes finds out
                self.check()

    def release(self) -> None:
        """Leave the folder to others."""
        self._released.set()
        self._thread.join()
        with suppress(OSError):
            if (claim := self._read()) and claim.token == self._claim.token:
                self._path.unlink()
        self._close()
