"""A piece of a test in the child of a fork."""

import os
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
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
