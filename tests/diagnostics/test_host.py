"""The doctor's checks of a host: this one's real facts, and others' from their files."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bufpool_workers import KiB, Settings
from bufpool_workers.diagnostics import host
from bufpool_workers.diagnostics.capacity import check_locking
from bufpool_workers.diagnostics.limits import Process, has_ipc_lock, memory_limit, parse_limits
from tests.support.forked import check_forked

NOBODY = 65534
WITH_KEY = Settings(private_keys=("worker.key",))
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no /proc")
SWAPS = "Filename Type Size Used Priority\n/dev/sda2 partition 8388604 0 -2\n"
MOUNTS = """\
/dev/root / ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
tmpfs /srv/two\\040words tmpfs rw 0 0
"""


@LINUX
def test_this_process_is_read_as_the_system_has_it():
    found = Process.of()
    assert found.pid == os.getpid()
    assert found.memlock_bytes == resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    assert found.core_bytes == resource.getrlimit(resource.RLIMIT_CORE)[0]
    assert Process.of(os.getpid()) == found


@LINUX
def test_another_process_is_read_by_its_own_limits_and_arguments():
    script = "import resource as r; r.setrlimit(r.RLIMIT_CORE, (4096, 4096)); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script, "--loglevel=DEBUG"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        found = Process.of(process.pid)
        process.communicate(b"\n")
    assert found.core_bytes == 4096
    assert found.arguments[-1] == "--loglevel=DEBUG"
    with pytest.raises(FileNotFoundError):
        Process.of(process.pid)


def test_limits_are_read_by_name():
    text = (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max core file size        0                    unlimited            bytes     \n"
        "Max locked memory         unlimited            unlimited            bytes     \n"
    )
    assert parse_limits(text) == {
        "Max core file size": 0,
        "Max locked memory": resource.RLIM_INFINITY,
    }


@pytest.mark.parametrize(("mask", "may"), [("0000000000000000", False), ("0000000000004000", True)])
def test_the_capability_to_lock_is_seen(mask, may):
    assert has_ipc_lock(f"Name:\tx\nCapInh:\tff\nCapEff:\t{mask}\n") is may


def test_the_lowest_memory_limit_above_a_process_counts(tmp_path):
    inner = tmp_path / "system.slice" / "worker.service"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner.parent / "memory.max").write_text("1048576\n")
    assert memory_limit("0::/system.slice/worker.service\n", root=tmp_path) == 1048576
    (inner / "memory.max").write_text("4096\n")
    assert memory_limit("0::/system.slice/worker.service\n", root=tmp_path) == 4096


def test_memory_limits_of_version_1_and_of_a_container_are_read(tmp_path):
    memory = tmp_path / "memory"
    memory.mkdir()
    (memory / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    text = "9:cpu:/docker/1\n4:memory:/docker/1\n0::/\n"
    assert memory_limit(text, root=tmp_path) is None
    (memory / "memory.limit_in_bytes").write_text("2097152\n")
    assert memory_limit(text, root=tmp_path) == 2097152


def test_no_memfd_secret_is_an_error_only_where_it_is_demanded():
    assert host.check_memfd(Settings(), granted=True).severity == "ok"
    assert host.check_memfd(Settings(), granted=False).severity == "note"
    assert host.check_memfd(Settings(secure_level="memfd"), granted=False).severity == "error"


def test_huge_pages_matter_to_those_who_pool_large_buffers():
    never = "always madvise [never]"
    assert host.check_huge_pages(Settings(), text=never).severity == "note"
    assert host.check_huge_pages(Settings(size_classes=(4 * KiB,)), text=never).severity == "ok"
    assert host.check_huge_pages(Settings(), text="always [madvise] never").severity == "ok"
    assert "no transparent" in host.check_huge_pages(Settings(), text="").message


@pytest.mark.parametrize(
    "finding",
    [
        host.check_huge_pages(Settings(), text=None),
        host.check_cores(Settings(), core_bytes=-1, pattern=None, level="plain"),
        host.check_swap(WITH_KEY, text=None, level="plain"),
    ],
    ids=lambda finding: finding.check,
)
def test_what_can_not_be_seen_is_said(finding):
    assert finding.severity == "note"
    assert re.search(r"can't be seen from here: /(sys|proc)/\S+ can't be read$", finding.message)


def test_a_file_system_that_can_not_be_seen_is_said(tmp_path):
    findings = list(host.check_directory(tmp_path, mounts=""))
    assert "which file system it is on can't be seen" in findings[-1].message


@pytest.mark.parametrize(
    ("settings", "core_bytes", "pattern", "level", "expected"),
    [
        (WITH_KEY, 0, "core", "plain", "ok"),
        (Settings(), -1, "core", "memfd", "ok"),
        (Settings(), -1, "core", "plain", "warning"),
        (WITH_KEY, -1, "core", "memfd", "warning"),
        (WITH_KEY, 0, "|/usr/lib/systemd/systemd-coredump %P", "memfd", "warning"),
    ],
)
def test_cores_are_warned_of_where_they_hold_secrets(
    settings, core_bytes, pattern, level, expected
):
    found = host.check_cores(settings, core_bytes=core_bytes, pattern=pattern, level=level)
    assert found.severity == expected
    assert bool(found.hint) is (expected == "warning")


@pytest.mark.parametrize(
    ("settings", "text", "level", "expected"),
    [
        (WITH_KEY, SWAPS.splitlines()[0], "plain", "ok"),
        (Settings(), SWAPS, "mlock", "ok"),
        (WITH_KEY, SWAPS, "mlock", "note"),
        (Settings(), SWAPS, "plain", "warning"),
    ],
)
def test_swap_is_warned_of_where_secrets_go_there(settings, text, level, expected):
    assert host.check_swap(settings, text=text, level=level).severity == expected


@pytest.mark.parametrize(("state", "level"), [(0, "ok"), (5, "note"), (None, "note")])
def test_unsynchronized_clock_is_noted(state, level):
    assert host.check_clock(state=state).severity == level


@LINUX
def test_this_kernel_says_how_its_clock_is():
    assert host.clock_state() in range(6)


def test_file_systems_are_found_by_the_longest_mount_point():
    assert host.filesystem(Path("/run/x"), mounts=MOUNTS) == "tmpfs"
    assert host.filesystem(Path("/running"), mounts=MOUNTS) == "ext4"
    assert host.filesystem(Path("/srv/two words/x"), mounts=MOUNTS) == "tmpfs"
    assert host.filesystem(Path("/"), mounts="") is None


def test_missing_directory_is_an_error(tmp_path):
    (gone,) = host.check_directory(tmp_path / "gone", mounts=MOUNTS)
    assert (gone.severity, gone.hint) == ("error", "create one, for the workers")
    (slow,) = host.check_directory(tmp_path, mounts=MOUNTS)
    assert slow.severity == "warning"
    assert "on ext4" in slow.message


def test_directory_without_write_permission_is_an_error(tmp_path):
    tmp_path.chmod(0o500)

    def check():
        os.chdir(tmp_path)  # what is above it may be closed to nobody
        if os.geteuid() == 0:  # root may write everywhere, so this child becomes nobody
            os.chown(tmp_path, NOBODY, NOBODY)
            os.setuid(NOBODY)
        (found,) = host.check_directory(Path(), mounts=MOUNTS)
        assert "may not write there" in found.message

    check_forked(check)


def test_every_check_of_this_host_says_something():
    findings = list(
        host.check_host(
            WITH_KEY,
            process=Process.of(),
            level="plain",
            directory=Path("/dev/shm"),  # noqa: S108
            holds_private=True,
        )
    )
    assert {"memfd_secret", "core_dumps", "swap", "clock", "metrics_directory"} <= {
        finding.check for finding in findings
    }
    for finding in findings:
        assert finding.message
        assert finding.hint or finding.severity in {"ok", "note"}


def locking(**facts):
    facts = {"level": "memfd", "soft_limit": 64 * KiB, "may_lock_any": False} | facts
    settings = facts.pop("settings", Settings())
    return [finding.severity for finding in check_locking(settings, **facts)]


def test_locked_memory_is_compared_with_its_limit():
    assert locking() == ["warning"]
    assert locking(may_lock_any=True) == ["ok"]
    assert locking(soft_limit=resource.RLIM_INFINITY) == ["ok"]
    assert locking(soft_limit=resource.RLIM_INFINITY, level="plain") == ["warning"]
    assert locking(level="mlock", settings=Settings(secure_level="memfd")) == ["error"]
