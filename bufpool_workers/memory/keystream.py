"""Random bytes faster than the kernel gives them: AES-256-CTR with fast key erasure."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

_KEY_BYTES = 32
_ZEROS = bytes(64 * 1024)
# a key makes one block of keystream and is gone, so the counter may begin at nought each time
_COUNTER = bytes(16)


def make_block(block: memoryview) -> None:
    """Fill `block` with keystream of the key that its first 32 bytes are.

    The first 32 bytes of the keystream take that key's place, so that nobody who finds the block
    can learn what it gave before (https://blog.cr.yp.to/20170723-random.html). Costs about 5
    microseconds, and 8 for each 64 KiB.
    """
    cipher = Cipher(AES256(block[:_KEY_BYTES]), CTR(_COUNTER)).encryptor()
    for at in range(0, len(block), len(_ZEROS)):
        part = block[at : at + len(_ZEROS)]
        cipher.update_into(_ZEROS[: len(part)], part)


# cryptography makes its tables at their first use: a child that is forked while another thread does
# would wait for them for ever
make_block(memoryview(bytearray(_KEY_BYTES)))
