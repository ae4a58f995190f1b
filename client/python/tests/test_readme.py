"""The README's examples run as they stand, against a real server."""

from __future__ import annotations

import asyncio
import re
import types
from pathlib import Path

import httpx
import pytest
import requests

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
LIMITS = {"anthropic/prod": ["requests=100/1m", "in_flight=1"], "github/default": ["in_flight=1"]}


def run(example, server, **names):
    exec(compile(example.replace("http://127.0.0.1:7110", server.endpoint), "README.md", "exec"), names)
    return names


def test_there_are_three():
    assert len(EXAMPLES) == 3


def test_for_asyncio(serve):
    calls = []

    async def call_the_api():
        calls.append("called")
        await asyncio.sleep(0)
        return types.SimpleNamespace(input=812, output=96)

    run(EXAMPLES[0], serve(LIMITS), call_the_api=call_the_api)
    assert calls == ["called"]


@pytest.mark.parametrize("status", [200, 404])
def test_for_threads_and_in_one(serve, monkeypatch, status):
    calls = []

    def call_the_api():
        calls.append("called")
        return types.SimpleNamespace(input=812, output=96)

    def get(url):
        calls.append(url)
        return httpx.Response(status, request=httpx.Request("GET", url))

    monkeypatch.setattr(requests, "get", get)
    with_client = EXAMPLES[1] + "    " + EXAMPLES[2].replace("\n", "\n    ")
    names = run(with_client, serve(LIMITS), call_the_api=call_the_api, requests=requests, url="http://api")
    assert calls == ["called", "http://api"]
    assert names["response"].status_code == status
