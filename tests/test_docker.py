"""The files in docker/: held to the published schema, to good practice, and to the commands and options that exist."""

from __future__ import annotations

import configparser
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from agr import serve
from agr.common.processes import WORKER_ENVIRONMENT
from search.run_grid import parse

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "docker"
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:[-?][^}]*)?\}")
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY")
PIN = re.compile(r"([A-Za-z0-9._-]+)==\S+")

yaml = import_module("yaml")
jsonschema = import_module("jsonschema")


def read(name: str) -> str:
    return (DOCKER / name).read_text(encoding="utf-8")


COMPOSE: dict[str, Any] = yaml.safe_load(read("compose.yaml"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
CLUSTER = yaml.safe_load(read("raycluster.yaml"))
JOB = yaml.safe_load(read("rayjob.yaml"))
SERVICE = yaml.safe_load(read("rayservice.yaml"))


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continuation lines joined, in order."""
    lines = [line for line in read("Dockerfile").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word]


def final_stage() -> list[tuple[str, str]]:
    every = instructions()
    return every[max(number for number, (word, _) in enumerate(every) if word == "FROM") :]


def of(word: str, stage: list[tuple[str, str]]) -> list[str]:
    return [rest for found, rest in stage if found == word]


def pins(path: Path) -> dict[str, str]:
    """Names of exactly pinned packages, as PyPI compares them, and their versions."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert all(PIN.fullmatch(line) for line in lines)
    pairs = (line.split("==") for line in lines)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cuda.yaml"])
def test_compose_files_keep_the_published_schema(name: str) -> None:
    spec = importlib.util.find_spec("check_jsonschema")
    if spec is None or spec.origin is None:
        pytest.skip("the Compose schema comes with the package check-jsonschema, which is not installed")
    path = Path(spec.origin).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    validator.validate(yaml.safe_load(read(name)))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"services": {"search": {"image": "agr", "comand": "ray"}}})


