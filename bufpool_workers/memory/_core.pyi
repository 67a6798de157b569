"""Types of the native core, and the docstrings that its public names have at run time."""

from collections.abc import Buffer as Bytes
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import CodeType, TracebackType
from typing import Any, Literal, NoReturn, Self, SupportsIndex, final, overload

from bufpool_workers.memory.pools import Pools
from bufpool_workers.pool_stats import PoolStats, WarmupResult

@final
class Buffer:
    """A piece of a pool's memory of exactly the length that was asked for; a context manager.

    It supports the buffer protocol (PEP 3118: writable, contiguous, format "B"). After release
    every access raises ValueError. Its memory is not lent again while it has views.

    `==` compares its bytes with those of any contiguous object, in a time that doesn't depend on
    them. `hex`, `decode`, `copy` and `+` would copy a secret: secure and random ones raise
    TypeError.
    """

    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __release_buffer__(self, view: memoryview, /) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, key: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> memoryview: ...
    @overload
    def __setitem__(self, key: SupportsIndex, value: int, /) -> None: ...
    @overload
    def __setitem__(self, key: slice, value: Bytes | Iterable[SupportsIndex], /) -> None: ...
    def __iter__(self) -> Iterator[int]: ...
    def __contains__(self, part: SupportsIndex | Bytes, /) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]
    def __add__(self, other: Bytes, /) -> bytearray: ...
    def __iadd__(self, other: object, /) -> NoReturn: ...
    def __copy__(self) -> bytearray: ...
    def __deepcopy__(self, memo: dict[int, Any], /) -> bytearray: ...
    def find(
        self,
        part: SupportsIndex | Bytes,
        start: SupportsIndex | None = None,
        end: SupportsIndex | None = None,
        /,
    ) -> int:
        """Return where `part` (bytes or an int) begins first in buffer[start:end], or -1."""

    def index(
        self,
        part: SupportsIndex | Bytes,
        start: SupportsIndex | None = None,
        end: SupportsIndex | None = None,
        /,
    ) -> int:
        """Return where `part` begins first, as `find` does; raise ValueError if it is not there."""

    def count(
        self,
        part: SupportsIndex | Bytes,
        start: SupportsIndex | None = None,
        end: SupportsIndex | None = None,
        /,
    ) -> int:
        """Return how often `part` (bytes or an int) is in buffer[start:end], without overlaps."""

    def startswith(
        self,
        prefix: Bytes | tuple[Bytes, ...],
        start: SupportsIndex | None = None,
        end: SupportsIndex | None = None,
        /,
    ) -> bool:
        """Return True if buffer[start:end] starts with `prefix`, or with any of a tuple of them."""

    def endswith(
        self,
        suffix: Bytes | tuple[Bytes, ...],
        start: SupportsIndex | None = None,
        end: SupportsIndex | None = None,
        /,
    ) -> bool:
        """Return True if buffer[start:end] ends with `suffix`, or with any of a tuple of them."""

    def hex(self, sep: str | bytes | None = None, bytes_per_sep: int = 1) -> str:
        """Return the content in hexadecimal, as bytes.hex does.

        Raises TypeError for secure and random kinds, of which it would leave a copy.
        """

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the content as text, as bytes.decode does.

        Raises TypeError for secure and random kinds, of which it would leave a copy.
        """

    def copy(self) -> bytearray:
        """Return the content in a bytearray, which belongs to no pool.

        Raises TypeError for secure and random kinds, of which it would leave a copy.
        """

    def release(self) -> None:
        """Return the memory to its pool.

        Raises ValueError if it was returned before, and BufferError while views of the buffer are
        alive (a slice, a memoryview, a numpy array), as bytearray and mmap do.
        """

    @property
    def nbytes(self) -> int:
        """The size that was asked for, in bytes."""

    @property
    def capacity(self) -> int:
        """The size of its size class, in bytes; at least `nbytes`."""

    @property
    def kind(self) -> Literal["regular", "secure", "random"]:
        """The kind of its pool: "regular", "secure" or "random"."""

    @property
    def released(self) -> bool:
        """True once it was returned to its pool."""

@final
class BufferPool:
    """A pool of one kind ("regular", "secure" or "random"), its bounds, and its memory.

    One pool serves all threads of its process; after a fork the child's begins empty. `prepare` is
    called with the pool before its first use in a process; `locate` returns the place that a buffer
    is acquired at, `tally` the TaskTally that counts for a task, by its name. Raises ValueError for
    an unknown kind and for size classes that don't increase.
    """

    def __init__(
        self,
        kind: str,
        *,
        size_classes: tuple[int, ...],
        max_bytes: int,
        max_buffer_bytes: int,
        warm: dict[int, int] | None = None,
        lend_at_limit: bool = True,
        secure_level: str = "any",
        prepare: Callable[[BufferPool], None] | None = None,
        locate: Callable[[], str] | None = None,
        tally: Callable[[str], TaskTally] | None = None,
    ) -> None: ...
    @property
    def kind(self) -> str:
        """The kind of its buffers: "regular", "secure" or "random"."""

    @property
    def size_classes(self) -> tuple[int, ...]:
        """The sizes that it keeps, in bytes; a request gets the smallest that fits."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the size classes in metrics, such as "64kb"; the last is "larger"."""

    @property
    def max_bytes(self) -> int:
        """The most that it holds in a process, idle and in use, in bytes."""

    @property
    def max_buffer_bytes(self) -> int:
        """The largest size that may be asked for, in bytes."""

    @property
    def warm_levels(self) -> dict[int, int]:
        """The number of buffers that `warm` maps, by size class in bytes."""

    def acquire(self, nbytes: SupportsIndex | str, /) -> Buffer:
        """Return a buffer of exactly `nbytes` (an int, or text like "64KiB").

        Raises what `bufpool_workers.buffer` raises, and PoolClosed after `close`.
        """

    def stats(self) -> PoolStats:
        """Return this process's numbers, also by size class."""

    def warm(self, *, seconds: float = 2.0) -> WarmupResult:
        """Map and touch the buffers of `warm_levels`, within `seconds`.

        Buffers that are not reached are mapped later, when they are asked for. Warming again maps
        only what is missing. Raises LimitExceeded if they don't fit under the cap.
        """

    def trim(self, *, all_idle: bool = True) -> int:
        """Return idle memory above the warm level to the system; return its bytes.

        Without `all_idle`, only memory that was not needed since the last call.
        """

    def bind_counters(self, block: object, offsets: Sequence[int]) -> None:
        """Keep the counters in `block`, an object with a writable buffer, from now on.

        `offsets` are in bytes, one for each label and, within it, each of FIELDS. The block is
        held (it can't be closed or resized) until the pool is bound to another one.
        """

    def counters(self) -> list[tuple[float, ...]]:
        """Return a tuple of floats in the order of FIELDS for each label, all of one moment."""

    def close(self) -> None:
        """Close the pool. Regular buffers that are out stay valid until they are released.

        Secure and random ones are taken back and overwritten, as at the end of a task.
        """

