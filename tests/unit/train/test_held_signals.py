"""Signals wait until they are obeyed, and those that are ignored stay ignored."""

import signal
import threading

import pytest

from kinema.train.held_signals import HeldSignals


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


def fail(*, after: int | None) -> None:
    with HeldSignals().listening():
        if after is not None:
            signal.raise_signal(after)
        raise RuntimeError("a worker died")


def test_an_error_after_a_signal_is_its_consequence():
    with pytest.raises(KeyboardInterrupt) as caught:
        fail(after=signal.SIGINT)
    assert isinstance(caught.value.__context__, RuntimeError)
    with pytest.raises(RuntimeError, match="a worker died"):
        fail(after=None)


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
