"""A piece of a test in the child of a fork."""

import os
import signal
import sys
import traceback


def run_forked(work) -> int:
    """Run `work` in a child; return how it ended, as os.waitstatus_to_exitcode does."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - told to the parent by the exit status
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def check_forked(check) -> None:
    """Run `check` in a child, which must end by itself and without an error."""
    status = run_forked(check)
    assert status == 0, signal.Signals(-status).name if status < 0 else "an error, see above"
