"""The units as systemd reads them, and their command lines in what of their sandbox can be had."""

import hashlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from ctypes import util
from pathlib import Path

import pytest

import bufpool_workers as bp
from bufpool_workers import memory
from tests.deploy.units import FOLDER, Unit
from tests.support.celery_worker import STOP_SECONDS, connected, wait_for_pong
from tests.support.checkout import CHECKOUT
from tests.support.processes import LocalProcess

SANDBOX = Path(__file__).with_name("sandbox.py")
INSTALLED = "/opt/bufpool/venv"
UNITS = ("bufpool-worker@.service", "bufpool-metrics.service")
RUNTIME_DIRECTORY = "/run/bufpool"
MIB = 1024 * 1024


def systemd(program, *arguments):
    path = shutil.which(program)
    if not path:
        pytest.skip(f"no {program}: apt-get install systemd")
    run = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_no_fault_in_the_unit(name, tmp_path):
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    unit = tmp_path / name
    unit.write_text(unit.read_text().replace(INSTALLED, sys.prefix))
    assert systemd("systemd-analyze", "verify", "--man=no", str(unit)) == (0, "")


@pytest.mark.parametrize("name", UNITS)
def test_little_is_left_exposed(name):
    status, said = systemd(
        "systemd-analyze", "security", "--offline=yes", "--threshold=15", str(FOLDER / name)
    )
    assert status == 0, said


def test_the_user_is_made_by_its_file(tmp_path):
    (tmp_path / "etc").mkdir()
    file = FOLDER / "bufpool.sysusers.conf"
    assert systemd("systemd-sysusers", f"--root={tmp_path}", str(file))[0] == 0
    assert (tmp_path / "etc" / "passwd").read_text().startswith(f"{Unit(UNITS[0]).last('User')}:")


class Host:
    """Where units are run: a runtime directory, credentials, and the environment files."""

    def __init__(self, folder: Path, *, broker: str):
        self.folder, self.broker = folder, broker
        self.runtime, self.credentials = folder / "run", folder / "credentials"
        self.runtime.mkdir(mode=0o700)
        self.credentials.mkdir(mode=0o700)
        self.public_key = bp.generate_key(self.credentials / "worker.key")
        self.env_files = {
            UNITS[0]: {"BUFPOOL_BROKER_URL": broker},
            UNITS[1]: {"METRICS_PORT": "0"},
        }

    @contextmanager
    def running(self, unit: Unit, *, without=()):
        """Run a unit's command, with system calls taken from its filter."""
        environment = unit.environment() | self.env_files[unit.name]
        assert environment["PROMETHEUS_MULTIPROC_DIR"] == RUNTIME_DIRECTORY
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(self.runtime)
        environment["CREDENTIALS_DIRECTORY"] = str(self.credentials)
        program, *arguments = unit.command(environment)
        specification = {
            "limits": {
                "RLIMIT_MEMLOCK": int(unit.last("LimitMEMLOCK").removesuffix("M")) * MIB,
                "RLIMIT_CORE": int(unit.last("LimitCORE")),
            }
            if "LimitMEMLOCK" in unit.settings
            else {},
            "system_calls": sorted(unit.system_calls() - set(without)),
        }
        process = LocalProcess(
            [
                *(sys.executable, str(SANDBOX), json.dumps(specification)),
                *(program.replace(INSTALLED, sys.prefix), *arguments),
            ],
            log=self.folder / f"{unit.name}.log",
            cwd=CHECKOUT,
            env=environment,
        )
        with process:
            try:
                yield process
            finally:
                print(process.log())  # noqa: T201 - pytest shows it when the test failed


@pytest.fixture
def host(tmp_path, redis_server):
    systemd("systemd-analyze", "--version")
    if not util.find_library("seccomp"):
        pytest.skip("no libseccomp: apt-get install libseccomp2")
    return Host(tmp_path, broker=redis_server.celery_url())


def level_of(host, worker, *, without=()):
    with host.running(worker, without=without) as process:
        (found,) = process.wait_for_log(r"secure memory at level (\w+)")
    return found[1]


def test_the_worker_works_in_its_sandbox_and_one_scrape_outlives_it(host, tmp_path):
    worker, metrics = Unit(UNITS[0], instance="celery"), Unit(UNITS[1])
    (tmp_path / "file").write_bytes(b"content")
    salt, password = b"salt", b"correct horse"
    expected = hashlib.scrypt(password, salt=salt, n=2**12, r=8, p=1, dklen=32)
    token = bp.seal(
        password, task="tasks.credentials.login", argument="password", public_key=host.public_key
    )
    with host.running(metrics) as server, host.running(worker) as process:
        url = f"http://127.0.0.1:{server.wait_for_port()}/metrics"
        wait_for_pong(process, host.broker, f"celery@{socket.gethostname()}")
        with connected(host.broker) as client:

            def run(task, *arguments, **keywords):
                return client.send_task(task, arguments, keywords).get(timeout=30)

            digest = run("tasks.files.digest", str(tmp_path / "file"))
            login = ["ada", salt.hex(), expected.hex()]
            user = run("tasks.credentials.login", *login, password=token)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout_seconds=STOP_SECONDS) == 0
        with urllib.request.urlopen(url, timeout=30) as response:
            scrape = response.read().decode()
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    assert digest == hashlib.sha256(b"content").hexdigest()
    assert user == "ada"
    assert 'bufpool_gets_total{pool="regular",size="256kb"} 1.0' in scrape
    assert 'bufpool_unlocked_total{pool="secure",size="2kb"} 0.0' in scrape


def test_secure_memory_is_as_protected_as_the_kernel_allows(host):
    worker = Unit(UNITS[0], instance="celery")
    assert level_of(host, worker) == memory.reachable_level()
    # what the filter says of it is not in vain
    assert level_of(host, worker, without={"memfd_secret"}) == "mlock"
