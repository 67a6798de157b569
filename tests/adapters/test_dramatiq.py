"""Dramatiq's own command: totals, ends of jobs, the endpoint, sealed arguments, bad settings."""

import os
import signal
import socket
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from dramatiq.results import ResultFailure

from tests.support.dramatiq_client import DramatiqClient
from tests.support.host_client import check_totals
from tests.support.scrape import total, value
from tests.support.scripts import run_script
from tests.support.waiting import wait_until

SECRET = "correct horse battery"  # noqa: S105 - what must show nowhere
COMMAND = ["dramatiq", "dramatiq_app", "--processes=2", "--threads=2"]


@pytest.fixture(scope="module")
def worker(start_host, keys):
    return start_host(COMMAND, settings=keys, env={"TEST_DRAMATIQ_PROMETHEUS": "yes"})


def client_of(host):
    return closing(DramatiqClient(host.broker))


@pytest.fixture
def client(worker):
    with client_of(worker) as client:
        client.run("pid")
        yield client


def jobs(client):
    """Run actors that take buffers, fail with one, and keep one; wait until all have ended."""
    before = client.noted().get("jobs", 0)
    sent = [client.send("work", number) for number in range(20)]
    failed = [client.send("fail") for _ in range(5)]
    for _ in range(3):
        client.run("keep")
    assert [client.result(message) for message in sent] == list(range(20))
    wait_until(
        lambda: client.noted()["jobs"] == before + 20 + len(failed) + 3, what="the end of all jobs"
    )


@pytest.mark.parametrize("options", [["--use-spawn"], ["gevent"]])
def test_totals_equal_what_actors_noted(start_host, options):
    command = ["dramatiq-gevent", *COMMAND[1:]] if options == ["gevent"] else COMMAND + options
    host = start_host(command)
    with client_of(host) as client:
        jobs(client)
        samples = check_totals(host, client)
        assert (
            value(samples, "bufpool_processes") == value(samples, "bufpool_warmed_processes") == 2
        )
        client.send("spin")
        wait_until(lambda: not client.waiting(), what="the time limit")
        assert in_use(host) == 0


def in_use(host):
    samples = host.scrape()
    gets, puts = (total(samples, f"bufpool_{name}_total") for name in ("gets", "puts"))
    return gets - puts


def test_dramatiqs_own_metrics_are_in_the_same_scrape(worker, client):
    jobs(client)
    samples = check_totals(worker, client)
    assert total(samples, "dramatiq_messages_total", actor_name="work") == 20
    assert total(samples, "dramatiq_message_errors_total", actor_name="fail") == 5
    assert total(samples, "bufpool_warmed_processes") == 2


def test_time_limit_leaves_no_buffer(worker, client):
    dead = client.dead()
    gets = total(worker.scrape(), "bufpool_gets_total")
    for _ in range(8):
        client.send("spin")
    wait_until(lambda: not client.waiting(), what="the end of all jobs")
    assert client.dead() == dead + 8
    assert total(worker.scrape(), "bufpool_gets_total") > gets
    assert in_use(worker) == 0
    assert {client.run("numbers")["in_use"] for _ in range(8)} == {0}


# sealed arguments


def test_sealed_argument_is_opened_and_shows_nowhere(worker, client, seal):
    assert client.run("login", "ada", seal(SECRET, task="login")) == ["ada", 21, True]
    assert client.run("login", user="ada", password=seal(SECRET, task="login"))[2]
    assert client.run("session", "ada", seal(SECRET, task="session")) == ["ada", 21]
    assert SECRET.encode() not in client.everything()
    assert SECRET not in worker.log()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda seal: seal(SECRET, task="another"), "OpenFailed"),
        (lambda seal: "plain-from-elsewhere", "NotSealed"),
    ],
)
def test_what_does_not_open_is_not_retried(worker, client, seal, given, said):
    dead, logins = client.dead(), client.noted().get("logins")
    with pytest.raises(ResultFailure, match=said):
        client.run("login", "ada", given(seal))
    wait_until(lambda: client.dead() == dead + 1, what="the message given up")
    assert client.waiting() == 0
    assert client.noted().get("logins") == logins
    worker.wait_for_log("bufpool: login, argument 'password'")
    assert "plain-from-elsewhere" not in worker.log()


def test_single_use_token_survives_retries_of_its_message_alone(client, seal):
    token = seal(SECRET, task="login_at_last", expires=60, single_use=True)
    first = client.send("login_at_last", "ada", token)
    # its own retries take a moment; a result of those before the last is an error
    wait_until(lambda: client.noted().get("tries ada") == 3, what="the third try")
    wait_until(lambda: not client.waiting(), what="the end of the third try")
    assert client.result(first) is True
    with pytest.raises(ResultFailure, match="TokenReplayed"):
        client.run("login_at_last", "bob", token)
    assert "tries bob" not in client.noted()


# the node


def test_totals_go_on_when_processes_are_killed_and_reloaded(start_host, redis_server, tmp_path):
    broker, settings = redis_server.client_url(), {}
    options = {
        "broker": broker,
        "settings": settings,
        "env": {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
    }
    host = start_host(COMMAND, **options)
    with client_of(host) as client:
        jobs(client)
        check_totals(host, client)
        before = client.run("pid")
        host.send_signal(signal.SIGHUP)  # the command runs itself again, with new processes
        wait_until(lambda: not psutil.pid_exists(before), what="the end of the one before")
        assert client.run("pid") != before
        jobs(client)
        check_totals(host, client)
        os.kill(client.run("pid"), signal.SIGKILL)  # upon which the command ends
        assert host.wait() != 0
        again = start_host(COMMAND, **options)
        jobs(client)
        samples = check_totals(again, client)
        assert value(samples, "bufpool_processes") == 2


def test_orphans_do_not_hold_the_port(start_host):
    host = start_host(COMMAND)
    with client_of(host) as client:
        client.run("work", 1)
        host.scrape()
        host.send_signal(signal.SIGKILL)
        host.wait()
        assert host.members()  # Dramatiq's own processes go on
        again = start_host(COMMAND, port=host.port)

        again.wait_until(
            lambda: total(again.scrape(), "bufpool_gets_total") == 0,
            what="the scrape of the next node",
        )
        assert client.run("work", 2) == 2  # an orphan does it


def test_directory_ends_with_the_node(start_host):
    host = start_host(COMMAND)
    with client_of(host) as client:
        client.run("pid")
    host.scrape()
    path = directory_of(host)
    host.send_signal(signal.SIGTERM)
    assert host.wait() == 0
    assert not path.exists()


def directory_of(host):
    for pid in host.members():
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = link.readlink()
            if target.name.startswith("bufpool-metrics-"):
                return target
    raise AssertionError("no private directory")


# what is wrong


def test_port_of_another_program_ends_the_command(start_host):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        host = start_host(COMMAND, port=port)
        assert host.wait(timeout_seconds=60) != 0
    assert f"Error: bufpool_metrics_port = {port}: metrics endpoint 127.0.0.1:{port}" in host.log()
    assert "Traceback" not in host.log()


def test_missing_dramatiq_names_its_extra():
    script = "import sys; sys.modules['dramatiq'] = None; import bufpool_workers.dramatiq"
    assert "pip install 'bufpool-workers[dramatiq]'" in run_script(script).stderr


def test_scrape_is_on_loopback(worker, client):
    with urlopen(f"http://127.0.0.1:{worker.port}/") as page:
        assert page.status == 200
