"""Ray's jobs: a study is one, and so is every question to the cluster.

A study's jobs are study-<name>-1, -2, ...; what they are stands in their metadata.
"""

import itertools
import json
import logging
import os
import shlex
import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.machine import ClusterError
from study.options import Options
from study.run import DONE, ENVIRONMENT, INTERRUPTED
from study.submit.options import words
from study.submit.wire import heard

RUNNING, SUCCEEDED, FAILED, STOPPED = "running", "succeeded", "failed", "stopped"

ANSWER_S = 150.0  # for a question as a whole
LOOK_S = 0.5  # between two looks whether it has ended
STOP_S = 60  # for a study to save and end, before it is killed
REQUEST_S = (10.0, 120.0)  # to connect, and between two packets

#: how Ray is to stop a study
ENV = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S), "PYTHONUNBUFFERED": "1"}


class ForgottenError(ClusterError):
    """A job that the cluster does not know: it was started anew since."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a study on the cluster."""

    id: str
    study: str
    state: str  # running, succeeded, failed or stopped
    words: list[str]  # the options of study.run
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
        with answering(self.address):
            found = [_job(details) for details in self.client.list_jobs() if (details.metadata or {}).get("study")]
        return sorted(found, key=lambda job: job.started)

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

    def launch(self, run: Options, package: Path, env: dict[str, str], commit: str | None, taken: set[str]) -> str:
        """Submit a study; the job's id.

        Args:
            run: the options of study.run, with a name.
            package: the folder that the job gets.
            env: for every process of the study.
            commit: of the code, for the record.
            taken: ids of jobs that were.
        """
        assert run.name
        numbered = (f"study-{run.name}-{number}" for number in itertools.count(1))
        identity = next(name for name in numbered if name not in taken)
        with answering(self.address):
            self.client.submit_job(
                entrypoint=_entrypoint("study.run", words(run)),
                submission_id=identity,
                runtime_env={"working_dir": str(package), "env_vars": {**env, **ENV}},
                metadata={"study": run.name, "options": json.dumps(words(run)), "commit": commit or ""},
            )
        return identity

    def ask(self, module: str, question: list[str], package: Path, env: dict[str, str]) -> dict[str, Any]:
        """What a module of ours answers on the cluster, in a job that is forgotten at once."""
        identity = f"question-{uuid.uuid4().hex}"
        with answering(self.address):
            self.client.submit_job(
                entrypoint=_entrypoint(module, [json.dumps(question)]),
                submission_id=identity,
                runtime_env={"working_dir": str(package), "env_vars": {**env, "PYTHONUNBUFFERED": "1"}},
            )
            try:
                details = self._ended(identity)
                log = self.client.get_job_logs(identity)
            finally:
                with suppress(Exception):  # it is not worth an error
                    self.client.stop_job(identity)
                    self.client.delete_job(identity)
        if (answer := heard(log)) is None:
            raise ClusterError(f"a job on the cluster did not answer; its last words: {_last_words(log, details)}")
        return answer

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
        """One that gives up on a cluster that is silent."""

        def _do_request(self, *arguments: Any, **options: Any) -> Any:
            return super()._do_request(*arguments, **{"timeout": REQUEST_S, **options})

    for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
        logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)  # they tell how a package travels
    with answering(address):
        return Jobs(Client(address), address)


@contextmanager
def answering(address: str) -> Iterator[None]:
    """Whatever Ray and its HTTP raise, as a `ClusterError`."""
    try:
        yield
    except (RuntimeError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        kind = ForgottenError if "status code 404" in reason else ClusterError
        raise kind(f"{address}: {reason}") from error


def _entrypoint(module: str, words: list[str]) -> str:
    """A command for the cluster's shell, which goes: a signal is for the study and not for a shell before it."""
    return f"exec {shlex.join(['python', '-m', module, *words])}"


def _last_words(log: str, details: Any) -> str:
    if not details.status.is_terminal():
        return f"nothing within {ANSWER_S:.0f} s"
    said = [line for line in log.splitlines() if line.strip()] or [details.message or "none"]
    return str(said[-1]).strip()[:300]


def _job(details: Any) -> Job:
    metadata = details.metadata or {}
    state = str(getattr(details.status, "value", details.status)).lower()
    env = (details.runtime_env or {}).get("env_vars") or {}
    return Job(
        id=details.submission_id,
        study=metadata.get("study", ""),
        state=state if state in (SUCCEEDED, FAILED, STOPPED) else RUNNING,
        words=json.loads(metadata.get("options", "[]")),
        env={name: value for name, value in env.items() if name not in ENV},
        started=(details.start_time or 0) / 1000,
        exit_code=details.driver_exit_code,
        message=details.message or "",
    )
