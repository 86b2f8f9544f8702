"""The log of a job as it grows, over a connection that may break."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import ClientError
from ray.exceptions import RayError

from study.cluster.jobs import ForgottenError, Job, Jobs
from study.machine import ClusterError

SILENCE_S = 60.0  # after which the connection is made anew: a broken one looks like a quiet study
LOST_S = 300.0  # without an answer, after which the cluster is taken for lost
RETRY_S = 2.0


@dataclass
class Reader:
    """Shows a log once, though every connection tells it from the beginning."""

    show: Callable[[str], None]  # takes the next piece, which may end within a line
    shown: int = 0  # characters
    told: int = 0  # characters, by this connection
    heard: float = field(default_factory=time.monotonic)  # when the cluster last said anything
    broken: bool = False  # the connection, and it is not whole again yet

    def take(self, piece: str) -> None:
        """Show what is new of the next piece."""
        new = piece[max(0, self.shown - self.told) :]
        self.told += len(piece)
        self.shown = max(self.shown, self.told)
        if new:
            self.show(new)

    def whole(self) -> None:
        """The cluster answers."""
        self.heard, self.broken = time.monotonic(), False


def follow(jobs: Jobs, identity: str, reader: Reader, note: Callable[[str], None]) -> Job:
    """Show what a job prints until it ends; the ended job.

    Args:
        jobs: of the cluster.
        identity: of the job.
        reader: of its log.
        note: takes a sentence when the connection breaks.

    Raises:
        ClusterError: the cluster has not answered for minutes, or does not know the job.
    """
    reader.whole()
    while True:
        try:
            _listen(jobs, identity, reader)
            job = jobs.look(identity)
            if job.over:
                reader.told = 0
                reader.take(jobs.log(identity))
                return job
            reader.whole()
        except ForgottenError:
            raise
        except (ClusterError, ClientError, OSError, RuntimeError, RayError) as error:
            if time.monotonic() - reader.heard > LOST_S:
                raise ClusterError(f"no answer for {LOST_S / 60:.0f} minutes: {error}") from error
            if not reader.broken:
                note("the connection broke; trying again")
            reader.broken = True
        time.sleep(RETRY_S)


def _listen(jobs: Jobs, identity: str, reader: Reader) -> None:
    """Read over one connection until it ends, however it ends: what it told was heard."""
    try:
        asyncio.run(_tail(jobs, identity, reader))
    finally:
        if reader.told:
            reader.whole()


async def _tail(jobs: Jobs, identity: str, reader: Reader) -> None:
    """Read until the log ends, or for as long as something comes."""
    reader.told = 0
    stream = jobs.tail(identity)
    try:
        with suppress(TimeoutError):
            while (piece := await _next(stream)) is not None:
                reader.take(piece)
    finally:
        await stream.aclose()


async def _next(stream: AsyncGenerator[str, None]) -> str | None:
    """The next piece; None at the end."""
    async with asyncio.timeout(SILENCE_S):  # before Python 3.12 `wait_for` may lose a Ctrl-C to a piece that comes then
        return await anext(stream, None)
