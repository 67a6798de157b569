"""Dramatiq's time limits are exceptions set in its threads: none may cost a buffer."""

from tests.interrupts import in_dramatiq

INTERRUPTS = 200  # make storm: 20,000


def test_no_interrupt_loses_a_buffer(tmp_path):
    outcome = in_dramatiq.storm(INTERRUPTS, folder=tmp_path)
    assert outcome.interrupts >= INTERRUPTS
    assert outcome.clean, outcome
