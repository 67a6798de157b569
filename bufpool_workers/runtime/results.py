"""Sealed results: a worker's side, which `sealed_result` asks, and the caller's."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bufpool_workers.errors import KeyFileError, UnknownKey
from bufpool_workers.memory import Buffer
from bufpool_workers.runtime.job import REPLY_HEADER, Job, Reply, current_job
from bufpool_workers.runtime.process import current_runtime
from bufpool_workers.sealing.host_objects import outcome, task_name
from bufpool_workers.sealing.result_token import ResultToken, Returned

if TYPE_CHECKING:
    from bufpool_workers.sealing.hpke import KeyPair
    from bufpool_workers.sealing.keys import PublicKey

_KEY_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)


def result_sealer(function: Callable[..., Any]) -> Callable[[Returned], str | None] | None:
    """Return what seals the result of the job that runs `function`; None for a direct call.

    Raises KeyFileError and UnknownKey where it could not be sealed.
    """
    job = current_job()
    if job is None or job.function is not function or job.is_replying:
        return None
    job.is_replying = True
    reply = job.reply() if job.reply is not None else Reply()
    if not reply.is_kept:
        return _ignore
    try:
        keys = _recipient(reply.key_id, where=f"result of {job.name}"), _sender()
    except (KeyFileError, UnknownKey):
        _give_up(job)
        raise
    return lambda returned: _seal(returned, job, *keys)


def _seal(returned: Returned, job: Job, recipient: PublicKey, sender: KeyPair) -> str:
    from bufpool_workers.sealing.results import seal_result  # noqa: PLC0415 - cryptography

    try:
        return seal_result(
            returned, task=job.name, task_id=job.id, recipient=recipient, sender=sender
        )
    except (TypeError, ValueError):
        _give_up(job)
        raise


def _ignore(_returned: Returned) -> None:
    """Keep a result that nobody gets out of logs and events, too."""


def _give_up(job: Job) -> None:
    if job.give_up is not None:
        job.give_up()


def _recipient(wanted: object, *, where: str) -> PublicKey:
    from bufpool_workers.sealing.keys import read_public  # noqa: PLC0415 - cryptography

    sources = current_runtime().settings.result_public_keys
    if not sources:
        raise KeyFileError(f"{where}: no public key to seal to: set bufpool_result_public_keys")
    for source in sources:
        key = read_public(source)
        if wanted is None or key.key_id == wanted:
            return key
    is_id = isinstance(wanted, str) and _KEY_ID.fullmatch(wanted)
    asked = f"key {wanted}" if is_id else "something other than a key"
    raise UnknownKey(
        f"{where}: the caller asks for {asked}, which bufpool_result_public_keys does not list"
    )


def _sender() -> KeyPair:
    """Return the key pair that callers know by their `bufpool_public_key`, as far as it is held."""
    from bufpool_workers.sealing.keys import read_public  # noqa: PLC0415 - cryptography

    runtime = current_runtime()
    known = runtime.settings.public_key
    try:
        known_id = None if known is None else read_public(known).key_id
    except KeyFileError:  # a worker that seals no arguments may do without the file
        known_id = None
    return runtime.keys.private.sender(known_id)


def reply_to(public_key: str | os.PathLike[str] | PublicKey) -> dict[str, str]:
    """Return the message header that names the key to which a result is to be sealed.

    Celery takes it as `task.apply_async(args, headers=reply_to("web.pub"))`, Dramatiq as an option,
    `actor.send_with_options(args=args, **reply_to("web.pub"))`, RQ as `meta=` of `enqueue`, Huey
    with the arguments, `task(*args, **reply_to("web.pub"))`.

    Only the key's id travels: the worker must list the key in `bufpool_result_public_keys`.
    Otherwise anybody who can write to the broker could name a key of their own.
    """
    return {REPLY_HEADER: _public_key(public_key).key_id}


def unseal_result(
    result: Any,
    *,
    task: Any,
    task_id: str | None = None,
    public_key: str | os.PathLike[str] | PublicKey | None = None,
) -> Buffer:
    """Return a secure buffer with what a `sealed_result` task returned; release it after use.

    `result` is the job system's own object, for which it waits: an AsyncResult of Celery, a message
    of Dramatiq, a job of RQ, a Result of Huey, the future of an executor. Or it is a token together
    with its `task_id`. `task` is the task or its name. The token proves that a worker with the
    private key of `public_key` made it (by default that of `bufpool_public_key`).
    `bufpool_result_private_keys` open it.

    Raises what the job system raises for a task that failed (RuntimeError for RQ), and a SealError
    that names the task and never content.
    """
    name = task_name(task)
    if (known := outcome(result, task=name)) is not None:
        its_id, result = known
        if its_id is None:  # a future is the call's own, and no store was on the way
            its_id = ResultToken.parse(result, where=f"result of {name}").header.task_id
        task_id = its_id if task_id is None else task_id
    elif task_id is None:
        raise TypeError(
            "a token needs task_id, the id of the task whose result it has to be; what the token "
            "itself says is in sealing.ResultToken.parse(token).header"
        )
    settings = current_runtime().settings_for(task)
    source = settings.public_key if public_key is None else public_key
    if source is None:
        raise KeyFileError(
            "no public key to check the sender with: set bufpool_public_key, or give "
            "unseal_result() a public_key"
        )
    keyring = current_runtime().keys.for_results(settings)
    return keyring.unseal_result(result, task=name, task_id=task_id, senders=[_public_key(source)])


def _public_key(source: str | os.PathLike[str] | PublicKey) -> PublicKey:
    from bufpool_workers.sealing.keys import PublicKey, read_public  # noqa: PLC0415 - cryptography

    return source if isinstance(source, PublicKey) else read_public(source)
