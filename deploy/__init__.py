"""What runs beside the workers; the package ships what `celery bufpool` prints of it."""
