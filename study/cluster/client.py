"""The jobs of a Ray cluster, by the HTTP interface of its dashboard (Ray's documentation: "Ray Jobs REST API").

GET /api/version           POST /api/jobs/           GET /api/jobs/ID/logs
GET /api/jobs/             GET /api/jobs/ID          POST /api/jobs/ID/stop
GET and PUT /api/packages/gcs/NAME.zip, as Ray's own client sends the files of a job
"""

import hashlib
import json
import os
import re
import shlex
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from moe.console import Exit, warn
from moe.files import expanded, read_regular
from moe.schema import Model, decode
from study.cluster.http import PORT_ADVICE, Server, StatusError, gateway_headers, one_line
from study.cluster.request import Request
from study.machine import ClusterError
from study.options import NAME, RESUME_COMMAND

MOST_TOKEN = 1 << 16  # bytes of its file
MOST_MS = 253_402_300_799_000  # the end of the year 9999
STOP_S = 60  # for a study to save and end, before it is killed

#: how Ray stops a study, and how it prints
ENV = {
    "RAY_JOB_STOP_SIGNAL": "SIGINT",
    "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S),
    "PYTHONUNBUFFERED": "1",
    "MALLOC_ARENA_MAX": "1",  # in workers, or each of their threads keeps freed memory of its own
}
#: begins the entry point of a job: Python, in the form of the cluster's workers; exec, so that signals reach it
PYTHON = ("exec", "sh", "study/cluster/python.sh", "-m")
Texts = dict[str, str]


class MissingJobError(ClusterError):
    """The cluster does not have this job: it was restarted since."""


class TakenError(ClusterError):
    """Another job has this id."""


class Answer(Model):
    """What the dashboard sends, as far as it is read here."""

    model_config = ConfigDict(extra="ignore")


class Version(Answer):
    """Of Ray on the cluster."""

    ray_version: str


class RuntimeEnv(Answer):
    """What a job runs in."""

    env_vars: Annotated[Texts, Field(default_factory=dict)]


class Job(Answer):
    """One run of a study on the cluster, as the dashboard describes it."""

    id: Annotated[str, Field(alias="submission_id"), BeforeValidator(lambda text: "" if text is None else text)] = ""
    status: Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "STOPPED"]
    entrypoint: str = ""  # python -m study.run and its options
    start_time: Annotated[int, Ge(0), Le(MOST_MS)] | None = None  # milliseconds since 1970
    driver_exit_code: Annotated[int, Ge(-255), Le(255)] | None = None  # negative: the signal that killed it
    message: Annotated[str | None, AfterValidator(lambda text: one_line(text or ""))] = ""  # about the status
    metadata: Texts | None = None
    runtime_env: RuntimeEnv | None = None

    @property
    def study(self) -> str:
        """Its name; empty where the job is another program's."""
        return (self.metadata or {}).get("study", "")

    @property
    def results(self) -> str:
        """The results folder on the cluster."""
        return (self.metadata or {}).get("results", "")

    @property
    def env(self) -> Texts:
        """What was given with --env."""
        env = self.runtime_env.env_vars if self.runtime_env else {}
        return {name: value for name, value in env.items() if name not in (*ENV, RESUME_COMMAND)}

    @property
    def started(self) -> float:
        """Seconds since 1970."""
        return (self.start_time or 0) / 1000

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")

    @property
    def code(self) -> int:
        """The exit code of its study; Ray has none of a job that was stopped."""
        if self.status == "SUCCEEDED":
            return Exit.DONE
        if self.status == "STOPPED" or (self.driver_exit_code or 0) < 0:
            return Exit.INTERRUPTED
        return Exit.ENVIRONMENT if self.driver_exit_code is None else self.driver_exit_code


class JobList(Answer):
    """The jobs of a cluster."""

    jobs: tuple[Job, ...]


class Log(Answer):
    """What a job has printed."""

    logs: str


Answered = TypeVar("Answered", bound=Answer)


