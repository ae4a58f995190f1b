"""What adapters read in bodies: estimates and usage, by the rules of client/conformance/README.md."""

from __future__ import annotations

import gzip
import json
import random
import zlib

import pytest

from permitd import Usage
from permitd._http.estimate import ATTACHMENT_TOKENS, estimate
from permitd._http.exchange import Exchange
from permitd._usage import AMOUNT_MAX

PICTURE = "A" * 1_000_000


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"messages": [{"content": "x" * 400}]}, 100),
        ({"input": ["x" * 400, "x" * 400]}, 200),
        ({"input": "文" * 400}, 300),
        ({}, 1),
        ([], 1),
        ({"input": [[1, 2, 3], [4, 5]]}, 5),
        ({"temperature": 0.5, "n": 3, "stop": [True, None]}, 1),
        ({"source": {"media_type": "image/png", "data": PICTURE}}, (9 // 4) + ATTACHMENT_TOKENS),
        ({"image_url": {"url": f"data:image/png;base64,{PICTURE}"}}, ATTACHMENT_TOKENS),
        ({"data": "x" * 40}, 10),
    ],
)
def test_input(body, tokens):
    assert estimate(json.dumps(body, ensure_ascii=False)).usage.input_tokens == tokens


@pytest.mark.parametrize(
    ("body", "bound"),
    [
        ({"max_tokens": 64}, 64),
        ({"max_tokens": 64, "max_completion_tokens": 32}, 32),
        ({"max_completion_tokens": "many", "max_tokens": 64}, 64),
        ({"generationConfig": {"maxOutputTokens": 7}}, 7),
        ({"generationConfig": [7]}, None),
        ({"max_tokens": 64, "n": 3}, 192),
        ({"max_tokens": 64, "n": 3, "best_of": 5}, 320),
        ({"max_tokens": 64, "n": 0}, 64),
        ({"max_tokens": AMOUNT_MAX, "n": AMOUNT_MAX}, AMOUNT_MAX),
        ({"max_tokens": -5}, None),
        ({"max_tokens": True}, None),
    ],
)
def test_bound_of_the_output(body, bound):
    assert estimate(json.dumps(body)).usage.max_output_tokens == bound


@pytest.mark.parametrize("body", [b"", b"hello", b"\xff\xfe", b"{", b"[" * 100_000, b"1" * 5_000])
def test_what_is_no_json_tells_nothing(body):
    assert estimate(body) is None


def test_deep_values_are_read():
    assert estimate(b"[" * 900 + b'"12345678"' + b"]" * 900).usage.input_tokens == 2


def test_model():
    assert estimate('{"model": "gpt-5"}').model == "gpt-5"
    assert estimate('{"model": 5}').model == ""


