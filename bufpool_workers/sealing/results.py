"""The side that seals a result: a worker, to its caller's public key, with its own private one."""

from __future__ import annotations

import time

from bufpool_workers.memory import Buffer
from bufpool_workers.sealing.hpke import AES_256_GCM, KeyPair
from bufpool_workers.sealing.keys import PublicKey, key_id
from bufpool_workers.sealing.result_token import ResultHeader, ResultToken, Returned
from bufpool_workers.sealing.token import MAX_SECRET_BYTES


def seal_result(
    returned: Returned, *, task: str, task_id: str, recipient: PublicKey, sender: KeyPair
) -> str:
    """Return the token of a value, which is bytes, str or a Buffer of at most `MAX_SECRET_BYTES`.

    Raises TypeError and ValueError, which never show it.
    """
    where = f"result of {task}"
    if not isinstance(returned.value, bytes | str | Buffer):
        kind = type(returned.value).__name__
        raise TypeError(f"{where}: bytes, str or a Buffer can be sealed, not {kind}")
    if isinstance(returned.value, Buffer) and returned.value.released:
        raise TypeError(
            f"{where}: the Buffer was given back before it could be sealed: put sealed_result next "
            "to pooled_buffer, with no other decorator between them"
        )
    # a character takes a byte at least
    if len(returned.value) <= MAX_SECRET_BYTES and isinstance(returned.value, str):
        returned.value = returned.value.encode("utf-8", "surrogatepass")
    if len(returned.value) > MAX_SECRET_BYTES:
        raise ValueError(f"{where}: at most {MAX_SECRET_BYTES} bytes can be sealed")
    header = ResultHeader(
        key_id=recipient.key_id,
        sender_id=key_id(sender.public),
        task=task,
        task_id=task_id,
        created_at=int(time.time()),
    )
    with memoryview(returned.value) as view:  # type: ignore[arg-type]  # a str is bytes by now
        sealed = AES_256_GCM.seal(view, recipient=recipient.key, info=header.info(), sender=sender)
    return ResultToken(header, sealed).text()
