"""The command `bufpool`, in processes where Celery can't be imported."""

import importlib.util
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from bufpool_workers.console.main import bufpool
from bufpool_workers.counters import private_directory
from tests.support.checkout import CHECKOUT
from tests.support.counters import Workers
from tests.support.scrape import read_samples, value
from tests.support.without_celery import BLOCK, run_bufpool, serve, url_of

NATIVE_MODULES = (
    *("memory._mapping", "memory._keystream", "memory._core"),
    *("counters._values", "sealing._scan"),
)


@pytest.fixture
def workers(tmp_path):
    directory = tmp_path / "metrics"
    directory.mkdir()
    workers = Workers(directory)
    yield workers
    workers.end()


def read(url, **options):
    samples = read_samples(f"{url}metrics", **options)
    return value(samples, "bufpool_gets_total", pool="regular", size="2kb")


@pytest.mark.parametrize("by", ["argument", "PROMETHEUS_MULTIPROC_DIR", "BUFPOOL_METRICS_DIR"])
def test_serve_reads_the_directory_that_is_given(workers, tmp_path, by):
    workers.count(gets=7)
    arguments = [workers.directory] if by == "argument" else []
    environ = {} if by == "argument" else {by: str(workers.directory)}
    with serve(tmp_path / "log", *arguments, **environ) as server:
        assert read(url_of(server)) == 7
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0


def test_serve_takes_options_and_the_environment(workers, tmp_path, certificate):
    files = [f"--{name}={path}" for name, path in certificate.items()]
    environ = {"BUFPOOL_METRICS_NAMESPACE": "shop"}
    with serve(tmp_path / "log", *files, workers.directory, **environ) as server:
        url = url_of(server)
        assert url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=certificate["certfile"])
        samples = read_samples(f"{url}metrics", tls=context)
        assert value(samples, "shop_processes") == 0


@pytest.mark.parametrize(
    ("arguments", "environ", "text"),
    [
        (["--port=0"], {}, "Error: no metrics directory: give DIR, or set PROMETHEUS_MULTIPROC"),
        (["--port=0", "/nowhere"], {}, "Error: metrics directory '/nowhere': it does not exist"),
        (["/tmp"], {}, "Error: no port: give --port, or set bufpool_metrics_port"),  # noqa: S108
        (["--port=0", "--keyfile=a", "/"], {}, "Error: give --certfile and --keyfile together"),
        (["--port=0", "--namespace=9", "/"], {}, "Error: Invalid value for --namespace"),
        (["--port=0", "/"], {"BUFPOOL_DEBUG": "1"}, "Error: BUFPOOL_DEBUG = 1: True or False"),
        (
            ["--port=0"],
            {"PROMETHEUS_MULTIPROC_DIR": "/a", "BUFPOOL_METRICS_DIR": "/b"},
            "Error: bufpool_metrics_dir is '/b', but PROMETHEUS_MULTIPROC_DIR is '/a': leave one",
        ),
    ],
)
def test_mistake_is_one_line(arguments, environ, text):
    done = run_bufpool("serve", *arguments, **environ)
    assert done.returncode in {1, 2}
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert lines[0].startswith(text)
    assert "Traceback" not in done.stderr


def test_help_of_serve_says_what_compact_foreign_changes():
    text = " ".join(CliRunner().invoke(bufpool, ["serve", "--help"]).output.split())
    assert "Gauges of the modes all and liveall then no longer list dead processes" in text


def test_status_top_and_doctor_read_a_directory(workers):
    workers.count(gets=7, hits=7)
    workers.count_and_die(gets=3, hits=3)
    done = run_bufpool("status", "--json", workers.directory)
    (report,) = json.loads(done.stdout).values()
    assert report["total"]["gets"] == 10
    top = run_bufpool("top", "--count=1", "--interval=0.1", workers.directory)
    assert f"{workers.directory}: 1 process" in top.stdout
    doctor = run_bufpool("doctor", "--all", "--json", workers.directory)
    checks = {finding["check"] for finding in json.loads(doctor.stdout)}
    assert {"limits", "metrics_directory", "memory", "warm"} <= checks
    assert not {"setup", "tasks", "broker"} & checks


def test_status_without_a_directory_finds_private_ones(monkeypatch, tmp_path):
    monkeypatch.setattr(private_directory, "_SHM", tmp_path)
    path = private_directory.make()
    private_directory.advertise(path, private_directory.NodeManifest("a@here", None, os.getpid()))
    node = CliRunner().invoke(bufpool, ["status", "--json", "--node", "a@here"])
    assert list(json.loads(node.output)) == ["a@here"]
    missing = CliRunner().invoke(bufpool, ["status", "-n", "b@here"])
    assert missing.exit_code == 1
    assert "b@here: not found in a private directory of this host; give the" in missing.output


