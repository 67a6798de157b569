"""Single use: which tokens were opened, known in a store until they expire."""

from __future__ import annotations

import time
from collections.abc import Callable

from bufpool_workers.errors import ReplayStoreError, TokenReplayed
from bufpool_workers.sealing.token import Token

Store = Callable[[str, str, int], bool]
"""A store of used tokens: a function of (key, holder, seconds).

It notes the holder under the key for so many seconds, and returns True for the first holder,
whenever that one asks. It raises ReplayStoreError, with what stands against it, if it can't tell.
"""

_PREFIX = "bufpool:used:"
# A worker whose clock is late opens a token that the store, by its own clock, would have forgotten.
_CLOCK_SKEW_SECONDS = 300


def claim(token: Token, *, where: str, store: Store, holder: str) -> None:
    """Mark a token as used by `holder`, which may claim it again at a retry or a redelivery.

    Raises TokenReplayed, and ReplayStoreError if the store can't be asked: a token that can't be
    checked stays closed.
    """
    seconds = max(token.header.expires_at - int(time.time()), 0) + _CLOCK_SKEW_SECONDS
    try:
        is_first = store(_PREFIX + token.use_id, holder, seconds)
    except ReplayStoreError as error:
        raise ReplayStoreError(f"{where}: {error}") from None
    if not is_first:
        raise TokenReplayed(f"{where}: this single-use token was used before, by another task")
