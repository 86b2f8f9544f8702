"""The log of a job as it grows, over a connection that may break."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from study.cluster.client import Job, Jobs, MissingJobError
from study.machine import ClusterError

POLL_S = 1.0  # between two requests, and longer where an answer takes long
SLOWEST_S = 30.0
LOST_S = 300.0  # without an answer, after which the cluster is lost


@dataclass
class Follower:
    """Prints the log of one job once, though every answer has it from the beginning."""

    jobs: Jobs
    job_id: str
    show: Callable[[str], None]  # takes the next piece, which may end within a line
    log: str = ""  # what the job had printed by the last answer
    answered: float = field(default_factory=time.monotonic)  # when the cluster last answered
    broken: bool = False  # whether the last request failed

    def follow(self) -> Job:
        """Print what the job prints until it ends; the ended job. Raises a `ClusterError` if the cluster loses it."""
        while True:
            began = time.monotonic()
            try:
                job = self.jobs.find(self.job_id)  # before the log, which is whole if the job is over
                log = self.jobs.log(self.job_id)
            except MissingJobError:
                raise
            except ClusterError as error:
                if time.monotonic() - self.answered > LOST_S:
                    raise ClusterError(f"no answer for {LOST_S / 60:.0f} minutes: {error}") from error
                if not self.broken:
                    self.show("[the connection broke; trying again]\n")
                self.broken = True
            else:
                self.answered, self.broken = time.monotonic(), False
                if new := log[len(self.log) :]:
                    self.log = log
                    self.show(new)
                if job.over:
                    return job
            time.sleep(min(SLOWEST_S, max(POLL_S, 10 * (time.monotonic() - began))))
