"""An app that moves to Dramatiq: both are in the process, and each has its metrics directory."""

import dramatiq
from celery import shared_task
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware.prometheus import Prometheus
from home_app import make_app

app = make_app("moving", include=("dramatiq_app",))

broker = StubBroker(middleware=[Prometheus()])
dramatiq.set_broker(broker)
broker.emit_after("process_boot")  # sets PROMETHEUS_MULTIPROC_DIR, and makes its metrics


@dramatiq.actor
def shout(word):
    return word.upper()


@shared_task
def process(word):
    """Show Dramatiq's middleware a message that is processed."""
    message = shout.message(word)
    broker.emit_before("process_message", message)
    broker.emit_after("process_message", message, result=shout(word))
