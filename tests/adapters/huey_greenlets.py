"""The command `huey_consumer` under gevent, which has to be patched in before anything else."""

from gevent import monkey

monkey.patch_all()

from huey.bin.huey_consumer import consumer_main  # noqa: E402

consumer_main()
