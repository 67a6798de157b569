"""What another user may do to a metrics directory: add numbers, and nothing else."""

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from bufpool_workers.counters import ask_to_trim, compact, private_directory
from bufpool_workers.counters.catalog import Catalog
from bufpool_workers.counters.counterfile import CounterFile
from bufpool_workers.counters.directory import Directory
from bufpool_workers.counters.liveness import ProcessIdentity
from bufpool_workers.counters.mergedfile import MergedFile
from bufpool_workers.counters.names import merged_name
from bufpool_workers.counters.private_directory import NodeManifest
from bufpool_workers.counters.snapshot import read_directory
from bufpool_workers.errors import MetricsError
from tests.support.counters import POOLS, Workers, killed_at, make_file, total
from tests.support.forked import run_forked

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="two users are needed: root and nobody")

NOBODY = 65534
LOCK = ".bufpool-compact.lock"
MERGED = merged_name("counter")
SECRET = b"of root alone"


@pytest.fixture(autouse=True)
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def outside(tmp_path):
    """Files of root's beside the metrics directory, which nothing may read, write or remove."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(SECRET)
    with contextlib.closing(make_file(folder, catalog=Catalog(), pools=POOLS)) as file:
        counters = file.path.rename(folder / "counter_9.db")
    before = {path.name: look(path) for path in folder.iterdir()}
    yield counters
    assert {path.name: look(path) for path in folder.iterdir()} == before


def look(path):
    status = path.stat()
    return path.read_bytes(), status.st_mode, status.st_uid, status.st_mtime_ns


@pytest.fixture(params=[0o1777, 0o777], ids=["sticky", "not sticky"])
def shared(request, tmp_path, outside):
    """A directory that every user may write in."""
    return make_shared(tmp_path, mode=request.param)


def make_shared(tmp_path, *, mode):
    folder = tmp_path / "metrics"
    folder.mkdir()
    folder.chmod(mode)
    return folder


@pytest.fixture
def sticky(tmp_path, outside):
    return make_shared(tmp_path, mode=0o1777)


def run_as_nobody(work):
    def run():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        work()

    return run_forked(run)


def as_nobody(work):
    assert run_as_nobody(work) == 0


def list_of(*names, at, to=MERGED):
    """Plant a merged file that claims to hold the numbers of these files."""
    with Directory(at) as directory:
        MergedFile.of("counter", {}, names).replace(directory, to)


# each puts something at `path`; `outside` is a counter file of root's, beside root's secret


def plant_link(path, outside):
    path.symlink_to(outside)


def plant_link_to_secret(path, outside):
    path.symlink_to(outside.with_name("secret"))


def plant_relative_link(path, outside):
    path.symlink_to(Path("..", "outside", outside.name))


def plant_dangling_link(path, outside):
    path.symlink_to(outside.with_name("new"))


def plant_looping_link(path, outside):
    path.symlink_to(path)


def plant_link_to_folder(path, outside):
    path.symlink_to(outside.parent)


def plant_link_to_device(path, outside):
    path.symlink_to("/dev/zero")


def plant_pipe(path, outside):
    os.mkfifo(path, 0o666)


def plant_socket(path, outside):
    os.chdir(path.parent)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path.name)


def plant_folder(path, outside):
    path.mkdir()


def plant_full_folder(path, outside):
    path.mkdir()
    (path / MERGED).write_bytes(b"")


def plant_nothing(path, outside):
    path.touch()


def plant_rubbish(path, outside):
    path.write_bytes(b"\xff" * 4096)


def plant_hidden(path, outside):
    path.touch(mode=0o000)


def plant_open_to_all(path, outside):
    path.touch()
    path.chmod(0o666)


def plant_huge(path, outside):
    with path.open("wb") as file:
        file.write(b"\xf0\xff\xff\x7f0000")
        file.truncate(2**33)


PLANTS = [value for name, value in list(globals().items()) if name.startswith("plant_")]
plants = pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)


def root_only_plants():
    """Return what makes files that only root can make, and anybody on a lax kernel."""

    def link_hard(path, outside):
        path.hardlink_to(outside)

    def make_device(path, outside):
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero

    def make_another_users(path, outside):
        path.write_bytes(outside.read_bytes())
        os.chown(path, NOBODY, NOBODY)

    return [link_hard, make_device, make_another_users]


# names by which files are opened, but for the lock; OURS stands for this process's
PLACES = [
    "counter_77.db",
    "gauge_liveall_77.db",
    "counter_77-bufpool-01234567.db",
    "OURS.db",
    ".OURS.tmp",
    ".bufpool-merge-00000000.tmp",
]


def own(place):
    me = "-".join(map(str, ProcessIdentity.current()))
    return place.replace("OURS", f"counter_bufpool-{me}-00000000")


@contextlib.contextmanager
def processes_of(directory):
    """A dead process with 3 gets and a living one with 4, which is asked to trim."""
    workers = Workers(directory)
    workers.count_and_die(gets=3)
    living = workers.count(gets=4)
    yield
    assert ask_to_trim(directory, pids={os.getpid()}, unix_seconds=5.0) == 1
    assert living.trim_asked() == 5.0
    assert living.is_there
    assert total(directory) == 7
    workers.end()


@plants
def test_no_plant_in_any_place_leads_outside_or_changes_a_number(shared, outside, plant):
    names = [own(place) for place in PLACES]
    with processes_of(shared):
        as_nobody(lambda: [plant(shared / name, outside) for name in names])
        assert compact(shared, foreign=True).merged >= 1


@plants
def test_no_plant_for_the_merged_file_leads_outside_or_changes_a_number(shared, outside, plant):
    with processes_of(shared):
        as_nobody(lambda: plant(shared / MERGED, outside))
        result = compact(shared, foreign=True)
        assert (result.merged, list(result.unmerged)) == (0, [MERGED])


@pytest.mark.parametrize("name", [*PLACES, MERGED])
@pytest.mark.parametrize("plant", root_only_plants(), ids=lambda plant: plant.__name__)
def test_file_that_only_root_could_plant_is_not_followed(sticky, outside, plant, name):
    with processes_of(sticky):
        try:
            plant(sticky / own(name), outside)
        except PermissionError:
            pytest.skip("this container may make no devices")
        compact(sticky, foreign=True)


@plants
def test_a_planted_lock_is_refused_or_taken_but_never_waited_for(shared, outside, plant):
    workers = Workers(shared)
    workers.count_and_die(gets=3)
    as_nobody(lambda: plant(shared / LOCK, outside))
    is_file = (shared / LOCK).is_file() and not (shared / LOCK).is_symlink()
    if is_file and not shared.stat().st_mode & stat.S_ISVTX:  # as one that shares it makes it
        assert compact(shared).merged == 1
    else:
        with pytest.raises(PermissionError, match=f"{LOCK}: .*; remove it"):
            compact(shared)
    assert total(shared) == 3


def test_a_list_of_another_users_in_a_sticky_directory_removes_and_hides_nothing(sticky):
    workers = Workers(sticky)
    living = workers.count(gets=4)
    dead = workers.count_and_die(gets=3)
    as_nobody(lambda: list_of(living.path.name, dead.name, at=sticky))
    assert total(sticky) == 7
    assert compact(sticky).merged == 1
    assert living.is_there
    assert total(sticky) == 7
    workers.end()


def test_a_user_of_a_sticky_directory_killed_while_merging_loses_and_doubles_nothing(tmp_path):
    for step in range(1, 200):
        folder = tmp_path / str(step)
        folder.mkdir()
        directory = make_shared(folder, mode=0o1777)
        Workers(directory).count_and_die(gets=2)

        def work(directory=directory, step=step):
            for gets in (4, 3):
                Workers(directory).count_and_die(gets=gets)
            was_killed = killed_at(step, lambda: compact(directory))
            assert total(directory) == 9
            os._exit(0 if was_killed else 3)

        code = run_as_nobody(work)
        assert code in {0, 3}
        assert total(directory) == 9
        (directory / LOCK).unlink(missing_ok=True)  # nobody's, in root's directory
        compact(directory)
        assert total(directory) == 9
        assert (directory / MERGED).stat().st_uid == 0
        if code == 3:
            return
    pytest.fail("no compaction was whole")


@pytest.mark.parametrize("name", ["counter_77.db", "gauge_max_bufpool-merged.db"])
def test_a_list_that_names_what_a_process_may_make_again_is_damage(sticky, name):
    list_of(name, at=sticky)
    assert MERGED in read_directory(sticky).unreadable


def test_a_user_who_may_not_replace_the_merged_file_leaves_its_own_unmerged(sticky):
    Workers(sticky).count_and_die(gets=4)
    compact(sticky)

    def work():
        (sticky / "counter_77.db").write_bytes(b"\x08\0\0\0\0\0\0\0")
        Workers(sticky).count_and_die(gets=3)
        result = compact(sticky, foreign=True)
        assert (result.merged, list(result.unmerged)) == (0, [MERGED])
        assert (sticky / "counter_77.db").exists()
        assert total(sticky) == 7

    as_nobody(work)
    assert compact(sticky).merged == 1
    assert total(sticky) == 7


def test_another_users_list_does_not_keep_other_kinds_from_being_merged(sticky):
    workers = Workers(sticky)
    workers.count_and_die(gets=3)
    as_nobody(lambda: list_of(at=sticky, to=merged_name("gauge_max")))
    (sticky / "gauge_max_1.db").write_bytes(b"")
    assert compact(sticky).merged == 1
    assert total(sticky) == 3


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_merged_file_that_others_may_write_is_not_believed_in_a_sticky_directory(sticky, mode):
    workers = Workers(sticky)
    living = workers.count(gets=4)
    list_of(living.path.name, at=sticky)
    (sticky / MERGED).chmod(mode)
    compact(sticky)
    assert living.is_there
    assert total(sticky) == 4
    workers.end()


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o777, 0o1700, 0o1777])
def test_each_merges_for_its_own_and_root_reads_the_directory_owners(tmp_path, mode):
    directory = make_shared(tmp_path, mode=mode)
    os.chown(directory, NOBODY, NOBODY)

    def work():
        Workers(directory).count_and_die(gets=4)
        Workers(directory).count_and_die(gets=3)
        os.umask(0)
        assert compact(directory).merged == 2
        assert total(directory) == 7

    as_nobody(work)
    assert stat.S_IMODE((directory / MERGED).stat().st_mode) == 0o644
    assert total(directory) == 7
    Workers(directory).count_and_die(gets=2)
    assert compact(directory).merged == 1
    assert total(directory) == 9
    as_nobody(lambda: Workers(directory).count_and_die(gets=1) and compact(directory))
    assert total(directory) == 10


def test_users_who_share_a_directory_without_the_sticky_bit_count_as_one(tmp_path):
    directory = make_shared(tmp_path, mode=0o777)
    as_nobody(lambda: Workers(directory).count_and_die(gets=4) and compact(directory))
    Workers(directory).count_and_die(gets=3)
    assert compact(directory).merged == 1
    assert total(directory) == 7

    def work():
        Workers(directory).count_and_die(gets=1)
        compact(directory)
        assert total(directory) == 8

    as_nobody(work)
    assert total(directory) == 8


def test_a_user_of_a_sticky_directory_merges_its_own(sticky):
    def work():
        Workers(sticky).count_and_die(gets=4)
        assert compact(sticky).merged == 1
        assert total(sticky) == 4

    as_nobody(work)


def test_leftovers_of_another_user_do_not_stop_a_compaction(sticky):
    (sticky / ".bufpool-merge-00000000.tmp").touch()  # root's, in root's directory

    def work():
        Workers(sticky).count_and_die(gets=4)
        assert compact(sticky).merged == 1

    as_nobody(work)
    assert (sticky / ".bufpool-merge-00000000.tmp").exists()


@pytest.mark.parametrize(
    "plant", [plant_link, *root_only_plants()], ids=lambda plant: plant.__name__
)
def test_a_trim_request_is_written_in_no_file_but_our_processes(shared, outside, plant):
    try:
        plant(shared / own("OURS.db"), outside)
    except PermissionError:
        pytest.skip("this container may make no devices")
    assert ask_to_trim(shared, pids={os.getpid()}, unix_seconds=5.0) == 0


@plants
@pytest.mark.parametrize("call", ["open", "rename", "unlink"])
def test_file_swapped_between_check_and_use_is_not_followed(
    sticky, outside, monkeypatch, plant, call
):
    """Another user's own dead file, which it replaces before each step of the merging."""
    living = Workers(sticky).count(gets=4)
    as_nobody(lambda: (sticky / "counter_77.db").write_bytes(b"\x08\0\0\0\0\0\0\0"))
    real = getattr(os, call)
    swaps = [True]

    def swap():
        (sticky / "counter_77.db").unlink(missing_ok=True)
        plant(sticky / "counter_77.db", outside)

    def acted(path, *args, **kwargs):
        if path == "counter_77.db" and swaps:
            swaps.clear()
            as_nobody(swap)
        return real(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, acted)
        compact(sticky, foreign=True)
    assert living.is_there
    assert total(sticky) == 4
    living.close()


