"""What sealing asks of a buffer, and the wipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Buffer


class SecretBuffer(Protocol):
    """A writable, contiguous buffer that is lent and given back."""

    def __buffer__(self, flags: int, /) -> memoryview: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> object: ...

    def release(self) -> None:
        """Give the memory back; BufferError while views of it are alive."""


class Acquire(Protocol):
    """Whatever lends buffers, `secure_buffer` for one."""

    def __call__(self, nbytes: int, /) -> SecretBuffer:
        """Lend a buffer of exactly that many bytes."""


def wipe(buffer: Buffer) -> None:
    """Overwrite a writable, contiguous buffer with zeroes; TypeError if it is read-only."""
    with memoryview(buffer) as view:
        if view.readonly or not view.c_contiguous:
            raise TypeError("only a writable, contiguous buffer can be wiped")
        if view.nbytes:
            with view.cast("B") as flat:
                flat[:] = bytes(flat.nbytes)
