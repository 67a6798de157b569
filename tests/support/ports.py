"""A port for a server that can't choose one itself and tell it."""

import atexit
import random
import socket

# a port of another process' connection is taken from the kernel's range, which begins at 32768
_PORTS = range(20_000, 32_768)
_held: list[socket.socket] = []
_dice = random.Random()  # not the module's own, which Hypothesis seeds: equal in all processes


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nothing listens on, and that no other process of tests is given.

    While this process lives, a UDP socket of the same number says so to the others.
    """
    for port in _dice.sample(_PORTS, k=len(_PORTS)):
        holder = socket.socket(type=socket.SOCK_DGRAM)
        try:
            holder.bind((host, port))
            with socket.socket() as probe:
                probe.bind((host, port))
        except OSError:  # taken
            holder.close()
            continue
        _held.append(holder)
        return port
    raise LookupError(f"no port from {_PORTS.start} to {_PORTS.stop - 1} is free")


@atexit.register
def _release() -> None:
    for holder in _held:
        holder.close()
