"""Amounts per unit: an estimate when asking, the actual use when reporting. Integers, exact to 64 bits."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Mapping, Optional

from . import _errors as errors
from .v1 import permit_pb2 as pb

#: The most of any unit.
AMOUNT_MAX = 2**64 - 1
#: Bytes in a name.
NAME_BYTES_MAX = 256
#: Further units in one estimate or report.
OTHER_UNITS_MAX = 16


@dataclass(frozen=True)
class Usage:
    """Amounts per unit. Every unit is optional: ``None`` means "unknown" in an estimate and "as charged" in a report.

    ``tokens`` alone in an estimate is the input, and what comes out is learned from reports and charged on top; in a report
    it is input and output together. ``max_output_tokens`` bounds the output of an estimate. ``cached_input_tokens`` is the
    part of the input that the provider read from its cache. ``other`` holds further units by name.
    """

    requests: Optional[int] = None
    tokens: Optional[int] = None
    input_tokens: Optional[int] = None
    output_tokens: Optional[int] = None
    max_output_tokens: Optional[int] = None
    cached_input_tokens: Optional[int] = None
    other: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(getattr(self, unit) is not None for unit in UNITS) or bool(self.other)


#: The units that have a field of their own.
UNITS = tuple(each.name for each in fields(Usage) if each.name != "other")


def check_amount(name: str, amount: Any) -> int:
    """An amount that the wire can hold, or an error that names it."""
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise errors.invalid(name, f"{amount!r} is no whole number")
    if not 0 <= amount <= AMOUNT_MAX:
        raise errors.invalid(name, f"{amount} is outside of 0 to {AMOUNT_MAX}")
    return amount


def check_name(name: str, value: Any) -> str:
    """A name that the server takes, or an error that names it."""
    if not isinstance(value, str):
        raise errors.invalid(name, f"{value!r} is no text")
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        raise errors.invalid(name, "has characters that are no Unicode text") from None
    if length > NAME_BYTES_MAX:
        raise errors.invalid(name, f"{length} bytes; a name has at most {NAME_BYTES_MAX}")
    return value


def to_wire(where: str, usage: Usage) -> pb.Usage:
    """Checked; errors name the unit behind ``where``."""
    message = pb.Usage()
    for unit in UNITS:
        amount = getattr(usage, unit)
        if amount is not None:
            setattr(message, unit, check_amount(f"{where}.{unit}", amount))
    if len(usage.other) > OTHER_UNITS_MAX:
        raise errors.invalid(f"{where}.other", f"{len(usage.other)} further units; at most {OTHER_UNITS_MAX}")
    for unit, amount in usage.other.items():
        if not check_name(f"{where}.other", unit):
            raise errors.invalid(f"{where}.other", "a unit without a name")
        message.other[unit] = check_amount(f"{where}.other[{unit!r}]", amount)
    return message


def from_wire(message: pb.Usage) -> Usage:
    """As the server says it."""
    known = {unit: getattr(message, unit) for unit in UNITS if message.HasField(unit)}
    return Usage(**known, other=dict(message.other))
