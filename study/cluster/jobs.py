"""Ray's jobs: a study is one, and so is every question to the cluster.

A study's jobs are study-<name>-1, -2, ...; what they are stands in their metadata.
"""

import json
import logging
import os
import re
import shlex
import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.cluster.contact import find_token
from study.cluster.options import words
from study.cluster.wire import heard
from study.machine import ClusterError
from study.options import NAME, Options
from study.run import DONE, ENVIRONMENT, INTERRUPTED, RESUME_COMMAND

RUNNING, SUCCEEDED, FAILED, STOPPED = "running", "succeeded", "failed", "stopped"

ANSWER_S = 150.0  # for a question as a whole
LOOK_S = 0.5  # between two looks whether it has ended
WITHDRAW_S = 15  # for a question to take back what it wrote, before it is killed
OLD_S = 600.0  # after its end, when nobody waits for a question's answer any more
STOP_S = 60  # for a study to save and end, before it is killed
REQUEST_S = (10.0, 120.0)  # to connect, and between two packets

_QUESTION = "question-"

#: how Ray is to stop a study
ENV = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S), "PYTHONUNBUFFERED": "1"}


class ForgottenError(ClusterError):
    """A job that the cluster does not know: it was started anew since."""


class TakenError(ClusterError):
    """Another job has this id."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a study on the cluster."""

    id: str
    study: str
    state: str  # running, succeeded, failed or stopped
    results: str  # the folder of its folder, there
    options: str  # of study.run, as JSON; another version of this program may have written them
    env: dict[str, str]  # that was given for it
    started: float  # seconds since 1970
    exit_code: int | None  # negative: the signal that killed it
    message: str  # of Ray, on the state

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state != RUNNING

    @property
    def code(self) -> int:
        """The exit code of its study; a stop leaves none behind, and a study that was killed can go on as well."""
        if self.state == SUCCEEDED:
            return DONE
        if self.state == STOPPED or (self.exit_code or 0) < 0:
            return INTERRUPTED
        return ENVIRONMENT if self.exit_code is None else self.exit_code


@dataclass(frozen=True)
class Jobs:
    """A cluster's jobs. Whatever goes wrong on the way to it is a `ClusterError`."""

    client: Any  # a ray.job_submission.JobSubmissionClient
    address: str

    def studies(self) -> list[Job]:
        """The jobs that are studies, the newest last."""
        return self.listed()[0]

    def listed(self) -> tuple[list[Job], int]:
        """The jobs that are studies, the newest last, and how many call themselves so that cannot be read."""
        with answering(self.address):
            called = [details for details in self.client.list_jobs() if (details.metadata or {}).get("study")]
        found = [_job(details) for details in called if _is_readable(details.metadata)]
        return sorted(found, key=lambda job: job.started), len(called) - len(found)

    def ids(self) -> set[str]:
        """Of all jobs, whoever submitted them."""
        with answering(self.address):
            return {details.submission_id for details in self.client.list_jobs()}

    def look(self, identity: str) -> Job:
        """One job as it is now; a `ForgottenError` where there is none."""
        with answering(self.address):
            return _job(self.client.get_job_info(identity))

    def log(self, identity: str) -> str:
        """All that a job has printed."""
        with answering(self.address):
            return str(self.client.get_job_logs(identity))

    def tail(self, identity: str) -> AsyncGenerator[str, None]:
        """What a job prints, from its beginning to its end; errors as they come."""
        stream: AsyncGenerator[str, None] = self.client.tail_job_logs(identity)
        return stream

    def stop(self, identity: str) -> None:
        """Let a job end, in order."""
        with answering(self.address):
            self.client.stop_job(identity)

    def launch(
        self, identity: str, run: Options, package: Path, env: dict[str, str], commit: str | None, resume: str
    ) -> None:
        """Submit a study.

        Args:
            identity: the job's id.
            run: the options of study.run, with a name.
            package: the folder that the job gets.
            env: for every process of the study.
            commit: of the code, for the record.
            resume: the command that goes on with it, for the study to say.

        Raises:
            TakenError: there is a job of this id.
        """
        assert run.name
        given = words(run)
        entries = {"results": str(run.results), "options": json.dumps(given), "commit": commit or ""}
        with answering(self.address):
            self.client.submit_job(
                entrypoint=_entrypoint("study.run", given),
                submission_id=identity,
                runtime_env={"working_dir": str(package), "env_vars": {**env, **ENV, RESUME_COMMAND: resume}},
                metadata={"study": run.name, **entries},
            )

    def ask(self, module: str, question: list[str], package: Path, env: dict[str, str]) -> dict[str, Any]:
        """What a module of ours answers on the cluster, in a job that a later question has it forget."""
        identity = f"{_QUESTION}{uuid.uuid4().hex}"
        given = {**env, "PYTHONUNBUFFERED": "1", "RAY_JOB_STOP_WAIT_TIME_S": str(WITHDRAW_S)}
        details = None
        with answering(self.address):
            self._forget_questions()
            try:
                self.client.submit_job(
                    entrypoint=_entrypoint(module, [json.dumps(question)]),
                    submission_id=identity,
                    runtime_env={"working_dir": str(package), "env_vars": given},
                )
                details = self._ended(identity)
                log = self.client.get_job_logs(identity)
            finally:
                if not (details and details.status.is_terminal()):
                    with suppress(Exception):  # it is not worth an error
                        self.client.stop_job(identity)
        if (answer := heard(log)) is None:
            raise ClusterError(f"a job on the cluster did not answer; its last words: {_last_words(log, details)}")
        return answer

    def _forget_questions(self) -> None:
        """Have the cluster forget the questions that are long over: just after its end Ray would list one anew."""
        for details in self.client.list_jobs():
            is_question = (details.submission_id or "").startswith(_QUESTION)
            if is_question and details.status.is_terminal() and time.time() - (details.end_time or 0) / 1000 > OLD_S:
                with suppress(Exception):  # it is not worth an error
                    self.client.delete_job(details.submission_id)

    def _ended(self, identity: str) -> Any:
        end = time.monotonic() + ANSWER_S
        while not (details := self.client.get_job_info(identity)).status.is_terminal() and time.monotonic() < end:
            time.sleep(LOOK_S)
        return details


