"""Reads every page of the admin about django-rq's queues, as a superuser; prints them."""

import os
import re
import sys

os.environ["DJANGO_SETTINGS_MODULE"] = "django_admin_site"

import django

django.setup()  # before what needs its apps

from django.contrib.auth import get_user_model  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.test import Client  # noqa: E402

call_command("migrate", verbosity=0)
client = Client()
client.force_login(get_user_model().objects.create_superuser("ada", password="of no use"))  # noqa: S106
pages = {}
paths = [sys.argv[1]]
while paths:
    if (path := paths.pop()) not in pages:
        pages[path] = client.get(path, follow=True).content.decode()
        links = re.findall(r'href="(/[^"#?]*)', pages[path])
        paths += [link for link in links if link.startswith(sys.argv[1])]
print(*pages, *pages.values(), sep="\n")  # noqa: T201 - to the test
