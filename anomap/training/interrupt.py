"""Ctrl-C and SIGTERM as a question that training asks after each step, so that it can save first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Within the block, the first SIGINT or SIGTERM only makes the given function true; a second one ends at once.

    Outside the main thread signals can't be caught: the function then stays false.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def note(number: int, frame: FrameType | None) -> None:
        asked.set()
        for each in numbers:
            signal.signal(each, before[each])

    for number in numbers:
        signal.signal(number, note)
    try:
        yield asked.is_set
    finally:
        for number in numbers:
            signal.signal(number, before[number])