# the directory itself


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "shm"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


@pytest.fixture
def base(place, monkeypatch):
    monkeypatch.setattr(private_directory, "_SHM", place)
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


@pytest.mark.parametrize("kind", ["folder", "folder open to all", "link", "dangling link", "pipe"])
@pytest.mark.parametrize("mode", [0o1777, 0o777], ids=["sticky", "not sticky"])
@pytest.mark.parametrize("name", ["bufpool-metrics-abc", "metrics"])
def test_a_directory_that_another_user_made_again_is_not_counted_in(
    place, outside, kind, mode, name
):
    place.chmod(mode)
    path = place / name
    path.mkdir()
    file = make_file(path, catalog=Catalog(), pools=POOLS)
    file.path.unlink()
    path.rmdir()

    def work():
        if kind.startswith("folder"):
            path.mkdir()
            path.chmod(0o777 if kind == "folder open to all" else 0o755)
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(outside.parent if kind == "link" else outside.with_name("new"))

    as_nobody(work)
    private_directory.recreate(path)
    with pytest.raises(MetricsError, match="metrics directory"):
        file.publish()
    with pytest.raises(OSError, match=r"."):
        private_directory.advertise(path, NodeManifest("a", None, 1))
    if kind.startswith("folder"):
        assert list(path.iterdir()) == []
    assert not outside.with_name("new").exists()
    remove = path.rmdir if kind.startswith("folder") else path.unlink
    remove()
    private_directory.recreate(path)
    second = file.publish()
    assert second.is_there
    for each in (file, second):
        each.close()


