import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
    import os, signal, time
    from study.search import stopping
    stopping.GRACE_S = 0.5
    stop = stopping.Stop(started={started}, conclude=lambda: print("concluded", flush=True))
    with stopping.signals(stop):
        {first}
        os.kill(os.getpid(), signal.{number})
        time.sleep(2)
        print("went on", flush=True)
"""


def run(number="SIGTERM", started=True, first="pass"):
    code = textwrap.dedent(SCRIPT).format(number=number, started=started, first=first)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_study_whose_ray_hangs_is_concluded_and_ends_with_75(number):
    done = run(number)
    assert (done.returncode, done.stdout) == (75, "concluded\n")
    assert "a second signal ends it at once" in done.stderr


def test_a_signal_after_the_last_trial_leaves_the_conclusion_its_time():
    done = run(first="with stop.while_trials_run(lambda: print('concluded')): pass")
    assert (done.returncode, done.stdout) == (0, "went on\n")


@pytest.mark.parametrize(("signals", "printed"), [(1, "concluded\n"), (2, "")])
def test_a_second_signal_ends_it_at_once_with_tables_and_a_third_without(signals, printed):
    done = run(
        first="stop.conclude = lambda: (time.sleep(0.3), print('concluded'))" + "; os.kill(os.getpid(), 2)" * signals
    )
    assert (done.returncode, done.stdout) == (75, printed)


def test_a_signal_before_any_trial_interrupts_what_is_going_on():
    done = run(started=False)
    assert "KeyboardInterrupt" in done.stderr
    assert "went on" not in done.stdout


def test_a_hangup_that_nohup_ignores_stays_ignored():
    code = textwrap.dedent(SCRIPT).format(number="SIGHUP", started=True, first="pass")
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + code
    done = subprocess.run([sys.executable, "-c", ignoring], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "went on\n")
