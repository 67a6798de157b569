"""What becomes of the answers that nodes send over the broker."""

import kombu.utils.functional
import pytest
from celery import Celery

import bufpool_workers as bp
from bufpool_workers.celery import environment, nodes
from bufpool_workers.errors import MetricsError
from bufpool_workers.metrics import Report
from bufpool_workers.settings import Settings

ENDED = environment.Sign("shop@host", None, 7)
EMPTY = Report(unix_seconds=1.0, pools={})


def test_an_answer_is_read_as_the_report_that_it_was():
    assert nodes._node("shop@host", EMPTY.as_dict()).report == EMPTY


def test_a_node_that_can_not_answer_is_named_with_its_reason():
    with pytest.raises(MetricsError, match="shop@host: it counts nowhere"):
        nodes._node("shop@host", {"error": "it counts nowhere"})


@pytest.mark.parametrize(
    "answer",
    [None, [], "pong", {}, EMPTY.as_dict() | {"pools": 3}, EMPTY.as_dict() | {"processes": [{}]}],
)
def test_an_answer_that_makes_no_sense_is_named(answer):
    with pytest.raises(MetricsError, match="shop@host: its answer makes no sense"):
        nodes._node("shop@host", answer)


def test_a_worker_that_ends_while_it_is_looked_at_is_no_error(tmp_path, monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    living = tmp_path / "living"
    living.mkdir()
    signs = [(tmp_path / "gone", ENDED), (living, ENDED._replace(node="other@host"))]
    monkeypatch.setattr(environment, "find_private", lambda: iter(signs))
    finder = nodes.Finder(app=Celery(set_as_current=False), settings=Settings())
    assert [node.name for node in finder.find()] == ["other@host"]


@pytest.fixture
def ask(monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr(environment, "find_private", lambda: iter(()))

    def ask(broker):
        app = Celery("asked", broker=broker, set_as_current=False)
        bp.setup(app)
        nodes.Finder(app=app, settings=Settings(), timeout_seconds=0.2).find()

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
def test_a_broker_url_that_is_wrong_is_told_without_its_password(ask, broker, said):
    with pytest.raises(nodes.BrokerError, match=said) as caught:
        ask(broker)
    assert "hunter" not in str(caught.value)


def test_a_broker_that_is_away_is_waited_for_as_long_as_is_said(ask, monkeypatch):
    asked = []
    sleep = kombu.utils.functional.sleep
    monkeypatch.setattr(kombu.utils.functional, "sleep", lambda s: (asked.append(s), sleep(s)))
    with pytest.raises(nodes.BrokerError, match=r"broker redis://:\*\*@127\.0\.0\.1:1/0: "):
        ask("redis://127.0.0.1:1/0")
    assert asked
    assert max(asked) < 1  # of 0.2 s in all
