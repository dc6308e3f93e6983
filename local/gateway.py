"""The gateway process of the embedded stack: REST, Auth and Storage at one project URL (gateway.mjs)."""

import json
import os
import signal
from pathlib import Path

import psutil

from local import processes
from local.config import read_config, table
from local.errors import StackError
from local.packages import NODE
from local.state import StackState, free_port, write_private

START_SECONDS = 60.0
DATABASE_CONNECTIONS = 20
SCRIPT = Path(__file__).with_name("gateway.mjs")
# No telemetry; Storage is behind a switch in the server that is used here.
ENVIRONMENT = {"DO_NOT_TRACK": "1", "EXPERIMENTAL_STORAGE": "1", "NODE_NO_WARNINGS": "1"}


def node_environment() -> dict[str, str]:
    """Environment in which `node` is the wheel's own, whatever the machine has."""
    return {**ENVIRONMENT, "PATH": f"{NODE.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


class Gateway:
    """One gateway; its generated settings and the stored objects lie in the stack's directory."""

    def __init__(self, directory: Path, project: Path, state: StackState) -> None:
        self.directory = directory
        self.project = project
        self.log = directory / "gateway.log"
        self.state = state

    def running(self) -> bool:
        """Whether the process is there and answers."""
        return bool(processes.find(self._command_line)) and self._answers()

    def provision(self) -> None:
        """Create the `auth` and `storage` schemas, which a hosted project has before its first migration."""
        self._write_settings()
        command = [str(NODE), *self._command_line, "--provision"]
        process = processes.start(command, self.log, self._environment(), self.directory)
        try:
            status = process.wait()
        finally:
            process.kill()
        if status != 0:
            told = f"{processes.last_line(self.log)} The whole log is in {self.log}."
            raise StackError(f"The auth and storage schemas could not be created: {told}")

    def start(self, port: int | None = None) -> None:
        """Start on `port`, or on the port of last time where it is free, or on any free one."""
        self.stop()
        self.state.api_port = port or free_port(self.state.api_port)
        self._write_settings()
        command = [str(NODE), *self._command_line]
        process = processes.start(command, self.log, self._environment(), self.directory)
        processes.wait_until(self._answers, process, START_SECONDS, "The gateway", self.log)

    def _environment(self) -> dict[str, str]:
        # The server keeps a folder in the home directory, where nothing of this stack belongs.
        return {**node_environment(), "HOME": str(self.directory)}

    def stop(self) -> None:
        """End it; requests under way are cut off."""
        running = self.processes()
        ids = {process.pid for process in running}
        # The serving process ends with the parent that watches over it; ended first, it would be replaced.
        processes.stop([process for process in running if process.info["ppid"] not in ids], signal.SIGTERM)
        processes.stop(running, signal.SIGTERM)

    def processes(self) -> list[psutil.Process]:
        """The parent that watches over the gateway, and the process that serves, as far as they are there."""
        return processes.find_all(self._command_line, SCRIPT.name, self._project)

    @property
    def _command_line(self) -> list[str]:
        return [str(SCRIPT), str(self.directory)]

    @property
    def _project(self) -> Path:
        """Where the server finds its settings, and works."""
        return self.directory / "project"

    def is_up_to_date(self) -> bool:
        """Whether it was last started with the ports, keys and addresses of now."""
        return self._settings_path.exists() and self._settings_path.read_text("utf-8") == self._settings()

    def _answers(self) -> bool:
        return processes.serves(f"{self.state.api_url}/health")

    def _write_settings(self) -> None:
        """supabase/config.toml with this stack's address, keys and database, where the gateway looks for it."""
        (self._project / "supabase").mkdir(parents=True, exist_ok=True)
        config = read_config(self.project)
        config["db"] = {"driver": "postgres", "url": self.state.admin_url}
        auth = table(config, "auth")
        email = table(auth, "email")
        if "enabled" in email:  # the CLI's newer name, which @supabase/lite does not know
            email["enable_signup"] = email.pop("enabled")
        config.pop("local_smtp", None)  # the mailbox of `supabase start`; @supabase/lite knows it by an older name only
        config["studio"] = {"enabled": False}  # its pages would answer every unknown path
        redirects = [auth.get("site_url", self.state.api_url), *auth.get("additional_redirect_urls", [])]
        config["auth"] = auth | {
            # Where the links in Auth's mails lead: /auth/v1/verify below it, and from there to the web client.
            "site_url": self.state.api_url,
            "additional_redirect_urls": redirects,
            "jwt_secret": self.state.jwt_secret,
            "publishable_key": self.state.publishable_key,
            "secret_key": self.state.secret_key,
        }
        write_private(self._project / "supabase" / "config.json", json.dumps(config, indent=2, default=str))
        write_private(self._settings_path, self._settings())

    @property
    def _settings_path(self) -> Path:
        return self.directory / "gateway.json"

    def _settings(self) -> str:
        settings = {
            "project_directory": str(self._project),
            "database_url": self.state.admin_url,
            "database_connections": DATABASE_CONNECTIONS,
            "port": self.state.api_port,
            "realtime_port": self.state.realtime_port,
            "smtp_port": self.state.smtp_port,
            "publishable_key": self.state.publishable_key,
            "billing_url": self.state.billing_url,
        }
        return json.dumps(settings, indent=2)