@dataclass(frozen=True)
class Jobs:
    """The jobs of a cluster. Every method raises a `ClusterError` where the cluster fails or does not answer."""

    server: Server

    def check(self) -> None:
        """Check that this is the dashboard of a Ray cluster, which accepts these requests."""
        self._get(Version, "/api/version")

    def studies(self) -> list[Job]:
        """The jobs that are studies, the newest last."""
        listed = self._get(JobList, "/api/jobs/", b'{"jobs": %b}')  # the answer is a list, and a model has fields
        return sorted(filter(_is_study, listed.jobs), key=lambda job: job.started)

    def find(self, job_id: str) -> Job:
        """One job as it is now; raises a `MissingJobError` if there is none."""
        return self._get(Job, f"/api/jobs/{job_id}")

    def log(self, job_id: str) -> str:
        """All that a job has printed."""
        return self._get(Log, f"/api/jobs/{job_id}/logs").logs

    def stop(self, job_id: str) -> None:
        """Send a job its stop signal."""
        self._send("POST", f"/api/jobs/{job_id}/stop")

    def submit(self, job_id: str, command: list[str], files: bytes, env: Texts, metadata: Texts | None = None) -> None:
        """Run `python -m` with this command in the folder of an archive; raises a `TakenError` if the id is taken."""
        job = {
            "submission_id": job_id,
            "entrypoint": " ".join((*PYTHON, shlex.join(command))),
            "runtime_env": {"working_dir": self._upload(files), "env_vars": {**env, **ENV}},
            "metadata": metadata or {},
        }
        self._send("POST", "/api/jobs/", json.dumps(job).encode())

    def _upload(self, files: bytes) -> str:
        """Send the files of a job, unless the cluster has them; their URI there."""
        name = f"_ray_pkg_{hashlib.sha256(files).hexdigest()[:32]}.zip"
        path = f"/api/packages/gcs/{name}"
        try:
            self._send("GET", path)
        except MissingJobError:
            self._send("PUT", path, files)
        return f"gcs://{name}"

    def _get(self, model: type[Answered], path: str, form: bytes = b"%b") -> Answered:
        try:
            return decode(model, form % self._send("GET", path))
        except ValueError as error:
            what = f"does not answer {path} as Ray does ({one_line(str(error))})"
            raise ClusterError(f"{self.server.address} {what}; {PORT_ADVICE}") from None

    def _send(self, method: str, path: str, content: bytes | None = None) -> bytes:
        try:
            return self.server.send(method, path, content)
        except StatusError as error:
            if error.code == 404:
                raise MissingJobError(str(error)) from None
            raise (TakenError(str(error)) if "already exists" in error.text else error) from None


def connect(request: Request) -> Jobs:
    """The jobs of a cluster, after a first request without a token and, if the cluster wants one, another with it.

    Raises:
        ClusterError: the cluster does not answer, refuses the token, or accepts everybody, which is not asked for.
    """
    gateway = gateway_headers()
    address, authority = request.address, request.ca
    if not _wants_more(bare := Jobs(Server(address, {}, authority)), anything=bool(gateway)):
        if not request.without_authentication:
            advice = "start the cluster with RAY_AUTH_MODE=token, or give --without-authentication"
            raise ClusterError(f"{address} asks for no token, so everybody who reaches it can run code; {advice}")
        return bare
    if who := bare.server.readable_by:
        warn(address, f"over http {who} can read the token; better use https or a tunnel")
    if gateway and not _wants_more(jobs := Jobs(Server(address, gateway, authority))):
        return jobs
    where, token = find_token()
    taken = any(name.lower() == "authorization" for name in gateway)  # by the gateway; Ray reads another one too
    name = "X-Ray-Authorization" if taken else "Authorization"
    jobs = Jobs(Server(address, {**gateway, name: f"Bearer {token}"}, authority))
    if _wants_more(jobs):
        raise ClusterError(f"{address} does not accept the token in {where}")
    return jobs


def _wants_more(jobs: Jobs, anything: bool = False) -> bool:
    """Whether a cluster refuses requests for what they lack; `anything` else than an answer of Ray is a refusal too."""
    try:
        jobs.check()
    except ClusterError as error:
        if (isinstance(error, StatusError) and error.code in (401, 403)) or anything:
            return True
        raise
    return False


def find_token() -> tuple[str, str]:
    """Where Ray finds the token, and the token; raises a `ClusterError` if there is none, or it cannot be one."""
    path = expanded(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token")
    where, token = "RAY_AUTH_TOKEN", os.environ.get("RAY_AUTH_TOKEN", "").strip()
    if not token and path.exists():
        try:
            where, token = str(path), read_regular(path, MOST_TOKEN).decode(errors="replace").strip()
        except OSError as error:
            raise ClusterError(f"{path} has no token: {error.strerror}") from None
    if not re.fullmatch(r"[!-~]+", token):  # an error about the header would show it
        raise ClusterError(f"{where} has no token; expected letters and digits in one line, there or in {path}")
    return where, token


def _is_study(job: Job) -> bool:
    """Whether a job is one that we submitted as a study; its id becomes part of a URL, its name a folder."""
    ours = re.fullmatch(rf"study-{re.escape(job.study)}-\d+", job.id, re.ASCII)
    place = re.match("/|(?!file:)[a-z0-9]+://", job.results) and job.results.isprintable()
    return bool(ours and NAME.fullmatch(job.study) and place)
