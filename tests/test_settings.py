import dataclasses
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bufpool_workers import GiB, KiB, MiB, Settings, SettingsError
from bufpool_workers.settings import PREFIX
from bufpool_workers.units import format_size, parse_size

PAIR = {"certfile": "a", "keyfile": "b"}


def errors_of(**conf):
    with pytest.raises(SettingsError) as caught:
        Settings.read({PREFIX + key: value for key, value in conf.items()})
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("64KiB", 64 * KiB), ("64 kib", 64 * KiB), (" 1MiB ", MiB), ("2GiB", 2 * GiB)],
)
def test_sizes_are_read_from_text(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "KiB", "-1", "1.5MiB", "64KB", "1 TiB", "\u0661KiB", "9" * 19]
)
def test_other_text_is_no_size(text):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize("value", [True, 1.0, None, b"1", [1]])
def test_other_types_are_no_size(value):
    with pytest.raises(TypeError, match="a size is an int or text"):
        parse_size(value)


@given(st.integers(0, 1 << 50))
def test_size_survives_being_written_and_read(size):
    assert parse_size(format_size(size)) == size


@given(st.text())
def test_any_text_is_a_size_or_a_value_error(text):
    with suppress(ValueError):
        assert parse_size(text) >= 0


def test_no_settings_are_the_defaults():
    assert Settings.read({}) == Settings()


def test_settings_can_not_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().debug = True
    with pytest.raises(TypeError):
        Settings().warm["regular"][4096] = 1


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("size_classes", "4KiB", "a list of 1 to 32 sizes"),
        ("size_classes", [], "a list of 1 to 32 sizes"),
        ("size_classes", ["4KiB", "2KiB"], "sizes must increase"),
        ("size_classes", ["4KiB", 4096], "sizes must increase"),
        ("size_classes", [1], "outside 64B to 1GiB"),
        ("warm", {"regular": 4}, "a mapping from size class to count"),
        ("warm", [], "a mapping from regular, secure, random"),
        ("warm", {"regualr": {}}, ": there is no kind 'regualr', did you mean regular?"),
        ("max_bytes", {"secure": 0, 7: 0}, "there is no kind 7, only regular, secure, random"),
        ("warm", {"regular": {"1MiB": -1}}, "an int from 0 to 100000"),
        ("warm", {"regular": {"1MiB": True}}, "an int from 0 to 100000"),
        ("warm", {"regular": {"1MB": 1}}, "'1MB' is not a size"),
        ("warm", {"regular": {"3MiB": 1}}, "3MiB is not one of bufpool_size_classes"),
        ("warm", {"secure": {"1MiB": 5}}, "5242880 bytes, above bufpool_max_bytes['secure']"),
        ("max_bytes", "1MiB", "a mapping from regular, secure, random to a size"),
        ("max_bytes", {"regular": -1}, "outside 0B to"),
        ("max_buffer_bytes", 0, "outside 64B to"),
        ("at_limit", "wait", "one of lend, raise"),
        ("trim_after_seconds", "60", "a number from 0 to 86400"),
        ("trim_after_seconds", float("nan"), "outside 0 to 86400"),
        ("warm_seconds", 4, "outside 0 to 3.5"),
        ("secure_level", "best", "one of memfd, mlock, any"),
        ("debug", 1, "True or False"),
        ("tune_malloc", "yes", "True or False"),
        ("metrics_port", 65536, "outside 0 to 65535"),
        ("metrics_port", "9100", "None or a port"),
        ("metrics_host", "", "non-empty text"),
        ("metrics_hosts", "metrics.example.com", "a list of host names"),
        ("metrics_hosts", ["metrics.example.com:443"], "is not a host's name alone"),
        ("metrics_hosts", ["http://metrics"], "is not a host's name alone"),
        ("metrics_hosts", [""], "is not a host's name alone"),
        ("metrics_dir", 7, "non-empty text"),
        ("metrics_tls", {**PAIR, "client_cafile": "c"}, "neither goes without the other"),
        ("metrics_tls", {**PAIR, "client_capath": "c"}, "neither goes without the other"),
        ("metrics_tls", {**PAIR, "client_auth_required": True}, "neither goes without the other"),
        (
            "metrics_tls",
            {**PAIR, "client_auth_required": False, "client_cafile": "c"},
            "together with client_auth_required=True",
        ),
        ("metrics_namespace", "9lives", "a Prometheus name"),
        ("compact_foreign", None, "True or False"),
        ("private_keys", 7, "a file path or a list"),
    ],
)
def test_wrong_value_is_named_with_key_and_what_it_may_be(key, value, text):
    found = errors_of(**{key: value})
    assert found.startswith(f"bufpool_{key}")
    assert text in found


