"""What becomes of the answers that nodes send over the broker."""

import pytest
from celery import Celery

from bufpool_workers.errors import MetricsError
from bufpool_workers.metrics import Report
from bufpool_workers.settings import Settings
from bufpool_workers.worker import metricsdir, nodes

ENDED = metricsdir.Sign("shop@host", None, 7)
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
    monkeypatch.setattr(metricsdir, "find_private", lambda: iter(signs))
    finder = nodes.Finder(app=Celery(set_as_current=False), settings=Settings())
    assert [node.name for node in finder.find()] == ["other@host"]
