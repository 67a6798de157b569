"""Workers that go on as another process or program: `celery multi`, --detach, SIGHUP."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from bufpool_workers._environ import VARIABLE
from bufpool_workers.counters import private_directory
from tests.support.celery_worker import STOP_SECONDS, Pings, wait_for_pong
from tests.support.processes import LocalProcess
from tests.support.waiting import wait_until

NODE = "restarted@localhost"
READY_SECONDS = 60


@pytest.fixture
def env(redis_server, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    broker = redis_server.celery_url()
    return os.environ | {"CELERY_BROKER_URL": broker, "TEST_WORKER_SETTINGS": "{}"}


@pytest.fixture
def detach(env, request, tmp_path):
    """Run a command that leaves workers behind, and wait until those of these names are ready."""

    def start(*command, names):
        subprocess.run(
            [
                *(sys.executable, "-m", "celery", "-A", "metrics_app:app", *command),
                *("--loglevel=INFO", "--concurrency=1", "--without-mingle", "--without-gossip"),
                *(f"--logfile={tmp_path}/%n.log", f"--pidfile={tmp_path}/%n.pid"),
            ],
            cwd=request.path.parent,
            env=env,
            timeout=READY_SECONDS,
            check=True,
        )
        nodes = [f"{name}@{socket.gethostname()}" for name in names]
        wait_until(
            Pings(env["CELERY_BROKER_URL"], *nodes).answered,
            what=f"{', '.join(nodes)} answer a ping",
            timeout_seconds=READY_SECONDS,
        )
        return [psutil.Process(int((tmp_path / f"{name}.pid").read_text())) for name in names]

    yield start
    for log in tmp_path.glob("*.log"):
        print(log.name, log.read_text(), sep="\n")  # noqa: T201 - shown when the test failed
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(str(tmp_path) in argument for argument in process.cmdline()):
                process.kill()


def signed_by(process):
    """The private directories that a main process has signed, and has locked."""
    return [path for path, sign in private_directory.discover() if sign.pid == process.pid]


def private(process):
    """The one private directory of a main process."""
    (path,) = signed_by(process)
    return path


def stop(processes):
    for process in processes:
        process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=STOP_SECONDS)
    assert not alive


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (["multi", "start", "4"], ["celery1", "celery2", "celery3", "celery4"]),
        (["multi", "start", "worker"], ["worker"]),  # no word here is the command `worker`
        (["worker", "-D", "-nlone@%h"], ["lone"]),
        (["worker", "--detach", "-nlone@%h"], ["lone"]),
    ],
    ids=" ".join,
)
def test_each_detached_worker_has_a_directory_that_ends_with_it(detach, command, names):
    processes = detach(*command, names=names)
    # what the process that is gone has made nobody would remove
    assert not any(VARIABLE in process.environ() for process in processes)
    directories = {private(process) for process in processes}
    assert len(directories) == len(names)
    stop(processes)
    assert not any(path.exists() for path in directories)


@pytest.fixture
def script_worker(env, tmp_path):
    """Start the script `celery`: Celery can't start `python -m celery` anew."""
    with ExitStack() as workers:

        def start(app, folder):
            script = Path(sys.executable).with_name("celery")
            arguments = ["--loglevel=INFO", "--concurrency=1", "--without-mingle", "-n", NODE]
            command = [script, "-A", app, "worker", *arguments]
            worker = LocalProcess(command, log=tmp_path / "log", cwd=folder, env=env)
            workers.enter_context(worker)
            wait_for_pong(worker, env["CELERY_BROKER_URL"], NODE, timeout_seconds=READY_SECONDS)
            return worker

        yield start


def test_a_worker_that_starts_anew_at_sighup_has_a_new_directory(script_worker, env, request):
    worker = script_worker("metrics_app:app", request.path.parent)
    before = private(worker)
    worker.send_signal(signal.SIGHUP)
    worker.wait_until(
        lambda: signed_by(worker) not in ([], [before]),
        what="another directory",
        timeout_seconds=READY_SECONDS,
    )
    wait_for_pong(worker, env["CELERY_BROKER_URL"], NODE, timeout_seconds=READY_SECONDS)
    after = private(worker)
    assert after.exists()
    assert not before.exists()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout_seconds=STOP_SECONDS) == 0
    assert not after.exists()


APP = """
from pathlib import Path
import bufpool_workers as bp, celery
app = celery.Celery("anew")
app.conf.bufpool_metrics_dir = Path("chosen").read_text()
bp.setup(app)
"""


def test_a_worker_that_starts_anew_at_sighup_follows_a_setting_that_was_changed(
    script_worker, tmp_path
):
    (tmp_path / "anew.py").write_text(APP)
    one, other = tmp_path / "one", tmp_path / "other"
    for directory in (one, other):
        directory.mkdir()
    (tmp_path / "chosen").write_text(str(one))
    worker = script_worker("anew:app", tmp_path)
    wait_until(lambda: list(one.glob("*.db")), what="a child's file")
    (tmp_path / "chosen").write_text(str(other))
    worker.send_signal(signal.SIGHUP)
    worker.wait_until(
        lambda: list(other.glob("*.db")),
        what="a child's file in the other directory",
        timeout_seconds=READY_SECONDS,
    )
