"""Which tasks began and ended, one line each, appended by the tasks themselves."""

import os
from collections import Counter
from pathlib import Path

STARTED, DONE, FAILED, LIMITED, SHARED = "started", "done", "failed", "limited", "shared"
ENDED = frozenset({DONE, FAILED, LIMITED})


def note(path: Path, word: str, task_id: str) -> None:
    """Append a line; one write(2) to a file opened for appending is never torn or lost."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{word} {task_id}\n".encode())
    finally:
        os.close(fd)


class TaskLog:
    """The lines so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.words: Counter[str] = Counter()
        self.starts: Counter[str] = Counter()
        self.ended: dict[str, str] = {}

    def read(self) -> None:
        """Take in what was appended since the last time."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]
        self._at += len(text)
        for line in text.decode().splitlines():
            word, task_id = line.split()
            self.words[word] += 1
            if word == STARTED:
                self.starts[task_id] += 1
            elif word in ENDED:
                self.ended[task_id] = word

    @property
    def redelivered(self) -> int:
        """Runs beyond the first of their task."""
        return sum(self.starts.values()) - len(self.starts)
