"""A Django project with django-prometheus, its settings and its one app."""
