"""Dockerfile, compose.yaml and the Kubernetes manifests: what they run, and that they agree."""

import re
import shutil
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
import yaml

from bufpool_workers import Settings
from tasks.app import broker_url
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
    port = container.wait_for_port()
    wait_for_pong(container, broker, f"celery@{socket.gethostname()}")
    assert health(port).returncode == 0
    (tmp_path / "file").write_bytes(b"content")
    with connected(broker) as client:
        copied = client.send_task(
            "tasks.files.copy", [str(tmp_path / "file"), str(tmp_path / "copy")]
        )
        assert copied.get(timeout=30) == len(b"content")
    container.close()
    dead = health(port)
    assert dead.returncode != 0
    assert b"refused" in dead.stderr


def test_compose_and_image_agree(compose):
    image, worker = Image(), compose["services"]["worker"]
    (metrics,) = [mount for mount in worker["tmpfs"] if mount.startswith("/run")]
    path, _, options = metrics.partition(":")
    assert path == image.environment["PROMETHEUS_MULTIPROC_DIR"]
    assert {f"uid={image.user}", f"gid={image.user}"} <= set(options.split(","))
    key = worker["environment"]["BUFPOOL_PRIVATE_KEY"]
    password = worker["environment"]["BUFPOOL_BROKER_PASSWORD_FILE"]
    assert {key, password} == {f"/run/secrets/{secret}" for secret in worker["secrets"]}
    assert set(worker["secrets"]) == set(compose["secrets"])
    pools = Settings().max_bytes
    assert worker["ulimits"]["memlock"] >= pools["secure"] + pools["random"]
    assert int(image.environment["BUFPOOL_METRICS_PORT"]) == image.port
    context = worker["build"]["context"]
    assert (DEPLOY / context / worker["build"]["dockerfile"]).samefile(DEPLOY / "Dockerfile")


@pytest.mark.parametrize("service", ["redis", "worker", "prometheus", "grafana"])
def test_service_can_change_nothing_and_gain_nothing(compose, service):
    assert len(compose["services"]) == 4
    settings = compose["services"][service]
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in settings
    assert all(port.startswith("127.0.0.1:") for port in settings.get("ports", []))


def test_only_workers_reach_redis(compose):
    services = compose["services"]
    reach = {name for name, service in services.items() if "broker" in service["networks"]}
    assert reach == {"redis", "worker"}
    assert services["redis"]["networks"] == ["broker"]
    assert compose["networks"]["broker"] == {"internal": True}


def test_redis_wants_the_password_that_no_command_line_shows(composed_redis):
    with (
        redis.Redis(host="127.0.0.1", port=composed_redis.port) as nobody,
        pytest.raises(redis.AuthenticationError),
    ):
        nobody.ping()
    assert composed_redis.members() == [composed_redis.pid]  # no shell keeps the stop signal
    shown = b"".join(
        Path(f"/proc/{pid}/{name}").read_bytes()
        for pid in composed_redis.members()
        for name in ("cmdline", "environ")
    )
    assert composed_redis.password.encode() not in shown
    assert not any(composed_redis.password in argument for argument in composed_redis.argv)


def test_nobody_has_an_account_of_grafana(compose):
    environment = compose["services"]["grafana"]["environment"]
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert "GF_AUTH_ANONYMOUS_ORG_ROLE" not in environment  # a viewer, by default


def mounts(compose, service):
    for volume in compose["services"][service]["volumes"]:
        source, target, *_ = volume.split(":")
        if source.startswith("."):
            yield DEPLOY / source, target


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_files_that_compose_mounts_exist(compose, service):
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
    for name in ("BUFPOOL_PRIVATE_KEY", "BUFPOOL_BROKER_PASSWORD_FILE"):
        assert environment[name].startswith(mounted["secrets"])
    mode = volumes["secrets"]["projected"]["defaultMode"]
    assert mode & ~0o640 == 0  # what a private key's file may be


def test_the_pod_monitor_finds_the_pods():
    template = manifest("deployment.yaml")["spec"]["template"]
    monitor = manifest("podmonitor.yaml")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]} <= ports


def test_the_network_policy_lets_prometheus_in_and_the_broker_be_asked():
    template = manifest("deployment.yaml")["spec"]["template"]
    policy = manifest("networkpolicy.yaml")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    (scrape,) = policy["ingress"]
    assert [port["port"] for port in scrape["ports"]] == ["metrics"]
    environment = {e["name"]: e["value"] for e in template["spec"]["containers"][0]["env"]}
    broker = urlsplit(environment["BUFPOOL_BROKER_URL"])
    assert [rule["ports"][0]["port"] for rule in policy["egress"]] == [53, broker.port]


def test_the_kustomization_has_every_manifest_and_the_package_s_version():
    kustomization = manifest("kustomization.yaml")
    names = {path.name for path in (DEPLOY / "kubernetes").glob("*.yaml")}
    assert set(kustomization["resources"]) == names - {"kustomization.yaml", "checkov.yaml"}
    (image,) = kustomization["images"]
    assert image["newTag"] == metadata.version("bufpool-workers")
    (container,) = manifest("deployment.yaml")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"{image['name']}:{image['newTag']}"
    for name in kustomization["resources"]:
        named = manifest(name)["metadata"]
        assert named.get("namespace", named["name"]) == kustomization["namespace"]


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("redis://host:6379/0", "redis://:a%2Fb%40c@host:6379/0"),
        (
            "rediss://me@host/1?ssl_cert_reqs=none",
            "rediss://me:a%2Fb%40c@host/1?ssl_cert_reqs=none",
        ),
        ("amqp://worker:old@host//", "amqp://worker:a%2Fb%40c@host//"),
    ],
)
def test_the_app_puts_the_password_of_the_file_into_the_url(monkeypatch, tmp_path, url, whole):
    (tmp_path / "password").write_text("a/b@c\n")
    monkeypatch.setenv("BUFPOOL_BROKER_URL", url)
    assert broker_url() == url
    monkeypatch.setenv("BUFPOOL_BROKER_PASSWORD_FILE", str(tmp_path / "password"))
    assert broker_url() == whole
