"""Tasks that use the database."""

from celery import shared_task


@shared_task
def order(user):
    from shop.models import Order  # noqa: PLC0415 - Django is set up by now

    return Order.objects.create(user=user).pk
