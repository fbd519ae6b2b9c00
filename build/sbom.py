"""What is in the distributions and what they need, as CycloneDX 1.5: the same bytes each time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from email import message_from_bytes
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5
from zipfile import ZipFile


def sbom(wheels: Iterable[Path], manifest: Path) -> str:
    """The document.

    Args:
        wheels: the built ones.
        manifest: of the model artifacts, each of which is a component with where it comes from.
    """
    components, needs = list[dict[str, Any]](), dict[str, list[str]]()
    for wheel in sorted(wheels):
        with ZipFile(wheel) as archive:
            name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
            about = message_from_bytes(archive.read(name))
        ref = f"pkg:pypi/{about['Name']}@{about['Version']}"
        components.append(
            {"type": "library", "bom-ref": ref, "name": about["Name"], "version": about["Version"], "purl": ref,
             "licenses": [{"expression": about["License-Expression"]}],
             "hashes": [_hash(sha256(wheel.read_bytes()).hexdigest())]}
        )  # fmt: skip
        needs[ref] = sorted({_named(one) for one in about.get_all("Requires-Dist", []) if "extra ==" not in one})
    own = {one["name"]: one["bom-ref"] for one in components}
    outside = sorted({name for names in needs.values() for name in names} - own.keys())
    components += [{"type": "library", "bom-ref": f"pkg:pypi/{n}", "name": n, "purl": f"pkg:pypi/{n}"} for n in outside]
    for name, entry in sorted(json.loads(manifest.read_text("utf-8"))["artifacts"].items()):
        components.append(
            {"type": "machine-learning-model", "bom-ref": f"artifact:{name}", "name": name,
             "description": entry["source"], "licenses": [{"license": {"name": entry["licence"]}}],
             "hashes": [_hash(entry["sha256"])]}
        )  # fmt: skip
    graph = [{"ref": ref, "dependsOn": [own.get(n, f"pkg:pypi/{n}") for n in names]} for ref, names in needs.items()]
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "components": components,
        "dependencies": graph,
    }
    serial = uuid5(NAMESPACE_URL, json.dumps(body, sort_keys=True))
    return json.dumps({"serialNumber": f"urn:uuid:{serial}"} | body, indent=1, sort_keys=True) + "\n"


def _named(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0].lower()  # type: ignore[index]


def _hash(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest}
