"""What clients can't do to the endpoint: take its slots, its time, its memory, or its log."""

import contextlib
import os
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

from bufpool_workers.metrics import Endpoint, bounded_server
from tests.support.forked import check_forked
from tests.support.processes import LocalProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*multi-threaded, use of fork:DeprecationWarning"  # a fork is what is tested
)
HALF = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Half: "
WHOLE = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"


class App:
    """Answers at once, or with more than any socket buffers, or when it is let go."""

    def __init__(self):
        self.calls = 0
        self.held: list[str] = []
        self.let_go = threading.Event()

    def __call__(self, environ, start_response):
        self.calls += 1
        path = environ["PATH_INFO"]
        if path == "/held":
            self.held.append(path)
            self.let_go.wait(30)
        if path == "/broken":
            raise ZeroDivisionError
        body = bytes(64 * 1024 * 1024) if path == "/large" else b"here"
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]


@pytest.fixture
def app():
    app = App()
    yield app
    app.let_go.set()


@pytest.fixture
def endpoint(app):
    endpoint = Endpoint.start(app, port=0)
    yield endpoint
    endpoint.close()


@pytest.fixture
def connect(endpoint):
    """Open a connection and send something; all are closed with the test."""
    with contextlib.ExitStack() as clients:

        def connect(said=HALF):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", endpoint.port)))
            client.settimeout(10)
            client.sendall(said)
            return client

        yield connect


def get(endpoint, path="", **options):
    url = f"http://127.0.0.1:{endpoint.port}/{path}"
    with urllib.request.urlopen(url, timeout=5, **options) as response:  # noqa: S310 - http
        return response.read()


def is_ended(client):
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def open_in(endpoint):
    return len(endpoint._server._open)


def waiting_in(endpoint):
    connections = list(endpoint._server._open.values())
    return sum(bool(each.waits_for) and not each.is_dropped for each in connections)


def test_half_sent_requests_make_room_for_an_honest_one(endpoint, connect, app):
    threads = threading.active_count()
    clients = []
    for _ in range(10):
        clients += [connect() for _ in range(20)]
        assert get(endpoint) == b"here"
        assert threading.active_count() <= threads + 17
    assert open_in(endpoint) <= 16
    assert app.calls == 10  # what was dropped half-sent is not answered
    assert all(is_ended(client) for client in clients[:-16])


def test_clients_that_do_not_read_make_room_for_an_honest_one(endpoint, connect):
    readers = [connect(WHOLE % b"large") for _ in range(40)]
    assert get(endpoint) == b"here"
    assert open_in(endpoint) <= 16
    assert len(readers) == 40


def test_half_sent_requests_make_room_before_an_answer_does(endpoint, connect):
    reader = connect(WHOLE % b"large")
    reader.recv(1)
    half = [connect() for _ in range(20)]
    assert get(endpoint) == b"here"
    left = 64 * 1024 * 1024
    while left > 0 and (got := reader.recv(1 << 20)):
        left -= len(got)
    assert left <= 0
    assert is_ended(half[0])


def test_answers_in_work_make_no_room_and_the_next_client_waits(endpoint, connect, app):
    clients = [connect(WHOLE % b"held") for _ in range(16)]
    wait_until(lambda: len(app.held) == 16, what="16 requests at work")
    late = connect(WHOLE % b"")
    late.settimeout(0.5)
    with pytest.raises(TimeoutError):
        late.recv(1)
    app.let_go.set()
    for client in (*clients, late):
        client.settimeout(10)
        assert client.makefile("rb").read().endswith(b"here")


def test_an_address_beyond_loopback_has_four(endpoint, connect, app, monkeypatch):
    monkeypatch.setattr(bounded_server, "is_loopback", lambda _: False)
    clients = []
    for number in range(8):
        clients.append(connect())
        assert number < 4 or is_ended(clients[number - 4])
        held = min(number + 1, 4)
        # a connection makes room from when its thread has come to wait for the client
        wait_until(
            lambda held=held: open_in(endpoint) == waiting_in(endpoint) == held,
            what="threads that wait for their clients",
        )
    assert get(endpoint) == b"here"
    for client in clients:
        client.close()
    wait_until(lambda: not open_in(endpoint), what="free slots")
    for _ in range(4):
        connect(WHOLE % b"held")
    wait_until(lambda: len(app.held) == 4, what="four requests at work")
    assert is_ended(connect())  # none of them can make room


def test_the_time_of_a_head_does_not_begin_again_with_each_byte(endpoint, connect, monkeypatch):
    monkeypatch.setattr(bounded_server, "HEAD_SECONDS", 0.5)
    client = connect()
    client.settimeout(0.05)
    began = time.monotonic()
    with pytest.raises(ConnectionError):  # noqa: PT012 - the byte after which it comes is open
        while time.monotonic() < began + 10:
            client.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                assert client.recv(1) == b""
                raise ConnectionError
    wait_until(lambda: not open_in(endpoint), what="a free slot")


