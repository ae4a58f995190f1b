"""The permits of a request for several, from the driver's loop to the one that takes them."""

from __future__ import annotations

import threading
from typing import Callable, Generic, Protocol, TypeVar, Union

from . import _errors as errors
from ._grant import Grant

Given = Union[Grant, errors.Error]


class Queue(Protocol):
    """What a queue of threads and one of asyncio have in common."""

    def put_nowait(self, item: Given) -> None:
        """Puts it behind the others."""

    def get_nowait(self) -> Given:
        """The first."""

    def empty(self) -> bool:
        """Whether there is none."""


Q = TypeVar("Q", bound=Queue)


class Answers(Generic[Q]):
    """What came and was not taken, in ``queue``. What comes, or is left, when nobody takes any more, goes to ``unwanted``."""

    def __init__(self, queue: Q, unwanted: Callable[[Grant], None]) -> None:
        self.queue = queue
        self._unwanted = unwanted
        self._lock = threading.Lock()
        self._is_over = False

    def put(self, given: Given) -> None:
        """Hands it over, from any thread."""
        with self._lock:
            if not self._is_over:
                self.queue.put_nowait(given)
                return
        self._refuse(given)

    def end(self) -> None:
        """Nothing more is wanted, also if it came."""
        with self._lock:
            self._is_over = True
        while not self.queue.empty():
            self._refuse(self.queue.get_nowait())

    def _refuse(self, given: Given) -> None:
        if isinstance(given, Grant):
            self._unwanted(given)
