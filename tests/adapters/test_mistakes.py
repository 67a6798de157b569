"""Mistakes of configuration by each door: one line, and a status that is not 0."""

import re

import pytest

from bufpool_workers.diagnostics.limits import machine_bytes
from bufpool_workers.units import GiB, format_bytes

WORKERS = {
    "celery": ["celery", "-A", "celery_app", "worker", "--concurrency=1"],
    "solo": ["celery", "-A", "celery_app", "worker", "--pool=solo"],
    "dramatiq": ["dramatiq", "dramatiq_app", "--processes=2", "--threads=1"],
    "rq": ["rq", "worker", "--worker-class", "bufpool_workers.rq.SimpleWorker", "--url", "{url}"],
    "horses": ["rq", "worker", "--worker-class", "bufpool_workers.rq.Worker", "--url", "{url}"],
    "huey": ["huey_consumer", "bare_huey.huey", "--workers=1"],
    "processes": ["huey_consumer", "bare_huey.huey", "--workers=1", "--worker-type=process"],
}
COMMANDS = {
    f"{group[0]} {name}": [*group, name, *options]
    for group in (["bufpool"], ["celery", "-A", "celery_app", "bufpool"])
    for name, *options in (["status"], ["top", "--count=1"], ["doctor"], ["serve"], ["forget", "a"])
}
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
TOO_MANY = machine_bytes() // GiB + 1
# settings, environment, what the line says
MISTAKES = {
    "value": ({"at_limit": "explode"}, {}, r"(?i)\S*at_limit = 'explode': one of lend, raise"),
    "private key": ({"private_keys": ["/absent.key"]}, {}, "private key file /absent.key: No such"),
    "public key": ({"public_key": "hello"}, {}, "a public key is the text bps1-public-... or the"),
    "variable": ({}, {VARIABLE: "/absent"}, "/absent: it does not exist"),
    "file": ({}, {VARIABLE: __file__}, f"{__file__}: it is not a directory"),
    "no files": ({}, {VARIABLE: "/proc"}, "/proc: it takes no file"),
    "setting": ({"metrics_dir": "/absent"}, {}, "/absent: it does not exist"),
    "directories": (
        {"metrics_dir": "/absent"},
        {VARIABLE: "/proc"},
        f"bufpool_metrics_dir is '/absent', but {VARIABLE} is '/proc': leave one of them out",
    ),
    "address": ({"metrics_host": "192.0.2.1"}, {}, "bufpool_metrics_host = '192.0.2.1': .*assign"),
    "memory": (
        {
            "size_classes": ["4KiB", "64KiB", "1GiB"],
            "max_bytes": {"regular": f"{TOO_MANY}GiB"},
            "warm": {"regular": {"1GiB": TOO_MANY}},
        },
        {},
        rf"bufpool_warm takes {format_bytes(TOO_MANY * GiB)} in 1 process.*; lower bufpool_warm",
    ),
}
OF_COMMANDS = ("value", "variable", "file", "setting", "directories")


@pytest.fixture
def start(start_host, redis_server):
    def start(command, settings, env):
        is_celery = command[0] == "celery"
        url = redis_server.celery_url() if is_celery else redis_server.client_url()
        command = [part.format(url=url) for part in command]
        return start_host(command, broker=url, settings=settings, env=env)

    return start


def errors_in(host):
    """Return what the log says after "Error: " or, from `doctor`, after an error's name."""
    found = re.findall(r"^(?:Error: |error    [a-z_]+: )(.*)", host.log(), re.MULTILINE)
    texts = (re.sub("^metrics directory '(.*?)'", r"\1", text) for text in found)
    return list(dict.fromkeys(texts))  # each process of a master says its own


@pytest.mark.parametrize(
    ("door", "mistake"),
    # RQ's horses warm nothing
    [(d, m) for d in WORKERS for m in MISTAKES if (d, m) != ("horses", "memory")],
)
def test_worker_ends_with_one_line(start, door, mistake):
    settings, env, said = MISTAKES[mistake]
    host = start(WORKERS[door], settings, env)
    assert host.wait() != 0
    (line,) = errors_in(host)
    assert re.match(said, line)
    assert "Traceback" not in host.log()


@pytest.mark.parametrize("mistake", OF_COMMANDS)
@pytest.mark.parametrize("door", COMMANDS)
def test_command_ends_with_one_line(start, door, mistake):
    settings, env, said = MISTAKES[mistake]
    host = start(COMMANDS[door], settings, env)
    status = host.wait()
    assert status == 2 if door.endswith("doctor") else status != 0
    (line,) = errors_in(host)
    assert re.match(said, line)
    assert "Traceback" not in host.log()
