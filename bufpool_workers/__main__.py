"""`python -m bufpool_workers`: the command `bufpool`."""

from bufpool_workers.console.main import bufpool

bufpool(prog_name="python -m bufpool_workers")
