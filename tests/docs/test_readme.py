"""What the README shows is run: readers copy it."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess

from bufpool_workers.sealing import Keyring, generate_key
from tests.docs.sections import METRICS_PORT, read_commands
from tests.support.lock_limit import run_limited
from tests.support.pages import blocks_under


def run_python(code: str, folder: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_shell(line: str, folder: Path, *, env: Mapping[str, str]) -> CompletedProcess[str]:
    """Run a command of a console block, where `proj` is the app of the quick start."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["/bin/sh", "-c", line.replace(" proj ", " shop ")],
        cwd=folder,
        env=os.environ | dict(env) | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_its_commands_answer_beside_its_app_and_find_warm_buffers(start_worker, tmp_path):
    (app,) = blocks_under("Quick start")
    app._replace(text=app.text.replace(METRICS_PORT, "0")).write(tmp_path)
    (directory := tmp_path / "metrics").mkdir()
    worker = start_worker(
        "shop",
        folder=tmp_path,
        arguments=["--concurrency=2"],
        env={"PROMETHEUS_MULTIPROC_DIR": str(directory)},
    )
    (quick_start,) = blocks_under("Quick start", "console")
    for command in read_commands(quick_start)[1:3]:
        run_shell(command.line, tmp_path, env=worker.env)
    (shown,) = blocks_under("Commands", "console")
    (doctor,) = blocks_under("Size the pools", "console")
    hit_rate = run_shell(read_commands(shown)[0].line, tmp_path, env=worker.env)
    assert float(hit_rate.stdout.rstrip("%\n")) > 90, hit_rate.stderr
    advice = run_shell(read_commands(doctor)[0].line, tmp_path, env=worker.env)
    assert "sizing_regular" in advice.stdout, advice.stderr


def test_log_line_has_the_numbers_that_it_shows(tmp_path):
    (block,) = blocks_under("Log lines", "json")
    code = (
        "import json, logging\n"
        "logging.basicConfig(level='INFO', handlers=[handler := logging.Handler()])\n"
        "handler.emit = lambda record: print(json.dumps(record.bufpool))\n"
        "from bufpool_workers.runtime import current_runtime\n"
        "current_runtime().start_process()"
    )
    told, shown = json.loads(run_python(code, tmp_path)), json.loads(block.text)
    assert told.keys() == shown.keys()
    of_the_host = {"seconds", "secure_level"}
    assert [told[key] for key in told.keys() - of_the_host] == [
        shown[key] for key in told.keys() - of_the_host
    ]


def write_django_project(folder: Path, settings: str) -> None:
    for block in blocks_under("Django"):
        block.write(folder)
    (folder / "shop" / "settings.py").write_text(settings)


def test_django_app_takes_its_settings(start_worker, tmp_path):
    write_django_project(tmp_path, "CELERY_BUFPOOL_METRICS_PORT = 0\n")
    worker = start_worker("shop", folder=tmp_path)
    assert "bufpool: metrics at http://127.0.0.1:" in worker.log()


def test_spawned_child_of_the_django_app_takes_its_settings(start_worker, tmp_path):
    warm = {"regular": {"8KiB": 5}, "secure": {}, "random": {}}
    write_django_project(
        tmp_path,
        f"CELERY_BUFPOOL_WARM = {warm}\nCELERY_WORKER_POOL_START_METHOD = 'spawn'\n",
    )
    worker = start_worker("shop", folder=tmp_path, arguments=["--concurrency=1"])
    worker.wait_for_log(r"SpawnPoolWorker-1\] bufpool: 5 buffers, 40 KiB warm")


def test_process_of_django_s_that_is_no_worker_takes_its_settings(tmp_path, monkeypatch):
    write_django_project(
        tmp_path,
        "CELERY_BUFPOOL_SECURE_LEVEL = 'memfd'\nCELERY_BUFPOOL_MAX_BUFFER_BYTES = '16KiB'\n",
    )
    monkeypatch.chdir(tmp_path)
    code = """
import shop, bufpool_workers as bp
try:
    bp.secure_buffer(32)
except bp.SecureLevelUnmet:
    print(bp.current_pools().settings.max_buffer_bytes)
"""
    assert run_limited(code, limit=0) == str(16 * 1024)


def test_commands_take_the_django_app_s_settings(tmp_path):
    write_django_project(tmp_path, "CELERY_BUFPOOL_METRICS_NAMESPACE = 'store'\n")
    rules = run_shell("celery -A proj bufpool rules", tmp_path, env={})
    assert "store_gets_total" in rules.stdout


def test_misspelt_django_setting_is_named(start_worker, tmp_path):
    write_django_project(tmp_path, "CELERY_BUFPOOL_METRIC_PORT = 0\n")
    worker = start_worker("shop", folder=tmp_path, ready=False)
    assert worker.wait() != 0
    assert "bufpool_metric_port" in worker.log()
    assert "bufpool_metrics_port" in worker.log()


def test_flask_app_runs_tasks_in_its_context_and_serves_the_scrape(start_worker, tmp_path):
    (flask,) = blocks_under("Flask")
    flask._replace(text=flask.text.replace("9464", "0")).write(tmp_path)
    directory = tmp_path / "metrics"
    directory.mkdir()
    env = {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    worker = start_worker("shop_web", folder=tmp_path, env=env)
    assert worker.run("shop_web.resize") == "shop_web"
    (wsgi,) = blocks_under("If you use prometheus_client already")
    asked = "\nfrom werkzeug.test import Client\nprint(Client(application).get('{}').text)"
    scrape = run_python(wsgi.text + asked.format("/bufpool/metrics"), tmp_path, **env)
    assert 'bufpool_gets_total{pool="regular",size="1mb"} 1.0' in scrape
    assert "<!doctype html>" in run_python(wsgi.text + asked.format("/bufpool/"), tmp_path, **env)


def test_pooled_digest_is_that_of_the_bytearray(tmp_path):
    (digests,) = blocks_under("Move from bytearray")
    digests.write(tmp_path)
    (tmp_path / "data").write_bytes(b"some" * 1000)
    code = "import digests; print(digests.before('data')); print(digests.after('data'))"
    before, after = run_python(code, tmp_path).split()
    assert before == after == hashlib.sha256(b"some" * 1000).hexdigest()


def test_minted_key_reaches_its_caller_sealed(start_worker, tmp_path):
    app, caller = blocks_under("Return a secret")
    app.write(tmp_path)
    for name in ("worker", "web"):
        (tmp_path / f"{name}.pub").write_text(generate_key(tmp_path / f"{name}.key"))
    worker = start_worker("vault", folder=tmp_path)
    assert run_python(caller.text, tmp_path, **worker.env) == "32\n"


def test_secret_sealed_without_our_code_opens(tmp_path):
    (block,) = blocks_under("Seal from another language")
    public_key = generate_key(tmp_path / "key")
    code = f"{block.text}\nprint(seal(b'x y', public_key={public_key!r}, task='t', argument='a'))"
    token = run_python(code, tmp_path).strip()
    with Keyring([tmp_path / "key"]).unseal(token, task="t", argument="a") as secret:
        assert secret[:] == b"x y"


def test_fingerprint_of_a_file_is_that_of_its_content(tmp_path):
    (block,) = blocks_under("Credentials from files")
    (tmp_path / "secret").write_bytes(b"some content")
    found = run_python(f"{block.text}\nprint(fingerprint('secret').hex())", tmp_path).strip()
    assert found == hashlib.sha256(b"some content").hexdigest()
