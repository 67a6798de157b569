"""A task of celery_once: one call at a time, told apart by the arguments that `keys` names."""

import hashlib

from celery import shared_task
from celery_once import QueueOnce

import bufpool_workers as bp


@shared_task(base=QueueOnce, once={"keys": ["user"]})
@bp.sealed("password")
def login_once(user, password):
    return hashlib.sha256(password).hexdigest()


@shared_task
def queue_twice(first, second):
    """Queue one call twice; return the id of the first, and how the second was refused."""
    result = login_once.apply_async(("ada", first), countdown=600)
    try:
        login_once.apply_async(("ada", second))
    except Exception as refused:  # noqa: BLE001
        return result.id, type(refused).__name__
    return result.id, None
