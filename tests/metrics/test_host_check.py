"""The names that an endpoint on loopback answers to."""

import http.client
import json
import socket

import pytest

from bufpool_workers.metrics import Endpoint, wsgi_app

PATHS = ("/", "/status.json", "/metrics", "/other")


@pytest.fixture
def ask(tmp_path):
    endpoint = Endpoint.start(wsgi_app(tmp_path), port=0, hosts=["Metrics.example.com"])

    def ask(path, *hosts):
        connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=30)
        connection.putrequest("GET", path, skip_host=True)
        for host in hosts:
            connection.putheader("Host", host)
        connection.endheaders()
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text

    yield ask
    endpoint.close()


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST:9464", "localhost.", "shop.localhost:1"),
        *("127.0.0.1", "127.0.0.1:9464", "127.8.9.10", "[::1]", "[::1]:9464", "[::ffff:127.0.0.1]"),
        *("metrics.example.com", "metrics.example.com.:443"),
        socket.gethostname(),
    ],
)
def test_names_of_this_host_are_answered(ask, host):
    assert [ask(path, host)[0] for path in PATHS] == [200, 200, 200, 404]


@pytest.mark.parametrize(
    "hosts",
    [
        *(["evil.example"], ["localhost.evil.example"], ["127.0.0.1.evil.example"]),
        *(["evillocalhost"], ["metrics.example.com.evil.example"], ["192.0.2.1:9464"]),
        *(["[2001:db8::1]"], ["127.0.0.1@evil.example"], ["evil.example:80@127.0.0.1"]),
        *([""], ["."], ["[::1"], ["localhost/evil"], ["localhost:80:80"], ["lo\u00e7al"]),
        *(["localhost", "evil.example"], ["evil.example", "localhost"]),
    ],
)
def test_other_names_are_refused_with_what_to_set(ask, hosts):
    for path in PATHS:
        status, text = ask(path, *hosts)
        assert status == 421
        assert "bufpool_metrics_hosts" in text
    assert ask("/healthz", *hosts) == (200, "ok\n")


def test_a_request_without_host_comes_from_no_browser(ask):
    assert "pools" in json.loads(ask("/status.json")[1])


def test_elsewhere_than_on_loopback_any_name_is_answered(tmp_path):
    endpoint = Endpoint.start(wsgi_app(tmp_path), port=0, host="0.0.0.0")  # noqa: S104 - tested
    try:
        connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=30)
        connection.request("GET", "/status.json", headers={"Host": "node.example"})
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        endpoint.close()
