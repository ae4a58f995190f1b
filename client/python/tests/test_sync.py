"""The client for threads, and processes that fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
import requests
from conftest import threads_left

import permitd
from permitd import Outcome, Report, Request, Usage

LIMITS = {"p/k": ["in_flight=1"], "p/many": ["requests=1000000/1m"]}


def test_acquires_and_reports(serve):
    """Goal: what the asyncio client does, for a thread."""
    server = serve(LIMITS)
    with permitd.connect(server.endpoint, tenant="web") as client:
        assert client.is_connected
        with client.acquire("p/k", tokens=5) as permit:
            assert permit.charged.input_tokens == 5
            assert repr(permit) == "<Permit p/k from server>"
            advice = permit.report(status=500, latency=0.5, usage=Usage(tokens=3))
        assert (advice.outcome, advice.settled, advice.retry) == (Outcome.FAILED, True, True)
        with pytest.raises(permitd.Refused):
            client.acquire("p", "other")
    assert threads_left() == []
    client.close()
    with pytest.raises(permitd.Closed):
        client.acquire("p/k")


def test_a_server_that_is_not_there_leaves_no_thread():
    """Goal: a client that can't be made leaves nothing behind."""
    with pytest.raises(permitd.Unavailable):
        permitd.connect("http://127.0.0.1:1", outage_after=0.05)
    assert threads_left() == []


def test_deadlines_leave_the_queue(serve):
    """Goal: a thread that waits in vain is told so, and its place is given up."""
    server = serve(LIMITS)
    with permitd.connect(server.endpoint) as client:
        with client.acquire("p/k") as held:
            with pytest.raises(TimeoutError):
                client.acquire("p/k", timeout=0.05)
            with pytest.raises(permitd.NotInTime):
                client.acquire("p/k", max_wait=0.05)
            held.report()
        client.acquire("p/k", max_wait=0).cancel()


@pytest.fixture
def interruptible():
    """Ctrl-C raises here, also where the tests were started by something that ignores it, as jobs in the background are."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_leaves_the_queue(serve):
    """Goal: Ctrl-C ends the wait, and a grant that comes goes back."""
    server = serve(LIMITS)
    with permitd.connect(server.endpoint) as client:
        held = client.acquire("p/k")

        def interrupt():
            while not server.state("p/k")["waiting"]:
                pass
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            client.acquire("p/k")
        interrupter.join()
        held.report()
        client.acquire("p/k", timeout=10).report()


def test_close_ends_what_waits(serve):
    """Goal: threads that wait are told when another closes the client."""
    server = serve(LIMITS)
    client = permitd.connect(server.endpoint)
    held = client.acquire("p/k")
    told = []

    def wait():
        try:
            client.acquire("p/k")
        except permitd.Closed as error:
            told.append(error.reason)

    waiter = threading.Thread(target=wait)
    waiter.start()
    while not server.state("p/k")["waiting"]:
        pass
    client.close()
    waiter.join()
    assert told == ["CLIENT_CLOSED"]
    with pytest.raises(permitd.Closed):
        held.report()


def test_threads_share_one_session(serve):
    """Goal: many threads at once, and every permit is settled once."""
    server = serve(LIMITS)
    settled = []
    with permitd.connect(server.endpoint) as client:

        def work():
            settled.extend(client.acquire("p/many").report().settled for _ in range(100))

        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert settled == [True] * 1_600
    assert server.state("p/many")["in_flight"] == 0


class Answer:
    """Looks like a response."""

    def __init__(self, status, **headers):
        self.status_code, self.headers, self.content = status, headers, b"{}"


def test_call_is_made_again_while_that_is_advised(serve):
    """Goal: a refusal in the result is reported as such, the last result is the caller's."""
    server = serve(LIMITS)
    with permitd.connect(server.endpoint) as client:
        answers = [Answer(429, **{"retry-after": "0"}), Answer(200)]
        assert client.call(lambda _: answers.pop(0), "p/many").status_code == 200
        assert answers == []
        refusals = []
        last = client.call(lambda _: refusals.append(1) or Answer(429, **{"retry-after": "0"}), "p/many", attempts=3)
        assert (last.status_code, len(refusals)) == (429, 3)
        assert client.call(lambda _: Answer(404), Request("p/many")).status_code == 404


def test_call_passes_exceptions_on(serve):
    """Goal: what the function raises is read for a response, and comes through in the end."""
    server = serve(LIMITS)
    with permitd.connect(server.endpoint) as client:
        raised = []

        def fail(_permit):
            raised.append(1)
            raise requests.HTTPError(response=Answer(400))

        with pytest.raises(requests.HTTPError):
            client.call(fail, "p/many")
        assert len(raised) == 1, "a 400 would fail again"
        with pytest.raises(ZeroDivisionError):
            client.call(lambda _: raised.append(1) or 1 // 0, "p/many", attempts=2, classify=lambda _: Report("failed"))
        assert len(raised) == 3
        assert server.state("p/many")["in_flight"] == 0


FORKS = """
import os, sys, permitd

with permitd.connect(sys.argv[1]) as client:
    held = client.acquire("p/k")
    child = os.fork()
    if child == 0:
        try:
            client.acquire("p/k", timeout=1)
        except permitd.Closed as error:
            client.close()
            del held
            os._exit(0 if error.reason == "CLIENT_FORKED" else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert held.report().settled
    client.acquire("p/k", timeout=10).report()
"""


def test_a_forked_child_is_told(serve):
    """Goal: the child gets a clear error at once, reports nothing, and the parent goes on."""
    server = serve(LIMITS)
    # gRPC's own handlers of forks crash one child in ten; the README says how to leave them out.
    environment = {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"}
    subprocess.run([sys.executable, "-c", FORKS, server.endpoint], env=environment, check=True, timeout=60)
    assert server.state("p/k")["in_flight"] == 0
