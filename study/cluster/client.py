"""Ray's job client: the connection to a cluster, and those of its jobs that are studies."""

import logging
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp  # noqa: F401  # part of ray[default]; Ray itself notices only later that it is missing
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobSubmissionClient

from moe.console import Exit, warn
from study.machine import ClusterError
from study.options import NAME, RESUME_COMMAND

STOP_S = 60  # for a study to save and end, before it is killed
TIMEOUT_S = (10.0, 120.0)  # to connect, and between two packets

#: how Ray stops a study, and how it prints
ENV = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S), "PYTHONUNBUFFERED": "1"}
Texts = dict[str, str]


class MissingJobError(ClusterError):
    """The cluster does not have this job: it was restarted since."""


class TakenError(ClusterError):
    """Another job has this id."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a study on the cluster."""

    id: str
    study: str
    results: str  # the results folder on the cluster
    entrypoint: str  # python -m study.run and its options
    env: Texts  # given with --env
    status: str  # as Ray has it: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED
    started: float  # seconds since 1970
    exit_code: int | None  # negative: the signal that killed it
    message: str  # Ray's, about the status, in a line

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")

    @property
    def code(self) -> int:
        """The exit code of its study; Ray has none of a job that was stopped."""
        if self.status == "SUCCEEDED":
            return Exit.DONE
        if self.status == "STOPPED" or (self.exit_code or 0) < 0:
            return Exit.INTERRUPTED
        return Exit.ENVIRONMENT if self.exit_code is None else self.exit_code


@dataclass(frozen=True)
class Jobs:
    """The jobs of a cluster. Every method raises a `ClusterError` where the cluster fails or does not answer."""

    client: JobSubmissionClient
    address: str

    def studies(self) -> list[Job]:
        """The jobs that are studies, the newest last."""
        with errors(self.address):
            found = [_job(details) for details in self.client.list_jobs() if _is_study(details)]
        return sorted(found, key=lambda job: job.started)

    def find(self, job_id: str) -> Job:
        """One job as it is now; raises a `MissingJobError` if there is none."""
        with errors(self.address):
            return _job(self.client.get_job_info(job_id))

    def log(self, job_id: str) -> str:
        """All that a job has printed."""
        with errors(self.address):
            return str(self.client.get_job_logs(job_id))

    def stop(self, job_id: str) -> None:
        """Send a job its stop signal."""
        with errors(self.address):
            self.client.stop_job(job_id)

    def submit(self, job_id: str, command: list[str], package: Path, env: Texts, metadata: Texts | None = None) -> None:
        """Run `python -m` with this command in a copy of a folder; raises a `TakenError` if the id is taken."""
        with errors(self.address):
            self.client.submit_job(
                entrypoint=f"exec {shlex.join(['python', '-m', *command])}",  # exec, so that signals reach Python
                submission_id=job_id,
                runtime_env={"working_dir": str(package), "env_vars": {**env, **ENV}},
                metadata=metadata,
            )


class Client(JobSubmissionClient):  # type: ignore[misc]  # Ray has no types
    """With a timeout, and without redirects and ~/.netrc, which would send or replace the token."""

    def _do_request(self, *arguments: Any, **options: Any) -> Any:  # private: Ray offers no other way to set these
        ours = {"timeout": TIMEOUT_S, "auth": lambda request: request, "allow_redirects": False}
        return super()._do_request(*arguments, **ours, **options)


def connect(address: str, without_authentication: bool) -> Jobs:
    """The jobs of a cluster, after a first request without a token and, if the cluster wants one, another with it.

    Raises:
        ClusterError: the cluster does not answer, refuses the token, or accepts everybody, which is not asked for.
    """
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):  # Ray prefers them to the address
        os.environ.pop(name, None)
    os.environ["RAY_AUTH_MODE"] = "disabled"  # the token is our header, and only where it is asked for
    for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
        logging.getLogger(f"ray.{name}").setLevel(logging.ERROR)  # they log how the files are sent
    if loopback := bool(re.match(r"(localhost|::1|127\..*)$", urlsplit(address).hostname or "")):
        os.environ["no_proxy"] = "*"  # the end of a tunnel is not for a proxy
    with errors(f"{address} does not answer as the dashboard of a Ray cluster"):
        try:
            client = Client(address)
        except AuthenticationError:
            where, token = find_token()
            if address.startswith("http:") and not loopback:
                warn(address, "over http the token can be read on the way; better use https or a tunnel")
            try:
                return Jobs(Client(address, headers={"Authorization": f"Bearer {token}"}), address)
            except AuthenticationError:
                raise ClusterError(f"{address} does not accept the token in {where}") from None
    if not without_authentication:
        advice = "start the cluster with RAY_AUTH_MODE=token, or give --without-authentication"
        raise ClusterError(f"{address} asks for no token, so everybody who reaches it can run code there; {advice}")
    return Jobs(client, address)


def find_token() -> tuple[str, str]:
    """Where Ray finds the token, and the token; raises a `ClusterError` if there is none, or it cannot be one."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    where, token = "RAY_AUTH_TOKEN", os.environ.get("RAY_AUTH_TOKEN", "").strip()
    if not token and path.is_file():
        where, token = str(path), path.read_text("utf-8", errors="replace").strip()
    if not re.fullmatch(r"[!-~]+", token):  # an error about the header would show it
        raise ClusterError(f"{where} has no token; expected letters and digits in one line, there or in {path}")
    return where, token


@contextmanager
def errors(place: str) -> Iterator[None]:
    """Raise what Ray, HTTP and the decoding of an answer raise as a `ClusterError` that begins with the place."""
    try:
        yield
    except (RuntimeError, OSError, ValueError, TypeError, KeyError, RayError) as error:
        text = str(error)
        missing, taken = "status code 404" in text, "already exists" in text
        kind = MissingJobError if missing else TakenError if taken else ClusterError
        raise kind(f"{place}: {_one_line(text)}") from error


def _one_line(text: str) -> str:
    """An error in a line; of a traceback, which the dashboard may send, the error at its end."""
    named = re.findall(r"^\s*[\w.]+Error: .*", text, re.MULTILINE)
    return " ".join((named or [text])[-1].split())[:300]


def _is_study(details: Any) -> bool:
    """Whether a job is one that we submitted as a study; its id becomes part of a URL, its name a folder."""
    metadata = details.metadata or {}
    study = metadata.get("study", "")
    ours = re.fullmatch(rf"study-{re.escape(study)}-\d+", details.submission_id or "")
    return bool(ours and NAME.fullmatch(study) and metadata.get("results", "").startswith("/"))


def _job(details: Any) -> Job:
    metadata = details.metadata or {}
    env = (details.runtime_env or {}).get("env_vars") or {}
    return Job(
        id=details.submission_id,
        study=metadata.get("study", ""),
        results=metadata.get("results", ""),
        entrypoint=details.entrypoint,
        env={name: value for name, value in env.items() if name not in (*ENV, RESUME_COMMAND)},
        status=str(details.status.value),
        started=(details.start_time or 0) / 1000,
        exit_code=details.driver_exit_code,
        message=_one_line(details.message or ""),
    )
