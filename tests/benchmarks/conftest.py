"""Helpers of the benchmarks are modules beside them, which are scripts as well."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
