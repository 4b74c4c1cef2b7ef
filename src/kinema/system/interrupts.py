"""Deferred Ctrl-C and SIGTERM, so that neither interrupts the writing of a file."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)

HELD = (signal.SIGINT, signal.SIGTERM)


class HeldSignals:
    """Holds the first Ctrl-C or SIGTERM until `obey`; a second one acts at once."""

    def __init__(self) -> None:
        self._first: int | None = None

    def __bool__(self) -> bool:
        return self._first is not None

    def obey(self) -> None:
        """Raises the held signal, if any.

        Raises:
            KeyboardInterrupt: the signal was Ctrl-C. SIGTERM ends the process.
        """
        number, self._first = self._first, None
        if number is not None:
            signal.raise_signal(number)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Holds signals inside the block and raises them at its end; ignored signals stay ignored.

        Does nothing outside the main thread, which alone can handle signals.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def keep(number: int, _: FrameType | None) -> None:
            self._first = number
            put_back()

        def put_back() -> None:
            for kind, handler in before.items():
                signal.signal(kind, handler)

        before = {kind: signal.getsignal(kind) for kind in HELD}
        before = {kind: was for kind, was in before.items() if was not in (signal.SIG_IGN, None)}
        for kind in before:
            signal.signal(kind, keep)
        try:
            yield
        except (RuntimeError, ConnectionError, EOFError) as error:
            # PyTorch raises these when a starting loader died of the same Ctrl-C. It may be
            # another fault, so it is logged.
            if self:
                log.warning("After the signal: %s", error)
                self.obey()
            raise
        else:
            self.obey()
        finally:
            put_back()
