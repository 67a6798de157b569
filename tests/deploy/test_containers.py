"""Dockerfile, compose.yaml and the Kubernetes manifests: what they run, and that they agree."""

import re
import shutil
import socket
import subprocess
import sys

import pytest
import yaml

from bufpool_workers import Settings
from tests.deploy.dockerfile import DEPLOY, Image
from tests.support.celery_worker import connected, wait_for_pong
from tests.support.prometheus_server import find_program

PROMETHEUS_FOLDER = "/etc/prometheus"


def manifest(name):
    return yaml.safe_load((DEPLOY / "kubernetes" / name).read_text())


def health(port):
    image = Image()
    program, option, code = image.health_check
    assert program == "python"
    code = code.replace(str(image.port), str(port))
    return subprocess.run([sys.executable, option, code], capture_output=True, check=False)


def test_the_image_runs_a_worker_that_is_found_healthy(start_container, tmp_path):
    container, broker = start_container()
    (found,) = container.wait_for_log(r"bufpool: metrics at http://0\.0\.0\.0:(\d+)")
    wait_for_pong(container, broker, f"celery@{socket.gethostname()}")
    assert health(found[1]).returncode == 0
    (tmp_path / "file").write_bytes(b"content")
    with connected(broker) as client:
        copied = client.send_task(
            "tasks.files.copy", [str(tmp_path / "file"), str(tmp_path / "copy")]
        )
        assert copied.get(timeout=30) == len(b"content")
    container.close()
    dead = health(found[1])
    assert dead.returncode != 0
    assert b"refused" in dead.stderr


def test_compose_and_image_agree(compose):
    image, worker = Image(), compose["services"]["worker"]
    (metrics,) = [mount for mount in worker["tmpfs"] if mount.startswith("/run")]
    path, _, options = metrics.partition(":")
    assert path == image.environment["PROMETHEUS_MULTIPROC_DIR"]
    assert {f"uid={image.user}", f"gid={image.user}"} <= set(options.split(","))
    key = worker["environment"]["BUFPOOL_PRIVATE_KEY"]
    assert key == f"/run/secrets/{worker['secrets'][0]}"
    assert set(worker["secrets"]) == set(compose["secrets"])
    pools = Settings().max_bytes
    assert worker["ulimits"]["memlock"] >= pools["secure"] + pools["random"]
    assert int(image.environment["BUFPOOL_METRICS_PORT"]) == image.port
    context = worker["build"]["context"]
    assert (DEPLOY / context / worker["build"]["dockerfile"]).samefile(DEPLOY / "Dockerfile")


def mounts(compose, service):
    for volume in compose["services"][service]["volumes"]:
        source, target, *_ = volume.split(":")
        if source.startswith("."):
            yield DEPLOY / source, target


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_what_compose_mounts_is_there(compose, service):
    assert all(source.is_file() for source, _ in mounts(compose, service))


def test_prometheus_takes_its_configuration_as_compose_mounts_it(compose, tmp_path):
    promtool = find_program("promtool")
    for source, target in mounts(compose, "prometheus"):
        folder, _, name = target.rpartition("/")
        assert folder == PROMETHEUS_FOLDER
        shutil.copy(source, tmp_path / name)
    run = subprocess.run(
        [promtool, "check", "config", "prometheus.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    scrape = yaml.safe_load((tmp_path / "prometheus.yml").read_text())["scrape_configs"][0]
    service = scrape["dns_sd_configs"][0]
    assert compose["services"].keys() >= set(service["names"])
    assert service["port"] == Image().port


def test_grafana_is_given_the_dashboard_and_its_source(compose):
    targets = {target: source for source, target in mounts(compose, "grafana")}
    provider = yaml.safe_load((DEPLOY / "compose" / "dashboards.yml").read_text())["providers"][0]
    home = compose["services"]["grafana"]["environment"][
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    ]
    assert home.startswith(provider["options"]["path"])
    assert targets[home] == DEPLOY / "grafana/dashboard.json"
    source = yaml.safe_load((DEPLOY / "compose" / "datasource.yml").read_text())["datasources"][0]
    host, port = re.fullmatch(r"http://(\w+):(\d+)", source["url"]).groups()
    assert compose["services"][host]["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_kubernetes_and_image_agree():
    image, deployment = Image(), manifest("deployment.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"][: len(image.command)] == image.command
    security = pod["securityContext"]
    assert {security[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {image.user}
    assert container["ports"] == [{"name": "metrics", "containerPort": image.port}]
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness")]
    assert probes == [{"path": "/healthz", "port": "metrics"}] * 2
    assert "livenessProbe" not in container
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert mounted.keys() == volumes.keys()
    assert mounted["metrics"] == image.environment["PROMETHEUS_MULTIPROC_DIR"]
    assert volumes["metrics"]["emptyDir"]["medium"] == "Memory"
    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert environment["BUFPOOL_PRIVATE_KEY"].startswith(mounted["key"])
    assert volumes["key"]["secret"]["defaultMode"] & ~0o640 == 0  # what a private key's file may be


def test_the_pod_monitor_finds_the_pods():
    template = manifest("deployment.yaml")["spec"]["template"]
    monitor = manifest("podmonitor.yaml")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]} <= ports
    resources = manifest("kustomization.yaml")["resources"]
    assert all((DEPLOY / "kubernetes" / resource).is_file() for resource in resources)
