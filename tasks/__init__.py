"""A Celery app for real, to copy from: files, arrays, credentials, tokens, uploads."""
