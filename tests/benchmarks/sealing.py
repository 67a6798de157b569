"""Sealing and opening 32 bytes, beside `cryptography`'s own HPKE."""

import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import bufpool_workers as bp
from tests.benchmarks.prepared import Names
from tests.benchmarks.report import Table
from tests.benchmarks.timing import Case, measure

SECRET = bytes(range(32))
BOUND = {"task": "shop.login", "argument": "password"}


def ours() -> Names:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "worker.key"
        public_key = bp.generate_key(path)
        keyring = bp.Keyring([path])

    def seal() -> str:
        return bp.seal(SECRET, **BOUND, expires=3600, public_key=public_key)

    token = seal()

    def unseal() -> None:
        with keyring.unseal(token, **BOUND):
            pass

    return {"seal": seal, "unseal": unseal}


def theirs() -> Names:
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    private = X25519PrivateKey.generate()
    public = private.public_key()
    info = b"shop.login password"
    sealed = suite.encrypt(SECRET, public, info)
    return {
        "encrypt": lambda: suite.encrypt(SECRET, public, info),
        "decrypt": lambda: suite.decrypt(sealed, private, info),
    }


def tables() -> list[Table]:
    table = Table("sealing", "a secret of 32 bytes, sealed and opened into a secure buffer")
    cases = [
        Case("seal", "seal()", ours),
        Case("unseal", "unseal()", ours),
        Case("HPKE encrypt", "encrypt()", theirs),
        Case("HPKE decrypt", "decrypt()", theirs),
    ]
    seal, unseal, encrypt, decrypt = measure(cases)
    table.add(seal, encrypt, reach=1.3)
    table.add(unseal, decrypt, reach=1.3)
    return [table]
