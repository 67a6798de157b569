"""Which process a file belongs to."""

import hashlib

from bufpool_workers.counters.liveness import ProcessIdentity, current_host_id
from tests.support.forked import check_forked


def test_child_knows_its_host_without_hashing_it_anew(monkeypatch):
    """The first hash loads 700 KiB of OpenSSL's pages, which each child would pay for."""
    here = current_host_id()

    def check():
        assert ProcessIdentity.current().host_id == here

    monkeypatch.delattr(hashlib, "sha256")
    check_forked(check)
