"""What a job prints of a study's folder, and how it is taken in."""

import base64

from study.cluster import fetch
from study.study import Run
from tests.study_helpers import STARTED


def a_run(second):
    return Run(
        started=STARTED.replace(second=second), command="study.run", commit=None, versions={}, store="default"
    )  # fmt: skip


def printed(archive: bytes) -> str:
    """The log of a job that sends an archive."""
    return f"INFO starting\n\n{fetch._PREFIX}{base64.b64encode(archive).decode()}\n"


def unpack(log, results, name):
    return fetch.receive_archive(fetch.archive_in(log), results, name)


def fetched(there, here):
    return fetch.receive_archive(fetch.pack(there.path), here.path.parent, here.path.name)
