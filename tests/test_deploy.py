"""What is deployed, as far as it can be checked without a container engine: files that parse, commands that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from itertools import takewhile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_0-9]+):\?\}")


def loaded(name: str) -> list[dict]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def commands() -> dict[str, list[str]]:
    """Returns the commands that run our image, by where they stand."""
    (compose,) = loaded("compose.yaml")
    found = {
        name: service["command"] for name, service in compose["services"].items() if service["image"] == "feature-store"
    }
    deployment, _ = loaded("feature-server.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    found["feature-server.yaml"] = container["command"]
    (command,) = re.findall(r"^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    found["Dockerfile"] = json.loads(command)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("place", sorted(commands()))
def test_each_command_of_our_image_exists_and_knows_its_options(place):
    program, *words = commands()[place]
    assert (BIN / program).exists(), program
    if program == "python":
        compile(words[-1], place, "exec")
        return
    verbs = list(takewhile(lambda word: not word.startswith("-"), words))
    done = subprocess.run([BIN / program, *verbs, "--help"], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    for option in (word for word in words if word.startswith("-")):
        assert re.search(rf"(^|[\s,]){re.escape(option)}\b", done.stdout), option


def test_every_variable_and_file_of_compose_is_there():
    text = (DEPLOY / "compose.yaml").read_text()
    (compose,) = loaded("compose.yaml")
    secrets = {match["name"] for match in VARIABLE.finditer(text)}
    assert secrets == set(re.findall(r"^([A-Z_0-9]+)=", (DEPLOY / ".env.example").read_text(), re.MULTILINE))
    assert {"redis", "postgres", "kafka", "s3", "code", "daemon", "webserver", "feature-server"} <= set(
        compose["services"]
    )
    for service in compose["services"].values():
        assert set(service.get("depends_on") or []) <= set(compose["services"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in compose["volumes"]
    (workspace,) = loaded("workspace.yaml")
    assert workspace["load_from"][0]["grpc_server"]["host"] in compose["services"]
    json.loads((DEPLOY / "s3.json").read_text())


def test_the_image_is_made_of_files_that_are_there_and_of_the_locked_tools():
    text = (DEPLOY / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(packages["packages"]) <= set(copied)
    (version,) = re.findall(r"^UV_VERSION := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert f"uv=={version}" in text


def test_kubernetes_runs_what_compose_runs():
    (values,) = loaded("values.yaml")
    (code,) = values["dagster-user-deployments"]["deployments"]
    assert code["codeServerArgs"] == ["-m", "feature_assets.definitions"]
    deployment, service = loaded("feature-server.yaml")
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    assert deployment["spec"]["template"]["metadata"]["labels"] == service["spec"]["selector"]
    assert commands()["feature-server.yaml"] == commands()["feature-server"]
    ports = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == ports[0]["name"]


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", "values.yaml", "feature-server.yaml"])
def test_a_file_says_that_it_was_not_run(name):
    head = (DEPLOY / name).read_text()[:600]
    assert "Not run:" in head or "Not applied:" in head
