"""Waits for something, for so long. ``asyncio.wait_for`` loses a cancel that comes together with the result before Python 3.12,
and a driver that misses its end runs for ever."""

from __future__ import annotations

import asyncio
from typing import Any, Coroutine, TypeVar

T = TypeVar("T")


async def within(span: float, coroutine: Coroutine[Any, Any, T]) -> T:
    """The result, or ``asyncio.TimeoutError`` after ``span`` seconds. It has ended when this returns."""
    task = asyncio.ensure_future(coroutine)
    try:
        await asyncio.wait({task}, timeout=span)
        is_late = not task.done()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    if is_late:
        raise asyncio.TimeoutError
    try:
        return task.result()
    finally:
        # An error holds this frame, which would hold the error.
        del task
