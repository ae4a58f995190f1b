"""When to try again: full jitter, so that the clients of a server that comes back do not come all at once."""

from __future__ import annotations

#: The ceiling of the first wait, in seconds; it doubles.
BASE = 0.05
#: The ceiling of every wait, in seconds.
CEILING = 5.0
#: A session that lived as long as this, in seconds, was a good one.
GOOD_LIFE = 1.0


def wait(failures: int, luck: float) -> float:
    """Seconds before the attempt after ``failures`` failed ones in a row, with ``luck`` from 0 to 1."""
    return min(BASE * (1 << min(failures, 16)), CEILING) * luck
