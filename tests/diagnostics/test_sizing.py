"""The doctor's suggestions from the traffic that was counted."""

import dataclasses

import pytest

from bufpool_workers import KiB, MiB, Settings
from bufpool_workers.diagnostics.nodes import Node
from bufpool_workers.diagnostics.sizing import check_sizing
from bufpool_workers.diagnostics.traffic import check_node
from bufpool_workers.metrics import ProcessReport, Report
from bufpool_workers.pool_stats import PoolStats

SETTINGS = Settings.read({"bufpool_warm": {"regular": {"64KiB": 4, "1MiB": 2}}})


def process(*, age_seconds=30.0, warmed=True, **sizes):
    pools = {"regular": PoolStats.of_sizes(sizes)}
    return ProcessReport(
        pid=1,
        age_seconds=age_seconds,
        warmed=warmed,
        secure_level="memfd",
        locked_bytes=0,
        pools=pools,
    )


def secure(**sizes):
    return dataclasses.replace(process(), pools={"secure": PoolStats.of_sizes(sizes)})


def report(*processes):
    pools = {}
    for each in processes:
        for kind, pool in each.pools.items():
            sizes = pools.setdefault(kind, {})
            for label, numbers in pool.sizes.items():
                sizes[label] = sizes.get(label, PoolStats()) + numbers
    pools = {kind: PoolStats.of_sizes(sizes) for kind, sizes in pools.items()}
    return Report(unix_seconds=0.0, pools=pools, processes=processes)


def numbers(size, *, gets, misses=0, held=0, mapped=0, **others):
    return PoolStats(
        gets=gets,
        hits=gets - misses,
        misses=misses,
        held_bytes=held * size,
        bytes_allocated=mapped * size,
        **others,
    )


def found(*processes, settings=SETTINGS):
    findings = check_sizing([report(*processes)], settings)
    return {finding.check: finding for finding in findings}


def pasted(finding):
    """Do what somebody does who pastes the line into an app's settings."""
    return eval(finding.snippet.partition(" = ")[2])  # noqa: S307 - a dictionary of our own making


def test_little_traffic_gives_no_suggestion():
    finding = found(process(**{"64kb": numbers(64 * KiB, gets=999, misses=999)}))["sizing_regular"]
    assert (finding.severity, finding.snippet) == ("note", "")
    assert "999 gets, 1000 are needed" in finding.message


def test_levels_that_fit_are_left_alone():
    sizes = {
        "64kb": numbers(64 * KiB, gets=5000, held=4, mapped=4),
        "1mb": numbers(MiB, gets=5000, misses=2, held=4, mapped=4),
    }
    finding = found(process(**sizes))["sizing_regular"]
    assert (finding.severity, finding.snippet) == ("ok", "")


def test_a_size_that_misses_is_raised_to_what_a_process_holds():
    few = numbers(MiB, gets=1000, misses=4, held=6, mapped=6)
    more = numbers(MiB, gets=1000, misses=6, held=8, mapped=8)
    rest = {"64kb": numbers(64 * KiB, gets=10, held=4, mapped=4)}
    finding = found(process(**{"1mb": few}, **rest), process(**{"1mb": more}, **rest))[
        "sizing_regular"
    ]
    assert finding.severity == "warning"
    assert pasted(finding) == {"regular": {"64KiB": 4, "1MiB": 8}}
    Settings.read({"bufpool_warm": pasted(finding)})


def test_trimmed_memory_counts_once_for_each_trim():
    # five more at once, mapped and given back ten times in ten minutes
    sizes = {"1mb": numbers(MiB, gets=2000, misses=50, held=2, mapped=52)}
    finding = found(process(age_seconds=600, **sizes))["sizing_regular"]
    assert pasted(finding)["regular"]["1MiB"] == 2 + 5


def test_buffers_beyond_the_cap_do_not_raise_warm_levels():
    sizes = {"1mb": numbers(MiB, gets=2000, misses=500, held=3, mapped=502, discards=499)}
    sizes["1mb"] += PoolStats(limit_hits=499)
    findings = found(process(age_seconds=0, **sizes))
    assert pasted(findings["sizing_regular"])["regular"]["1MiB"] == 3
    assert pasted(findings["limit_regular"]) == {"regular": "256MiB"}


