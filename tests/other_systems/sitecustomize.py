"""What Windows and macOS lack, gone for every process that has this folder in PYTHONPATH.

Other packages keep what they import on Linux: they decide by the name of the system.
"""

import builtins
import os
import signal
from types import ModuleType
from typing import Any

import tests.few_images.sitecustomize  # noqa: F401 - Python takes only one

MODULES = ("fcntl", "grp", "pwd", "resource", "termios")
SIGNALS = ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "pthread_kill", "pthread_sigmask", "sigtimedwait")
SYSTEM = ("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "chown", "getuid", "killpg", "pread", "pwrite")
_import = builtins.__import__


def _refuse(name: str, globals: Any = None, *rest: Any, **named: Any) -> ModuleType:
    if name in MODULES and "site-packages" not in (globals or {}).get("__file__", ""):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return _import(name, globals, *rest, **named)


builtins.__import__ = _refuse
for module, names in ((signal, SIGNALS), (os, (*SYSTEM, "sched_getaffinity"))):
    for name in names:
        delattr(module, name)
