"""The first signal asks for an end, the second ends at once, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import threading
from itertools import pairwise

import pytest

from immref_trainers.signals import SIGNALS, Stop

PROGRAM = """
import os, signal, sys
from immref_trainers.signals import Stop
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
with Stop() as stop:
    for name in sys.argv[1:]:
        os.kill(os.getpid(), signal.Signals[name])
        print(name, stop.asked, flush=True)
print("went on")
"""


@pytest.fixture
def handlers():
    """Handlers of the test's own, which note what reaches them."""
    seen = []
    before = {number: signal.signal(number, lambda number, _: seen.append(number)) for number in SIGNALS}
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


def child(*names):
    return subprocess.run([sys.executable, "-c", PROGRAM, *names], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_and_the_second_does_what_it_did_before(handlers, number):
    with Stop() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
        assert handlers == []
        os.kill(os.getpid(), number)
        assert handlers == [number]
    assert stop.asked


def test_handlers_are_put_back_with_and_without_a_signal_and_after_an_error(handlers):
    def now():
        return [signal.getsignal(number) for number in SIGNALS]

    def failing():
        with Stop():
            raise OSError

    def signalled():
        with Stop():
            os.kill(os.getpid(), signal.SIGTERM)

    def quiet():
        with Stop():
            pass

    states = [now()]
    for use in (quiet, signalled):
        use()
        states.append(now())
    with pytest.raises(OSError):  # noqa: PT011
        failing()
    assert all(first == second for first, second in pairwise([*states, now()]))


@pytest.mark.parametrize("first", [number.name for number in SIGNALS])
def test_a_process_ends_at_the_second_signal_and_goes_on_after_one(first):
    once = child(first)
    assert (once.returncode, once.stdout, once.stderr) == (0, f"{first} True\nwent on\n", "")
    ended, interrupted = child(first, "SIGTERM"), child(first, "SIGINT")
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, f"{first} True\n")
    assert interrupted.stdout == f"{first} True\n"
    assert interrupted.stderr.splitlines()[-1] == "KeyboardInterrupt"


def test_other_threads_install_nothing_and_fail_in_nothing(handlers):
    before, seen = [signal.getsignal(number) for number in SIGNALS], []

    def use():
        with Stop() as stop:
            seen.append((stop.asked, [signal.getsignal(number) for number in SIGNALS]))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
