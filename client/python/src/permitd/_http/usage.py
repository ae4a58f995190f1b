"""What a response says was used, in each provider's words: a whole body, or a stream of events. The rules are those of
client/conformance/README.md, for every language."""

from __future__ import annotations

import json
from typing import Any, Optional

from .._usage import AMOUNT_MAX, Usage

#: Bytes of a body that are kept to be read at its end; a longer one says nothing.
BODY_BYTES_MAX = 16 * 1024 * 1024
#: Bytes of one line of a stream; a longer one says nothing.
LINE_BYTES_MAX = 4 * 1024 * 1024


class Numbers:
    """What was said so far: a later number replaces an earlier one of the same name."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}
        self._cached: Optional[int] = None

    def read(self, text: bytes) -> None:
        """One JSON text; anything else says nothing."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return
        if not isinstance(value, dict):
            return
        # Within events of a stream: Anthropic's message_start and OpenAI's response.completed.
        for holder in (value, value.get("message"), value.get("response")):
            if isinstance(holder, dict):
                self._read_tokens(holder.get("usage"))
                self._read_gemini(holder.get("usageMetadata"))

    def usage(self) -> Optional[Usage]:
        """In permitd's units; ``None`` if nothing was said."""
        told = self._told
        given = told.get("prompt_tokens", told.get("promptTokenCount"))
        if "input_tokens" in told:
            # Anthropic does not count the other two among its input_tokens.
            beside = told.get("cache_creation_input_tokens", 0) + told.get("cache_read_input_tokens", 0)
            given = min(told["input_tokens"] + beside, AMOUNT_MAX)
        output = told.get("output_tokens", told.get("completion_tokens"))
        if output is None and "prompt_tokens" in told:
            # An embedding has no output, which is known and not open.
            output = 0
        if output is None and "candidatesTokenCount" in told:
            output = min(told["candidatesTokenCount"] + told.get("thoughtsTokenCount", 0), AMOUNT_MAX)
        cached = told.get("cache_read_input_tokens", told.get("cachedContentTokenCount", self._cached))
        usage = Usage(input_tokens=given, output_tokens=output, cached_input_tokens=cached or None)
        return usage or None

    def _read_tokens(self, usage: Any) -> None:
        self._keep(
            usage,
            "prompt_tokens",
            "completion_tokens",
            "input_tokens",
            "output_tokens",
            "cache_creation_input_tokens",
            "cache_read_input_tokens",
        )
        if isinstance(usage, dict):
            for name in ("prompt_tokens_details", "input_tokens_details"):
                details = usage.get(name)
                if isinstance(details, dict) and _is_amount(details.get("cached_tokens")):
                    self._cached = details["cached_tokens"]

    def _read_gemini(self, usage: Any) -> None:
        names = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "cachedContentTokenCount")
        self._keep(usage, *names)

    def _keep(self, usage: Any, *names: str) -> None:
        if isinstance(usage, dict):
            self._told.update({name: usage[name] for name in names if _is_amount(usage.get(name))})


class Body:
    """A whole body."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._room = BODY_BYTES_MAX

    def take(self, chunk: bytes) -> None:
        """The next bytes."""
        self._room -= len(chunk)
        if self._room >= 0:
            self._parts.append(chunk)
        else:
            self._parts.clear()

    def usage(self) -> Optional[Usage]:
        """At its end."""
        numbers = Numbers()
        numbers.read(b"".join(self._parts))
        return numbers.usage()


class Events:
    """A stream of events, ``text/event-stream``: the ``data`` of each is read when its last line is there."""

    def __init__(self) -> None:
        self._numbers = Numbers()
        self._data: list[bytes] = []
        self._line = bytearray()
        self._is_too_long = False
        self._ended_by_return = False

    def take(self, chunk: bytes) -> None:
        """The next bytes, cut anywhere."""
        if self._ended_by_return and chunk.startswith(b"\n"):
            # The other half of a line's end.
            chunk = chunk[1:]
        self._ended_by_return = chunk.endswith(b"\r") if chunk else self._ended_by_return
        lines = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines[:-1]:
            self._add(line)
            self._end_line()
        self._add(lines[-1])

    def usage(self) -> Optional[Usage]:
        """So far."""
        self._end_line()
        self._end_event()
        return self._numbers.usage()

    def _add(self, part: bytes) -> None:
        if len(self._line) + len(part) > LINE_BYTES_MAX:
            self._is_too_long = True
        else:
            self._line += part

    def _end_line(self) -> None:
        line, is_too_long = bytes(self._line), self._is_too_long
        self._line.clear()
        self._is_too_long = False
        if not line:
            self._end_event()
        elif line.startswith(b"data:") and not is_too_long:
            self._data.append(line[5:])

    def _end_event(self) -> None:
        # Most events say nothing of usage, and need not be read.
        if any(b"sage" in part for part in self._data):
            self._numbers.read(b"\n".join(self._data))
        self._data.clear()


def _is_amount(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= AMOUNT_MAX
