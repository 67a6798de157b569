"""An app with OpenTelemetry: spans by OTLP, metrics through prometheus_client's registry."""

import os

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

metrics.set_meter_provider(MeterProvider([PrometheusMetricReader()]))

import prometheus_client
from celery import shared_task, signals
from home_app import make_app

app = make_app("traced", include=("otel_app",))


def trace_tasks(**_: object) -> None:
    """Begin in each process, as OpenTelemetry's page on Celery says."""
    provider = TracerProvider()
    exporter = OTLPSpanExporter(f"http://{os.environ['TEST_COLLECTOR']}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument(tracer_provider=provider)


signals.worker_process_init.connect(trace_tasks, weak=False)


@shared_task
def exported() -> str:
    """Count with OpenTelemetry, and return what its exporter shows in this process."""
    metrics.get_meter("shop").create_counter("shop_orders").add(3)
    return prometheus_client.generate_latest().decode()
