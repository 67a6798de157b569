import asyncio
import json
import logging
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from bufpool_workers.counters.history import read_history
from bufpool_workers.errors import MetricsError
from bufpool_workers.metrics import Endpoint, asgi_app, serve, server, wsgi_app
from tests.support.forked import check_forked
from tests.support.waiting import wait_until

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*multi-threaded, use of fork:DeprecationWarning"  # a fork is what is tested
)


def get_wsgi(app, path, method="GET"):
    environ = {"QUERY_STRING": "", "REQUEST_METHOD": method}
    setup_testing_defaults(environ)
    environ["PATH_INFO"] = path
    said = {}
    body = validator(app)(environ, lambda status, headers: said.update(s=status, h=dict(headers)))
    try:
        return said["s"], said["h"], b"".join(body).decode()
    finally:
        body.close()


def call_asgi(app, received, **scope):
    sent = []

    async def receive():
        return {"type": received}

    async def send(message):
        sent.append(message)

    asyncio.run(app({"query_string": b"", "headers": [], **scope}, receive, send))
    return sent


def get_asgi(app, path, method="GET", root_path=""):
    scope = {"type": "http", "method": method, "path": path, "root_path": root_path}
    start, body = call_asgi(app, "http.request", **scope)
    return start["status"], dict(start["headers"]), body["body"].decode()


def test_wsgi_serves_metrics_health_and_a_page(workers, tmp_path):
    workers.count(gets=3)
    app = wsgi_app(tmp_path)
    status, headers, text = get_wsgi(app, "/metrics")
    assert status == "200 OK"
    assert headers["Content-Type"].startswith("text/plain")
    assert 'bufpool_gets_total{pool="regular",size="2kb"} 3.0' in text
    assert get_wsgi(app, "/healthz")[::2] == ("200 OK", "ok\n")
    status, headers, text = get_wsgi(app, "/")
    assert (status, headers["Content-Type"]) == ("200 OK", "text/html; charset=utf-8")
    assert "Regular pool" in text
    assert "Secure pool" not in text  # nobody used it
    status, headers, text = get_wsgi(app, "/status.json")
    assert (status, headers["Content-Type"]) == ("200 OK", "application/json")
    assert json.loads(text)["pools"]["regular"]["sizes"]["2kb"]["gets"] == 3
    assert get_wsgi(app, "/other")[0] == "404 Not Found"


def test_asgi_serves_the_same(workers, tmp_path):
    workers.count(gets=3)
    app = asgi_app(tmp_path, namespace="bufpool")
    status, _, text = get_asgi(app, "/metrics")
    assert status == 200
    assert 'bufpool_gets_total{pool="regular",size="2kb"} 3.0' in text
    assert get_asgi(app, "/healthz")[::2] == (200, "ok\n")
    assert get_asgi(app, "/")[1][b"Content-Type"] == b"text/html; charset=utf-8"
    assert json.loads(get_asgi(app, "/status.json")[2])["total"]["gets"] == 3
    assert get_asgi(app, "/other")[0] == 404


@pytest.mark.parametrize(
    ("path", "status", "begins"),
    [
        ("/m/metrics", 200, "# HELP"),
        ("/m/healthz", 200, "ok"),
        ("/m/", 200, "<!doctype html>"),
        ("/m", 200, "<!doctype html>"),
        ("/m/other", 404, "not found"),
        ("/metrics", 200, "# HELP"),  # from who leaves out what stands in root_path
    ],
)
def test_asgi_serves_below_where_it_is_mounted(workers, tmp_path, path, status, begins):
    workers.count(gets=3)
    found, _, text = get_asgi(asgi_app(tmp_path), path, root_path="/m")
    assert found == status
    assert text.lower().startswith(begins.lower())


def test_asgi_refuses_a_websocket(tmp_path):
    sent = call_asgi(asgi_app(tmp_path), "websocket.connect", type="websocket", path="/metrics")
    assert [message["type"] for message in sent] == ["websocket.close"]