def test_hadolint_finds_nothing() -> None:
    beside = shutil.which("hadolint", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
    if beside is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([beside, str(DOCKER / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_nobody_special_and_says_how_it_is() -> None:
    stage = final_stage()
    assert of("USER", stage) == ["1000"]
    assert stage.index(("USER", "1000")) < min(number for number, (word, _) in enumerate(stage) if word == "CMD")
    assert len(of("HEALTHCHECK", stage)) == 1
    (port,) = of("EXPOSE", stage)
    (command,) = of("CMD", stage)
    assert f":{port}/ping" in of("HEALTHCHECK", stage)[0]
    assert json.loads(command)[-2:] == ["--port", port]


def test_packages_of_the_system_leave_no_lists_behind() -> None:
    for run in of("RUN", instructions()):
        if "apt-get install" in run:
            assert "apt-get update && apt-get install --yes --no-install-recommends" in run
            assert "rm -rf /var/lib/apt/lists/*" in run


def test_no_image_floats() -> None:
    stages = {rest.split(" AS ")[1] for rest in of("FROM", instructions()) if " AS " in rest}
    bases = {rest.split(" AS ")[0] for rest in of("FROM", instructions())} - stages
    images = {service["image"] for service in SERVICES.values()} - {"agr:${DEVICE:-cpu}"}
    assert len(bases) == 1
    assert len(images) == 2
    for image in bases | images:
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+(\.\d+)?(-[a-z-]+)?", image), image


def test_what_is_copied_exists_and_nothing_else_reaches_the_builder() -> None:
    ignored = read("Dockerfile.dockerignore").splitlines()
    assert ignored[1] == "*"
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = {source for rest in of("COPY", instructions()) if "--from" not in rest for source in rest.split()[:-1]}
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)
    assert not any(fnmatch(".env", pattern) for pattern in allowed)
    assert ".env" in read(".gitignore").splitlines()


def test_extra_packages_are_pinned_and_where_the_lock_has_them_alike() -> None:
    lock, extra = pins(ROOT / ".ci" / "requirements.lock"), pins(DOCKER / "requirements.txt")
    assert {"boto3", "psycopg2-binary", "flask-wtf"} <= extra.keys()
    assert {name: lock[name] for name in lock.keys() & extra.keys()}.items() <= extra.items()
    needed = [text for text in importlib.metadata.requires("ray") or () if 'extra == "default"' in text]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", text)[0]).lower() for text in needed}
    assert names <= lock.keys() | extra.keys(), "the dashboard and jobs of Ray need all of them"


def test_every_variable_stands_in_the_example_and_every_secret_is_demanded() -> None:
    example = dict(line.split("=", 1) for line in read(".env.example").splitlines() if line and line[0] != "#")
    used = VARIABLE.findall(read("compose.yaml"))
    assert {name for name, _ in used} == example.keys()
    for name, default in used:
        assert default.startswith(":-") or default == ":?fill in .env, see .env.example"
        assert not SECRET.search(name) or default.startswith(":?"), f"{name} is a secret and has a default"
    secrets = [name for name in example if SECRET.search(name) and name != "S3_ACCESS_KEY"]
    assert len(secrets) == 5
    assert [example[name] for name in secrets] == [""] * 5


def test_no_credentials_stand_in_any_file() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not SECRET.search(name) or VARIABLE.fullmatch(value), name
    for path in DOCKER.iterdir():
        if path.name == ".env":  # stays out of version control
            continue
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"://[^/\s:@]+:[^/\s@]+@", text), path
        assert not re.search(r"(?i)(password|secret_?key|token)\s*[=:]\s*[A-Za-z0-9+/]{8,}", text), path
    assert not of("ARG", instructions()) or of("ARG", instructions()) == ["DEVICE=cpu"]
    assert not any(SECRET.search(rest) for rest in of("ENV", instructions()))


@pytest.fixture
def up(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """What `make up` runs, for a folder with an example and with a `docker` of the test's own; empty for none."""
    (tmp_path / ".env.example").write_text(read(".env.example"), encoding="utf-8")
    (tmp_path / "bin").mkdir()

    def run(docker: str) -> subprocess.CompletedProcess[str]:
        if docker:
            (tmp_path / "bin" / "docker").write_text(f"#!/bin/sh\n{docker}\n", encoding="utf-8")
            (tmp_path / "bin" / "docker").chmod(0o755)
        command = [sys.executable, str(ROOT / ".ci" / "up"), str(tmp_path)]
        return subprocess.run(command, env={"PATH": str(tmp_path / "bin")}, capture_output=True, text=True)

    return run


def test_without_an_engine_up_still_writes_every_secret(
    up: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = up("")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "docker: No such file or directory; expected Docker with Compose 2.24 or newer, running"
    ]
    path = tmp_path / ".env"
    made = dict(line.split("=", 1) for line in path.read_text().splitlines() if line and line[0] != "#")
    given = {name: made[name] for name in made if SECRET.search(name) and name != "S3_ACCESS_KEY"}
    assert "" not in made.values() and len(set(given.values())) == len(given) == 5
    assert all(re.fullmatch("[0-9a-f]{48}", secret) for secret in given.values())
    assert path.stat().st_mode & 0o777 == 0o600
    assert (
        up("exit 1").stderr
        == "docker compose version: exit status 1; expected Docker with Compose 2.24 or newer, running\n"
    )


def test_up_keeps_the_secrets_that_there_are_and_starts_compose(
    up: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("MLFLOW_PASSWORD=mine\nRAY_TOKEN=\n", encoding="utf-8")
    done = up(f"echo $PWD $* >> {tmp_path / 'asked'}")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch("MLFLOW_PASSWORD=mine\nRAY_TOKEN=[0-9a-f]{48}\n", (tmp_path / ".env").read_text())
    assert (tmp_path / "asked").read_text().splitlines()[-1] == (
        f"{tmp_path} compose --profile predict up --build --detach"
    )
    assert SERVICES["predict"]["profiles"] == ["predict"]


def test_ports_are_published_on_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def grid_commands() -> list[str]:
    """Every call of run_grid, as one line of shell."""
    (entrypoint,) = (part for part in SERVICES["search"]["entrypoint"] if "run_grid" in part)
    inside = entrypoint.replace("$$", "$").split("exec ")[1]
    told = [line.split(" search ")[1] for line in read("README.md").splitlines() if "compose run --rm" in line]
    return [inside, JOB["spec"]["entrypoint"], *(f"python -m search.run_grid {line.split('#')[0]}" for line in told)]


@pytest.mark.parametrize("command", grid_commands())
def test_searches_are_started_with_options_that_exist(command: str) -> None:
    words = shlex.split(command.replace('"$@"', shlex.join(SERVICES["search"]["command"])))
    assert words[:3] == ["python", "-m", "search.run_grid"]
    options = parse(words[3:])
    if options.address is not None:
        assert (options.address, options.storage) == ("auto", "s3://agr")


def option_names(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def flags(words: list[str]) -> set[str]:
    return {word.split("=")[0] for word in words if word.startswith("--")}


def test_mlflow_is_started_with_options_that_exist() -> None:
    cli = import_module("mlflow.cli").cli
    words = SERVICES["mlflow"]["command"]
    assert words[:2] == ["mlflow", "server"]
    assert flags(words) <= option_names(cli.commands["server"])


def test_the_service_is_started_with_options_that_exist() -> None:
    (command,) = of("CMD", final_stage())
    assert serve.parse(served(json.loads(command)), "image").port == 5001
    words = [VARIABLE.sub("voices.example.org", word) for word in SERVICES["predict"]["command"]]
    options = serve.parse(served(words), "compose")
    assert (options.host, options.port, options.allowed_hosts) == ("0.0.0.0", 5001, ["voices.example.org"])
    assert int(SERVICES["predict"]["stop_grace_period"].rstrip("s")) > serve.DRAIN_SECONDS


def served(words: list[str]) -> list[str]:
    """The options of a call of the service."""
    assert words[:3] == ["python", "-m", "agr.serve"]
    return words[3:]


def test_ray_is_started_with_options_that_exist() -> None:
    cli = import_module("ray.scripts.scripts").cli
    joins = SERVICES["search"]["entrypoint"][2].split(" > ")[0].split()
    for words in (SERVICES["head"]["command"], SERVICES["worker"]["command"], joins):
        assert words[:2] == ["ray", "start"]
        assert flags(words) <= option_names(cli.commands["start"])
    check = SERVICES["head"]["healthcheck"]["test"]
    assert flags(check) <= option_names(cli.commands[check[2]])
    for group in (CLUSTER["spec"]["headGroupSpec"], *CLUSTER["spec"]["workerGroupSpecs"]):
        assert {f"--{name}" for name in group["rayStartParams"]} <= option_names(cli.commands["start"])


def test_the_bucket_is_made_once(tmp_path: Path) -> None:
    (tmp_path / "boto3.py").write_text(
        "import pathlib\n"
        "class client:\n"
        "    def __init__(self, name): self.path = pathlib.Path(__file__).parent / name\n"
        "    def list_buckets(self): return {'Buckets': [{'Name': p.name} for p in self.path.glob('*')]}\n"
        "    def create_bucket(self, Bucket): (self.path / Bucket).mkdir(parents=True)\n",
        encoding="utf-8",
    )
    _, flag, code = SERVICES["bucket"]["command"]
    for _ in range(2):
        subprocess.run([sys.executable, flag, code], check=True, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert [path.name for path in (tmp_path / "s3").iterdir()] == ["agr"]


def test_driver_and_workers_share_the_object_store_and_the_cluster_and_no_volume() -> None:
    assert "volumes" not in SERVICES["worker"]
    for name in ("search", "worker"):
        merged = environment(SERVICES[name])
        assert {"RAY_AUTH_TOKEN", "AWS_ENDPOINT_URL"} <= merged.keys()
    assert environment(SERVICES["head"])["RAY_AUTH_MODE"] == "token"
    kept = {name: value for name, value in WORKER_ENVIRONMENT.items() if name.startswith("MALLOC_")}
    (worker,) = CLUSTER["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"]
    assert kept.items() <= environment(SERVICES["worker"]).items()
    assert kept == {entry["name"]: entry["value"] for entry in worker["env"]}


def environment(service: dict[str, Any]) -> dict[str, str]:
    return dict(service["environment"])


def test_mlflow_keeps_runs_and_users_in_the_same_database() -> None:
    config = configparser.ConfigParser()
    config.read_string(read("mlflow-auth.ini"))
    served = environment(SERVICES["mlflow"])
    assert config["mlflow"]["database_uri"] == served["MLFLOW_BACKEND_STORE_URI"]
    assert served["MLFLOW_AUTH_CONFIG_PATH"] in SERVICES["mlflow"]["volumes"][0]
    assert served["PGPASSWORD"] == environment(SERVICES["postgres"])["POSTGRES_PASSWORD"]
    assert served["MLFLOW_AUTH_ADMIN_PASSWORD"] == environment(SERVICES["search"])["MLFLOW_TRACKING_PASSWORD"]


# A small part of what KubeRay 1.6 and Kubernetes publish: the fields that are used here, and no others.
def closed(required: str = "", **properties: Any) -> dict[str, Any]:
    every = {name.rstrip("_"): value for name, value in properties.items()}
    return {"type": "object", "properties": every, "required": required.split(), "additionalProperties": False}


def many(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


TEXT, COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": TEXT}
META = {"anyOf": [closed("name", name=TEXT), closed("generateName", generateName=TEXT)]}
CONTAINER = closed(
    "name image",
    name={"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
    image=TEXT,
    env=many(closed("name value", name=TEXT, value=TEXT)),
    envFrom=many(closed("secretRef", secretRef=closed("name", name=TEXT))),
    ports=many(closed("containerPort", name={"type": "string", "maxLength": 15}, containerPort=COUNT)),
    resources=closed("requests limits", requests=TEXTS, limits=TEXTS),
    volumeMounts=many(closed("name mountPath", name=TEXT, mountPath={"type": "string", "pattern": "^/"})),
)
VOLUME = closed("name", name=TEXT, emptyDir={})
POD = closed("containers", containers=many(CONTAINER), volumes=many(VOLUME), securityContext=closed(fsGroup=COUNT))
GROUP = {"rayStartParams": TEXTS, "template": closed("spec", spec=POD)}
WORKERS = {"groupName": TEXT, "replicas": COUNT, "minReplicas": COUNT, "maxReplicas": COUNT}
RAY_CLUSTER = closed(
    "headGroupSpec",
    rayVersion=TEXT,
    authOptions=closed(mode={"enum": ["disabled", "token"]}),
    headGroupSpec=closed("template", **GROUP),
    workerGroupSpecs=many(closed("groupName template minReplicas maxReplicas", **WORKERS, **GROUP)),
)
RAY_SERVICE = closed("serveConfigV2 rayClusterConfig", serveConfigV2=TEXT, rayClusterConfig=RAY_CLUSTER)
RAY_JOB = closed("entrypoint", entrypoint=TEXT, clusterSelector=TEXTS)


@pytest.mark.parametrize(
    ("resource", "version", "kind", "spec"),
    [
        (CLUSTER, "ray.io/v1", "RayCluster", RAY_CLUSTER),
        (JOB, "ray.io/v1", "RayJob", RAY_JOB),
        (SERVICE, "ray.io/v1", "RayService", RAY_SERVICE),
    ],
)
def test_kubernetes_files_keep_to_the_published_fields(
    resource: dict[str, Any], version: str, kind: str, spec: dict[str, Any]
) -> None:
    known = {"apiVersion": {"const": version}, "kind": {"const": kind}}
    jsonschema.Draft202012Validator(closed("metadata spec", metadata=META, spec=spec, **known)).validate(resource)


def test_ray_serve_takes_the_configuration_of_the_service() -> None:
    schema = import_module("ray.serve.schema").ServeDeploySchema
    (application,) = schema.model_validate(yaml.safe_load(SERVICE["spec"]["serveConfigV2"])).applications
    module, _, function = application.import_path.partition(":")
    assert callable(getattr(import_module(module), function))
    assert application.args.keys() == {"replicas", "allowed_hosts", "model_uri"}
    assert SERVICE["spec"]["rayClusterConfig"]["rayVersion"] == CLUSTER["spec"]["rayVersion"]


def test_the_cluster_holds_together() -> None:
    spec = CLUSTER["spec"]
    lock = (ROOT / ".ci" / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert f"ray=={spec['rayVersion']}" in lock
    assert JOB["spec"]["clusterSelector"] == {"ray.io/cluster": CLUSTER["metadata"]["name"]}
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        volumes = {volume["name"] for volume in pod.get("volumes", ())}
        assert {mount["name"] for mount in container.get("volumeMounts", ())} == volumes
        assert container["envFrom"] == [{"secretRef": {"name": "agr"}}]


def test_the_secret_for_kubernetes_has_what_a_search_needs() -> None:
    given = set(re.findall(r"--from-literal=(\w+)=", read("README.md")))
    assert given == {name for name in environment(SERVICES["search"]) if not name.startswith("RAY_")}


def test_the_page_names_every_file() -> None:
    page = read("README.md")
    for path in DOCKER.iterdir():
        assert path.name in {"README.md", ".gitignore", ".env"} or f"`{path.name}`" in page, path.name
