"""Sealing and opening 32 bytes beside `cryptography`'s own HPKE, and the check of messages."""

import json
import pickle
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import bufpool_workers as bp
from bufpool_workers.sealing.walk import Walk
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


MESSAGE_BYTES = 1_000_000
"""About what a message of the checks holds, pickled."""


def messages() -> dict[str, Any]:
    numbers = random.Random(1)
    return {
        "integers": [numbers.randrange(1 << 20) for _ in range(MESSAGE_BYTES // 5)],
        "floats": [numbers.random() for _ in range(MESSAGE_BYTES // 9)],
        "strings": [f"a line of some text {n}" for n in range(MESSAGE_BYTES // 30)],
        "one dict": {f"key {n}": n for n in range(MESSAGE_BYTES // 14)},
        "pairs": [(n, str(n)) for n in range(MESSAGE_BYTES // 13)],
        "records": [
            {"id": n, "name": f"name {n}", "tags": ["a", "b"], "price": n / 4}
            for n in range(MESSAGE_BYTES // 44)
        ],
    }


def on_message(name: str) -> Callable[[], Names]:
    def names() -> Names:
        message, walk = messages()[name], Walk("here")
        return {
            "check": lambda: walk.look(message),
            "pickle": lambda: pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL),
            "json": lambda: json.dumps(message),
        }

    return names


def check_table() -> Table:
    table = Table(
        "publish_check", "the look for sealed arguments in a message of 1 MB, and its serialisation"
    )
    cases = [
        Case(f"check of {name}" if what == "check" else f"{what} of {name}", f"{what}()", make)
        for name in messages()
        for make in [on_message(name)]
        for what in ("check", "pickle", "json")
    ]
    timings = measure(cases)
    for check, pickled, in_json in zip(timings[::3], timings[1::3], timings[2::3], strict=True):
        table.add(check, pickled, reach=0.1)
        table.add(check, in_json, reach=0.1)
    return table


def tables() -> list[Table]:
    table = Table("sealing", "a secret of 32 bytes, sealed and opened into a secure buffer")
    cases = [
        Case("seal", "seal()", ours),
        Case("unseal", "unseal()", ours),
        Case("HPKE encrypt", "encrypt()", theirs),
        Case("HPKE decrypt", "decrypt()", theirs),
    ]
    seal, unseal, encrypt, decrypt = measure(cases)
    table.add(seal, encrypt, reach=1.2)
    table.add(unseal, decrypt, reach=1.2)
    return [table, check_table()]
