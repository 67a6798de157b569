"""The doctor's look at the keys of sealed arguments."""

from __future__ import annotations

from collections.abc import Iterator

from bufpool_workers.diagnostics.finding import Finding, ok
from bufpool_workers.errors import KeyFileError
from bufpool_workers.sealing.keys import check_private, read_public
from bufpool_workers.settings import Settings


def check_keys(settings: Settings) -> Iterator[Finding]:
    """Check the public key, and the files of private keys, whose content is not read."""
    public = [(key, "arguments") for key in (settings.public_key,) if key is not None]
    public += [(key, "results") for key in settings.result_public_keys]
    for key, what in public:
        try:
            key_id = read_public(key).key_id
        except KeyFileError as error:
            yield Finding(
                "error",
                "public_key",
                str(error),
                "print it with `bufpool keygen --public FILE`",
            )
        else:
            yield ok("public_key", f"{what} are sealed to the public key {key_id}")
    for path in settings.private_keys + settings.result_private_keys:
        try:
            check_private(path)
        except KeyFileError as error:
            yield Finding("error", "keys", str(error), "see `bufpool keygen --help`")
        else:
            yield ok("keys", f"private key file {path}: only for its owner to read")
