"""Something that is begun by ``await`` or by ``async with``, whichever its user likes."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Callable, Coroutine, Generator, Generic, Optional, Protocol, TypeVar


class Closing(Protocol):
    """What knows how its block ends."""

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """The end."""


T = TypeVar("T", bound=Closing)


class Deferred(Generic[T]):
    """See the module. Nothing happens before one of the two."""

    __slots__ = ("_begin", "_begun")

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._begin = begin
        self._begun: Optional[T] = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._begin().__await__()

    async def __aenter__(self) -> T:
        self._begun = await self._begin()
        return self._begun

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._begun is not None:
            await self._begun.__aexit__(kind, error, trace)
