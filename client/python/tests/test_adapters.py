"""The adapters for httpx, httpx2 and requests, in front of a scripted provider and a real permitd."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import httpx2
import pytest
import requests

import permitd
import permitd.aio
import permitd.httpx
import permitd.httpx2
import permitd.requests

# A sliding window gives nothing back within a test, so that what was used can be told to the token.
LIMITS = {"openai/prod": ["tokens=100000/1h,window=sliding", "in_flight=1"]}
ASKED = {"model": "gpt-5", "max_completion_tokens": 50, "messages": [{"role": "user", "content": "x" * 400}]}
USED = json.dumps({"usage": {"prompt_tokens": 90, "completion_tokens": 4}}).encode()
LIMITED = json.dumps({"error": {"message": "Rate limit reached for requests", "code": "rate_limit_exceeded"}}).encode()
EVENTS = [
    b'data: {"choices": []}\n\n',
    b'data: {"usage": {"prompt_tokens": 90, "completion_tokens": 4}}\n\n',
    b"data: [DONE]\n\n",
]
OK = (200, {"content-type": "application/json"}, [USED])
STREAM = (200, {"content-type": "text/event-stream"}, EVENTS)
REFUSED = (429, {"retry-after-ms": "1"}, [LIMITED])


class Provider:
    """Answers with what it is told, the last answer for ever, and keeps what it was asked."""

    def __init__(self):
        self.answers, self.asked = [OK], []
        self.most_at_once = self.at_once = 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                provider.answer(self)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_):
                pass

        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/chat/completions"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def answer(self, handler):
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            status, headers, chunks = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        length = int(handler.headers.get("content-length", 0))
        self.asked.append(handler.rfile.read(length))
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(sum(map(len, chunks))))
        handler.end_headers()
        for chunk in chunks:
            handler.wfile.write(chunk)
        with self.lock:
            self.at_once -= 1

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def provider():
    provider = Provider()
    yield provider
    provider.close()


class Ways:
    """The same request, ``post``, by each adapter: returns status, body, and headers."""

    @staticmethod
    def httpx(permits, budget, url, **options):
        return Ways._httpx(httpx, permitd.httpx, permits, budget, url, options)

    @staticmethod
    def httpx2(permits, budget, url, **options):
        return Ways._httpx(httpx2, permitd.httpx2, permits, budget, url, options)

    @staticmethod
    def requests(permits, budget, url, **options):
        with requests.Session() as session:
            session.mount("http://", permitd.requests.PermitAdapter(permits, budget, **options))
            response = session.post(url, json=ASKED)
            return response.status_code, response.content, response.headers

    @staticmethod
    def requests_streaming(permits, budget, url, **options):
        with requests.Session() as session:
            session.mount("http://", permitd.requests.PermitAdapter(permits, budget, **options))
            with session.post(url, json=ASKED, stream=True) as response:
                return response.status_code, b"".join(response.iter_content(7)), response.headers

    @staticmethod
    def async_httpx(permits, budget, url, **options):
        return Ways._async(httpx, permitd.httpx, permits, budget, url, options)

    @staticmethod
    def async_httpx2(permits, budget, url, **options):
        return Ways._async(httpx2, permitd.httpx2, permits, budget, url, options)

    @staticmethod
    def _httpx(http, adapter, permits, budget, url, options):
        with http.Client(transport=adapter.PermitTransport(permits, budget, **options)) as client:
            response = client.post(url, json=ASKED)
            return response.status_code, response.content, response.headers

    @staticmethod
    def _async(http, adapter, permits, budget, url, options):
        async def run():
            endpoint = permits._driver._settings.endpoints[0].text
            async with permitd.aio.connect(endpoint) as own:
                transport = adapter.AsyncPermitTransport(own, budget, **options)
                async with http.AsyncClient(transport=transport) as client:
                    response = await client.post(url, json=ASKED)
                    return response.status_code, response.content, response.headers

        return asyncio.run(run())


WAYS = [name for name in vars(Ways) if not name.startswith("_")]
BUDGET = permitd.Request("openai/prod", max_wait=20)


@pytest.fixture(params=WAYS)
def post(request):
    return getattr(Ways, request.param)


@pytest.mark.parametrize("answer", [OK, STREAM])
def test_what_was_used_is_reported(serve, provider, post, answer):
    """Goal: a call holds its estimate, and settles by what the answer says, whole or in a stream."""
    server = serve(LIMITS)
    provider.answers = [answer]
    with permitd.connect(server.endpoint) as permits:
        status, body, _ = post(permits, BUDGET, provider.url)
        assert (status, body) == (200, b"".join(answer[2]))
        # Settled as OpenAI counts: the larger of the input and the bound, with the real input.
        assert server.used("openai/prod", "tokens") == 90
    assert json.loads(provider.asked[0]) == ASKED


def test_refusals_are_sent_again_while_that_is_advised(serve, provider, post):
    """Goal: the application sees the answer that it wanted, and the provider the same body again."""
    provider.answers = [REFUSED, REFUSED, OK]
    with permitd.connect(serve(LIMITS).endpoint) as permits:
        status, body, headers = post(permits, BUDGET, provider.url)
    assert (status, body) == (200, USED)
    assert "x-should-retry" not in headers
    assert [json.loads(asked) for asked in provider.asked] == [ASKED] * 3


def test_attempts_are_bounded(serve, provider, post):
    """Goal: the last refusal is handed on whole, and SDKs are told to leave it at that."""
    provider.answers = [REFUSED]
    with permitd.connect(serve(LIMITS).endpoint) as permits:
        status, body, headers = post(permits, BUDGET, provider.url, attempts=2)
    assert (status, body) == (429, LIMITED)
    assert headers.get("x-should-retry", "false") == "false"
    assert len(provider.asked) == 2


def test_what_would_fail_again_is_not_sent_again(serve, provider, post):
    """Goal: a call that is wrong in itself is sent once, and its slot is free after it."""
    provider.answers = [(400, {}, [b"no"]), OK]
    with permitd.connect(serve(LIMITS).endpoint) as permits:
        assert post(permits, BUDGET, provider.url)[:2] == (400, b"no")
        assert post(permits, BUDGET, provider.url)[0] == 200
    assert len(provider.asked) == 2


def test_a_long_error_is_handed_on_whole(serve, provider, post):
    """Goal: an error of any length comes through, though only its beginning is kept and reported."""
    long = b"x" * 3_000_000
    provider.answers = [(400, {}, [long])]
    with permitd.connect(serve(LIMITS).endpoint) as permits:
        assert post(permits, BUDGET, provider.url)[:2] == (400, long)


def test_a_provider_that_is_not_there_costs_nothing(serve, post):
    """Goal: a call that never went out gives everything back."""
    server = serve(LIMITS)
    with permitd.connect(server.endpoint) as permits:
        with pytest.raises((httpx.ConnectError, httpx2.ConnectError, requests.ConnectionError)):
            post(permits, BUDGET, "http://127.0.0.1:1/")
        assert server.used("openai/prod", "tokens") == 0


def test_without_a_permit_nothing_is_sent(serve, provider, post):
    """Goal: the refusal of a permit comes through as it is."""
    with permitd.connect(serve(LIMITS).endpoint) as permits:
        with pytest.raises(permitd.Refused) as error:
            post(permits, permitd.Request("openai/other"), provider.url)
    assert error.value.reason == "BUDGET_UNKNOWN"
    assert provider.asked == []


def test_requests_can_be_told_apart(serve, provider, post):
    """Goal: a function names the budget of each request, or lets it pass without a permit."""
    seen = []

    def budget(request):
        seen.append(str(request.url))

    with permitd.connect(serve({}).endpoint) as permits:
        assert post(permits, budget, provider.url)[0] == 200
    assert seen == [provider.url]


def test_a_budget_that_makes_no_sense_is_told_at_once(serve):
    """Goal: bad settings fail where they stand, not at the first request."""
    with permitd.connect(serve({}).endpoint) as permits:
        with pytest.raises(permitd.InvalidRequest, match="provider: is empty"):
            permitd.httpx.PermitTransport(permits, "")


def test_a_stream_that_is_let_go_frees_its_slot(serve, provider):
    """Goal: whoever stops reading settles the permit all the same."""
    provider.answers = [STREAM]
    with permitd.connect(serve(LIMITS).endpoint) as permits:
        transport = permitd.httpx.PermitTransport(permits, BUDGET)
        with httpx.Client(transport=transport) as client:
            for _ in range(3):
                with client.stream("POST", provider.url, json=ASKED) as response:
                    next(response.iter_bytes())


def test_a_body_that_is_made_as_it_is_sent_is_sent_once(serve, provider):
    """Goal: what can't be sent again is not, and is not read ahead either."""
    provider.answers = [REFUSED]
    with permitd.connect(serve(LIMITS).endpoint) as permits:
        transport = permitd.httpx.PermitTransport(permits, BUDGET)
        with httpx.Client(transport=transport) as client:
            response = client.post(provider.url, content=iter([b"a", b"b"]), headers={"content-length": "2"})
    assert response.status_code == 429
    assert provider.asked == [b"ab"]


def test_slots_are_kept_by_threads(serve, provider):
    """Goal: as many calls at once as the budget has slots, whoever sends them."""
    with permitd.connect(serve(LIMITS).endpoint) as permits:
        with httpx.Client(transport=permitd.httpx.PermitTransport(permits, BUDGET)) as client:
            threads = [threading.Thread(target=lambda: client.post(provider.url, json=ASKED)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert len(provider.asked) == 8
    assert provider.most_at_once == 1
