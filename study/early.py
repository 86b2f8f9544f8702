"""Signals that come while a program imports its modules. This module is imported first, and imports next to nothing."""

import signal


def hold_signals() -> None:
    """Let SIGINT and SIGTERM wait until `study.guard` receives them."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
