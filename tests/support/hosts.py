"""Hosts with addresses of their own on this machine: network namespaces, or else loopback."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple


class Host(NamedTuple):
    """An address, and the command that runs the rest of its arguments there."""

    address: str
    prefix: Sequence[str] = ()


class Network(NamedTuple):
    """Hosts that reach each other and `gateway`, the address of this process."""

    gateway: str
    hosts: Sequence[Host]


@contextmanager
def network(size: int) -> Iterator[Network]:
    """Make a network of that many hosts, each with a stack of its own where there can be one."""
    if obstacle := _obstacle():
        print(f"hosts: addresses of the loopback device, since {obstacle}")  # noqa: T201
        yield Network("127.0.0.1", [Host(f"127.0.0.{n}") for n in range(2, 2 + size)])
        return
    # names and addresses of this process alone: others may do the same at this moment
    bridge, subnet = f"bp{os.getpid()}", f"10.213.{os.getpid() % 250}"
    with ExitStack() as undo:

        def make(command: str, *, undone_by: str) -> None:
            _ip(command)
            undo.callback(_ip, undone_by)

        make(f"link add {bridge} type bridge", undone_by=f"link del {bridge}")
        _ip(f"addr add {subnet}.1/24 dev {bridge}")
        _ip(f"link set {bridge} up")
        hosts = []
        for n in range(2, 2 + size):
            name, link = f"{bridge}-{n}", f"v{n}-{os.getpid()}"
            make(f"netns add {name}", undone_by=f"netns del {name}")
            make(
                f"link add {link} type veth peer name eth0 netns {name}",
                undone_by=f"link del {link}",
            )
            _ip(f"link set {link} master {bridge} up")
            _ip(f"-n {name} addr add {subnet}.{n}/24 dev eth0")
            _ip(f"-n {name} link set eth0 up")
            _ip(f"-n {name} link set lo up")
            hosts.append(Host(f"{subnet}.{n}", ("ip", "netns", "exec", name)))
        yield Network(f"{subnet}.1", hosts)


def _obstacle() -> str | None:
    """Return why there can be no network namespaces here; None where there can."""
    if os.geteuid() or not shutil.which("ip"):
        return "root and iproute2 are not both there"
    probe = f"bp{os.getpid()}-0"
    try:
        _ip(f"netns add {probe}")
        try:
            _ip(f"netns exec {probe} true")
        finally:
            _ip(f"netns del {probe}")
    except OSError as error:  # in a container, or below a changed root
        return str(error)
    return None


def _ip(command: str) -> None:
    run = subprocess.run(["ip", *command.split()], capture_output=True, text=True, check=False)  # noqa: S607 - of PATH
    if run.returncode:
        raise OSError(f"ip {command}: {run.stderr.strip()}")