def test_a_size_that_is_not_warm_and_seldom_misses_is_left_alone():
    sizes = {
        "4kb": numbers(4 * KiB, gets=5000, misses=1, held=1, mapped=1),
        "64kb": numbers(64 * KiB, gets=5000, held=4, mapped=4),
        "1mb": numbers(MiB, gets=5000, held=2, mapped=2),
    }
    assert found(process(**sizes))["sizing_regular"].severity == "ok"


def test_unused_sizes_are_left_out():
    finding = found(process(**{"1mb": numbers(MiB, gets=1000, held=2, mapped=2)}))["sizing_regular"]
    assert finding.severity == "note"
    assert pasted(finding) == {"regular": {"1MiB": 2}}
    assert "no task asks for 64KiB" in finding.message


def test_a_cap_below_the_suggestion_is_suggested_too():
    settings = Settings.read(
        {"bufpool_warm": {"regular": {"1MiB": 2}}, "bufpool_max_bytes": {"regular": "4MiB"}}
    )
    sizes = {"1mb": numbers(MiB, gets=2000, misses=400, held=8, mapped=8)}
    findings = found(process(**sizes), settings=settings)
    assert pasted(findings["limit_regular"]) == {"regular": "10MiB"}
    Settings.read(
        {
            "bufpool_warm": pasted(findings["sizing_regular"]),
            "bufpool_max_bytes": pasted(findings["limit_regular"]),
        }
    )


def test_a_line_is_for_all_pools_comes_once_and_keeps_what_was_set_for_the_others():
    settings = Settings.read(
        {
            "bufpool_warm": {"regular": {"1MiB": 2}, "random": {"4KiB": 3}},
            "bufpool_max_bytes": {"random": "1MiB"},
        }
    )
    large = numbers(MiB, gets=2000, misses=400, held=6, mapped=6, limit_hits=1)
    small = numbers(4 * KiB, gets=2000, misses=400, held=20, mapped=20, limit_hits=1)
    findings = found(process(**{"1mb": large}), secure(**{"4kb": small}), settings=settings)
    warm = pasted(findings["sizing_regular"])
    assert warm == {"regular": {"1MiB": 6}, "secure": {"4KiB": 20}, "random": {"4KiB": 3}}
    caps = pasted(findings["limit_regular"])
    assert caps == {"regular": "256MiB", "secure": "8MiB", "random": "1MiB"}
    # each line once, with the worst of those that it is for
    for check in ("sizing", "limit"):
        other = findings[f"{check}_secure"]
        assert (other.snippet, other.hint) == ("", f"as in {check}_regular")


def test_requests_above_the_largest_size_are_told_of_with_their_average():
    sizes = {
        "1mb": numbers(MiB, gets=2000, held=2, mapped=2),
        "larger": numbers(40 * MiB, gets=10, misses=10, mapped=10),
    }
    finding = found(process(**sizes))["larger_regular"]
    assert "10 requests above the largest size, 16MiB" in finding.message
    assert "40 MiB on average" in finding.message


@pytest.mark.parametrize(
    ("field", "level"),
    [
        ("escapes", "warning"),
        ("reclaims", "warning"),
        ("unlocked", "warning"),
        ("damages", "error"),
    ],
)
def test_misuse_is_reported_with_its_number(field, level):
    sizes = {"1mb": numbers(MiB, gets=10, **{field: 7})}
    findings = check_node(Node(name="shop", report=report(process(**sizes))))
    (finding,) = [finding for finding in findings if finding.check == field]
    assert finding.severity == level
    assert finding.message.startswith("shop: ")
    assert finding.message.endswith(": 7")


def test_cold_processes_are_reported():
    cold = process(warmed=False)
    (finding,) = check_node(Node(name="shop", report=report(cold, process())))
    assert finding.severity == "warning"
    assert "not warm: 1 of 2" in finding.message
