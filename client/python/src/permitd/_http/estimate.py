"""What a request is expected to use, as far as its body tells: guessed well enough to queue for, and settled by what the answer
says was used. The rules are those of client/conformance/README.md, for every language."""

from __future__ import annotations

import json
from typing import Any, Iterator, NamedTuple, Optional, Union

from .._usage import AMOUNT_MAX, Usage

#: English has four characters to a token, and scripts of three bytes a character come near to one token each: in UTF-8, both
#: are about four bytes. The providers' own rule of thumb.
BYTES_PER_TOKEN = 4
#: What an image, a sound or a document counts, whatever its bytes: about the most that providers charge for one image.
ATTACHMENT_TOKENS = 1_600
#: Where providers look for the bound of the output; the first that is there counts.
OUTPUT_BOUNDS = (
    ("max_completion_tokens",),
    ("max_tokens",),
    ("max_output_tokens",),
    ("max_tokens_to_sample",),
    ("generationConfig", "maxOutputTokens"),
)
#: Names beside a ``data`` that is no text.
MEDIA = ("format", "media_type", "mimeType", "mime_type")


class Estimate(NamedTuple):
    """What a body tells."""

    #: Empty if the body names none.
    model: str
    usage: Usage


def estimate(body: Union[bytes, str]) -> Optional[Estimate]:
    """Reads a body; ``None`` where it is no JSON."""
    try:
        # Floats are not looked at, so they need not be read.
        value = json.loads(body, parse_float=lambda _: 0.0, parse_constant=lambda _: 0.0)
    except (ValueError, RecursionError):
        return None
    fields = value if isinstance(value, dict) else {}
    text_bytes = tokens = attachments = 0
    for kind, amount in _content(value):
        text_bytes += amount if kind == "text" else 0
        tokens += amount if kind == "token" else 0
        attachments += amount if kind == "attachment" else 0
    counted = text_bytes // BYTES_PER_TOKEN + tokens + attachments * ATTACHMENT_TOKENS
    model = fields.get("model")
    return Estimate(
        model if isinstance(model, str) else "",
        Usage(input_tokens=max(1, counted), max_output_tokens=_output_bound(fields)),
    )


def _content(value: Any) -> Iterator[tuple[str, int]]:
    """What is in a value, at any depth. With a list of its own instead of recursion, since bodies come from anywhere."""
    values = [value]
    while values:
        value = values.pop()
        if isinstance(value, str):
            yield ("attachment", 1) if value.startswith("data:") else ("text", len(value.encode(errors="replace")))
        elif isinstance(value, list):
            yield "token", sum(1 for item in value if isinstance(item, (int, float)) and not isinstance(item, bool))
            values.extend(value)
        elif isinstance(value, dict):
            is_media = any(name in value for name in MEDIA)
            for name, field in value.items():
                if is_media and name == "data" and isinstance(field, str):
                    yield "attachment", 1
                else:
                    values.append(field)


def _output_bound(fields: dict[str, Any]) -> Optional[int]:
    for path in OUTPUT_BOUNDS:
        found: Any = fields
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        bound = _amount(found)
        if bound is not None:
            # Each of the answers that are asked for can be as long as the bound.
            choices = max(_amount(fields.get(name)) or 1 for name in ("n", "best_of"))
            return min(bound * choices, AMOUNT_MAX)
    return None


def _amount(value: Any) -> Optional[int]:
    is_amount = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= AMOUNT_MAX
    return value if is_amount else None