def test_no_option_is_about_a_broker():
    for command in ("status", "top", "doctor"):
        assert "--timeout" not in CliRunner().invoke(bufpool, [command, "--help"]).output


def test_doctor_names_a_key_that_is_none(tmp_path):
    key = tmp_path / "key"
    done = run_bufpool("doctor", BUFPOOL_PRIVATE_KEYS=str(key), BUFPOOL_PUBLIC_KEY="no-key")
    assert done.returncode == 2
    assert str(key) in done.stdout
    assert "print it with `bufpool keygen --public FILE`" in " ".join(done.stdout.split())


def test_keygen_rules_and_dashboard_need_no_celery(tmp_path):
    key = tmp_path / "worker.key"
    public = run_bufpool("keygen", "--out", key).stdout
    assert public == run_bufpool("keygen", "--public", key).stdout != ""
    assert "shop_gets_total" in run_bufpool("rules", BUFPOOL_METRICS_NAMESPACE="shop").stdout
    assert json.loads(run_bufpool("dashboard").stdout)["panels"]


def test_module_and_script_are_the_command():
    by_module = [sys.executable, "-m", "bufpool_workers"]
    by_script = [os.path.join(os.path.dirname(sys.executable), "bufpool")]  # noqa: PTH118, PTH120
    for command in (by_module, by_script):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert re.search(r", version \d", done.stdout)


FACE = """
import os
import bufpool_workers as bp
from bufpool_workers import metrics, testing
bp.configure(warm={"regular": {"4KiB": 1}}, private_keys=[os.environ["KEY"]])

@bp.pooled_buffer("4KiB")
def fill(*, buf):
    buf[0:1] = b"x"

fill()
with bp.secure_buffer(8), bp.random_buffer(8):
    pass
token = bp.seal("secret", task="login", argument="password",
                public_key=bp.generate_key(os.environ["KEY"]))
opened = bp.Keyring([os.environ["KEY"]]).unseal(token, task="login", argument="password")
assert bytes(opened) == b"secret"
assert b"bufpool_gets_total" in b"".join(
    metrics.wsgi_app()({"PATH_INFO": "/metrics", "REQUEST_METHOD": "GET", "QUERY_STRING": ""},
                       lambda status, headers: None))
metrics.asgi_app()
for name in set(bp.__all__) - {"setup"}:
    getattr(bp, name)
try:
    bp.setup
except ModuleNotFoundError as error:
    assert error.name == "celery", error
print(bp.stats().regular.gets)
"""


def environment(tmp_path):
    directory = tmp_path / "metrics"
    directory.mkdir()
    return os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(directory), "KEY": str(tmp_path / "key")}


def test_everything_outside_celery_works_where_it_can_not_be_imported(tmp_path):
    command = [sys.executable, "-c", BLOCK + FACE]
    done = subprocess.run(
        command, env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n"


def wheel_of_compiled_modules(path):
    """Pack the native modules of this environment as a wheel has them."""
    with zipfile.ZipFile(path, "w") as wheel:
        for name in NATIVE_MODULES:
            module = Path(importlib.util.find_spec(f"bufpool_workers.{name}").origin)
            wheel.write(module, f"bufpool_workers/{name.partition('.')[0]}/{module.name}")
    return path


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(not (CHECKOUT / "LICENSE").exists(), reason="the sources are not here")
def test_installed_without_dependencies_it_needs_four_of_them(tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    binary = tmp_path / "venv" / "bin"
    pip = [binary / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "click", "rich", "prometheus-client", "cryptography"], check=True)
    # compiled already, as tests/test_build.py does once more
    compiled = wheel_of_compiled_modules(tmp_path / "compiled.whl")
    subprocess.run(
        [*pip, "--no-deps", str(CHECKOUT)],
        check=True,
        cwd=tmp_path,
        env=os.environ | {"BUFPOOL_WHEEL": str(compiled)},
    )
    env = environment(tmp_path)
    subprocess.run([binary / "python", "-c", FACE], env=env, cwd=tmp_path, check=True)
    status = subprocess.run(
        [binary / "bufpool", "status"], env=env, check=True, capture_output=True, text=True
    )
    assert "regular" in status.stdout
