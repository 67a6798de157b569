"""What type checkers make of a user's app: `make check` runs them, beside celery-types."""
