"""What a command that can be interrupted does around its work: signals, errors in one sentence, exit codes."""

import errno
from collections.abc import Callable
from pathlib import Path

from moe.console import Exit, fail, warn
from study.folder import FolderError
from study.machine import ClusterError
from study.search.stopping import Stop, signals

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # errors that may come without the name of a file


def guarded(program: str, folder: Path, work: Callable[[Stop], Exit]) -> Exit:
    """Do the work; its exit code, or that of the error that ended it.

    Args:
        folder: named where an error of the disk names no file.
    """
    stop = Stop()
    try:
        with signals(stop):
            return work(stop)
    except (FolderError, ClusterError) as error:
        return fail(program, str(error))
    except OSError as error:
        if not (error.filename or error.errno in _DISK):
            raise
        return fail(program, f"{error.filename or folder}: {error.strerror}")
    except KeyboardInterrupt:
        warn(program, "interrupted; nothing was run")
        return Exit.INTERRUPTED
