"""The first contact with a cluster: whether it answers, whom it lets in, and with which Ray. Plain HTTP, no Ray."""

import http.client
import json
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from study.cluster.checks import Check

TIMEOUT_S = 10.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")

_PLAIN = re.compile(r"[!-~]+")  # printable ASCII without blanks, which a header can hold


@dataclass(frozen=True)
class Contact:
    """What the first contact came to."""

    checks: tuple[Check, ...]
    token: bool = False  # whether the cluster wants one

    @property
    def ok(self) -> bool:
        """Whether one may go on."""
        return all(check.ok for check in self.checks)


def meet(address: str, without_authentication: bool) -> Contact:
    """Ask a dashboard for its version: without a token, and where it wants one, with ours.

    Args:
        address: the dashboard's URL.
        without_authentication: whether a cluster may be used that lets everybody in.
    """
    try:
        return _meet(address, without_authentication)
    except urllib.error.HTTPError as error:
        error.close()  # it is also the answer, and holds a connection
        to = f", a redirection to {error.headers['Location']}" if error.headers.get("Location") else ""
        return _stopped("address", f"{address} answers with {error.code}{to}; expected the dashboard of a Ray cluster")
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        reason = getattr(reason, "strerror", None) or reason
        return _stopped("address", f"{address} does not answer as the dashboard of a Ray cluster: {reason}")


def _meet(address: str, without_authentication: bool) -> Contact:
    try:
        answer = _version(address, None)
    except urllib.error.HTTPError as error:
        if error.code != 401:
            raise
        error.close()
        return _with_token(address)
    if not without_authentication:
        return _stopped(
            "authentication",
            f"{address} asks for no token, so that everybody who reaches it can run code there; start the cluster with "
            "RAY_AUTH_MODE=token, or give --without-authentication",
        )
    return Contact((_answers(address), Check("authentication", True, "none, as was asked for"), _same_ray(answer)))


def _with_token(address: str) -> Contact:
    where, token = find_token()
    if not token:
        return _stopped("authentication", f"{address} wants a token, and there is none in {where}")
    if not _PLAIN.fullmatch(token):  # it would stand in the error that HTTP makes of it
        return _stopped("authentication", f"what is in {where} is no token: expected letters and digits in one line")
    try:
        answer = _version(address, token)
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):
            raise
        error.close()
        return _stopped("authentication", f"the token in {where} is not the one of {address}")
    parts = urlsplit(address)
    readable = parts.scheme == "http" and parts.hostname not in LOOPBACK
    sentence = f"by the token in {where}" + (
        "; over http everybody on the way can read it: better https, or a tunnel" if readable else ""
    )
    return Contact((_answers(address), Check("authentication", True, sentence), _same_ray(answer)), token=True)


def find_token() -> tuple[str, str]:
    """Where Ray would find the token, in words, and the token; empty where there is none."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN", token.strip()
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named).expanduser() if named else Path("~/.ray/auth_token").expanduser()
    try:
        return str(path), path.read_text("utf-8", errors="replace").strip()
    except OSError:
        return f"RAY_AUTH_TOKEN, nor in {'RAY_AUTH_TOKEN_PATH, ' if named else ''}{path}", ""


def _stopped(name: str, sentence: str) -> Contact:
    return Contact((Check(name, False, sentence),))


def _answers(address: str) -> Check:
    return Check("address", True, address)


def _same_ray(answer: dict[str, Any]) -> Check:
    theirs = str(answer["ray_version"])
    try:
        ours = version("ray")
    except PackageNotFoundError:
        return Check("Ray", False, f"{theirs} there, none here; expected ray[default]=={theirs} here")
    return Check(
        "Ray",
        ours.split(".")[:2] == theirs.split(".")[:2],
        f"{theirs} there, {ours} here" + ("" if ours == theirs else "; expected the same minor version"),
    )


def _version(address: str, token: str | None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{address}/api/version", headers=headers)
    with urllib.request.build_opener(_StayHere).open(request, timeout=TIMEOUT_S) as response:
        answer = json.loads(response.read(1 << 20))
    if not isinstance(answer, dict) or "ray_version" not in answer:
        raise ValueError("it says nothing of a version")
    return answer


class _StayHere(urllib.request.HTTPRedirectHandler):
    """A token goes to the address that was given and to no other."""

    def redirect_request(self, *_: Any) -> None:
        """Follow nothing."""