# /metrics is prometheus_client's to answer: 405 to WSGI
@pytest.mark.parametrize("path", ["/", "/healthz", "/status.json", "/other"])
def test_head_is_get_without_a_body(workers, tmp_path, path):
    workers.count(gets=3)
    for get, app in ((get_wsgi, wsgi_app(tmp_path)), (get_asgi, asgi_app(tmp_path))):
        status, headers, body = get(app, path)
        status_of_head, headers_of_head, body_of_head = get(app, path, "HEAD")
        assert status_of_head == status
        assert headers_of_head.keys() == headers.keys()
        assert len(body) > len(body_of_head) == 0


def test_asgi_answers_its_servers_lifespan(tmp_path):
    messages = iter(["lifespan.startup", "lifespan.shutdown"])
    sent = []

    async def receive():
        return {"type": next(messages)}

    async def send(message):
        sent.append(message["type"])

    asyncio.run(asgi_app(tmp_path)({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_the_directory_is_that_of_the_environment(workers, tmp_path, monkeypatch):
    workers.count(gets=3)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert "bufpool_gets_total" in get_wsgi(wsgi_app(), "/metrics")[2]


def test_the_variables_former_name_is_taken_and_named(workers, tmp_path, monkeypatch):
    workers.count(gets=3)
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setenv("prometheus_multiproc_dir", str(tmp_path))
    with pytest.warns(UserWarning, match="set PROMETHEUS_MULTIPROC_DIR"):
        app = wsgi_app()
    assert "bufpool_gets_total" in get_wsgi(app, "/metrics")[2]


@pytest.mark.parametrize("make", [wsgi_app, asgi_app])
def test_without_a_directory_it_says_what_to_do(make, monkeypatch, tmp_path):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    with pytest.raises(MetricsError, match="set PROMETHEUS_MULTIPROC_DIR"):
        make()
    with pytest.raises(MetricsError, match="absent"):
        make(tmp_path / "absent")


def test_a_directory_that_goes_away_is_a_failed_scrape_that_says_so(tmp_path):
    directory = tmp_path / "metrics"
    directory.mkdir()
    applications = wsgi_app(directory), asgi_app(directory)
    directory.rmdir()
    for path in ("/metrics", "/", "/status.json"):
        status, _, text = get_wsgi(applications[0], path)
        assert status == "503 Service Unavailable"
        assert str(directory) in text
        assert get_asgi(applications[1], path)[0] == 503


@pytest.fixture
def endpoint(workers, tmp_path):
    workers.count(gets=3)
    endpoint = Endpoint.start(wsgi_app(tmp_path), port=0)
    yield endpoint
    endpoint.close()


def fetch(endpoint, path="/metrics", scheme="http", **options):
    url = f"{scheme}://127.0.0.1:{endpoint.port}{path}"
    with urllib.request.urlopen(url, timeout=30, **options) as response:  # noqa: S310 - its scheme is above
        return response.read().decode()


def test_a_server_answers_on_loopback(endpoint):
    assert "bufpool_gets_total" in fetch(endpoint)
    assert fetch(endpoint, "/healthz") == "ok\n"
    assert endpoint._server.server_address[0] == "127.0.0.1"


def test_a_taken_port_is_named(endpoint, tmp_path):
    with pytest.raises(MetricsError, match=f":{endpoint.port}: Address already in use"):
        Endpoint.start(wsgi_app(tmp_path), port=endpoint.port)


def test_a_forked_child_closes_its_copy_and_the_server_stays(endpoint):
    def check():
        endpoint.close()
        assert endpoint._server.socket.fileno() == -1

    check_forked(check)
    assert "bufpool_gets_total" in fetch(endpoint)


def test_once_closed_the_port_is_free(tmp_path):
    endpoint = Endpoint.start(wsgi_app(tmp_path), port=0)
    endpoint.close()
    with pytest.raises(urllib.error.URLError, match="refused"):
        fetch(endpoint)


def test_tls_lets_in_only_those_with_a_certificate(workers, tmp_path, certificate, caplog, capfd):
    workers.count(gets=3)
    endpoint = Endpoint.start(
        wsgi_app(tmp_path),
        port=0,
        **certificate,
        client_cafile=certificate["certfile"],
        client_auth_required=True,
    )
    context = ssl.create_default_context(cafile=certificate["certfile"])
    known = ssl.create_default_context(cafile=certificate["certfile"])
    known.load_cert_chain(**certificate)
    try:
        with socket.create_connection(("127.0.0.1", endpoint.port)):  # one that never says hello
            assert "bufpool_gets_total" in fetch(endpoint, scheme="https", context=known)
            with pytest.raises((ssl.SSLError, urllib.error.URLError, ConnectionError)):
                fetch(endpoint, scheme="https", context=context)
            # logged by the request's thread, when the client has its answer already
            wait_until(lambda: caplog.messages, what="a line in the log")
    finally:
        endpoint.close()
    (line,) = caplog.messages
    assert line.startswith("bufpool: metrics endpoint: a request from 127.0.0.1 failed: ")
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in line
    assert "Traceback" not in caplog.text + capfd.readouterr().err


@pytest.mark.parametrize("name", ["certfile", "keyfile", "client_cafile", "client_capath"])
def test_a_missing_certificate_is_named(tmp_path, certificate, name):
    said = rf"{name} '{tmp_path}/absent' is missing, or this user can't read it"
    with pytest.raises(MetricsError, match=said):
        Endpoint.start(wsgi_app(tmp_path), port=0, **certificate | {name: f"{tmp_path}/absent"})


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this host has no IPv6")
def test_a_taken_address_is_named_as_in_a_url(tmp_path):
    endpoint = Endpoint.start(wsgi_app(tmp_path), port=0, host="::1")
    try:
        with pytest.raises(MetricsError, match=rf" \[::1\]:{endpoint.port}: Address already"):
            Endpoint.start(wsgi_app(tmp_path), port=endpoint.port, host="::1")
    finally:
        endpoint.close()


def test_served_endpoint_knows_its_address_and_leaves_no_server_in_children(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        endpoint = serve(wsgi_app(tmp_path), port=0)
    try:
        assert endpoint.url == f"http://127.0.0.1:{endpoint.port}/"
        assert caplog.messages == [f"bufpool: metrics at {endpoint.url}"]

        def check():
            assert endpoint._server.socket.fileno() == -1

        check_forked(check)
        assert fetch(endpoint, "/healthz") == "ok\n"
    finally:
        endpoint.close()


def test_address_that_is_not_available_is_named_as_it_was_given(endpoint, tmp_path):
    app, given = wsgi_app(tmp_path), {"port": "--port 9", "host": "metrics_host = '192.0.2.1'"}
    with pytest.raises(MetricsError, match=f"^--port 9: .*:{endpoint.port}: Address already"):
        serve(app, port=endpoint.port, given=given)
    with pytest.raises(MetricsError, match=r"^metrics_host = '192.0.2.1': metrics endpoint 192"):
        serve(app, port=0, host="192.0.2.1", given=given)
    with pytest.raises(MetricsError, match=r"^metrics endpoint 192"):
        serve(app, port=0, host="192.0.2.1")


def test_the_history_is_sampled_while_nobody_asks_and_shared(workers, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "INTERVAL_SECONDS", 0.01)
    workers.count(gets=3)
    endpoints = [serve(wsgi_app(tmp_path), port=0) for _ in range(2)]
    try:
        wait_until(lambda: (tmp_path / ".bufpool-history").exists(), what="a history")
        wait_until(lambda: read_history(tmp_path, now=time.time()), what="a sample")
        told = [
            json.loads(urllib.request.urlopen(f"{each.url}status.json").read())["history"]  # noqa: S310 - loopback
            for each in endpoints
        ]
    finally:
        for each in endpoints:
            each.close()
    assert told[0] == told[1]
    assert [sample[1] for sample in told[0]["samples"]] == [3]
    wait_until(
        lambda: "bufpool-history" not in {thread.name for thread in threading.enumerate()},
        what="the end of the threads",
    )


def test_a_history_that_can_not_be_kept_costs_nothing_else(workers, tmp_path, caplog):
    (tmp_path / ".bufpool-history").mkdir()
    workers.count(gets=3)
    app = wsgi_app(tmp_path)
    with caplog.at_level(logging.INFO):
        assert "bufpool_gets_total" in get_wsgi(app, "/metrics")[2]
        assert json.loads(get_wsgi(app, "/status.json")[2])["history"] is None
    assert len([text for text in caplog.messages if "history is not kept" in text]) == 1
