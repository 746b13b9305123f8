"""Amazon ElastiCache with IAM: tokens in place of a password. Needs the extra `elasticache` (botocore).

    TierCache("rediss+cluster://...", credentials=ElastiCacheIAM(user="app", cache_name="shop", region="eu-west-1"))

A token is a presigned `connect` request of Signature Version 4, made without a call to AWS; only to get hold of the
process's own AWS credentials botocore may have to ask the metadata service.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import monotonic
from urllib.parse import urlencode

try:
    from botocore.model import ServiceId
    from botocore.session import Session, get_session
    from botocore.signers import RequestSigner
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: pip install 'tiercache[elasticache]'", name=error.name) from error
from redis.credentials import CredentialProvider

from tiercache.engine.locks import ForkableLock
from tiercache.errors import ConfigError

LIFETIME = 900
"""Seconds for which ElastiCache takes a token: its upper limit."""
KEPT = 600
"""Seconds for which a token is used, well within its lifetime: the clocks of two machines differ."""


class ElastiCacheIAM(CredentialProvider):
    """A provider for `TierCache(url, credentials=...)`; it works with redis-py too.

    Args:
        user: the ElastiCache user, whose name and id must be the same (IAM asks for that).
        cache_name: the id of the replication group, or the name of the serverless cache; in lower case.
        region: where the cache is, e.g. `eu-west-1`; None: the region of the session.
        serverless: whether it is a serverless cache.
        session: a botocore session; None: a new one, with the credentials that the process finds.
        clock: seconds that never go back.

    The process needs the IAM permission `elasticache:Connect` on the cache and on the user. ElastiCache takes tokens
    over TLS alone, and ends each connection after twelve hours: the next one gets a new token.

    Raises `ConfigError` where no region is known. `get_credentials` raises what botocore raises, and `RuntimeError`
    where the process has no AWS credentials.
    """

    def __init__(
        self,
        *,
        user: str,
        cache_name: str,
        region: str | None = None,
        serverless: bool = False,
        session: Session | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        names: tuple[tuple[str, object], ...] = (("user", user), ("cache_name", cache_name))
        for setting, value in names:
            if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9-]+", value):
                raise ConfigError(setting, value, "letters, digits and hyphens, at least one")
        self._session = session or get_session()
        found = region or self._session.get_config_variable("region")
        if not found:
            raise ConfigError("region", region, "a region such as 'eu-west-1', here or in the AWS configuration")
        self._region: str = found
        self._user = user
        query = {"Action": "connect", "User": user} | ({"ResourceType": "ServerlessCache"} if serverless else {})
        self._url = f"https://{cache_name.lower()}/?{urlencode(query)}"
        self._clock = clock
        # The credentials may come from another server.
        self._lock = ForkableLock()
        self._token = ""
        self._until = 0.0

    def get_credentials(self) -> tuple[str, str]:
        """User and token. A new token is made every ten minutes."""
        with self._lock:
            if not self._token or self._clock() >= self._until:
                # Read first: while it is being signed its own lifetime begins.
                until = self._clock() + KEPT
                self._token, self._until = self._sign(), until
            return self._user, self._token

    def _sign(self) -> str:
        credentials = self._session.get_credentials()
        if credentials is None:
            raise RuntimeError("botocore finds no AWS credentials")
        signer = RequestSigner(
            ServiceId("elasticache"),
            self._region,
            "elasticache",
            "v4",
            credentials,
            self._session.get_component("event_emitter"),
        )
        request = {"method": "GET", "url": self._url, "body": {}, "headers": {}, "context": {}}
        signed: str = signer.generate_presigned_url(request, "connect", expires_in=LIFETIME, region_name=self._region)
        return signed.removeprefix("https://")