def connect(address: str, token: bool) -> Jobs:
    """The jobs of a cluster.

    Args:
        address: the dashboard's URL.
        token: whether it asks for one; where it does not, none is sent.

    Raises:
        ClusterError: Ray's part for jobs is not installed here, or the cluster does not answer.
    """
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):  # Ray would prefer them to the address
        os.environ.pop(name, None)
    os.environ["RAY_AUTH_MODE"] = "token" if token else "disabled"
    os.environ["RAY_RUNTIME_ENV_IGNORE_GITIGNORE"] = "1"  # a package holds what it is to hold
    try:
        import aiohttp  # noqa: F401
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise ClusterError(
            f'jobs need ray[default], of which {error.name} is missing here: pip install ".[cluster]"'
        ) from None

    class Client(JobSubmissionClient):  # type: ignore[misc]
        """One that gives up on a cluster that is silent, and tells what it knows to this one only."""

        def _do_request(self, *arguments: Any, **options: Any) -> Any:
            ours = {"timeout": REQUEST_S, "auth": _as_it_is, "allow_redirects": False}
            return super()._do_request(*arguments, **{**ours, **options})

    for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
        logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)  # they tell how a package travels
    ours = {"Authorization": f"Bearer {find_token()[1]}"} if token else {}  # Ray reads it once in a process's life
    with answering(address):
        return Jobs(Client(address, headers=ours), address)


def _as_it_is(request: Any) -> Any:
    """Authenticate a request no further: without this, a password from ~/.netrc would replace the token."""
    return request


@contextmanager
def answering(address: str) -> Iterator[None]:
    """Whatever Ray and its HTTP raise, as a `ClusterError`."""
    from ray.exceptions import RayError

    try:
        yield
    except (RuntimeError, OSError, ValueError, RayError) as error:
        raise _kind(str(error))(f"{address}: {_reason(str(error))}") from error


def _kind(said: str) -> type[ClusterError]:
    if "status code 404" in said:
        return ForgottenError
    return TakenError if "already exists" in said else ClusterError


def _reason(said: str) -> str:
    """An error in a line; of a traceback, which the dashboard's may be, what it was about."""
    lines = said.splitlines()
    errors = [line for line in lines if re.match(r"\s*[\w.]+Error: ", line)] if len(lines) > 1 else []
    return " ".join((errors[-1] if errors else said).split())[:300]


def _entrypoint(module: str, words: list[str]) -> str:
    """A command for the cluster's shell, which goes: a signal is for the study and not for a shell before it."""
    return f"exec {shlex.join(['python', '-m', module, *words])}"


def _last_words(log: str, details: Any) -> str:
    if not details.status.is_terminal():
        return f"nothing within {ANSWER_S:.0f} s"
    said = [line for line in log.splitlines() if line.strip()] or [details.message or "none"]
    return str(said[-1]).strip()[:300]


def _is_readable(metadata: dict[str, str]) -> bool:
    """Whether a job is what `launch` made, and its study's name can be a folder's."""
    return bool(NAME.fullmatch(metadata["study"])) and metadata.get("results", "").startswith("/")


def _job(details: Any) -> Job:
    metadata = details.metadata or {}
    state = str(getattr(details.status, "value", details.status)).lower()
    env = (details.runtime_env or {}).get("env_vars") or {}
    return Job(
        id=details.submission_id,
        study=metadata.get("study", ""),
        state=state if state in (SUCCEEDED, FAILED, STOPPED) else RUNNING,
        results=metadata.get("results", ""),
        options=metadata.get("options", ""),
        env={name: value for name, value in env.items() if name not in (*ENV, RESUME_COMMAND)},
        started=(details.start_time or 0) / 1000,
        exit_code=details.driver_exit_code,
        message=details.message or "",
    )
