"""Sets Django up, once: a process has one, whichever of the tests comes first."""

from __future__ import annotations

import os
import tempfile
from typing import Any
from urllib.parse import urlsplit

import django
from django.conf import settings

from tests.frameworks.site import ORIGINS, SECRET

SITE = "tests.frameworks.apps.django_app"


def database() -> dict[str, Any]:
    """PostgreSQL where a URL is given, else a file: several threads share what is in it."""
    url = os.environ.get("TEST_DATABASE")
    if url is None:
        name = os.path.join(tempfile.mkdtemp(prefix="tiercache-"), "shop.sqlite3")
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": name}
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path[1:],
        "USER": parts.username,
        "PASSWORD": parts.password or "",
        "HOST": parts.hostname,
        "PORT": parts.port,
    }


settings.configure(
    SECRET_KEY=SECRET,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=SITE,
    INSTALLED_APPS=[
        "corsheaders",
        "tiercache.integrations.django.TierCacheConfig",
        "tests.integrations.django_shop.apps.ShopConfig",
    ],
    MIDDLEWARE=[
        "corsheaders.middleware.CorsMiddleware",
        "django.middleware.gzip.GZipMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        f"{SITE}.token_users",
    ],
    CORS_ALLOWED_ORIGINS=ORIGINS,
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    DATABASES={"default": database(), "postgresql": {"ENGINE": "django.db.backends.postgresql"}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    USE_TZ=True,
    TIERCACHE={
        "URL": os.environ.get("TEST_URL"),
        "NAMESPACE": "frameworks",
        "L2_BUDGET": "10s",
        "L2_SLOW": "10s",
    },
    # A view that raises is logged with its traceback, and these do so on purpose.
    LOGGING_CONFIG=None,
)
django.setup()