def test_unknown_key_is_named_with_the_nearest():
    assert errors_of(max_byte={}) == (
        "bufpool_max_byte: there is no such setting, did you mean bufpool_max_bytes?"
    )


def test_all_errors_come_at_once_each_on_its_line():
    found = errors_of(
        wram={}, debug=1, warm={"regular": {"3MiB": 1}}, at_limit="wait", metrics_port=-1
    )
    keys = [line.strip().partition(":")[0].partition(" =")[0] for line in found.split("\n  ")]
    assert sorted(keys) == [
        *("bufpool_at_limit", "bufpool_debug", "bufpool_metrics_port"),
        *("bufpool_warm['regular']", "bufpool_wram"),
    ]


def test_key_material_is_never_shown():
    key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIA\n-----END PRIVATE KEY-----"
    assert "MC4C" not in errors_of(private_keys=[key])
    assert "MC4C" not in errors_of(private_keys=[key, 5])
    assert "MC4C" not in errors_of(public_key=[key])


def test_one_kind_s_setting_leaves_the_others_at_their_defaults():
    settings = Settings.read(
        {
            "bufpool_warm": {"regular": {"1MiB": 4}},
            "bufpool_max_bytes": {"secure": "1MiB"},
        }
    )
    assert dict(settings.warm["regular"]) == {MiB: 4}
    assert settings.warm["secure"] == Settings().warm["secure"]
    assert settings.max_bytes == Settings().max_bytes | {"secure": MiB}


def test_defaults_are_fitted_to_what_is_given():
    settings = Settings.read(
        {
            "bufpool_max_buffer_bytes": "64KiB",
            "bufpool_max_bytes": {"regular": "100KiB"},
        }
    )
    assert settings.size_classes[-1] == 64 * KiB
    assert sum(n * count for n, count in settings.warm["regular"].items()) <= 100 * KiB
    assert Settings.read({"bufpool_max_buffer_bytes": 1000}).size_classes == (1000,)


def test_buffer_limit_below_a_given_class_is_refused():
    found = errors_of(size_classes=["4KiB"], max_buffer_bytes="2KiB")
    assert (
        found == "bufpool_max_buffer_bytes = 2048: below the largest of bufpool_size_classes, 4096"
    )


@pytest.mark.parametrize(
    "client",
    [
        {},
        *({name: "c", "client_auth_required": True} for name in ("client_cafile", "client_capath")),
    ],
)
def test_tls_for_all_or_for_known_clients_is_accepted(client):
    tls = PAIR | client
    assert Settings.read({"bufpool_metrics_tls": tls}).metrics_tls == tls


@pytest.mark.parametrize("spelled", ["{}", "bufpool_{}", "BUFPOOL_{}"])
def test_mapping_has_names_with_or_without_prefix(spelled):
    settings = Settings.read({spelled.format("warm"): {"regular": {"1MiB": 4}}})
    assert dict(settings.warm["regular"]) == {MiB: 4}


def test_errors_spell_names_as_they_were_given():
    with pytest.raises(SettingsError) as caught:
        Settings.read({"warm": {"regular": {"3MiB": 1}}, "max_byte": 1, "size_classes": ["1MiB"]})
    assert str(caught.value).split("\n  ") == [
        "max_byte: there is no such setting, did you mean max_bytes?",
        "warm['regular']: 3MiB is not one of size_classes",
    ]