BODIES = [
    ({"usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}}, Usage(input_tokens=9, output_tokens=4)),
    (
        {"usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}}},
        Usage(input_tokens=9, output_tokens=4, cached_input_tokens=5),
    ),
    (
        {"usage": {"input_tokens": 9, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 0}}},
        Usage(input_tokens=9, output_tokens=4),
    ),
    (
        {
            "usage": {
                "input_tokens": 9,
                "output_tokens": 4,
                "cache_creation_input_tokens": 2,
                "cache_read_input_tokens": 3,
            }
        },
        Usage(input_tokens=14, output_tokens=4, cached_input_tokens=3),
    ),
    ({"usage": {"prompt_tokens": 9, "total_tokens": 9}}, Usage(input_tokens=9, output_tokens=0)),
    (
        {
            "usageMetadata": {
                "promptTokenCount": 9,
                "candidatesTokenCount": 4,
                "thoughtsTokenCount": 2,
                "cachedContentTokenCount": 1,
            }
        },
        Usage(input_tokens=9, output_tokens=6, cached_input_tokens=1),
    ),
    ([], None),
    ({"usage": None}, None),
    ({"usage": {"input_tokens": -1, "output_tokens": 1.5, "prompt_tokens": True}}, None),
    ({"usage": {"input_tokens": AMOUNT_MAX + 1}}, None),
]

STREAMS = [
    (  # OpenAI's chat completions: only the last chunk says it.
        [
            {"choices": [{"delta": {"content": "Hi"}}], "usage": None},
            {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}},
            "[DONE]",
        ],
        Usage(input_tokens=9, output_tokens=4),
    ),
    (  # OpenAI's responses.
        [
            {"type": "response.created", "response": {"usage": None}},
            {"type": "response.completed", "response": {"usage": {"input_tokens": 9, "output_tokens": 4}}},
        ],
        Usage(input_tokens=9, output_tokens=4),
    ),
    (  # Anthropic: the input at the start, the output so far later.
        [
            {
                "type": "message_start",
                "message": {"usage": {"input_tokens": 7, "cache_read_input_tokens": 2, "output_tokens": 1}},
            },
            {"type": "content_block_delta", "delta": {"text": "usage"}},
            {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 4}},
            {"type": "message_stop"},
        ],
        Usage(input_tokens=9, output_tokens=4, cached_input_tokens=2),
    ),
    (  # Gemini: each chunk says all so far.
        [
            {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 1}},
            {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4}},
        ],
        Usage(input_tokens=9, output_tokens=4),
    ),
    (["usage", "{", {"usage": "much"}], None),
    # One event in two lines.
    (['{"usage":@data: {"input_tokens": 9, "output_tokens": 4}}'], Usage(input_tokens=9, output_tokens=4)),
]


class Permit:
    """Keeps what is reported."""

    def __init__(self):
        self.reports = []

    def report_detached(self, report):
        self.reports.append(report)


def read(chunks, status=200, **headers):
    permit = Permit()
    exchange = Exchange(permit, 0.0, status, {name.replace("_", "-"): value for name, value in headers.items()})
    for chunk in chunks:
        exchange.take(chunk)
    exchange.end()
    exchange.end()
    assert len(permit.reports) == 1, "once, however often it ends"
    return permit.reports[0]


@pytest.mark.parametrize(("body", "usage"), BODIES)
def test_usage_of_bodies(body, usage):
    text = json.dumps(body).encode()
    assert read([text]).usage == usage
    assert read([text[:5], text[5:]]).usage == usage


@pytest.mark.parametrize(("events", "usage"), STREAMS)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_usage_of_streams_cut_anywhere(events, usage, newline):
    lines = [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in events]
    text = "".join(f"event: x{newline}data: {line}{newline}{newline}" for line in lines)
    text = text.replace("@", newline).encode()
    seed = random.randrange(2**32)
    luck = random.Random(seed)
    for _ in range(50):
        cuts = sorted(luck.randrange(len(text)) for _ in range(luck.randrange(8)))
        chunks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)])]
        assert read(chunks, content_type="text/event-stream; charset=utf-8").usage == usage, f"seed {seed}: {chunks}"


def test_a_stream_that_is_let_go_says_what_it_said():
    first = b'data: {"message": {"usage": {"input_tokens": 7}}}\n\ndata: {"usa'
    assert read([first], content_type="text/event-stream").usage == Usage(input_tokens=7)


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", lambda data: data)]
)
def test_what_is_compressed_is_read(encoding, compress):
    body = compress(json.dumps(BODIES[0][0]).encode())
    assert read([body[:9], body[9:]], content_encoding=encoding).usage == BODIES[0][1]


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_what_can_not_be_read_leaves_the_usage_unknown(encoding):
    assert read([b"garbage"], content_encoding=encoding).usage is None


def test_an_error_passes_on_its_beginning():
    report = read([b"x" * 3_000, b"y" * 3_000], status=429, retry_after="7")
    assert (report.status, report.usage, len(report.body)) == (429, None, 4_096)
    assert report.to_wire().headers["retry-after"] == "7"


def test_reports_hold_no_secret_and_are_bounded():
    headers = {"Retry-After": "7", "Set-Cookie": "secret", "Authorization": "secret", "x-ratelimit-long": "x" * 1_025}
    report = read([], status=200, **headers).to_wire()
    assert dict(report.headers) == {"retry-after": "7"}
