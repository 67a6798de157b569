"""A task of celery-singleton: one call at a time, told apart by the arguments of `unique_on`."""

import hashlib

from celery import shared_task
from celery_singleton import Singleton

import bufpool_workers as bp


@shared_task(base=Singleton, unique_on=["user"])
@bp.sealed("password")
def login_single(user, password):
    return hashlib.sha256(password).hexdigest()


@shared_task
def queue_twice(first, second):
    """Queue one call twice; return the ids of both."""
    ids = [login_single.apply_async(("ada", token), countdown=600).id for token in (first, second)]
    login_single.unlock(login_single.generate_lock(login_single.name, ("ada", first), {}))
    return ids
