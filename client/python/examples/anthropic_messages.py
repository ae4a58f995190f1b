"""Many questions at once through the `anthropic` package and asyncio, safe by one line: the transport.

    ANTHROPIC_API_KEY=... python anthropic_messages.py

Wants a permitd server (PERMITD, default http://127.0.0.1:7110) with the budget anthropic/prod.
"""

import asyncio
import os

import anthropic

import permitd.aio
from permitd.httpx2 import AsyncPermitTransport

QUESTIONS = [f"What is {number} times {number}?" for number in range(1, 13)]


async def main() -> None:
    async with permitd.aio.connect(os.environ.get("PERMITD", "http://127.0.0.1:7110"), tenant="example") as permits:
        # The one line: every request waits for its permit first, and what it used is reported.
        transport = AsyncPermitTransport(permits, permitd.Request("anthropic/prod", max_wait=300))
        http = anthropic.DefaultAsyncHttpxClient(transport=transport)
        async with anthropic.AsyncAnthropic(http_client=http) as client:

            async def ask(question: str) -> str:
                answer = await client.messages.create(
                    model="claude-sonnet-5", max_tokens=200, messages=[{"role": "user", "content": question}]
                )
                return "".join(block.text for block in answer.content if block.type == "text")

            async def ask_streaming(question: str) -> str:
                async with client.messages.stream(
                    model="claude-sonnet-5", max_tokens=200, messages=[{"role": "user", "content": question}]
                ) as stream:
                    return "".join([text async for text in stream.text_stream])

            answers = await asyncio.gather(*map(ask, QUESTIONS[::2]), *map(ask_streaming, QUESTIONS[1::2]))
            for answer in answers:
                print(answer)


asyncio.run(main())
