import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
    import ctypes, os, signal, subprocess, sys, threading, time
    from study.search import stopping
    stopping.GRACE_S = 0.5
    def conclude():
        print("concluded", flush=True)
        time.sleep({hang})
        return 75
    stop = stopping.Stop(started={started}, conclude=conclude, resume="the command to resume")
    with stopping.signals(stop):
        {first}
        os.kill(os.getpid(), signal.{number})
        time.sleep(2)
        print("went on", flush=True)
"""


def run(number="SIGTERM", started=True, first="pass", hang=0, before=""):
    code = before + textwrap.dedent(SCRIPT).format(number=number, started=started, first=first, hang=hang)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


NO_WAIT = "import signal; del signal.sigtimedwait, signal.pthread_kill, signal.pthread_sigmask\n"  # as on Windows


@pytest.mark.parametrize("before", ["", NO_WAIT])
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_study_whose_ray_hangs_is_concluded_and_ends_with_75(number, before):
    done = run(number, before=before)
    assert (done.returncode, done.stdout) == (75, "concluded\n")
    assert "a second signal ends it at once" in done.stderr


@pytest.mark.parametrize(
    "handler",
    [
        "signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))",  # as Ray's own does
        "ctypes.CDLL(None).signal(int(signal.SIGTERM), None)",  # as C++ does, and Python does not see
        "ctypes.CDLL(None).signal(int(signal.SIGTERM), ctypes.c_void_p(1))",
    ],
)
def test_a_handler_that_another_library_installs_is_not_called(handler):
    done = run(first=handler)
    assert (done.returncode, done.stdout) == (75, "concluded\n")


def test_a_signal_after_the_last_trial_leaves_the_conclusion_its_time():
    done = run(first="with stop.while_trials_run(lambda: print('concluded')): pass")
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_a_hard_end_passes_its_code_through_what_comes_before_it():
    done = run(first="stop.before_exit = lambda code: print('copied', code, flush=True) or 4")
    assert (done.returncode, done.stdout) == (4, "concluded\ncopied 75\n")


SECOND = "os.kill(os.getpid(), signal.SIGINT); time.sleep(0.2)"


@pytest.mark.parametrize("before", ["", NO_WAIT])
def test_a_second_signal_ends_it_at_once_with_its_tables(before):
    done = run(first=f"stopping.GRACE_S = 60; {SECOND}", before=before)
    assert (done.returncode, done.stdout) == (75, "concluded\n")


def test_a_third_signal_ends_it_while_it_is_concluded_with_the_command_to_resume():
    done = run(first=f"stopping.GRACE_S = 60; {SECOND}; {SECOND}", hang=30)
    assert (done.returncode, done.stdout) == (75, "concluded\n")
    assert done.stderr.endswith("the command to resume\n")


@pytest.mark.parametrize("before", ["", NO_WAIT])
@pytest.mark.parametrize("busy", ["pass", "threading.Timer(0.2, os.kill, (os.getpid(), 2)).start(); time.sleep(60)"])
def test_a_signal_before_any_trial_interrupts_what_is_going_on(busy, before):
    done = run(started=False, first=busy, before=before)
    assert "KeyboardInterrupt" in done.stderr
    assert "went on" not in done.stdout


def test_a_process_that_is_forked_does_not_inherit_what_is_blocked():
    command = "subprocess.run(['grep', 'SigBlk', '/proc/self/status'], preexec_fn=lambda: None)"
    done = run(first=command)
    assert done.stdout.splitlines()[0].split() == ["SigBlk:", "0" * 16]


def test_a_hangup_that_nohup_ignores_stays_ignored():
    done = run("SIGHUP", before="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n")
    assert (done.returncode, done.stdout) == (0, "went on\n")


@pytest.mark.parametrize("module", ["study.run", "study.ask", "study.confirm.__main__"])
def test_no_thread_runs_before_signals_are_received_which_would_be_given_them(module):
    code = f"import os, {module}; print(len(os.listdir('/proc/self/task')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "1\n"


FLOOD = """
    import signal, threading, time
    from study.search import stopping
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    stop = stopping.Stop()
    with stopping.signals(stop):
        thread = next(each for each in threading.enumerate() if each.name == "signals")
        end = time.monotonic() + 3
        while time.monotonic() < end and not stop.signalled:
            signal.pthread_kill(thread.ident, signal.SIGUSR1)
    print(stop.signalled)
"""


def test_a_wait_that_other_signals_interrupt_is_not_taken_for_a_signal():
    """Where such an interruption meets the end of the wait, Python 3.11 returns what was in memory as a signal."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(FLOOD)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")
