"""LiteLLM's Router with one deployment, its rpm and tpm, and Redis to count them together."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

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
    """All processes count by the same Redis."""

    def __init__(self, assignment: dict, record: Record) -> None:
        litellm.suppress_debug_info = True
        litellm.aclient_session = httpx.AsyncClient(transport=recording(httpx, record), timeout=120)
        limits, redis = assignment["limits"], urlsplit(assignment["redis"])
        deployment = {
            "model": "openai/compare",
            "api_base": f"{assignment['provider']}/v1",
            "api_key": KEY,
            "rpm": limits["requests"]["per_minute"],
            "tpm": limits["tokens"]["per_minute"],
        }
        self._name = assignment["name"]
        self._router = Router(
            model_list=[{"model_name": "compare", "litellm_params": deployment}],
            routing_strategy="usage-based-routing-v2",
            redis_host=redis.hostname,
            redis_port=redis.port,
            num_retries=RETRIES,
        )

    async def make(self, number: int, job: dict) -> None:
        asked = body(job) | {"model": "compare"}
        try:
            await self._router.acompletion(**asked, extra_headers=headers(number) | {"x-sim-client": self._name})
        except Exception as error:
            # The Router raises more than its own kinds.
            raise GaveUp(f"{type(error).__name__}: {error}"[:200]) from error
