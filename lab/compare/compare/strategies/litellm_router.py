"""LiteLLM's Router with a deployment for each provider, with their rpm and tpm."""

from __future__ import annotations

import os

import httpx

# Prices do not matter here; without this they are fetched at every start.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
import litellm
from litellm import Router

from ..record import Record
from . import GaveUp
from .calls import KEY, body, headers, recording

RETRIES = 10


class Routed:
    """Its simple shuffle, weighed by rpm, is what LiteLLM advises for production. Usage-based routing over Redis counts by the
    minute, and comes to less in a pool."""

    def __init__(self, assignment: dict, record: Record) -> None:
        litellm.suppress_debug_info = True
        litellm.aclient_session = httpx.AsyncClient(transport=recording(httpx, record), timeout=120)
        limits = assignment["limits"]
        deployments = [
            {
                "model": "openai/compare",
                "api_base": f"{url}/v1",
                "api_key": KEY,
                "rpm": int(limits["requests"]["per_minute"] * part),
                "tpm": int(limits["tokens"]["per_minute"] * part),
            }
            for url, part in zip(assignment["providers"], assignment["parts"])
        ]
        self._name = assignment["name"]
        self._router = Router(
            model_list=[{"model_name": "compare", "litellm_params": deployment} for deployment in deployments],
            routing_strategy="simple-shuffle",
            num_retries=RETRIES,
            # With several deployments, all of them may be cooling down, and calls fail at once.
            disable_cooldowns=True,
        )

    async def make(self, number: int, job: dict) -> None:
        asked = body(job) | {"model": "compare"}
        try:
            await self._router.acompletion(**asked, extra_headers=headers(number) | {"x-sim-client": self._name})
        except Exception as error:
            # The Router raises more than its own kinds.
            raise GaveUp(f"{type(error).__name__}: {error}"[:200]) from error
