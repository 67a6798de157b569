"""Nodes found on this host and over the broker."""

import kombu.utils.functional
import pytest
from celery import Celery

import bufpool_workers as bp
from bufpool_workers.celery import nodes
from bufpool_workers.counters import private_directory
from bufpool_workers.errors import MetricsError
from bufpool_workers.metrics import Report
from bufpool_workers.settings import Settings

ENDED = private_directory.NodeManifest("shop@host", None, 7)
EMPTY = Report(unix_seconds=1.0, pools={})


def test_answer_is_read_back_as_report():
    assert nodes._node("shop@host", EMPTY.as_dict()).report == EMPTY


def test_error_of_a_node_names_the_node():
    with pytest.raises(MetricsError, match="shop@host: it counts nowhere"):
        nodes._node("shop@host", {"error": "it counts nowhere"})


@pytest.mark.parametrize(
    "answer",
    [None, [], "pong", {}, EMPTY.as_dict() | {"pools": 3}, EMPTY.as_dict() | {"processes": [{}]}],
)
def test_malformed_answer_names_the_node(answer):
    with pytest.raises(MetricsError, match="shop@host: its answer makes no sense"):
        nodes._node("shop@host", answer)


def test_worker_that_ends_during_the_look_is_left_out(tmp_path, monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    living = tmp_path / "living"
    living.mkdir()
    signs = [(tmp_path / "gone", ENDED), (living, ENDED._replace(node="other@host"))]
    monkeypatch.setattr(private_directory, "discover", lambda: iter(signs))
    finder = nodes.NodeFinder(app=Celery(set_as_current=False), settings=Settings())
    assert [node.name for node in finder.find()] == ["other@host"]


@pytest.mark.filterwarnings("ignore:prometheus_multiproc_dir is deprecated")
@pytest.mark.parametrize("variable", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
def test_the_directory_of_the_environment_is_read_as_the_workers_take_it(
    tmp_path, monkeypatch, variable
):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prom").mkdir()
    monkeypatch.setenv(variable, "prom")
    finder = nodes.NodeFinder(app=Celery(set_as_current=False), settings=Settings())
    assert [node.name for node in finder.find()] == [str(tmp_path / "prom")]
    assert not finder.is_for_every_app


@pytest.fixture
def ask(monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr(private_directory, "discover", lambda: iter(()))

    def ask(broker):
        app = Celery("asked", broker=broker, set_as_current=False)
        bp.setup(app)
        nodes.NodeFinder(app=app, settings=Settings(), timeout_seconds=0.2).find()

    return ask


@pytest.mark.parametrize(
    ("broker", "said"),
    [
        ("nonsense://x", "broker_url can't be used: KeyError: No such transport: nonsense"),
        ("redis://:hunter/2@127.0.0.1/0", "broker_url can't be read: is the port a number"),
        (
            "redis://127.0.0.1/abc",
            r"broker redis://:\*\*@127\.0\.0\.1:6379/abc: ValueError: Database",
        ),
    ],
)
def test_wrong_broker_url_is_reported_without_password(ask, broker, said):
    with pytest.raises(nodes.BrokerError, match=said) as caught:
        ask(broker)
    assert "hunter" not in str(caught.value)


def test_unreachable_broker_is_given_up_after_the_timeout(ask, monkeypatch):
    asked = []
    sleep = kombu.utils.functional.sleep
    monkeypatch.setattr(kombu.utils.functional, "sleep", lambda s: (asked.append(s), sleep(s)))
    with pytest.raises(nodes.BrokerError, match=r"broker redis://:\*\*@127\.0\.0\.1:1/0: "):
        ask("redis://127.0.0.1:1/0")
    assert asked
    assert max(asked) < 1  # of 0.2 s in all
