"""Sealed arguments and results: encrypted by one side, opened in the other's secure memory."""

from typing import TYPE_CHECKING

from bufpool_workers import _lazy
from bufpool_workers.sealing.result_token import ResultToken
from bufpool_workers.sealing.token import Token

if TYPE_CHECKING:
    from bufpool_workers.sealing.keyring import Keyring
    from bufpool_workers.sealing.keys import PublicKey, generate_key, read_public
    from bufpool_workers.sealing.producer import seal

__all__ = [
    "Keyring",
    "PublicKey",
    "ResultToken",
    "Token",
    "generate_key",
    "read_public",
    "seal",
]

# these need cryptography
_HOMES = {
    "Keyring": "keyring",
    "PublicKey": "keys",
    "generate_key": "keys",
    "read_public": "keys",
    "seal": "producer",
}

__getattr__, __dir__ = _lazy.attach(
    __name__, {name: f"{__name__}.{home}" for name, home in _HOMES.items()}
)