@final
class TaskTally:
    def bind(
        self, counters: object, offsets: Sequence[int], peak: object, peak_offset: int
    ) -> None: ...
    def counts(self) -> tuple[float, ...]: ...

def release_on_exit(buffer: Buffer, blame: CodeType | None) -> None: ...
def enter_scope(name: str, job: object = None) -> None: ...
def current_job() -> Any: ...
def outermost_scope() -> tuple[str, Any] | None: ...
def end_scope(name: str, *pools: BufferPool) -> list[tuple[str, int, bool, str | None]]: ...
def checkouts() -> int: ...
def set_owner(runtime: object, /) -> None: ...
def note_misuse(
    field: str,
    kind: str,
    nbytes: int,
    *,
    place: str | None = None,
    blame: CodeType | None = None,
    task: str | None = None,
    number: int = 1,
) -> None: ...
def tell_noted() -> None: ...
def warn_reclaimed(message: str, blame: CodeType | None) -> None: ...
def install(pools: Pools, /) -> Pools: ...
def uninstall() -> None: ...
def installed_pools() -> Pools | None: ...
def buffer(nbytes: SupportsIndex | str) -> Buffer:
    """Return a buffer of exactly `nbytes` (an int, or text like "64KiB") from the regular pool.

    Its contents are undefined, as in any reused memory. Raises TypeError or ValueError for an
    invalid size, LimitExceeded above `bufpool_max_buffer_bytes`, MemoryError if the system has no
    memory. Costs tens of nanoseconds if the pool has an idle buffer, and page faults if not.
    """

def secure_buffer(nbytes: SupportsIndex | str) -> Buffer:
    """Return a buffer of `nbytes` zeros from the secure pool, which zeroes it on release.

    Its memory is that of memfd_secret(2), else of mlock(2), else ordinary memory, as the system and
    `bufpool_secure_level` allow. Raises what `buffer` raises, and SecureLevelUnmet.
    """

def random_buffer(nbytes: SupportsIndex | str) -> Buffer:
    """Return a buffer of `nbytes` random bytes, which the pool overwrites on release.

    They are AES-256 in counter mode with fast key erasure, seeded by getrandom(2). The memory is as
    that of `secure_buffer`, and so are the errors.
    """
