"""Seal and open 32 bytes, beside `cryptography`'s own HPKE in the same run.

Prints microseconds per call and the ratio, each the best of several rounds that take turns.
"""

import tempfile
import timeit
from pathlib import Path

from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import bufpool_workers as bp

SECRET = bytes(range(32))
BOUND = {"task": "shop.login", "argument": "password"}
CALLS, ROUNDS = 50, 100


def best_of(functions):
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(ROUNDS):
        for name, function in functions.items():
            seconds = timeit.timeit(function, number=CALLS) / CALLS
            best[name] = min(best[name], seconds * 1e6)
    return best


def main():
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "worker.key"
        public_key = bp.generate_key(path)
        keyring = bp.Keyring([path])
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    private = X25519PrivateKey.generate()
    public = private.public_key()
    info = b"shop.login password"
    sealed = suite.encrypt(SECRET, public, info)
    token = bp.seal(SECRET, **BOUND, expires=3600, public_key=public_key)

    def open_token():
        with keyring.unseal(token, **BOUND):
            pass

    best = best_of(
        {
            "cryptography encrypt": lambda: suite.encrypt(SECRET, public, info),
            "seal": lambda: bp.seal(SECRET, **BOUND, expires=3600, public_key=public_key),
            "cryptography decrypt": lambda: suite.decrypt(sealed, private, info),
            "unseal": open_token,
        }
    )
    theirs = best["cryptography encrypt"] + best["cryptography decrypt"]
    ours = best["seal"] + best["unseal"]
    for name, microseconds in best.items():
        print(f"{name:22} {microseconds:7.1f} us")
    for name, ratio in (
        ("seal", best["seal"] / best["cryptography encrypt"]),
        ("open", best["unseal"] / best["cryptography decrypt"]),
        ("seal and open", ours / theirs),
    ):
        print(f"ratio {name:16} {ratio:7.2f}")


if __name__ == "__main__":
    main()
