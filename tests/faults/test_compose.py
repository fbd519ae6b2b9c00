"""deploy/nodes.compose.yaml, without containers: what it names is there, and its commands work as processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import yaml
from click.testing import CliRunner
from waiting import PATIENCE, until

from ruvllm_bench.serve.spawn import spawn
from ruvllm_edge.keys import keys
from ruvllm_edge.settings import Settings
from ruvllm_edge.shared.command import shared

if TYPE_CHECKING:
    from databases import Postgres

DEPLOY = Path(__file__).parents[2] / "edge_server" / "deploy"
SECRETS = {"OWNER": "0f" * 16, "NODE": "1e" * 16}


def compose() -> dict[str, Any]:
    """As `docker compose` reads it, with its variables."""
    text = (DEPLOY / "nodes.compose.yaml").read_text("utf-8").replace("$$", "\0")
    assert re.findall(r"(\w+)=\$\(openssl", text) == list(SECRETS)
    text = re.sub(r"^#.*", "", text, flags=re.MULTILINE)
    text = re.sub(r"\$\{(\w+)(?::\?)?\}", lambda found: SECRETS[found[1]], text)
    assert "$" not in text
    found: dict[str, Any] = yaml.safe_load(text.replace("\0", "$"))
    return found


def dockerfile() -> tuple[dict[str, str], str]:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    (line,) = re.findall(r"^ENV (.*)", text, re.MULTILINE)
    return dict(one.split("=", 1) for one in line.split()), text


def test_what_it_names_is_there():
    made, (variables, image) = compose(), dockerfile()
    services = made["services"]
    for name, one in services.items():
        if "build" in one:
            root = (DEPLOY / one["build"]["context"]).resolve()
            assert (root / one["build"]["dockerfile"]) == DEPLOY / "Dockerfile"
            assert all((root / folder).is_dir() for folder in re.findall(r"^COPY (\w+) ", image, re.MULTILINE))
        assert set(one.get("depends_on", ())) <= set(services) - {name}
        for volume in one.get("volumes", ()):
            source = volume.split(":")[0]
            assert source.startswith("./keys") or source in made["volumes"]
        for config in one.get("configs", ()):
            assert config["source"] in made["configs"]
    for name in ("one", "two"):
        given = services[name]["environment"]
        assert given["RUVLLM_KEYS_FILE"].startswith("/run/keys/")
        assert f"{name}:{Path(variables['RUVLLM_STATE']).parent}" in services[name]["volumes"]
        assert float(services[name]["stop_grace_period"].rstrip("s")) > Settings().drain
    proxy = made["configs"]["proxy"]["content"]
    assert set(re.findall(r"server (\w+):(\d+)", proxy)) == {
        (name, variables["RUVLLM_PORT"]) for name in ("one", "two")
    }
    (listens,) = re.findall(r"listen (\d+);", proxy)
    assert services["proxy"]["ports"] == [f"127.0.0.1:3000:{listens}"]
    (most,) = re.findall(r"client_max_body_size (\d+)m;", proxy)
    assert int(most) << 20 >= Settings().max_body
    assert proxy.count("{") == proxy.count("}")


def test_its_commands_work(postgres: Postgres, tmp_path: Path):
    """The service that makes the tables, and a server with the keys, role and variables that it has."""
    services, (variables, _) = compose()["services"], dockerfile()
    about = services["postgres"]["environment"]
    user, database, url = about["POSTGRES_USER"], about["POSTGRES_DB"], postgres.database()
    assert services["postgres"]["healthcheck"]["test"] == ["CMD", "pg_isready", "-U", user, "-d", database]
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"CREATE ROLE {user} LOGIN SUPERUSER".encode())
    replaced = {
        f"postgresql://{name}:{secret}@postgres/{database}": url.replace("://postgres:", f"://{name}:{secret}", 1)
        for name, secret in ((user, about["POSTGRES_PASSWORD"]), ("node", SECRETS["NODE"]))
    }
    (script,) = services["shared"]["command"]
    for address, ours in replaced.items():
        script = script.replace(address, ours)
    assert "@postgres/" not in script
    command = [*services["shared"]["entrypoint"], script]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "keys.txt"
    token = json.loads(CliRunner().invoke(keys, ["add", "laptop", "--file", str(file), "--json"]).output)["key"]
    given = variables | services["one"]["environment"] | {"RUVLLM_KEYS_FILE": str(file)}
    ours = {"RUVLLM_HOST", "RUVLLM_PORT", "RUVLLM_STATE", "RUVLLM_WEB"}  # the test's own, and no page
    mine = {name: replaced.get(value, value) for name, value in given.items() if name not in ours}
    with spawn(tmp_path / "one.db", settings=mine) as one:
        assert httpx.get(f"{one.url}/stats").status_code == 401
        with httpx.Client(headers={"authorization": f"Bearer {token}"}, timeout=PATIENCE) as client:
            until(lambda: client.get(f"{one.url}/stats").json()["shared"]["up"])
    assert "default" in CliRunner().invoke(shared, ["status", url]).output
