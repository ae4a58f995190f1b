"""Brings what handles ask for to the driver's loop, in order, from any thread. Pushing never waits and takes no lock, so that
it works from ``__del__`` too.

Bounded by its contents: an acquire is one caller that waits for it, a cancel belongs to an acquire, and a report to a permit
that was granted.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from typing import Any, Callable, Deque, Tuple

from . import _errors as errors

_mailboxes: weakref.WeakSet[Mailbox] = weakref.WeakSet()


class Mailbox:
    """See the module. ``drain`` runs on the loop when there is something to take."""

    def __init__(self, loop: asyncio.AbstractEventLoop, drain: Callable[[], None]) -> None:
        self._loop = loop
        self._drain = drain
        self._thread = threading.get_ident()
        self._commands: Deque[Tuple[Callable[..., None], Tuple[Any, ...]]] = deque()
        self._is_scheduled = False
        self.is_shut = False
        self.is_forked = False
        _mailboxes.add(self)

    def push(self, command: Callable[..., None], *arguments: Any) -> None:
        """Runs it on the loop, soon. Once the mailbox is shut, nothing."""
        if self.is_shut or self.is_forked:
            return
        self._commands.append((command, arguments))
        self.wake()

    def wake(self) -> None:
        """Has ``drain`` called, once for all that comes until then."""
        if self._is_scheduled:
            return
        self._is_scheduled = True
        try:
            if threading.get_ident() == self._thread:
                self._loop.call_soon(self._drain)
            else:
                self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:
            # The loop was closed under the client: nobody is left who could be told.
            self.is_shut = True

    def take(self, has_room: Callable[[], bool]) -> None:
        """Runs what is there, as long as there is room."""
        # First, so that whatever is pushed from here on is seen here or wakes anew.
        self._is_scheduled = False
        while self._commands and has_room():
            command, arguments = self._commands.popleft()
            command(*arguments)

    def check(self) -> None:
        """Raises where nobody would answer."""
        if self.is_forked:
            raise errors.forked()
        if self.is_shut:
            raise errors.closed()


def _after_fork() -> None:
    # The session, its connection and its thread are the parent's.
    for mailbox in list(_mailboxes):
        mailbox.is_forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
