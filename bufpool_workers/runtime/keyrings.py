"""The keys of a process, and the store in which it notes uses of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from bufpool_workers.errors import KeyFileError
from bufpool_workers.memory import BufferPool
from bufpool_workers.runtime.job import Job
from bufpool_workers.settings import Settings
from bufpool_workers.units import KiB

if TYPE_CHECKING:
    from bufpool_workers.runtime.process import Runtime
    from bufpool_workers.sealing.keyring import Keyring
    from bufpool_workers.sealing.single_use import Store


class Keyrings:
    """The keys that the settings of a process name, each loaded at its first use.

    `of_test` is for `bufpool_workers.testing`: keys in memory, with their public key's text.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.of_test: tuple[Keyring, str] | None = None
        self.forget()

    def forget(self) -> None:
        """Forget what is loaded, as in the child of a fork."""
        self._private: Keyring | None = None
        self._for_results: tuple[tuple[str, ...], Keyring] | None = None
        self._is_kept_out = False
        self._note_use: Store | None = None

    @property
    def private(self) -> Keyring:
        """Return the private keys that arguments are opened with; the first use loads them.

        Raises KeyFileError if one can't be used.
        """
        if self.of_test is not None:
            return self.of_test[0]
        if self._private is None:
            self._private = self._load(self._runtime.settings.private_keys)
        return self._private

    def public_for(self, task: Any) -> str | None:
        """Return the public key that secrets are sealed to for a task, or for a task's name."""
        if self.of_test is not None:
            return self.of_test[1]
        return self._runtime.settings_for(task).public_key

    def for_results(self, settings: Settings) -> Keyring:
        """Return the private keys of these settings that open results; the first use loads them.

        Raises KeyFileError if one can't be used.
        """
        paths = settings.result_private_keys
        if self._for_results is None or self._for_results[0] != paths:
            self._for_results = paths, self._load(paths)
        return self._for_results[1]

    def keep_out(self) -> None:
        """Load no private key in this process from now on: its children run the jobs, and may."""
        self._is_kept_out = True

    def use_store(self, job: Job) -> Store | None:
        """Return the store of single-use tokens: that of the settings, else that of the job's host.

        None if there is none.
        """
        url = self._runtime.settings.single_use_url
        if url is None:
            return job.note_use
        if self._note_use is None:
            from bufpool_workers import redis_store  # noqa: PLC0415 - redis

            self._note_use = partial(redis_store.note_use, redis_store.connect(url))
        return self._note_use

    def _load(self, paths: Iterable[str]) -> Keyring:
        from bufpool_workers.sealing.keyring import Keyring  # noqa: PLC0415 - cryptography

        if self._is_kept_out:
            raise KeyFileError(
                "the main process of a worker opens nothing sealed, since it holds no private key: "
                "Celery calls an error callback there when the task's process was killed or met "
                "its hard time limit; let the callback take the task's id alone, or start a task"
            )
        # not the pool of the tasks, whose counters are the tasks' own
        pool = BufferPool(
            "secure",
            size_classes=(4 * KiB,),
            max_bytes=64 * KiB,
            max_buffer_bytes=4 * KiB,
            secure_level=self._runtime.settings.secure_level,
        )
        with closing(pool):
            return Keyring(paths, read_with=pool.acquire)
