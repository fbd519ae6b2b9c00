"""What build/ knows of browsers and servers, and tests/native of models, is used here too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "build"))
sys.path.insert(0, str(Path(__file__).parents[1] / "native"))
