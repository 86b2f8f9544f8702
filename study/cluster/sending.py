"""Sends a study's folder, as a job on the cluster: `python -m study.submit.sending [RESULTS, NAME]`, in its log.

Records, tables and figures: every file but weights, and what begins with a dot, which is scratch. As a compressed
archive in base64, since the log is the only way back that needs no other door.
"""

import base64
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from study.cluster.wire import answer

LARGEST = 64 * 2**20  # compressed; a record takes about a kilobyte
WEIGHTS = (".pt", ".safetensors")


def main(words: list[str]) -> None:
    """Answer with the folder, or with why it cannot be sent."""
    answer(pack(Path(words[0]) / words[1]))


def pack(folder: Path) -> dict[str, Any]:
    """A study's folder as JSON: `tar` and its `sha256`, or `error`."""
    if not (folder / "study.json").is_file():
        return {"error": f"{folder} holds no study there"}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for path in sendable(folder):
            tar.add(path, arcname=path.relative_to(folder).as_posix(), recursive=False)
    content = archive.getvalue()
    if len(content) > LARGEST:
        size = f"{len(content) / 2**20:.0f} MiB, compressed"
        return {"error": f"{folder} has {size}; expected at most {LARGEST // 2**20}: copy it from there by other means"}
    return {"tar": base64.b64encode(content).decode(), "sha256": hashlib.sha256(content).hexdigest()}


def sendable(folder: Path) -> Iterator[Path]:
    """The files to send."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not path.is_symlink() and not hidden and path.suffix not in WEIGHTS:
            yield path


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
