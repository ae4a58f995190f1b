"""The examples run as they stand, with the real SDKs, against a simulated provider that refuses whatever is over its limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import anthropic
import openai
import pytest

import permitd
from permitd.httpx2 import PermitTransport

EXAMPLES = Path(__file__).parent.parent / "examples"
ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


def run(example, server, provider):
    """The lines that it prints, and what the provider counted."""
    names = {
        "PERMITD": server.endpoint,
        "OPENAI_BASE_URL": f"{provider}/v1",
        "OPENAI_API_KEY": "key",
        "ANTHROPIC_BASE_URL": provider,
        "ANTHROPIC_API_KEY": "key",
    }
    ran = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / example],
        env={**os.environ, **names},
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.splitlines(), stats(provider)


def stats(provider):
    with urllib.request.urlopen(f"{provider}/sim/stats", timeout=10) as response:
        return json.load(response)["keys"]["key"]


@pytest.mark.parametrize(("example", "budget"), [("openai_chat.py", "openai/prod"), ("anthropic_messages.py", "anthropic/prod")])
def test_examples_are_never_refused(serve, provide, example, budget):
    """Goal: twelve calls at once, half of them streams, against a provider that takes two: none is refused, and what was used
    is known to the token."""
    provider = provide("--concurrency", "2", "--latency-median-ms", "5")
    window = "1h,window=sliding"
    server = serve({budget: ["in_flight=2", f"requests=100/{window}", f"output_tokens=100000/{window}"]})
    answers, counted = run(example, server, provider)
    assert len(answers) == 12
    assert all(answers)
    assert (counted["ok"], counted["limited"]) == (12, 0)
    assert server.used(budget, "requests") == 12
    assert server.used(budget, "output_tokens") == counted["output_tokens"]


def test_the_simulator_refuses_without_permits(provide):
    """Goal: the test above can fail: without the one line, the same calls are refused."""
    provider = provide("--concurrency", "1", "--latency-median-ms", "200")
    with (
        openai.OpenAI(base_url=f"{provider}/v1", api_key="key", max_retries=0) as client,
        client.chat.completions.create(**ASKED, stream=True),
    ):
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(**ASKED)


def test_refusals_reach_the_sdk_once_and_as_its_own(serve, provide):
    """Goal: what the server advises against is told once, as the SDK's own exception, without retries of its own."""
    provider = provide("--requests", "1/1")
    server = serve({"anthropic/prod": ["requests=1000/1m"]})
    with permitd.connect(server.endpoint) as permits:
        transport = PermitTransport(permits, permitd.Request("anthropic/prod", max_wait=0), attempts=2)
        client = anthropic.Anthropic(
            base_url=provider, api_key="key", http_client=anthropic.DefaultHttpxClient(transport=transport)
        )
        client.messages.create(**ASKED, max_tokens=5)
        with pytest.raises(anthropic.RateLimitError):
            client.messages.create(**ASKED, max_tokens=5)
        # The refusal is known now: the next call does not get a permit at once, and the provider is left alone.
        with pytest.raises(anthropic.APIConnectionError) as error:
            client.with_options(max_retries=0).messages.create(**ASKED, max_tokens=5)
        client.close()
    assert isinstance(error.value.__cause__, permitd.NotInTime)
    counted = stats(provider)
    assert (counted["ok"], counted["limited"]) == (1, 1)
