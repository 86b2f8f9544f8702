"""Programs in place of a scheduler's, which note how they are called."""

import json
import os
import stat
import sys

from study.submit import main


class Recorder:
    """A folder of programs at the head of PATH."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder / "bin"
        self.folder.mkdir()
        self.log = folder / "calls.jsonl"
        monkeypatch.setenv("PATH", f"{self.folder}:{os.environ['PATH']}")

    def put(self, name, body="", prints=""):
        """A program that notes its words and its input, runs a body of Python, and prints this."""
        path = self.folder / name
        path.write_text(
            f"#!{sys.executable} -S\n"
            "import json, os, signal, subprocess, sys, time\n"
            "words = sys.argv[1:]\n"
            "given = sys.stdin.read() if '-' in words or '--parsable' in words else ''\n"
            f"with open({str(self.log)!r}, 'a') as log: log.write(json.dumps([{name!r}, words, given]) + '\\n')\n"
            f"{body}\nsys.stdout.write({prints!r})\n"
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def calls(self, name=None):
        """How the programs were called: name, words, input."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [call for call in map(json.loads, lines) if name in (None, call[0])]


def submit(*words):
    """The exit code of a command, however it ends."""
    try:
        return main(list(words))
    except SystemExit as ended:
        return ended.code
