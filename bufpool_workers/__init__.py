"""Pooled, warm, leak-proof buffers for Celery workers."""
