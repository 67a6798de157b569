"""As django_app, in a module that sets Django up itself, before `setup`."""

import django

django.setup()

from home_app import make_app

app = make_app("shop", include=("django_tasks",))