def test_a_directory_swapped_while_a_file_is_made_in_it_is_not_followed(
    place, outside, monkeypatch
):
    place.chmod(0o777)
    path = place / "metrics"
    path.mkdir()
    drawn = CounterFile.allocate(path, catalog=Catalog(), pools=POOLS)
    real, swaps = os.open, [True]

    def swap():
        path.rename(place / "moved")
        path.symlink_to(outside.parent)

    def open_after(name, *args, **kwargs):
        if swaps and str(name).endswith(".tmp"):
            swaps.clear()
            as_nobody(swap)
        return real(name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_after)
        file = drawn.publish()
    assert not swaps
    assert [each.name for each in (place / "moved").iterdir()] == [file.path.name]
    assert not file.is_there
    for each in (drawn, file):
        each.close()


def test_a_directory_that_is_the_deployments_may_be_any_users(tmp_path):
    directory = make_shared(tmp_path, mode=0o777)
    os.chown(directory, 1234, 1234)
    as_nobody(lambda: Workers(directory).count_and_die(gets=4))
    assert total(directory) == 4


def plant_node(place, *, pid, dir_mode=0o700, mode=0o644, name="evil"):
    """Advertise a node; return its lock, which a worker holds."""
    path = place / f"bufpool-metrics-{name}"
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    manifest = path / "node.json"
    manifest.write_text(json.dumps({"node": "shop@host", "app": "shop", "pid": pid}))
    manifest.chmod(mode)
    path.chmod(dir_mode)
    return fd