def test_a_handshake_that_never_comes_takes_no_longer_than_a_head(app, certificate, monkeypatch):
    monkeypatch.setattr(bounded_server, "HEAD_SECONDS", 0.5)
    endpoint = Endpoint.start(app, port=0, **certificate)
    try:
        with socket.create_connection(("127.0.0.1", endpoint.port), timeout=10) as silent:
            context = ssl.create_default_context(cafile=certificate["certfile"])
            with (
                socket.create_connection(("127.0.0.1", endpoint.port), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as half,
            ):
                half.sendall(HALF)
                assert is_ended(silent)
                with contextlib.suppress(ssl.SSLError):
                    assert is_ended(half)
                wait_until(lambda: not open_in(endpoint), what="free slots")
    finally:
        endpoint.close()
    assert app.calls == 0


def test_the_time_of_an_answer_ends_too(endpoint, connect, monkeypatch):
    monkeypatch.setattr(bounded_server, "ANSWER_SECONDS", 0.5)
    reader = connect(WHOLE % b"large")
    reader.recv(1)
    wait_until(lambda: not open_in(endpoint), what="a free slot")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 200_000,
        b"GET / HTTP/1.1\r\n" + b"X-Large: 1\r\n" * 20_000,
        b"GET / HTTP/1.1\r\nX-Large: " + b"x" * 200_000,
    ],
    ids=["line", "count", "value"],
)
def test_a_large_head_is_refused_before_it_is_whole(endpoint, connect, app, head):
    with contextlib.suppress(ConnectionError):  # the rest of the head may be in flight
        client = connect(head)
        assert client.recv(100).startswith(b"HTTP/1.0 431 ")
    wait_until(lambda: not open_in(endpoint), what="a free slot")
    assert app.calls == 0


def test_a_head_that_ends_early_is_not_answered(endpoint, connect, app):
    client = connect()
    client.shutdown(socket.SHUT_WR)
    assert is_ended(client)
    assert app.calls == 0


def test_whatever_fails_is_one_line_in_the_log(endpoint, connect, caplog, capfd):
    for _ in range(3):
        connect().shutdown(socket.SHUT_WR)
    for _ in range(60):
        connect()
    wait_until(lambda: caplog.messages, what="a line in the log")
    for _ in range(60):
        connect()
        connect(WHOLE % b"large")
    endpoint.close()
    (line,) = caplog.messages
    assert line.startswith("bufpool: metrics endpoint: ")
    assert "Traceback" not in caplog.text + capfd.readouterr().err


def test_misuses_between_two_lines_are_counted_in_the_second(
    endpoint, connect, caplog, monkeypatch
):
    monkeypatch.setattr(bounded_server, "LOG_SECONDS", 1.0)
    connect().shutdown(socket.SHUT_WR)
    wait_until(lambda: caplog.messages, what="a line in the log")
    for _ in range(3):
        connect().shutdown(socket.SHUT_WR)
    wait_until(lambda: len(caplog.messages) == 2, what="another line")
    begin, reason = "bufpool: metrics endpoint: ", "it ended inside its head"
    assert caplog.messages == [
        f"{begin}a request from 127.0.0.1 failed: {reason}",
        f"{begin}3 requests failed, the last from 127.0.0.1: {reason}",
    ]


def test_a_client_that_only_connects_is_not_logged(endpoint, connect, caplog):
    connect(b"").close()
    assert get(endpoint) == b"here"
    wait_until(lambda: not open_in(endpoint), what="a free slot")
    endpoint._server.service_actions()
    assert caplog.messages == []


def test_an_application_that_fails_is_logged_with_its_place(endpoint, caplog, capfd):
    with pytest.raises(urllib.error.HTTPError, match="500") as caught:
        get(endpoint, "broken")
    caught.value.close()
    wait_until(lambda: caplog.messages, what="a line in the log")
    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" not in capfd.readouterr().err


def socket_inodes():
    inodes = set()
    for fd in os.listdir("/proc/self/fd"):  # noqa: PTH208 - Path lists the same
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            inodes.add(os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115
    return {inode for inode in inodes if inode.startswith("socket:")}


FLOOD = """
import contextlib, itertools, socket, sys
for number in itertools.count():
    with contextlib.ExitStack() as clients, contextlib.suppress(ConnectionError):
        for _ in range(50):
            client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
            clients.enter_context(client).sendall(sys.argv[2 + number % 2].encode())
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this system shows no descriptors")  # noqa: PTH112
def test_a_forked_child_keeps_no_connection(app, tmp_path):
    before = socket_inodes()
    endpoint = Endpoint.start(app, port=0)
    requests = HALF.decode(), (WHOLE % b"").decode()
    flood = [sys.executable, "-c", FLOOD, str(endpoint.port), *requests]
    held = 0

    def check():
        assert socket_inodes() <= before

    try:
        with LocalProcess(flood, log=tmp_path / "log") as process:
            process.wait_until(lambda: open_in(endpoint) >= 8, what="connections")
            for _ in range(200):
                held += open_in(endpoint)
                check_forked(check)
    finally:
        endpoint.close()
    assert held >= 200
