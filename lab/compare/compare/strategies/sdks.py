"""The official packages, as they come."""

from __future__ import annotations

import anthropic as anthropic_package
import httpx2
import openai as openai_package

from ..record import Record
from . import GaveUp
from .calls import KEY, body, headers, recording

RETRIES = 10


def anthropic(assignment: dict, record: Record) -> Anthropic:
    """The `anthropic` package."""
    return Anthropic(assignment, recording(httpx2, record))


def openai(assignment: dict, record: Record) -> OpenAi:
    """The `openai` package."""
    return OpenAi(assignment, recording(httpx2, record))


class Anthropic:
    """Every call in its own coroutine; trying again is left to the package."""

    def __init__(self, assignment: dict, transport: httpx2.AsyncBaseTransport) -> None:
        self._sdk = anthropic_package.AsyncAnthropic(
            api_key=KEY,
            base_url=assignment["provider"],
            max_retries=RETRIES,
            timeout=120,
            default_headers={"x-sim-client": assignment["name"]},
            http_client=anthropic_package.DefaultAsyncHttpxClient(transport=transport),
        )

    async def make(self, number: int, job: dict) -> None:
        try:
            await self._sdk.messages.create(**body(job), extra_headers=headers(number))
        except anthropic_package.APIError as error:
            raise GaveUp(str(error)) from error


class OpenAi:
    """The same for OpenAI's shape."""

    def __init__(self, assignment: dict, transport: httpx2.AsyncBaseTransport) -> None:
        self._sdk = openai_package.AsyncOpenAI(
            api_key=KEY,
            base_url=f"{assignment['provider']}/v1",
            max_retries=RETRIES,
            timeout=120,
            default_headers={"x-sim-client": assignment["name"]},
            http_client=openai_package.DefaultAsyncHttpxClient(transport=transport),
        )

    async def make(self, number: int, job: dict) -> None:
        try:
            await self._sdk.chat.completions.create(**body(job), extra_headers=headers(number))
        except openai_package.APIError as error:
            raise GaveUp(str(error)) from error
