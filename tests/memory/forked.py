"""Checks that run in a forked child."""

import os
import signal
import sys
import traceback


def in_child(check):
    """Run `check` in a forked child, which must end by itself and without an error."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            check()
            status = 0
        except BaseException:  # noqa: BLE001 (it may not go on as a second parent)
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, signal.Signals(-status).name if status < 0 else "an error, see above"