def test_setting_that_is_given_twice_is_refused():
    with pytest.raises(SettingsError, match=r"^bufpool_debug: given as debug too$"):
        Settings.read({"debug": True, "bufpool_debug": True})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("warm", '{"regular": {"1MiB": 4}}', {"regular": {"1MiB": 4}}),
        ("size_classes", '["4KiB", 8192]', ["4KiB", 8192]),
        ("max_buffer_bytes", "64MiB", 64 * MiB),
        ("metrics_port", "9464", 9464),
        ("metrics_port", "null", None),
        ("warm_seconds", "0.5", 0.5),
        ("debug", "true", True),
        ("debug", "False", False),
        ("metrics_dir", "/run/bufpool", "/run/bufpool"),
        ("metrics_dir", "7", "7"),
        ("metrics_namespace", "null", "null"),
        ("private_keys", "/run/secrets/now.key", "/run/secrets/now.key"),
        ("private_keys", '["a.key", "b.key"]', ["a.key", "b.key"]),
        ("public_key", "{not-json", "{not-json"),
    ],
)
def test_environment_is_json_or_text(name, text, value):
    read = Settings.from_env({"BUFPOOL_" + name.upper(): text})
    assert read == Settings.read({name: value})


def test_empty_variable_counts_as_not_set():
    assert Settings.from_env({"BUFPOOL_METRICS_PORT": "", "BUFPOOL_METRICS_DIR": ""}) == Settings()


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("BUFPOOL_WARM", "{'regular': 4}", "BUFPOOL_WARM: not JSON: Expecting property name"),
        ("BUFPOOL_WARM", "7", "BUFPOOL_WARM = 7: a mapping from regular, secure, random"),
        ("BUFPOOL_DEBUG", "1", "BUFPOOL_DEBUG = 1: True or False is needed"),
        ("BUFPOOL_METRICS_PORT", "many", "BUFPOOL_METRICS_PORT = 'many': None or a port"),
        (
            "BUFPOOL_WARM",
            '{"regular": {"3MiB": 1}}',
            "BUFPOOL_WARM['regular']: 3MiB is not one of bufpool_size_classes",
        ),
    ],
)
def test_wrong_variable_is_named_as_it_stands_in_the_environment(variable, value, text):
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({variable: value})
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("text", ["[" + "a1" * 32, "-----BEGIN PRIVATE KEY-----\nMC4C"])
def test_key_in_a_variable_is_never_shown(text):
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"BUFPOOL_PRIVATE_KEYS": text})
    assert "a1a1" not in str(caught.value)
    assert "MC4C" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("BUFPOOL_WRAM", "BUFPOOL_WARM"),
        ("BUFPOOL_SIZE_CLASS", "BUFPOOL_SIZE_CLASSES"),
        ("BUFPOOL_PUBLIC_KEYS", "BUFPOOL_PUBLIC_KEY"),
        ("BUFPOOL_PRIVATE_KEY", "BUFPOOL_PRIVATE_KEYS"),
        ("BUFPOOL_METRIC_PORT", "BUFPOOL_METRICS_PORT"),
    ],
)
def test_variable_that_is_nearly_a_setting_is_warned_of(variable, meant, caplog):
    assert Settings.from_env({variable: "x"}) == Settings()
    assert caplog.messages == [
        f"bufpool: {variable} in the environment is no setting, did you mean {meant}?"
    ]


def test_variables_of_others_are_left_alone(caplog):
    service = "BUFPOOL_METRICS"  # a Service of Kubernetes that is called bufpool-metrics
    others = {
        "BUFPOOL_WORKER_SERVICE_HOST": "10.0.0.7",
        "BUFPOOL_PORT": "tcp://10.0.0.7:80",
        "BUFPOOL_METRICS_DIR_SETTER": "77",
        "BUFPOOL_MODEL_STEPS": "1000000",
        "bufpool_warm": "lower case is not the environment's",
        f"{service}_SERVICE_HOST": "10.0.0.7",
        f"{service}_SERVICE_PORT": "9464",
        f"{service}_SERVICE_PORT_METRICS": "9464",
        f"{service}_PORT": "tcp://10.0.0.7:9464",
        f"{service}_PORT_9464_TCP": "tcp://10.0.0.7:9464",
        f"{service}_PORT_9464_TCP_PROTO": "tcp",
        f"{service}_PORT_9464_TCP_PORT": "9464",
        f"{service}_PORT_9464_TCP_ADDR": "10.0.0.7",
    }
    assert Settings.from_env(others) == Settings()
    assert not caplog.messages
