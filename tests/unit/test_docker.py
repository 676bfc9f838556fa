"""Laws of docker/: what can be held without an engine."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from flywheel.project import load_project

DOCKER = Path(__file__).parents[2] / "docker"
ROOT = DOCKER.parent
TEXT = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
FILES = ["Dockerfile", "label-studio.Dockerfile", "object-store.Dockerfile"]
SCRIPTS = ["entrypoint.sh", "make-secrets.sh", "postgres-init.sh", "health.py"]


def pins(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def each_service():
    return pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def draw(folder):
    return subprocess.run([DOCKER / "make-secrets.sh", folder], check=True, capture_output=True)


def enter(folder, *command, **env):
    return subprocess.run(
        [DOCKER / "entrypoint.sh", *command],
        env={"PATH": os.environ["PATH"], "SECRETS_FOLDER": str(folder), **env},
        capture_output=True,
        text=True,
        check=False,
    )


@each_service()
def test_every_image_is_pinned(service):
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", service["image"])


@each_service()
def test_every_service_is_checked_or_ends(service):
    # a server that has an image of its own may leave the command to it
    ends = service["restart"] == "no" or service["restart"].startswith("on-failure")
    check = service["healthcheck"]
    assert check == {"disable": True} if ends else len(check["test"]) > 1


@each_service()
def test_no_service_is_root_or_may_become_it(service):
    assert service["user"] not in {"0", "0:0", "root"}
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True


@each_service()
def test_every_service_has_limits_and_its_log_is_rotated(service):
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}


@each_service()
def test_ports_are_published_on_loopback_unless_a_variable_says_otherwise(service):
    ports = service.get("ports", [])
    assert all(port.startswith("${FLYWHEEL_BIND:-127.0.0.1}:${") for port in ports)
    assert not ports or "edge" in service["networks"]


@each_service()
def test_what_a_service_waits_for_says_when_it_is_ready(service):
    for name, wait in service.get("depends_on", {}).items():
        ends = SERVICES[name]["healthcheck"] == {"disable": True}
        wanted = "service_completed_successfully" if ends else "service_healthy"
        assert wait["condition"] == wanted


@each_service()
def test_a_secret_is_named_by_the_service_that_fills_it_in(service):
    named = set(re.findall(r"{secret:(\w+)}", str(service.get("environment", ""))))
    named |= set(re.findall(r"/run/secrets/(\w+)", str(service)))
    assert named <= set(service.get("secrets", []))


@each_service()
def test_no_password_stands_in_the_compose_file(service):
    for name, value in service.get("environment", {}).items():
        if re.search(r"PASSWORD|TOKEN|SECRET|KEY|AUTH_STRING", name):
            assert re.search(r"{secret:\w+}|^/run/secrets/", value), name
        bare = re.sub(r"{secret:\w+}", "", value)
        assert not re.search(r"//[^/@]*:[^/@]+@", bare), name


def test_every_secret_is_drawn_into_a_folder_that_only_its_owner_enters(tmp_path):
    folder = tmp_path / "secrets"
    draw(folder)
    wanted = {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    assert wanted == {path.name for path in folder.iterdir()} == set(COMPOSE["secrets"])
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o444}


def test_drawing_again_changes_no_secret_and_adds_what_is_missing(tmp_path):
    draw(tmp_path)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    (tmp_path / "webhook_secret").unlink()
    draw(tmp_path)
    after = {path.name: path.read_text() for path in tmp_path.iterdir()}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"webhook_secret"}
    values = [value for value in after.values() if value]
    assert len(set(values)) == len(values) == len(COMPOSE["secrets"]) - 1  # notify_url is yours


def test_secrets_are_filled_in_before_the_command_runs(tmp_path):
    draw(tmp_path)
    said = enter(tmp_path, "sh", "-c", "echo $URL", URL="redis://:{secret:valkey_password}@h/1")
    password = (tmp_path / "valkey_password").read_text()
    assert said.stdout == f"redis://:{password}@h/1\n"


@pytest.mark.parametrize("name", ["gone", "../valkey_password", ""])
def test_a_secret_that_cannot_be_read_stops_the_container_and_says_why(tmp_path, name):
    draw(tmp_path)
    said = enter(tmp_path, "true", TOKEN="{secret:" + name + "}")
    assert said.returncode == 78
    assert "TOKEN" in said.stderr


def test_an_empty_secret_is_an_empty_variable(tmp_path):
    draw(tmp_path)
    assert enter(tmp_path, "sh", "-c", "echo [$A]", A="{secret:notify_url}").stdout == "[]\n"


def test_every_volume_and_network_is_declared():
    volumes, networks = set(), set()
    for service in SERVICES.values():
        sources = [mount.split(":")[0] for mount in service.get("volumes", [])]
        volumes |= {source for source in sources if re.fullmatch(r"[a-z-]+", source)}
        networks |= set(service["networks"])
    assert volumes == set(COMPOSE["volumes"])
    assert networks == set(COMPOSE["networks"])


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_can_be_run(name):
    assert os.access(DOCKER / name, os.X_OK)


@pytest.mark.parametrize("name", FILES)
def test_what_images_copy_is_there_and_not_ignored(name):
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    text = (DOCKER / name).read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        for source in [word for word in line.split()[:-1] if not word.startswith("--")]:
            assert (ROOT / source).exists()
            assert f"!{source}" in kept
    assert re.findall(r"^USER (\d+)", text, re.MULTILINE)[-1] != "0"


def test_versions_are_the_tested_ones():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    ours = {s["image"] for s in SERVICES.values() if s["image"].startswith("flywheel-")}
    studio = pins("docker/label-studio.txt")["label-studio"]
    others = {f"flywheel-label-studio:{studio}", "flywheel-object-store:4.48"}
    assert {image.split(":")[1] for image in ours - others} == {version}
    assert others <= ours
    assert "-c constraints.txt" in (DOCKER / "Dockerfile").read_text()


def test_nothing_is_pinned_in_two_ways():
    tested, added = pins("constraints.txt"), pins("docker/server.txt")
    assert all(tested.get(name, version) == version for name, version in added.items())


def test_the_dump_is_made_by_the_major_version_that_serves():
    major = re.search(r"postgres:(\d+)", SERVICES["postgres"]["image"])[1]
    assert f"postgresql-client-{major}" in (DOCKER / "Dockerfile").read_text()


def test_the_example_names_the_services_and_pools_of_the_compose_file(tmp_path):
    text = (DOCKER / "example/flywheel.toml").read_text(encoding="utf-8")
    (tmp_path / "flywheel.toml").write_text(text.replace("# gpu_pool", "gpu_pool"))
    project = load_project(tmp_path)
    assert load_project(DOCKER / "example").workers.gpu_pool is None
    urls = [project.server_url, project.prefect.url, project.labeling.url]
    assert {re.match(r"http://([\w-]+):\d+$", url)[1] for url in urls} <= set(SERVICES)
    assert project.workers.pool in SERVICES["worker"]["command"]
    assert project.workers.gpu_pool in SERVICES["gpu-worker"]["command"]
    assert ":" not in project.ledger_url.split("//")[1]  # no password


def test_the_links_of_the_example_lead_to_ports_that_are_published():
    project = load_project(DOCKER / "example")
    pages = [project.prefect_page, project.label_studio_page, project.server_page]
    published = yaml.safe_dump([service.get("ports") for service in SERVICES.values()])
    for page in pages:
        assert urlsplit(page).hostname == "127.0.0.1"
        assert f":-{urlsplit(page).port}}}" in published


def test_compose_itself_takes_the_file(tmp_path):
    docker = shutil.which("docker")
    found = docker and subprocess.run(
        [docker, "compose", "version"], capture_output=True, check=False
    )
    if not found or found.returncode:
        pytest.skip("no docker compose here; the file was only read as YAML")
    profiles = ["--profile", "gpu", "--profile", "tools"]
    subprocess.run(
        [docker, "compose", "-f", DOCKER / "compose.yaml", *profiles, "config", "--quiet"],
        check=True,
    )
