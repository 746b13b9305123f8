"""What in a request says who is asking.

A request that carries a credential is neither answered from the store nor stored, unless the app or the route says
otherwise. Forgetting one here shows one user's page to another, so that the lists err towards too many: header
fields that any common gateway, access proxy or framework uses to name a user, and every cookie but those known to
be written for a script in the browser or for a proxy, and not for the app.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

CREDENTIAL_HEADERS: Final = (
    # RFC 9110 §11.6.2, §11.7.2; RFC 9440
    "authorization",
    "proxy-authorization",
    "client-cert",
    "client-cert-chain",
    # RFC 9421, RFC 9449
    "signature",
    "signature-input",
    "dpop",
    # Keys and tokens by convention
    "api-key",
    "apikey",
    "x-api-key",
    "x-apikey",
    "x-api-token",
    "token",
    "x-token",
    "jwt",
    "session-token",
    "auth-token",
    "access-token",
    "x-auth",
    "x-auth-key",
    "x-auth-token",
    "x-auth-user",
    "x-auth-username",
    "x-auth-email",
    "x-auth-groups",
    "x-auth-roles",
    "x-auth-subject",
    "x-bearer-token",
    "x-app-token",
    "x-client-token",
    "x-refresh-token",
    "x-session",
    "x-identity",
    "x-rh-identity",
    "impersonate-user",
    "x-impersonate-user",
    "x-on-behalf-of",
    "job-token",
    "x-gitlab-token",
    "x-vault-token",
    "x-consul-token",
    "x-shopify-access-token",
    "x-parse-session-token",
    "x-firebase-appcheck",
    "x-access-token",
    "x-authorization",
    "x-id-token",
    "x-jwt",
    "x-jwt-assertion",
    "x-session-id",
    "x-session-token",
    "x-user-token",
    "x-goog-api-key",
    "x-functions-key",
    "x-amz-security-token",
    "ocp-apim-subscription-key",
    "private-token",
    "x-serverless-authorization",
    # A user named by the server or proxy in front
    "remote-user",
    "remote-name",
    "remote-email",
    "remote-groups",
    "x-remote-user",
    "x-remote-group",
    "x-remote-groups",
    "x-user",
    "x-user-id",
    "x-user-email",
    "x-username",
    "x-email",
    "x-userinfo",
    "x-authenticated-user",
    "x-authenticated-userid",
    "x-webauth-user",
    # oauth2-proxy
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "x-auth-request-user",
    "x-auth-request-email",
    "x-auth-request-groups",
    "x-auth-request-preferred-username",
    "x-auth-request-access-token",
    # Cloudflare Access
    "cf-access-jwt-assertion",
    "cf-access-authenticated-user-email",
    "cf-access-client-id",
    "cf-access-client-secret",
    "cf-access-token",
    # Amazon load balancers
    "x-amzn-oidc-data",
    "x-amzn-oidc-identity",
    "x-amzn-oidc-accesstoken",
    "x-amzn-mtls-clientcert",
    "x-amzn-mtls-clientcert-leaf",
    "x-amzn-mtls-clientcert-subject",
    "x-amzn-mtls-clientcert-serial-number",
    # Google: Identity-Aware Proxy, API Gateway, Endpoints
    "x-goog-iap-jwt-assertion",
    "x-goog-authenticated-user-email",
    "x-goog-authenticated-user-id",
    "x-appengine-user-email",
    "x-appengine-user-id",
    "x-appengine-user-nickname",
    "x-apigateway-api-userinfo",
    "x-endpoint-api-userinfo",
    # Azure App Service
    "x-ms-client-principal",
    "x-ms-client-principal-id",
    "x-ms-client-principal-name",
    "x-ms-token-aad-id-token",
    "x-ms-token-aad-access-token",
    "x-ms-token-aad-refresh-token",
    "x-ms-token-facebook-access-token",
    "x-ms-token-google-id-token",
    "x-ms-token-google-access-token",
    "x-ms-token-google-refresh-token",
    "x-ms-token-twitter-access-token",
    # Pomerium, Authentik, Teleport, Tailscale, Vouch
    "x-pomerium-jwt-assertion",
    "x-pomerium-claim-email",
    "x-authentik-username",
    "x-authentik-email",
    "x-authentik-uid",
    "x-authentik-jwt",
    "teleport-jwt-assertion",
    "tailscale-user-login",
    "tailscale-user-name",
    "x-authentik-name",
    "x-authentik-groups",
    "x-vouch-user",
    "x-vouch-idp-accesstoken",
    "x-vouch-idp-idtoken",
    # mod_auth_openidc; a WSGI server makes hyphens of the underscores
    "oidc_claim_sub",
    "oidc-claim-sub",
    "oidc_access_token",
    "oidc-access-token",
    # Kong
    "x-consumer-id",
    "x-consumer-username",
    "x-consumer-custom-id",
    "x-credential-identifier",
    # Client certificates: Envoy, nginx, HAProxy, Traefik
    "x-forwarded-client-cert",
    "x-forwarded-tls-client-cert",
    "x-forwarded-tls-client-cert-info",
    "x-client-cert",
    "x-ssl-client-cert",
    "x-ssl-client-dn",
    "x-ssl-client-s-dn",
    "x-arr-clientcert",
    "x-client-dn",
    "x-client-certificate",
    "x-ssl-client-cn",
    "x-ssl-client-verify",
    "x-tls-client-cert",
    "ssl-client-cert",
    "ssl-client-subject-dn",
)
"""Request fields, lower-case, whose presence makes a request personal. The setting `credential_headers` adds to it."""

IDENTITY: Final = b":identity"
"""Stands among the fields that need a look where not a field but the server, or what stands around us, names the user:
a client certificate, `REMOTE_USER`. No field can have this name."""

IGNORED_COOKIES: Final = (
    # What clients carry of their own purges (tiercache.core.session_mark)
    "tiercache-session",
    # Google Analytics, Ads, Tag Manager
    "_ga",
    "_ga_*",
    "_gid",
    "_gat",
    "_gat_*",
    "_gac_*",
    "_gcl_*",
    "_dc_gtm_*",
    "__gads",
    "__gpi",
    "__utma",
    "__utmb",
    "__utmc",
    "__utmt",
    "__utmv",
    "__utmz",
    # Meta, Microsoft, TikTok, Pinterest, Snap, Reddit
    "_fbp",
    "_fbc",
    "_clck",
    "_clsk",
    "_uetsid",
    "_uetvid",
    "ai_user",
    "ai_session",
    "_ttp",
    "_pin_unauth",
    "_scid",
    "_rdt_uuid",
    # Hotjar, Matomo, HubSpot, Heap, Yandex, Adobe, PostHog, Datadog
    "_hj*",
    "_pk_id*",
    "_pk_ses*",
    "_pk_ref*",
    "_pk_cvar*",
    "_pk_hsr*",
    "__hstc",
    "__hssc",
    "__hssrc",
    "hubspotutk",
    "_hp2_*",
    "_ym_*",
    "AMCV_*",
    "AMCVS_*",
    "ph_phc_*",
    "_dd_s",
    # Consent banners
    "OptanonConsent",
    "OptanonAlertBoxClosed",
    "CookieConsent",
    "CookieScriptConsent",
    "cookieyes-consent",
    "cookielawinfo-checkbox-*",
    "viewed_cookie_policy",
    "cookie_notice_accepted",
    "cookieconsent_status",
    "euconsent-v2",
    "mtm_consent",
    "mtm_consent_removed",
    "mtm_cookie_consent",
    "borlabs-cookie",
    "cmplz_*",
    "_iub_cs-*",
    # Set by the proxy or load balancer for itself
    "__cf_bm",
    "__cflb",
    "_cfuvid",
    "AWSALB",
    "AWSALBCORS",
    "AWSALBTG",
    "AWSALBTGCORS",
    "ARRAffinity",
    "ARRAffinitySameSite",
)
"""Cookies that are no credential; `*` at the end stands for any rest. The setting `ignore_cookies` adds to it."""


class Credentials:
    """The two lists, prepared for asking of every request. Nothing raises, whatever a client sends."""

    __slots__ = ("_exact", "_harmless", "_prefixes", "headers")

    headers: frozenset[bytes]
    """Lower-case names of the request fields that are credentials; `Cookie` is not among them."""

    def __init__(
        self, headers: Iterable[str] = CREDENTIAL_HEADERS, ignore_cookies: Iterable[str] = IGNORED_COOKIES
    ) -> None:
        """`ignore_cookies` are exact names, or with `*` at the end the beginnings of names; case counts."""
        patterns = tuple(ignore_cookies)
        self.headers = frozenset(name.lower().encode() for name in headers)
        self._exact = frozenset(name.encode() for name in patterns if not name.endswith("*"))
        self._prefixes = tuple(name[:-1].encode() for name in patterns if name.endswith("*"))
        names = [*map(re.escape, self._exact), *(re.escape(prefix) + rb"[^=;,\s]*" for prefix in self._prefixes)]
        self._harmless = re.compile(rb"(?> *(?>(?:%b)=)[^;,\s]*(?:;|$))*" % b"|".join(names)) if names else None
        """All that most browsers send: nothing but ignored cookies, plainly written. Atomic, so that it takes no more
        than one look at each character."""

    def credential_header(self, names: Collection[bytes], keyed: Collection[bytes] = ()) -> bytes | None:
        """The first of the lower-case field names that is a credential and not in `keyed`, the fields of the key."""
        headers = self.headers
        if headers.isdisjoint(names):
            return None
        for name in names:
            if name in headers and name not in keyed:
                return name
        return None

    def cookie_names(self, header: bytes) -> list[bytes]:
        """The names in a Cookie field (RFC 6265 §5.4), in order; b"" for a piece that has no name."""
        return [
            name.strip() if equals else b""
            for name, equals, value in (piece.partition(b"=") for piece in header.split(b";"))
            if equals or name.strip()
        ]

    def credential_cookie(self, header: bytes, keyed: Collection[bytes] = ()) -> bool:
        """Whether a Cookie field holds a cookie that is neither ignored nor in `keyed`, the cookies of the key.

        A piece without a name counts as one: frameworks disagree on what it is, so it may be a session. So does one
        with a space or a comma in it, where some parsers see the end of a cookie and the beginning of the next.
        """
        if self._harmless is not None and self._harmless.fullmatch(header):
            return False
        exact, prefixes = self._exact, self._prefixes
        for piece in header.split(b";"):
            name, equals, value = piece.partition(b"=")
            name = name.strip()
            if not equals:
                if name:
                    return True
            elif name not in keyed:
                ignored = name in exact or name.startswith(prefixes)
                if not ignored or b"," in piece or len(name.split()) > 1 or len(value.split()) > 1:
                    return True
        return False
