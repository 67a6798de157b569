"""The app: `celery -A tasks.app worker` with the broker that BUFPOOL_BROKER_URL names.

A password for it may lie in a file that BUFPOOL_BROKER_PASSWORD_FILE names, and then stands in no
environment.

For sealed logins, `celery bufpool keygen --out FILE` makes a key pair: producers get its public
key in BUFPOOL_PUBLIC_KEY, workers the file's path in BUFPOOL_PRIVATE_KEY. Who has tokens minted
makes another pair: workers get its public key in BUFPOOL_RESULT_PUBLIC_KEY, and the caller itself
the file's path in BUFPOOL_RESULT_PRIVATE_KEY. BUFPOOL_METRICS_PORT and BUFPOOL_METRICS_HOST make a
worker serve its metrics there.
"""

import os
from pathlib import Path
from urllib.parse import quote, urlsplit

from celery import Celery

import bufpool_workers as bp


def broker_url() -> str:
    """Read the broker's URL from the environment, and its password from the file, if one is set."""
    url = os.environ.get("BUFPOOL_BROKER_URL", "redis://localhost:6379/0")
    if not (password_file := os.environ.get("BUFPOOL_BROKER_PASSWORD_FILE")):
        return url
    password = quote(Path(password_file).read_text().strip(), safe="")
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username or ''}:{password}@{host}").geturl()


BROKER_URL = broker_url()
METRICS_PORT = os.environ.get("BUFPOOL_METRICS_PORT")


def _given(variable: str) -> list[str]:
    return [value for value in [os.environ.get(variable)] if value]


app = Celery(
    "tasks",
    broker=BROKER_URL,
    backend=BROKER_URL,
    include=["tasks.arrays", "tasks.credentials", "tasks.files"],
)
app.conf.update(
    result_expires=3600,
    worker_prefetch_multiplier=4,
    broker_connection_retry_on_startup=True,
    # a lost backend is an error after seconds, not after twenty tries
    result_backend_transport_options={"retry_policy": {"max_retries": 3}},
    # what a child's one task holds at once: a chunk, or two arrays, or a password, or a token
    bufpool_warm={
        "regular": {"256KiB": 1, "1MiB": 1, "4MiB": 1},
        "secure": {"2KiB": 1},
        "random": {"2KiB": 1},
    },
    bufpool_public_key=os.environ.get("BUFPOOL_PUBLIC_KEY"),
    bufpool_private_keys=_given("BUFPOOL_PRIVATE_KEY"),
    bufpool_result_public_keys=_given("BUFPOOL_RESULT_PUBLIC_KEY"),
    bufpool_result_private_keys=_given("BUFPOOL_RESULT_PRIVATE_KEY"),
    bufpool_metrics_port=int(METRICS_PORT) if METRICS_PORT else None,
    bufpool_metrics_host=os.environ.get("BUFPOOL_METRICS_HOST", "127.0.0.1"),
)
bp.setup(app)
