"""A job client without a cluster, for tests of what is done with jobs."""

import os
import shlex
import signal
from types import SimpleNamespace

from study.cluster.client import Jobs

URL = "http://head:8265"
CTRL_C = "Ctrl-C"


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
        log: what the job printed in the end.
        script: what a job has printed at each of the first requests for its log, while it runs; an exception where
            the request fails, and Ctrl-C where the user interrupts it.
        refused: what the next submissions raise.
        check: how a job ends that is no study.
    """

    def __init__(self, *known, log="", script=(), refused=(), check=("SUCCEEDED", 0)):
        self.known, self.log, self.check = list(known), log, check
        self.script, self.refused = list(script), list(refused)
        self.submitted: list[dict] = []
        self.stopped: list[str] = []

    def list_jobs(self):
        return self.known

    def get_job_info(self, identity):
        known = self.known[-1] if identity.startswith("study-") else details(identity, *self.check, study=None)
        if isinstance(known, BaseException):
            raise known
        return SimpleNamespace(**{**vars(known), "status": SimpleNamespace(value="RUNNING")}) if self.script else known

    def get_job_logs(self, identity):
        piece = self.script.pop(0) if self.script else self.log
        if isinstance(piece, Exception):
            raise piece
        if piece == CTRL_C:
            os.kill(os.getpid(), signal.SIGINT)
        return piece

    def submit_job(self, **given):
        self.submitted.append(given)
        if self.refused:
            raise self.refused.pop(0)

    def stop_job(self, identity):
        self.stopped.append(identity)


def jobs(*known, **how):
    """The jobs of a cluster that has these."""
    return Jobs(Client(*known, **how), URL)
