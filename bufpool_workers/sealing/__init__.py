"""Sealed task arguments: encrypted by the producer, opened only in the worker's secure memory."""

from bufpool_workers.sealing.keyring import Keyring
from bufpool_workers.sealing.keys import PublicKey, generate_key, read_public
from bufpool_workers.sealing.seal import seal
from bufpool_workers.sealing.token import Token

__all__ = [
    "Keyring",
    "PublicKey",
    "Token",
    "generate_key",
    "read_public",
    "seal",
]
