"""The log of a job as it grows, over a connection that may break."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import ClientError
from ray.exceptions import RayError

from study.cluster.client import Job, Jobs, MissingJobError
from study.machine import ClusterError

SILENCE_S = 60.0  # after which the connection is made anew: a broken one looks like a quiet study
LOST_S = 300.0  # without an answer, after which the cluster is lost
RETRY_S = 2.0


@dataclass
class Follower:
    """Prints the log of one job once, though every connection sends it from the beginning."""

    jobs: Jobs
    job_id: str
    show: Callable[[str], None]  # takes the next piece, which may end within a line
    printed: int = 0  # characters of the log that are not to be printed again
    answered: float = field(default_factory=time.monotonic)  # when the cluster last sent something
    broken: bool = False  # whether the last attempt to connect failed
    _received: int = 0  # characters, by this connection

    def follow(self) -> Job:
        """Print what the job prints until it ends; the ended job.

        Raises:
            ClusterError: the cluster has not answered for minutes, or does not have the job.
        """
        while True:
            try:
                asyncio.run(self._listen())
                job = self.jobs.find(self.job_id)
                if job.over:
                    self._received = 0
                    self._take(self.jobs.log(self.job_id))
                    return job
                self._mark_answered()
            except MissingJobError:
                raise
            except (ClusterError, ClientError, OSError, RuntimeError, RayError) as error:
                self._mark_broken(error)
            time.sleep(RETRY_S)

    async def _listen(self) -> None:
        """Read over one connection until the log ends, or for as long as something comes."""
        self._received = 0
        stream = self.jobs.client.tail_job_logs(self.job_id)
        try:
            with suppress(TimeoutError):
                while True:
                    # before Python 3.12 `wait_for` may lose a Ctrl-C to a piece that comes at the same time
                    async with asyncio.timeout(SILENCE_S):
                        piece = await anext(stream, None)
                    if piece is None:
                        return
                    self._take(piece)
        finally:
            await stream.aclose()

    def _take(self, piece: str) -> None:
        self._mark_answered()
        new = piece[max(0, self.printed - self._received) :]
        self._received += len(piece)
        self.printed = max(self.printed, self._received)
        if new:
            self.show(new)

    def _mark_answered(self) -> None:
        self.answered, self.broken = time.monotonic(), False

    def _mark_broken(self, error: Exception) -> None:
        if time.monotonic() - self.answered > LOST_S:
            raise ClusterError(f"no answer for {LOST_S / 60:.0f} minutes: {error}") from error
        if not self.broken:
            self.show("[the connection broke; trying again]\n")
        self.broken = True
