"""What ends a worker's start, for those who start it from Python."""

import pytest
from celery.exceptions import ImproperlyConfigured

from bufpool_workers.celery.startup_error import refusing
from bufpool_workers.errors import KeyFileError, MetricsError, SettingsError


@pytest.mark.parametrize("kind", [SettingsError, KeyFileError, MetricsError, ImproperlyConfigured])
def test_what_the_user_can_set_right_is_improperly_configured_and_has_its_cause(kind):
    with pytest.raises(ImproperlyConfigured, match="what to do") as caught, refusing():
        raise kind("what to do")
    assert type(caught.value.__cause__) is kind


def test_other_errors_stay_what_they_are():
    with pytest.raises(ZeroDivisionError), refusing():
        1 / 0  # noqa: B018 - for its error
