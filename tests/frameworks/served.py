"""The site as servers load it: `app`, of the framework, layout and prefix that the environment names."""

from __future__ import annotations

import os

from tests.frameworks.building import build

cache, app = build(
    os.environ["TEST_FRAMEWORK"],
    "outside" if os.environ.get("TEST_LAYOUT") == "outside" else "inside",
    os.environ.get("TEST_URL"),
    os.environ.get("TEST_PREFIX", ""),
)
