"""A model whose inserts are counted."""

from django.db import models
from django_prometheus.models import ExportModelOperationsMixin


class Order(ExportModelOperationsMixin("order"), models.Model):
    user = models.CharField(max_length=20)

    def __str__(self):
        return f"{self.pk} of {self.user}"
