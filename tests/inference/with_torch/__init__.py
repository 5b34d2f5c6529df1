"""What runs models: skipped, aloud, where the extra `local` is not installed."""

from __future__ import annotations

import pytest

for module in ("torch", "transformers"):
    pytest.importorskip(module, reason=f"{module} of the extra `local` is not installed")
