"""The official `openai` package, as it comes."""

from __future__ import annotations

import httpx2
import openai

from ..record import Record
from . import GaveUp
from .calls import KEY, body, headers, recording

RETRIES = 10


def plain(assignment: dict, record: Record) -> Sdk:
    """With nothing in between."""
    return Sdk(assignment, recording(httpx2, record))


class Sdk:
    """Every call in its own coroutine; trying again is left to the package."""

    def __init__(self, assignment: dict, transport: httpx2.AsyncBaseTransport) -> None:
        self._sdk = openai.AsyncOpenAI(
            api_key=KEY,
            base_url=f"{assignment['provider']}/v1",
            max_retries=RETRIES,
            timeout=120,
            default_headers={"x-sim-client": assignment["name"]},
            http_client=openai.DefaultAsyncHttpxClient(transport=transport),
        )

    async def make(self, number: int, job: dict) -> None:
        try:
            await self._sdk.chat.completions.create(**body(job), extra_headers=headers(number))
        except openai.APIError as error:
            raise GaveUp(str(error)) from error
