"""What a request takes of each unit, and what a report says it used, without a server that has learned anything."""

from __future__ import annotations

import functools
import re
from typing import Dict, Optional, Pattern

from ..v1 import permit_pb2 as pb

REQUESTS = "requests"
TOKENS = "tokens"
INPUT_TOKENS = "input_tokens"
OUTPUT_TOKENS = "output_tokens"
IN_FLIGHT = "in_flight"

#: Amounts by unit.
Amounts = Dict[str, int]


def estimated(ask: pb.AcquireRequest) -> tuple[Amounts, bool]:
    """What a permit would hold, and whether its output is only a guess: the bound that the caller gives, if it does."""
    usage = ask.estimate if ask.HasField("estimate") else pb.Usage()
    if ask.tokens and not usage.HasField("tokens"):
        usage.tokens = ask.tokens
    amounts = dict(usage.other)
    amounts[REQUESTS] = usage.requests if usage.HasField("requests") else 1
    given, output = _tokens(usage)
    is_open = output is None
    amounts[INPUT_TOKENS] = given
    amounts[OUTPUT_TOKENS] = usage.max_output_tokens if output is None else output
    amounts[TOKENS] = given + amounts[OUTPUT_TOKENS]
    return amounts, is_open


def used(actual: pb.Usage, held: Amounts) -> Amounts:
    """What a report says was used; what it leaves out, as held."""
    amounts = dict(held)
    amounts.update(actual.other)
    if actual.HasField("requests"):
        amounts[REQUESTS] = actual.requests
    if actual.HasField("tokens") and not actual.HasField("input_tokens") and not actual.HasField("output_tokens"):
        # Both together: what is not input as held came out.
        amounts[INPUT_TOKENS] = min(held.get(INPUT_TOKENS, 0), actual.tokens)
        amounts[OUTPUT_TOKENS] = actual.tokens - amounts[INPUT_TOKENS]
    elif actual.HasField("tokens") or actual.HasField("input_tokens") or actual.HasField("output_tokens"):
        given, output = _tokens(actual)
        if actual.HasField("tokens") or actual.HasField("input_tokens"):
            amounts[INPUT_TOKENS] = given
        if output is not None:
            amounts[OUTPUT_TOKENS] = output
    amounts[TOKENS] = amounts.get(INPUT_TOKENS, 0) + amounts.get(OUTPUT_TOKENS, 0)
    return amounts


def _tokens(usage: pb.Usage) -> tuple[int, Optional[int]]:
    """Input and output, of which two of three units give the third."""
    total = usage.tokens if usage.HasField("tokens") else None
    given = usage.input_tokens if usage.HasField("input_tokens") else None
    output = usage.output_tokens if usage.HasField("output_tokens") else None
    if total is not None and given is None:
        given = total if output is None else max(0, total - output)
    elif total is not None and output is None and given is not None:
        output = max(0, total - given)
    return given or 0, output


@functools.lru_cache(maxsize=1_024)
def glob(pattern: str) -> Pattern[str]:
    """``*`` stands for any run of characters, ``?`` for one; nothing for all."""
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in re.sub(r"\*+", "*", pattern or "*"))
    return re.compile("".join(parts), re.DOTALL)
