"""What people at a terminal are told when the relay starts, as pure functions."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from adapters.local.spec import EngineSpec
from proxy.settings import Settings
from proxy.sources import SourceOptions, user_file

FIRST_MODEL = "@cf/meta/llama-3.2-1b-instruct"
"""Small, cheap and listed: what the first request of a new user goes to."""

_PLAIN = re.compile(r"[\w@./:-]+", re.ASCII)
"""Names that need no quoting, wherever they are pasted."""

_SIMULATOR = """\
upstream  built-in simulator: no Cloudflare credentials; answers are simulated
          To connect Cloudflare, set CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN and start again;
          then `{doctor}` checks them."""


def relay_command(argv0: str, directory: Path) -> str:
    """How to run the relay's command from any folder, ready to be pasted into a shell.

    `argv0` may be relative to `directory`.
    """
    file = directory / argv0
    if file.suffix == ".py":
        # Not `resolve()`: the link inside a virtual environment is what makes it that environment's.
        return f"{shlex.quote(str(Path(sys.executable).absolute()))} -m proxy.cli"
    return shlex.quote(file.name if _is_on_path(file) else os.path.normpath(file))


def _is_on_path(file: Path) -> bool:
    """Does the plain name mean this file, wherever it is used?"""
    found = shutil.which(file.name)
    if found is None or not os.path.isabs(found):
        return False
    try:
        return os.path.samefile(found, file)
    except OSError:
        return False


def token_command(settings: Settings, command: str) -> str:
    """The command line that prints a token which this relay accepts, in any folder."""
    words = [command, "token", *_sources(settings)]
    # Another terminal does not have this one's flags and variables.
    if not settings.tokens and settings.origins["state_dir"] != "default":
        words += ["--state-dir", shlex.quote(str(settings.state_dir))]
    line = " ".join(words)
    if _found_in_directory(settings, "tokens"):
        return f"cd {shlex.quote(str(settings.directory.absolute()))} && {line}"
    return line


def _sources(settings: Settings) -> list[str]:
    """The flags that name the sources of these settings, with absolute paths."""
    options: SourceOptions = settings.options
    words: list[str] = []
    for flag, file in (("--config", options.config), ("--wrangler-config", options.wrangler_config)):
        if file is not None:
            words += [flag, shlex.quote(os.path.abspath(settings.directory / Path(file).expanduser()))]
    return words if options.env is None else [*words, "--env", shlex.quote(options.env)]


def _found_in_directory(settings: Settings, attribute: str) -> bool:
    """Is the value from a file that counts only because the relay was started beside it?"""
    elsewhere = ("default", "environment", settings.options.config, str(user_file()))
    return settings.origins[attribute] not in elsewhere


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
    everywhere = "  (listens on all addresses)" if host in ("0.0.0.0", "::") else ""
    lines = [
        f"relay     {url}{everywhere}",
        f"token     {shown}" if shown else f"token     {printing}",
    ]
    if shown:
        lines.append(f"          shown this once; later: {printing}")
    if settings.upstream == "simulator":
        lines.append(_SIMULATOR.format(doctor=" ".join([command, "doctor", *_sources(settings)])))
    else:
        gateway = f" through AI Gateway {settings.ai_gateway}" if settings.ai_gateway else ""
        lines.append(f"upstream  Cloudflare Workers AI{gateway}; credentials from {settings.credentials_origin}")
    if settings.engines:
        lines.append(f"engines   {', '.join(map(_engine, settings.engines))}")
    if settings.script is not None:
        lines.append(f"script    {settings.script}: the simulator does what its rules say")
    lines.append("try       " + curl_line(url, shown or f"$({printing})", _first_model(settings)))
    if settings.origins["tokens"] == "environment":
        lines.append("          in a shell that has the same RELAY_TOKENS")
    return "\n".join(lines) + "\n"


def _engine(spec: EngineSpec) -> str:
    return f"{spec.name} ({'started by the first request' if spec.is_local else spec.profile})"


def _first_model(settings: Settings) -> str:
    """Without an account a model that really answers is rather tried than a simulated one."""
    if settings.upstream == "simulator":
        for spec in settings.engines:
            for name in spec.models:
                if name not in spec.embeddings and _PLAIN.fullmatch(name):
                    return name
    return FIRST_MODEL


def curl_line(url: str, token: str, model: str) -> str:
    """A streamed chat. `token` may be a command substitution, so it stands in double quotes."""
    body = json.dumps(
        {"model": model, "stream": True, "messages": [{"role": "user", "content": "Say hello in one sentence."}]}
    )
    # A certificate for a public name, or one signed by its owner, does not fit the local address.
    insecure = " -k" if url.startswith("https:") else ""
    address = shlex.quote(f"{url}/v1/chat/completions")  # zsh would take the brackets of IPv6 for a pattern
    return (
        f'curl -sSN{insecure} {address} -H "Authorization: Bearer {token}" '
        f"-H 'Content-Type: application/json' -d '{body}'"
    )
