"""What django-prometheus' page says to set."""

import os

SECRET_KEY = "not secret"  # noqa: S105
USE_TZ = True
INSTALLED_APPS = ["django_prometheus", "shop"]
DATABASES = {
    "default": {
        "ENGINE": "django_prometheus.db.backends.sqlite3",
        "NAME": os.environ["TEST_DATABASE"],
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PROMETHEUS_EXPORT_MIGRATIONS = False
