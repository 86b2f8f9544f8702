"""The commands about a cluster, called with short limits."""

import contextlib
import io
import os
from pathlib import Path
from unittest import mock

from study.cluster import http as requests
from study.submit import main

VERSION = b'{"ray_version": "2.60.0"}'


PROXIES = [form for name in ("http", "https", "all", "no") for form in (f"{name}_proxy", f"{name.upper()}_PROXY")]
AWAY = (*PROXIES, "RAY_AUTH_TOKEN_PATH", "RAY_JOB_HEADERS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


JOBS = "/api/jobs/"


def run(folder: Path, *words: str, **environment: str) -> tuple[int, str, str]:
    """The exit code of a command, however it ends, and what it printed; with short limits and a token."""
    kept = {name: value for name, value in os.environ.items() if name not in AWAY}
    ours = {**kept, "RAY_AUTH_TOKEN": "right", "HOME": str(folder), **environment}
    out, err = io.StringIO(), io.StringIO()
    limits = mock.patch.multiple(requests, PATIENCE_S=0.5, MOST_BYTES=2**20)
    shown = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with limits, mock.patch.dict(os.environ, ours, clear=True), shown[0], shown[1]:
        try:
            code = main(list(words))
        except SystemExit as ended:
            code = int(ended.code or 0)
    return code, out.getvalue(), err.getvalue()


SENTENCE = "one sentence and exit code 4, within a limit in time and bytes"
