"""A task of celery-batches: one body for many calls, each with a token of its own."""

import hashlib
import json
import os

from celery import shared_task
from celery_batches import Batches
from prometheus_client import Counter

import bufpool_workers as bp

BATCHED = Counter("shop_batched", "Calls that came in batches")
_keys = json.loads(os.environ["TEST_WORKER_SETTINGS"])["bufpool_private_keys"]


@shared_task(base=Batches, flush_every=3, flush_interval=600)
@bp.pooled_buffer(4096)
def login_all(requests, *, buf):
    from celery import current_app  # noqa: PLC0415

    keyring = bp.Keyring(_keys)
    for request in requests:
        with keyring.unseal(request.args[0], task=request.name, argument="password") as password:
            found = hashlib.sha256(password).hexdigest()
        BATCHED.inc()
        current_app.backend.mark_as_done(request.id, found, request=request)
