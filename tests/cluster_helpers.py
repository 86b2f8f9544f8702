"""The server of a cluster without a cluster, for tests of what is done with jobs."""

import json
import os
import re
import shlex
import signal

from study.cluster.client import PYTHON, Jobs
from study.cluster.http import StatusError

URL = "http://head:8265"
CTRL_C = "Ctrl-C"


def details(identity="study-x-1", status="RUNNING", code=None, study="x", words=("--name", "x"), **fields):
    """A job as Ray describes it."""
    return {
        "type": "SUBMISSION",
        "submission_id": identity,
        "status": status,
        "driver_exit_code": code,
        "entrypoint": shlex.join([*PYTHON, "study.run", *words]),
        "message": "",
        "start_time": 1000,
        "runtime_env": {},
        "metadata": {"study": study, "results": "/r"} if study else {},
        **fields,
    }


class Server:
    """In place of the cluster's; it records what is submitted.

    Args:
        known: the jobs of the cluster.
        log: what the job printed in the end.
        script: what a job has printed at each of the first requests for its log, while it runs; an exception where
            the request fails, and Ctrl-C where the user interrupts it.
        refused: what the next submissions raise.
        check: how a job ends that is no study.
    """

    address = URL

    def __init__(self, *known, log="", script=(), refused=(), check=("SUCCEEDED", 0)):
        self.known, self.log, self.check = list(known), log, check
        self.script, self.refused = list(script), list(refused)
        self.submitted: list[dict] = []
        self.stopped: list[str] = []

    def send(self, method, path, content=None):
        """The answer to a request."""
        if path.startswith("/api/packages/"):
            return b""
        identity, action = re.fullmatch("/api/jobs/([^/]*)/?(.*)", path).groups()
        if not identity:
            return json.dumps(self.known).encode() if method == "GET" else self._submit(json.loads(content))
        if action == "stop":
            self.stopped.append(identity)
            return b"{}"
        return json.dumps({"logs": self._log()} if action == "logs" else self._info(identity)).encode()

    def _info(self, identity):
        known = self.known[-1] if identity.startswith("study-") else details(identity, *self.check, study=None)
        if isinstance(known, BaseException):
            raise known
        return {**known, "status": "RUNNING"} if self.script else known

    def _log(self):
        piece = self.script.pop(0) if self.script else self.log
        if isinstance(piece, Exception):
            raise piece
        if piece == CTRL_C:
            os.kill(os.getpid(), signal.SIGINT)
        return piece

    def _submit(self, given):
        self.submitted.append(given)
        if self.refused:
            raise self.refused.pop(0)
        return b"{}"


def status_error(code, text):
    """What a request raises that a cluster answers with an error."""
    return StatusError(f"{URL}: status code {code}: {text.strip().splitlines()[-1].strip()}", code, text)


def jobs(*known, **how):
    """The jobs of a cluster that has these."""
    return Jobs(Server(*known, **how))
