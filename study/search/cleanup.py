"""A program beside a driver with a Ray of its own: ends what is left of it, and deletes its folder.

    python -IS cleanup.py FOLDER        stdin is a pipe whose other end only the driver holds

So however the driver ends, killed say, its Ray is gone a moment later. Nothing but the standard library is imported.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

TRIES = 20


def main(folder: str) -> None:
    """Wait for the driver's end, then clean up."""
    sys.stdin.buffer.read()
    for _ in range(TRIES):
        for process in using(folder):
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            break
        time.sleep(0.2)


def using(folder: str) -> Iterator[int]:
    """The processes that have a file open in a folder, except the driver, which may live on."""
    present = os.listdir("/proc") if os.path.isdir("/proc") else []  # macOS and Windows have none
    for name in {*filter(str.isdecimal, present)} - {str(os.getppid())}:
        with suppress(OSError):  # it has ended, or is another user's
            for descriptor in os.listdir(f"/proc/{name}/fd"):
                if os.readlink(f"/proc/{name}/fd/{descriptor}").startswith(f"{folder}/"):
                    yield int(name)
                    break


if __name__ == "__main__":
    main(sys.argv[1])
