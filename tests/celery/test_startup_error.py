"""Errors that end a worker's start, for programs that start one."""

import pytest
from celery.exceptions import ImproperlyConfigured

from bufpool_workers.celery.startup_error import startup_errors
from bufpool_workers.errors import KeyFileError, MetricsError, SettingsError


@pytest.mark.parametrize("kind", [SettingsError, KeyFileError, MetricsError, ImproperlyConfigured])
def test_user_error_is_improperly_configured_with_its_cause(kind):
    with pytest.raises(ImproperlyConfigured, match="what to do") as caught, startup_errors():
        raise kind("what to do")
    assert type(caught.value.__cause__) is kind


def test_other_errors_pass_unchanged():
    with pytest.raises(ZeroDivisionError), startup_errors():
        1 / 0  # noqa: B018 - for its error
