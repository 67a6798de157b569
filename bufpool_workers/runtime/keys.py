"""The keys of this process: the public one that it seals to, the private ones that it opens with.

They are read from the settings of the process: this module puts `sealing` and the runtime together.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bufpool_workers.errors import ReplayStoreError
from bufpool_workers.runtime.process import current_runtime
from bufpool_workers.sealing import producer
from bufpool_workers.sealing.keys import PublicKey

if TYPE_CHECKING:
    from typing_extensions import Buffer


def seal(  # noqa: PLR0913 - a call reads as one sentence, all but the secret by keyword
    secret: Buffer | str,
    *,
    task: Any,
    argument: str,
    expires: float | timedelta | None = None,
    public_key: str | os.PathLike[str] | PublicKey | None = None,
    single_use: bool = False,
    wipe: bool = False,
) -> str:
    """Return a token that only a worker can open, and only as this argument of this task.

    `task` is a task or its name. `expires` is in seconds from now, or a timedelta; the clocks of
    producer and worker are trusted. `public_key` is a key's text or the path of a file that holds
    it, by default that of `bufpool_public_key`. A `single_use` token opens for one task only.
    Redis remembers it until it expires, so it must expire; raises ReplayStoreError if the task's
    app has no Redis. The encryption is HPKE (RFC 9180).

    `secret` is bytes-like, or a `str`, which is sealed as UTF-8. Python can wipe neither a `str`
    nor `bytes`: keep secrets in a `bytearray` or a buffer. `wipe=True` overwrites that buffer with
    zeros on return, also when sealing fails; raises TypeError if it is read-only.
    """
    if single_use:
        _check_store(task)
    return producer.seal(
        secret,
        task=task,
        argument=argument,
        expires=expires,
        public_key=public_key,
        single_use=single_use,
        wipe=wipe,
        default_key=lambda: current_runtime().keys.public_for(task),
    )


def _check_store(task: Any) -> None:
    """Refuse a single-use token that no worker of the app could open."""
    runtime = current_runtime()
    app = getattr(task, "app", None)
    hosts = [host for host in runtime.hosts if app is None or host.app is app]
    if not hosts or any(host.may_note_uses() for host in hosts):
        return
    if runtime.settings_for(task).single_use_url is None:
        raise ReplayStoreError(
            f"single_use=True: {hosts[0].name} has no Redis, neither as result backend nor as "
            "broker, in which uses could be noted: set bufpool_single_use_url"
        )