@contextlib.contextmanager
def nodes_of_nobody(plant):
    """Run `plant` as nobody in a process that lives on; yields its pid."""
    told, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            plant()
            os.write(say, b".")
            signal.pause()
        finally:
            os._exit(code)
    try:
        os.close(say)
        assert os.read(told, 1) == b"."
        yield pid
    finally:
        os.close(told)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def found():
    return {path.name: node.pid for path, node in private_directory.discover()}


def test_root_believes_a_manifest_only_of_the_user_whose_process_it_names(base):
    me = os.getpid()

    def plant():
        plant_node(base, pid=me, name="of-root")
        plant_node(base, pid=999_999_999, name="of-none")
        plant_node(base, pid=-1, name="negative")
        plant_node(base, pid=os.getpid(), name="own")
        plant_node(base, pid=os.getpid(), name="file-open-to-all", mode=0o666)
        plant_node(base, pid=os.getpid(), name="folder-open-to-all", dir_mode=0o777)

    with nodes_of_nobody(plant) as pid:
        assert found() == {"bufpool-metrics-own": pid}


def test_a_manifest_of_another_than_the_directorys_user_is_not_believed(base):
    def plant():
        plant_node(base, pid=os.getpid())

    with nodes_of_nobody(plant):
        assert len(found()) == 1
        os.chown(base / "bufpool-metrics-evil" / "node.json", 1234, 1234)
        assert found() == {}
        os.chown(base / "bufpool-metrics-evil", 1234, 1234)
        assert found() == {}


