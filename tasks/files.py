"""Files: a digest, and a copy, both in chunks through one pooled buffer."""

import hashlib
from pathlib import Path

import bufpool_workers as bp
from tasks.app import app

CHUNK = 256 * bp.KiB


@app.task
@bp.pooled_buffer(CHUNK)
def digest(path: str, *, buf: bp.Buffer) -> str:
    """Return the SHA-256 of a file; `readinto` fills the same memory again and again."""
    sha256 = hashlib.sha256()
    with Path(path).open("rb", buffering=0) as file, memoryview(buf) as chunk:
        while n := file.readinto(chunk):
            sha256.update(chunk[:n])
    return sha256.hexdigest()


@app.task
@bp.pooled_buffer(CHUNK)
def copy(source: str, target: str, *, buf: bp.Buffer) -> int:
    """Copy a file, as an upload would, and give its size in bytes.

    It appears under its name when it is whole: a worker that dies leaves no half of it.
    """
    partial = Path(f"{target}.partial")
    total = 0
    with (
        Path(source).open("rb", buffering=0) as reader,
        partial.open("wb", buffering=0) as writer,
        memoryview(buf) as chunk,
    ):
        while n := reader.readinto(chunk):
            total += n
            written = 0
            while written < n:  # a write may take less than it is given
                written += writer.write(chunk[written:n])
    partial.rename(target)
    return total
