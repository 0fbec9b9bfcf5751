"""Make what builds the pages importable in their tests.

The library of "Multi-backend CI" has options of its own, and is tested by test_multi_backend.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

collect_ignore = ["how-to/multi-backend"]
sys.path.insert(0, str(Path(__file__).parent / "_ext"))
