"""Runs a command as systemd would: `sandbox.py SPECIFICATION COMMAND...`.

What can't be had without systemd, the namespaces above all, is left out. The user stays, but root
without capabilities, which the unit takes away, is a user like others.
"""

import ctypes
import json
import os
import resource
import sys

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_MDWE = 24, 38, 65
_LAST_CAPABILITY = 40
_REFUSE_EXEC_GAIN = 1
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EPERM = 1


def main() -> None:
    """Limit this process, then become the command."""
    limits, system_calls = (json.loads(sys.argv[1])[key] for key in ("limits", "system_calls"))
    for name, asked in limits.items():
        _, most = resource.getrlimit(getattr(resource, name))
        # none may raise what it was given
        limit = asked if most == resource.RLIM_INFINITY else min(asked, most)
        resource.setrlimit(getattr(resource, name), (limit, limit))
    os.umask(0o077)
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(_LAST_CAPABILITY + 1):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # without the right to, none is there
    _succeed(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    _succeed(libc.prctl(_PR_SET_MDWE, _REFUSE_EXEC_GAIN, 0, 0, 0), "MemoryDenyWriteExecute")
    _filter(system_calls)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - what it is for


def _filter(names: list[str]) -> None:
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(lib.seccomp_init(_ERRNO | _EPERM))
    for name in names:
        number = lib.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # else of another architecture
            _succeed(lib.seccomp_rule_add(context, _ALLOW, number, 0), name)
    _succeed(lib.seccomp_load(context), "seccomp")


def _succeed(result: int, what: str) -> None:
    if result:
        raise OSError(result, f"{what}: refused")


if __name__ == "__main__":
    main()