def test_another_users_node_is_not_for_users(base):
    lock = plant_node(base, pid=os.getpid(), dir_mode=0o755, name="of-root")
    assert list(found()) == ["bufpool-metrics-of-root"]

    def work():
        assert found() == {}

    as_nobody(work)
    os.close(lock)


@pytest.mark.parametrize("kind", ["manifest", "directory"])
def test_a_node_is_found_through_no_link(base, outside, kind):
    lock = plant_node(base.parent, pid=os.getpid(), dir_mode=0o755, name="elsewhere")
    real = base.parent / "bufpool-metrics-elsewhere"

    def plant():
        link = base / "bufpool-metrics-link"
        if kind == "directory":
            link.symlink_to(real)
            return
        link.mkdir(mode=0o700)
        fcntl.flock(os.open(link, os.O_RDONLY), fcntl.LOCK_EX)
        (link / "node.json").symlink_to(real / "node.json")

    with nodes_of_nobody(plant):
        assert found() == {}
    os.close(lock)


def test_only_a_users_own_leftovers_are_removed(base, outside):
    def work():
        left = base / "bufpool-metrics-theirs"
        left.mkdir()
        (left / "counter_1.db").symlink_to(outside)
        (base / "bufpool-metrics-link").symlink_to(outside.parent)

    as_nobody(work)
    own = base / "bufpool-metrics-own"
    own.mkdir()
    (own / "counter_1.db").symlink_to(outside)
    made = private_directory.make()
    try:
        left = {path.name for path in base.iterdir()} - {made.name}
        assert left == {"bufpool-metrics-theirs", "bufpool-metrics-link"}
    finally:
        private_directory._remove(made, os.getpid())
    assert not made.exists()


def test_at_its_exit_a_worker_removes_no_directory_that_another_user_made(base, outside):
    made = private_directory.make()
    made.rmdir()

    def work():
        made.mkdir()
        (made / "kept").touch()

    as_nobody(work)
    private_directory._remove(made, os.getpid())
    assert (made / "kept").exists()


def test_a_directory_is_read_through_no_link_of_another_user(place, outside):
    as_nobody(lambda: (place / "metrics").symlink_to(outside.parent))
    with pytest.raises(MetricsError):
        read_directory(place / "metrics")
    with pytest.raises(OSError, match=rf"\[Errno ({errno.ELOOP}|{errno.ENOTDIR})\]"):
        compact(place / "metrics")
