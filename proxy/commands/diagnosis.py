"""The checks of `relay doctor`, in the order in which a fault would hide the next ones.

Only calls that cost nothing; every wait is bounded.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import httpx
import msgspec

from adapters.cloudflare_account import Access, Refused, TokenStatus, check_models_permission, verify_token
from adapters.errors import Fault, RelayError
from auth.token_file import exposure
from proxy.commands.checks import Check
from proxy.commands.engine_diagnosis import examine_engines
from proxy.commands.local_relay import find_relay
from proxy.commands.options import surroundings
from proxy.commands.own_engine_diagnosis import check_own_engine
from proxy.commands.start_text import local_url
from proxy.commands.tokens import token_file
from proxy.own_engines import groups
from proxy.settings import Settings

_NETWORK_TIMEOUT = 10.0  # seconds, for each of name, connection and answer
_TOKENS_PAGE = "https://dash.cloudflare.com/profile/api-tokens"
_NEW_TOKEN = f"Make a token with the permission Account > Workers AI > Read at {_TOKENS_PAGE}"
_FIX_ACCESS = (
    "Edit the token: permission Account > Workers AI > Read (or Edit), and this account among its account resources. "
    "If it has both, CLOUDFLARE_ACCOUNT_ID is another account's: `npx wrangler whoami` lists yours."
)
_FIX_ACCOUNT = (
    "CLOUDFLARE_ACCOUNT_ID is no account's id. It is 32 letters and digits: the first part of the dashboard's "
    "address, also shown by `npx wrangler whoami`."
)
_FIX_FORM = "The token has not the form of one. Copy it again, without quotes and without the word Bearer."
_FIX_LOCATION = "The token may be limited to other client addresses: look at its IP address filter."
_FIX_FIREWALL = (
    "Something between here and Cloudflare refuses the call: a firewall, a proxy, or the token's IP address filter."
)
_SIMULATED = "built-in simulator: no Cloudflare credentials; answers are simulated"

# By Cloudflare's code, as seen at the token check. At the permission check 10000 has another meaning.
_TOKEN_ADVICE = {
    1000: f"The token is unknown, or was deleted or rolled. {_NEW_TOKEN}.",
    10000: f"The token is not accepted. {_NEW_TOKEN}.",
    9106: _FIX_FORM,
    9107: _FIX_FORM,
    9109: _FIX_LOCATION,
    7003: _FIX_ACCOUNT,
    7000: "CLOUDFLARE_API_BASE_URL does not lead to Cloudflare's v4 API: it ends in /client/v4.",
}
_PERMISSION_ADVICE = {**_TOKEN_ADVICE, 10000: _FIX_ACCESS, 1000: _FIX_ACCESS}


async def diagnose(settings: Settings, transport: httpx.AsyncBaseTransport) -> AsyncGenerator[Check, None]:
    """All checks that make sense after the ones before them. Raises nothing."""
    yield check_storage(settings)
    yield await check_address(settings)
    for check in await examine_engines(settings, surroundings()):
        yield check
    for name, group in groups(settings.engines).items():
        if group[0].own is not None:
            yield check_own_engine(name, group)
    if settings.account_id is None or settings.api_token is None:
        advice = "To connect Cloudflare, set CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN."
        yield Check(name="upstream", status="ok", text=_SIMULATED, advice=advice)
        return
    network = await check_network(settings.api_base_url)
    yield network
    if network.status == "failed":
        return
    access = Access(transport, settings.api_base_url, settings.account_id, settings.api_token, _NETWORK_TIMEOUT)
    token = await check_token(access)
    account = await check_account(access, token)
    if token.status == "failed" and account.status == "ok":
        # Not every server of this API verifies tokens; what counts is that the calls are let through.
        token = msgspec.structs.replace(token, status="warning", advice="The AI calls are let in all the same.")
    yield token
    yield account
    if settings.ai_gateway is not None:
        text = f"{settings.ai_gateway}: not asked, for every call through a gateway can cost something"
        yield Check(name="gateway", status="skipped", text=text)


def check_storage(settings: Settings) -> Check:
    """Can the state folder be written, and is the stored token private?"""
    folder = settings.state_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-"):
            pass
    except OSError as exc:
        advice = "Let the relay's user write there, or name another folder in RELAY_STATE_DIR."
        text = f"{settings.names['state_dir']}: {folder} cannot be written ({exc.strerror})"
        return Check(name="storage", status="failed", text=text, advice=advice)
    if problem := exposure(token_file(settings)):
        return Check(name="storage", status="warning", text=problem)
    return Check(name="storage", status="ok", text=f"{folder} can be written")


async def check_address(settings: Settings) -> Check:
    """Is the relay's own address free, or already a relay's, and one with these settings?"""
    url = local_url(settings, settings.host, settings.port)
    parts = urlsplit(url)
    try:
        with anyio.fail_after(_NETWORK_TIMEOUT):
            stream = await anyio.connect_tcp(parts.hostname or "", settings.port)
            await stream.aclose()
    except (OSError, TimeoutError):
        return Check(name="address", status="ok", text=f"{url} is free")
    if relay := await find_relay(settings, url):
        if relay.upstream in ("", settings.upstream):
            return Check(name="address", status="ok", text=f"a relay answers at {url}")
        text = f"the relay at {url} answers with {relay.upstream}, these settings say {settings.upstream}"
        advice = (
            "Run doctor with the settings of that relay (the same folder, flags and environment), or start it again."
        )
        return Check(name="address", status="failed", text=text, advice=advice)
    advice = "Stop it, or choose another port with RELAY_PORT."
    return Check(name="address", status="warning", text=f"another program listens at {url}", advice=advice)


async def check_network(base_url: str) -> Check:
    """Does the name resolve, and does something accept connections there (or at the proxy in between)?"""
    parts = urlsplit(base_url)
    target, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    where = f"{target}:{port}"
    if proxy := _proxy(parts.scheme, target):
        target, port = proxy
        where = f"proxy {target}:{port}"
    try:
        with anyio.fail_after(_NETWORK_TIMEOUT):
            await anyio.getaddrinfo(target, port)
    except (OSError, UnicodeError, TimeoutError):
        advice = "Look at the DNS and network of this machine, at HTTPS_PROXY, and at CLOUDFLARE_API_BASE_URL."
        return Check(name="network", status="failed", text=f"{target}: the name does not resolve", advice=advice)
    try:
        with anyio.fail_after(_NETWORK_TIMEOUT):
            stream = await anyio.connect_tcp(target, port)
            await stream.aclose()
    except (OSError, TimeoutError):
        advice = "Allow outgoing connections there, or set HTTPS_PROXY if this network needs a proxy."
        return Check(name="network", status="failed", text=f"{where}: no connection", advice=advice)
    return Check(name="network", status="ok", text=f"{where} accepts connections")


def _proxy(scheme: str, host: str) -> tuple[str, int] | None:
    """The proxy for such calls, as the transport finds it."""
    proxies = getproxies()
    address = proxies.get(scheme) or proxies.get("all")
    if not address or proxy_bypass(host):
        return None
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        return (parts.hostname, parts.port or 80) if parts.hostname else None
    except ValueError:
        return None


async def check_token(access: Access) -> Check:
    try:
        status = await verify_token(access)
    except RelayError as exc:
        return _failure("token", exc, _TOKEN_ADVICE)
    return _judge(status)


def _judge(token: TokenStatus) -> Check:
    until = f", until {token.expires_on}" if token.expires_on else ""
    text = f"{token.owner} token, {token.status}{until}"
    if token.status == "active":
        return Check(name="token", status="ok", text=text)
    return Check(name="token", status="failed", text=text, advice=f"{_NEW_TOKEN}.")


async def check_account(access: Access, token: Check) -> Check:
    """Does the account exist, and may the token use its AI?"""
    try:
        await check_models_permission(access)
    except RelayError as exc:
        if token.status == "failed" and exc.fault is not Fault.UPSTREAM_MISCONFIGURED:
            return Check(name="account", status="skipped", text="cannot be told before the token works")
        return _failure("account", exc, _PERMISSION_ADVICE)
    return Check(name="account", status="ok", text=f"{access.account_id} may use Workers AI")


def _failure(name: str, exc: RelayError, by_code: dict[int, str]) -> Check:
    if isinstance(exc, Refused):
        code = f", code {exc.upstream_code}" if exc.upstream_code is not None else ""
        text = f"{exc.message} (status {exc.http_status}{code})"
        advice = by_code.get(exc.upstream_code or 0) or _by_status(exc.http_status)
        return Check(name=name, status="failed", text=text, advice=advice)
    if tls := _tls_error(exc):
        advice = "If a proxy here signs with its own certificate, name that in SSL_CERT_FILE; else check the clock."
        return Check(name=name, status="failed", text=f"TLS: {tls}", advice=advice)
    advice = "Try again; if it stays so, look at https://www.cloudflarestatus.com and at HTTPS_PROXY."
    return Check(name=name, status="failed", text=exc.message, advice=advice)


def _by_status(http_status: int) -> str:
    if http_status in (401, 403, 407):
        return _FIX_FIREWALL
    if http_status == 404:
        return _TOKEN_ADVICE[7000]
    if http_status == 429:
        return "Too many calls of Cloudflare's API; try again in some minutes."
    return "Try again; if it stays so, look at https://www.cloudflarestatus.com."


def _tls_error(exc: BaseException) -> str | None:
    """What TLS found wrong, if that is what lies behind `exc`."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, ssl.SSLError):
            return cause.reason or "the handshake failed"
        cause = cause.__cause__ or cause.__context__
    return None
