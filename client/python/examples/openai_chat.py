"""Many questions at once through the `openai` package, safe by one line: the transport.

    OPENAI_API_KEY=... python openai_chat.py

Wants a permitd server (PERMITD, default http://127.0.0.1:7110) with the budget openai/prod.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import openai

import permitd
from permitd.httpx2 import PermitTransport

QUESTIONS = [f"What is {number} times {number}?" for number in range(1, 13)]


def main() -> None:
    with permitd.connect(os.environ.get("PERMITD", "http://127.0.0.1:7110"), tenant="example") as permits:
        # The one line: every request waits for its permit first, and what it used is reported.
        transport = PermitTransport(permits, permitd.Request("openai/prod", max_wait=300))
        with openai.OpenAI(http_client=openai.DefaultHttpxClient(transport=transport)) as client:

            def ask(question: str) -> str:
                answer = client.chat.completions.create(
                    model="gpt-5", max_completion_tokens=200, messages=[{"role": "user", "content": question}]
                )
                return answer.choices[0].message.content or ""

            def ask_streaming(question: str) -> str:
                stream = client.chat.completions.create(
                    model="gpt-5",
                    max_completion_tokens=200,
                    messages=[{"role": "user", "content": question}],
                    stream=True,
                    # Without it, OpenAI does not say what a stream used, and it counts as estimated.
                    stream_options={"include_usage": True},
                )
                return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

            with ThreadPoolExecutor(len(QUESTIONS)) as pool:
                answers = [*pool.map(ask, QUESTIONS[::2]), *pool.map(ask_streaming, QUESTIONS[1::2])]
            for answer in answers:
                print(answer)


main()
