"""Signals wait until they are obeyed, and those that are ignored stay ignored."""

import signal
import threading

import pytest

from kinema.errors import OptionError
from kinema.system.interrupts import HeldSignals


def test_control_c_waits_and_a_second_one_does_not():
    signals = HeldSignals()
    with signals.listening():
        signals.obey()
        assert not signals
        signal.raise_signal(signal.SIGINT)
        assert signals
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signals.obey()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def fail(error: Exception | None, *, after: int | None) -> None:
    with HeldSignals().listening():
        if after is not None:
            signal.raise_signal(after)
        if error is not None:
            raise error


def test_a_loader_killed_by_the_signal_is_logged_and_no_error(caplog):
    with pytest.raises(KeyboardInterrupt):
        fail(RuntimeError("a worker died"), after=signal.SIGINT)
    assert "After the signal: a worker died" in caplog.text
    with pytest.raises(RuntimeError, match="a worker died"):
        fail(RuntimeError("a worker died"), after=None)


def test_other_errors_stay_errors():
    with pytest.raises(OptionError, match="disk"):
        fail(OptionError("no room on the disk"), after=signal.SIGINT)


def test_a_signal_that_nobody_asked_for_is_obeyed_at_the_end():
    with pytest.raises(KeyboardInterrupt):
        fail(None, after=signal.SIGINT)


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        signals = HeldSignals()
        with signals.listening():
            signal.raise_signal(signal.SIGINT)
            assert not signals
            signals.obey()
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_changes_nothing():
    seen = []

    def look() -> None:
        with HeldSignals().listening():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
