"""Builds the Python packages into dist/: a wheel and a source archive of each, and an SBOM; the same bytes every time.

python build/dist.py [--out FOLDER]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from sbom import sbom

ROOT = Path(__file__).parent.parent
PACKAGES = ("core", "models", "edge_server")
SUMS, SBOM = "SHA256SUMS", "sbom.cdx.json"


def main() -> None:
    """Build, and write the digests beside the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    out = parser.parse_args().out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    environment = os.environ | {"SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", "1577836800")}
    for package in PACKAGES:
        command = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
        subprocess.run(command, cwd=ROOT / package, env=environment, check=True, stdout=subprocess.DEVNULL)
    manifest = ROOT / "models" / "ruvllm_models" / "data" / "manifest.json"
    (out / SBOM).write_text(sbom(out.glob("*.whl"), manifest), "utf-8")
    files = sorted(path for path in out.iterdir() if path.suffix in (".whl", ".gz", ".json"))
    sums = {path.name: sha256(path.read_bytes()).hexdigest() for path in files}
    (out / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()), "utf-8")
    for path in files:
        print(f"{path.stat().st_size:>12,}  {path.name}")


if __name__ == "__main__":
    main()
