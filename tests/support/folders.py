"""Temporary folders that another user may enter."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that every user may enter, and remove it afterwards.

    pytest's `tmp_path` lies in one that each pytest closes to other users when it begins, also
    while another one runs.
    """
    with tempfile.TemporaryDirectory(prefix="bufpool-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
