"""Ctrl-C and SIGTERM while there are epochs that no checkpoint has."""

import functools
import signal
import threading
from collections.abc import Callable
from typing import Any, Self


class Interruption:
    """Holds back signals that would end the process, as long as something is unsaved.

    An epoch that has begun cannot be saved, since it takes over the memory of the one before. So a
    signal waits for its end, unless all of the one before is saved. Signals that do not call a
    Python function stay as they are.
    """

    def __init__(self) -> None:
        self.unsaved = False  # whether there is something to lose
        # What a signal that is waiting would have done at once; none: none came.
        self.end: Callable[[], Any] | None = None
        self._before: dict[int, Callable[..., Any]] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                    signal.signal(number, functools.partial(self._came, handler))
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _came(self, handler: Callable[..., Any], number: int, frame: Any) -> None:
        """Waits if there is something to lose, but not if it is the second signal."""
        if not self.unsaved or self.end is not None:
            handler(number, frame)
        self.end = functools.partial(handler, number, frame)
