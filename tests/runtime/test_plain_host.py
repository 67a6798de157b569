"""Settings of a process without a job system: given, or of the environment."""

import pytest
from celery import Celery

import bufpool_workers as bp
from bufpool_workers import testing
from bufpool_workers.runtime import PlainHost, current_runtime
from tests.support.counters import names
from tests.support.scripts import run_script


@pytest.fixture(autouse=True)
def own_process():
    testing.reset()
    yield
    testing.reset()


def run(script, **environ):
    """Run a script in a process with these variables; return what it prints."""
    done = run_script(script, **environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_a_host_the_environment_is_read():
    script = """
import bufpool_workers as bp
print(dict(bp.current_pools().settings.warm["regular"]))
"""
    assert run(script, BUFPOOL_WARM='{"regular": {"1MiB": 3}}') == "{1048576: 3}\n"


def test_environment_is_read_once(monkeypatch):
    monkeypatch.setenv("BUFPOOL_AT_LIMIT", "raise")
    assert current_runtime().settings.at_limit == "raise"
    monkeypatch.setenv("BUFPOOL_AT_LIMIT", "lend")
    assert current_runtime().settings.at_limit == "raise"


def test_wrong_environment_is_an_error_at_the_first_buffer(monkeypatch):
    monkeypatch.setenv("BUFPOOL_AT_LIMIT", "wait")
    with pytest.raises(bp.SettingsError, match=r"^BUFPOOL_AT_LIMIT = 'wait': one of lend, raise"):
        bp.buffer(1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: bp.configure({"max_buffer_bytes": "64MiB", "bufpool_debug": True}),
        lambda: bp.configure(max_buffer_bytes="64MiB", debug=True),
        lambda: bp.configure(bp.Settings.read({"max_buffer_bytes": "64MiB", "debug": True})),
    ],
)
def test_configure_takes_a_mapping_names_or_settings(call):
    call()
    settings = bp.current_pools().settings
    assert (settings.max_buffer_bytes, settings.debug) == (64 * bp.MiB, True)


def test_configure_without_settings_takes_those_of_the_environment(monkeypatch):
    monkeypatch.setenv("BUFPOOL_AT_LIMIT", "raise")
    bp.configure()
    monkeypatch.delenv("BUFPOOL_AT_LIMIT")
    assert current_runtime().settings.at_limit == "raise"


def test_configure_raises_at_once_and_leaves_nothing_behind():
    with pytest.raises(bp.SettingsError, match=r"^wram: there is no such setting"):
        bp.configure(wram={})
    assert not current_runtime().hosts


@pytest.mark.parametrize("settings", ["metrics_port", 9464, [("debug", True)]])
def test_configure_refuses_settings_that_are_no_mapping(settings):
    with pytest.raises(TypeError, match="settings are a mapping of names, not"):
        bp.configure(settings)


def test_configure_refuses_a_mapping_and_names_together():
    with pytest.raises(TypeError, match="not both"):
        bp.configure({"debug": True}, at_limit="raise")


def test_same_settings_may_be_configured_again():
    bp.configure(debug=True)
    pools = bp.current_pools()
    bp.configure({"bufpool_debug": True})
    assert bp.current_pools() is pools
    assert len(current_runtime().hosts) == 1


def test_other_settings_in_one_process_are_refused():
    bp.configure(debug=True)
    bp.configure(debug=False)
    with pytest.raises(bp.SettingsError, match=r"differ in bufpool_debug"):
        bp.current_pools()


def test_celery_app_with_other_settings_is_refused():
    bp.configure(debug=True)
    app = Celery("shop", set_as_current=False)
    bp.setup(app)
    with pytest.raises(
        bp.SettingsError,
        match=r"^bufpool_workers.configure and the Celery app 'shop' are in one process and differ",
    ):
        bp.current_pools()


def test_adapters_hand_settings_to_the_runtime():
    current_runtime().add_host(PlainHost("the broker of 'shop'", {"debug": True}))
    assert current_runtime().settings.debug


def test_configured_process_counts_in_the_metrics_directory(tmp_path):
    use = "import bufpool_workers as bp\n{}\nbp.buffer(1).release()"
    run(use.format(""), PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert names(tmp_path) == set()  # such as a script that a task runs
    run(use.format("bp.configure()"), PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    assert len(names(tmp_path)) == 1


def test_mistaken_metrics_directory_is_named_once_and_not_made(tmp_path):
    script = """
import bufpool_workers as bp
bp.configure(debug=False)
for kind in bp.buffer, bp.secure_buffer:
    kind(64).release()
"""
    path = tmp_path / "mistaken"
    done = run_script(script, PROMETHEUS_MULTIPROC_DIR=str(path))
    (line,) = done.stderr.splitlines()
    assert (
        f"are in no scrape, which is tried again at each task's end: metrics directory '{path}'"
        in line
    )
    assert "it does not exist; create it" in line
    assert not path.exists()
