"""What secrets leave behind in the memory of real worker processes; the tables are `make leaks`."""

import base64
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bufpool_workers import memory
from tests.leaks import measure
from tests.leaks.scan import Found, Scanner
from tests.support.waiting import wait_until

SECRET = "tYkq3ZpL0vWm8sRbXc5dNfGh1JuA"  # noqa: S105 (what the scans look for)
MEMFD, MLOCK, WIPED, PLAIN = measure.ARMS


@pytest.fixture(params=[MEMFD, MLOCK], ids=["memfd", "mlock"])
def arm(request):
    if request.param is MEMFD and memory.reachable_level() != "memfd":
        pytest.skip("the kernel grants no memfd_secret")
    return request.param


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("raw", SECRET.encode()),
        ("raw", SECRET[7:15].encode()),
        ("base64", base64.b64encode(SECRET.encode())),
        ("base64", base64.b64encode(b"\x80" + SECRET.encode() + b"\xff")),
        ("base64", base64.urlsafe_b64encode(b"\xfe\xff" + SECRET.encode())),
        ("utf-16", SECRET.encode("utf-16-le")),
        ("utf-32", SECRET[3:11].encode("utf-32-le")),
    ],
)
@pytest.mark.parametrize("before", [0, 1, 4096 * 3 + 5])
def test_scan_finds_every_form(form, data, before):
    found = Found()
    Scanner(["x" * 28, SECRET]).search(b"\x01" * before + data + b"\x02" * 77, found)
    assert found.forms == {SECRET: {form}}


def test_scan_finds_what_lies_across_two_pieces(tmp_path):
    path = tmp_path / "core"
    path.write_bytes(b"." * ((8 << 20) - 14) + SECRET.encode() + b"." * 100)
    assert Scanner([SECRET]).file(path).forms == {SECRET: {"raw"}}


@pytest.mark.parametrize(
    "data",
    [b"", SECRET[:7].encode(), SECRET[::-1].encode(), bytes(100_000), bytes(range(256)) * 999],
)
def test_scan_finds_nothing_where_nothing_is(data):
    found = Found()
    Scanner([SECRET]).search(data, found)
    assert not found.forms
    assert found.nbytes == len(data)


def test_scan_finds_a_secret_in_another_process(tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    command = "import sys; held = open(sys.argv[1]).read(); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", command, tmp_path / "secret"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        found = Scanner([SECRET]).process(process.pid)
        process.stdin.close()
    assert found.forms == {SECRET: {"raw"}}
    assert found.nbytes > 1_000_000


def test_credential_tasks_leave_nothing_in_child_or_main(arm, redis_server, tmp_path):
    rows = measure.run_endings(arm, broker=redis_server.celery_url(), folder=tmp_path, each=2)
    assert [row.ending for row in rows] == list(measure.ENDINGS)
    assert {(row.ending, row.child, row.main) for row in rows} == {
        (ending, 0, 0) for ending in measure.ENDINGS
    }


def test_plain_arguments_are_found(redis_server, tmp_path):
    (row,) = measure.run_endings(
        PLAIN, broker=redis_server.celery_url(), folder=tmp_path, endings=["raising"], each=8
    )
    assert row.child + row.main > 0


def test_held_secret_is_found_at_mlock_level_and_out_of_reach_in_secret_memory(
    arm, redis_server, tmp_path
):
    with measure.holding(arm, broker=redis_server.celery_url(), folder=tmp_path) as held:
        worker, pid, scanner = held
        found = scanner.process(pid)
        assert len(scanner.process(worker.pid)) == 0
    unreadable = [name for name in found.unreadable if "secretmem" in name]
    if arm is MLOCK:
        assert list(found.forms.values()) == [{"raw"}]
        assert not unreadable
    else:
        assert not found.forms
        assert unreadable


@pytest.mark.skipif(not shutil.which("gcore"), reason="gdb is not here")
def test_dumps_of_a_worker_do_not_hold_what_its_secure_buffers_hold(arm, redis_server, tmp_path):
    cores = measure.scan_cores(arm, broker=redis_server.celery_url(), folder=tmp_path)
    assert cores.pop("gcore -a") == (arm is MLOCK)  # it dumps what the kernel leaves out
    assert cores["gcore"] == 0
    assert cores["core, SIGABRT"] in (0, None)


def test_dumps_are_complete_enough_to_find_a_secret(redis_server, tmp_path):
    cores = measure.scan_cores(WIPED, broker=redis_server.celery_url(), folder=tmp_path)
    made = [number for number in cores.values() if number is not None]
    if not made:
        pytest.skip("no gdb, and the kernel hands its cores to a program")
    assert made == [1] * len(made)


def test_what_a_task_still_holds_is_wiped_before_a_hard_time_limit_kills(
    arm, redis_server, tmp_path
):
    measure.make_secrets(tmp_path, 1)
    report = tmp_path / "report"
    with measure.worker_of(arm, broker=redis_server.celery_url(), folder=tmp_path) as worker:
        first = measure.child_of(worker)
        arguments = [str(tmp_path / "secret-0"), str(report)]
        worker.client.send_task("leak_app.keep", arguments, time_limit=2)
        wait_until(Path(f"{report}.held").exists, what="the secret to be held")
        assert measure.child_of(worker) != first
    assert report.read_text() == "wiped"
