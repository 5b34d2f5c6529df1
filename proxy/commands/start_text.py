"""What people at a terminal are told when the relay starts, as pure functions."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

from proxy.settings import Settings
from proxy.sources import SourceOptions

FIRST_MODEL = "@cf/meta/llama-3.2-1b-instruct"
"""Small, cheap and listed: what the first request of a new user goes to."""

_SIMULATOR = """\
upstream  built-in simulator: no Cloudflare credentials; answers are simulated
          To connect Cloudflare, set CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN and start again;
          then `{relay} doctor` checks them."""


def relay_command(argv0: str, directory: Path) -> str:
    """How to run the relay's command from `directory`, ready to be pasted into a shell."""
    file = Path(argv0)
    if file.suffix == ".py":
        return f"{_shortest(Path(sys.executable), directory)} -m proxy.cli"
    found = shutil.which(file.name)
    if found and Path(found).absolute() == file.absolute():
        return shlex.quote(file.name)
    return _shortest(file, directory)


def _shortest(file: Path, directory: Path) -> str:
    # Not `resolve()`: the link inside a virtual environment is what makes it that environment's.
    absolute = file.absolute()
    if not absolute.is_relative_to(directory):
        return shlex.quote(str(absolute))
    inside = str(absolute.relative_to(directory))
    return shlex.quote(inside if "/" in inside else f"./{inside}")


def token_command(settings: Settings, command: str) -> str:
    """The command line that prints a token which this relay accepts."""
    words = [command, "token"]
    options: SourceOptions = settings.options
    named = {"--config": options.config, "--wrangler-config": options.wrangler_config, "--env": options.env}
    for flag, value in named.items():
        if value is not None:
            words += [flag, shlex.quote(value)]
    # Another terminal does not have this one's flags and variables.
    if not settings.tokens and settings.origins["state_dir"] != "default":
        words += ["--state-dir", shlex.quote(str(settings.state_dir))]
    return " ".join(words)


def local_url(settings: Settings, host: str, port: int) -> str:
    """The relay's address for a client on the same machine."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    scheme = "https" if settings.ssl_certfile else "http"
    return f"{scheme}://[{local}]:{port}" if ":" in local else f"{scheme}://{local}:{port}"


def start_text(
    settings: Settings,
    token: str,
    created: bool,
    host: str,
    port: int,
    *,
    command: str = "relay",
    terminal: bool = False,
) -> str:
    """What a start prints: the address, the token, who answers, and one line to paste.

    The token itself is in it only if it was `created` just now and a person is watching (`terminal`).
    """
    shown = token if created and terminal else None
    url = local_url(settings, host, port)
    printing = token_command(settings, command)
    lines = [
        f"relay     {url}",
        f"token     {shown}" if shown else f"token     {printing}",
    ]
    if shown:
        lines.append(f"          shown this once; later: {printing}")
    elif settings.origins["tokens"] == "environment":
        lines.append("          in a shell that has the same RELAY_TOKENS")
    if settings.upstream == "simulator":
        lines.append(_SIMULATOR.format(relay=command))
    else:
        gateway = f" through AI Gateway {settings.ai_gateway}" if settings.ai_gateway else ""
        lines.append(f"upstream  Cloudflare Workers AI{gateway}; credentials from {settings.credentials_origin}")
    lines += ["try       " + curl_line(url, shown or f"$({printing})")]
    return "\n".join(lines) + "\n"


def curl_line(url: str, token: str) -> str:
    """A streamed chat. `token` may be a command substitution, so it stands in double quotes."""
    body = json.dumps(
        {"model": FIRST_MODEL, "stream": True, "messages": [{"role": "user", "content": "Say hello in one sentence."}]}
    )
    # A certificate for a public name, or one signed by its owner, does not fit the local address.
    insecure = " -k" if url.startswith("https:") else ""
    return (
        f'curl -sSN{insecure} {url}/v1/chat/completions -H "Authorization: Bearer {token}" '
        f"-H 'Content-Type: application/json' -d '{body}'"
    )
