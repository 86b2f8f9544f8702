"""A job client without a cluster, for tests of what is done with jobs."""

import asyncio
import os
import shlex
import signal
from types import SimpleNamespace

from study.cluster.client import Jobs

URL = "http://head:8265"


def details(identity="study-x-1", status="RUNNING", code=None, study="x", words=("--name", "x"), **fields):
    """A job as Ray describes it."""
    metadata = {"study": study, "results": "/r"} if study else {}
    common = {"message": "", "start_time": 1000, "runtime_env": {}, "metadata": metadata}
    return SimpleNamespace(
        submission_id=identity,
        status=SimpleNamespace(value=status),
        driver_exit_code=code,
        entrypoint=f"exec {shlex.join(['python', '-m', 'study.run', *words])}",
        **{**common, **fields},
    )


class Client:
    """In place of Ray's; it records what is submitted.

    Args:
        known: the jobs of the cluster.
        log: what the job printed; an exception where it cannot be read.
        script: what each connection to a log sends, an exception where it breaks.
        refused: what the next submissions raise.
        check: how a job ends that is no study.
    """

    def __init__(self, *known, log="", script=(), refused=(), check=("SUCCEEDED", 0)):
        self.known, self.log, self.script, self.refused, self.check = (
            list(known),
            log,
            list(script),
            list(refused),
            check,
        )
        self.submitted: list[dict] = []
        self.stopped: list[str] = []

    def list_jobs(self):
        return self.known

    def get_job_info(self, identity):
        if not identity.startswith("study-"):
            return details(identity, *self.check, study=None)
        if isinstance(self.known[-1], BaseException):
            raise self.known[-1]
        return self.known[-1]

    def get_job_logs(self, identity):
        return self.log

    def submit_job(self, **given):
        self.submitted.append(given)
        if self.refused:
            raise self.refused.pop(0)

    def stop_job(self, identity):
        self.stopped.append(identity)

    async def tail_job_logs(self, identity):
        for piece in self.script.pop(0) if self.script else ():
            if isinstance(piece, Exception):
                raise piece
            if piece == "Ctrl-C":
                os.kill(os.getpid(), signal.SIGINT)
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            else:
                yield piece


def jobs(*known, **how):
    """The jobs of a cluster that has these."""
    return Jobs(Client(*known, **how), URL)
