"""What a client did, told by its own clock: each attempt as it leaves for the provider, each job as it is wanted and ended."""

from __future__ import annotations

import json
import time
from typing import Any, Optional


class Record:
    """Of one client process. Jobs go by their numbers."""

    def __init__(self, jobs: list[dict]) -> None:
        self._input_tokens = [job["prompt_chars"] // 4 for job in jobs]
        self._began = 0.0
        self._failures: list[str] = []
        self._times: dict[int, dict[str, Any]] = {}

    def begin(self) -> None:
        """All times count from now on."""
        self._began = time.monotonic()

    def wanted(self, number: int) -> None:
        """Somebody wants this job done."""
        self._times[number] = {
            "wanted": self._now(),
            "set_out": None,
            "ended": None,
            "failed": False,
            "attempts": 0,
            "refused": 0,
            "input_tokens": self._input_tokens[number],
        }

    def attempted(self, number: int) -> None:
        """An attempt leaves for the provider."""
        self._times[number]["attempts"] += 1

    def set_out(self, number: int) -> None:
        """The latest attempt has waited until now, unless it is refused."""
        self._times[number]["set_out"] = self._now()

    def refused(self, number: int) -> None:
        """The latest attempt came to nothing: the job still waits."""
        self._times[number]["refused"] += 1
        self._times[number]["set_out"] = None

    def ended(self, number: int, failure: Optional[str] = None) -> None:
        """It was answered, or given up for the reason given."""
        self._times[number].update(ended=self._now(), failed=failure is not None)
        if failure is not None:
            self._failures.append(failure)

    def line(self) -> str:
        """All of it, as the fleet reads it."""
        return json.dumps({"failures": self._failures, "jobs": list(self._times.values())})

    def _now(self) -> float:
        return time.monotonic() - self._began
