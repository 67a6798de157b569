"""Tasks of the Flask app: they count as its web processes do."""

import flask
from celery import shared_task
from prometheus_flask_exporter import PrometheusMetrics

web = flask.Flask(__name__)
metrics = PrometheusMetrics(web, path=None)


@web.route("/orders")
@metrics.counter("shop_order_pages", "Pages of orders")
def orders():
    return "none"


@shared_task
def visit():
    return web.test_client().get("/orders").status_code
