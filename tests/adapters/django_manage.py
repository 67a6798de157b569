"""The `manage.py` of django_site: `python django_manage.py rqworker default`."""

import os
import sys

from django.core.management import execute_from_command_line

os.environ["DJANGO_SETTINGS_MODULE"] = "django_site"
execute_from_command_line(sys.argv)
