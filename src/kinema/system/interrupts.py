"""Ctrl-C and SIGTERM wait for the end of a step, so that none of them hits a half-written file."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)

HELD = (signal.SIGINT, signal.SIGTERM)


class HeldSignals:
    """The first Ctrl-C or SIGTERM is kept until `obey`; a second one acts at once."""

    def __init__(self) -> None:
        self._first: int | None = None

    def __bool__(self) -> bool:
        return self._first is not None

    def obey(self) -> None:
        """Lets the signal that was kept do what it does otherwise; nothing when there is none.

        Raises:
            KeyboardInterrupt: it was Ctrl-C. SIGTERM ends the process.
        """
        number, self._first = self._first, None
        if number is not None:
            signal.raise_signal(number)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keeps signals inside, and obeys at the end; those that are ignored stay so.

        Only the main thread can, and elsewhere nothing changes.
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
            # What PyTorch raises when a loader that was starting has died of the same Ctrl-C. It
            # may be another fault, so it is told.
            if self:
                log.warning("After the signal: %s", error)
                self.obey()
            raise
        else:
            self.obey()
        finally:
            put_back()
