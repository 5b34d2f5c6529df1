"""`relay doctor`: each fault is told apart, with what to do about it, and nothing secret is printed."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from adapters.errors import Fault, RelayError
from proxy.cli import cli
from proxy.commands.diagnosis import _failure
from tests.support.canned_http import Asked, Canned, as_json, serving

TOKEN = "cfut_0123456789abcdef"
ACTIVE = {"result": {"id": "x", "status": "active"}, "success": True, "errors": [], "messages": []}
EMPTY = {"result": [], "success": True, "errors": [], "messages": []}


def refusal(code: int, message: str = "no") -> dict[str, Any]:
    return {"result": None, "success": False, "errors": [{"code": code, "message": message}], "messages": []}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELAY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("RELAY_PORT", str(free_port))
    return tmp_path


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port on which nobody listens while the test runs: it is bound and not listened on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def doctor(*words: str, **environ: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", *words], env=environ)


def examine(user: Canned, account: Canned, search: Canned) -> tuple[Result, dict[str, Any]]:
    """The report about a Cloudflare that answers so, as text and as JSON."""

    def answer(asked: Asked) -> Canned:
        if asked.path.startswith("/client/v4/user/"):
            return user
        return account if asked.path.startswith("/client/v4/accounts/acc/tokens/") else search

    with serving(answer) as server:
        environ = {
            "CLOUDFLARE_ACCOUNT_ID": "acc",
            "CLOUDFLARE_API_TOKEN": TOKEN,
            "CLOUDFLARE_API_BASE_URL": f"{server.url}/client/v4",
        }
        text = doctor(**environ)
        result = doctor("--json", **environ)
        assert all(asked.method == "GET" for asked in server.asked)
    assert TOKEN not in text.output + result.output
    assert (text.exit_code, text.exception is None) == (result.exit_code, result.exception is None)
    document = json.loads(result.stdout)
    for check in document["checks"]:
        assert check["text"] in text.output
    return result, {check["name"]: check for check in document["checks"]}


GOOD = as_json(200, ACTIVE)
NONE = as_json(200, EMPTY)
BAD_TOKEN = as_json(401, refusal(1000, "Invalid API Token"))
NO_ACCESS = as_json(403, refusal(10000, "Authentication error"))
BAD_FORM = as_json(400, refusal(9106, "Authentication failed"))
NO_ROUTE = as_json(404, refusal(7003, "Could not route"))
FIREWALL = Canned(403, b"<html>blocked</html>")

CASES: dict[str, tuple[tuple[Canned, Canned, Canned], dict[str, str], str]] = {
    "all is well": ((GOOD, GOOD, NONE), {"token": "ok", "account": "ok"}, ""),
    "an account's token": ((BAD_TOKEN, GOOD, NONE), {"token": "ok", "account": "ok"}, ""),
    "a wrong token": (
        (BAD_TOKEN, BAD_TOKEN, NO_ACCESS),
        {"token": "failed", "account": "skipped"},
        "deleted or rolled",
    ),
    "a malformed token": ((BAD_FORM, BAD_FORM, BAD_FORM), {"token": "failed", "account": "skipped"}, "Copy it again"),
    "an expired token": (
        (as_json(200, {**ACTIVE, "result": {"status": "expired"}}), GOOD, NO_ACCESS),
        {"token": "failed", "account": "skipped"},
        "Make a token",
    ),
    "no permission": ((GOOD, GOOD, NO_ACCESS), {"token": "ok", "account": "failed"}, "Account > Workers AI > Read"),
    "a malformed account id": ((GOOD, GOOD, NO_ROUTE), {"token": "ok", "account": "failed"}, "is no account's id"),
    "a firewall": ((FIREWALL, FIREWALL, FIREWALL), {"token": "failed", "account": "skipped"}, "a firewall"),
    "another server": (
        (Canned(404, b"not here"), GOOD, Canned(404, b"not here")),
        {"token": "failed", "account": "skipped"},
        "/client/v4",
    ),
    "a server that verifies no tokens": (
        (as_json(404, {}), as_json(404, {}), NONE),
        {"token": "warning", "account": "ok"},
        "let in all the same",
    ),
    "a server in trouble": ((GOOD, GOOD, Canned(500, b"")), {"token": "ok", "account": "failed"}, "cloudflarestatus"),
}


@pytest.mark.parametrize(("answers", "statuses", "advice"), CASES.values(), ids=CASES)
def test_each_fault_is_told_apart(
    answers: tuple[Canned, Canned, Canned], statuses: dict[str, str], advice: str
) -> None:
    result, checks = examine(*answers)
    assert {name: checks[name]["status"] for name in statuses} == statuses
    assert advice in " ".join(check["advice"] for check in checks.values())
    broken = "failed" in statuses.values()
    assert result.exit_code == (1 if broken else 0)
    assert json.loads(result.stdout)["ok"] is not broken


def test_without_credentials_it_says_simulator_and_is_content() -> None:
    result = doctor()
    assert result.exit_code == 0
    assert "built-in simulator: no Cloudflare credentials; answers are simulated" in result.stdout
    assert "CLOUDFLARE_API_TOKEN" in result.stdout
    assert json.loads(doctor("--json").stdout)["upstream"] == "simulator"


def test_wrong_settings_are_failures_and_end_the_examination() -> None:
    result = doctor("--json", RELAY_STREAM="x", RELAY_RETRIES="y")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [check["name"] for check in document["checks"]] == ["settings", "settings"]
    assert "RELAY_STREAM: expected" in doctor(RELAY_STREAM="x").stdout


def test_a_state_folder_that_cannot_be_made_is_a_failure(folder: Path) -> None:
    (folder / "state").write_text("a file")
    result = doctor()
    assert result.exit_code == 1
    assert f"RELAY_STATE_DIR: {folder / 'state'} cannot be written" in result.stdout


def test_a_token_that_others_can_read_is_a_warning(folder: Path) -> None:
    (folder / "state").mkdir()
    (folder / "state" / "token").write_text(f"{TOKEN}\n")
    (folder / "state" / "token").chmod(0o644)
    result = doctor()
    assert result.exit_code == 0
    assert "chmod 600" in result.stdout
    assert TOKEN not in result.output


def relay_with(upstream: str) -> Canned:
    return Canned(200, b"{}", {"x-request-id": "12345678", "x-relay-upstream": upstream})


LISTENERS = {
    "a relay": (Canned(200, b"{}", {"x-request-id": "12345678"}), "ok", "a relay answers"),
    "a relay with these settings": (relay_with("simulator"), "ok", "a relay answers"),
    "a relay with others": (
        relay_with("cloudflare"),
        "failed",
        "answers with cloudflare, these settings say simulator",
    ),
    "another program": (Canned(200, b"hello"), "warning", "another program listens"),
}


@pytest.mark.parametrize(("answer", "status", "text"), LISTENERS.values(), ids=LISTENERS)
def test_who_listens_at_the_relays_address_is_told(answer: Canned, status: str, text: str) -> None:
    with serving(lambda _: answer) as server:
        document = json.loads(doctor("--json", RELAY_PORT=str(server.port)).stdout)
    check = next(check for check in document["checks"] if check["name"] == "address")
    assert check["status"] == status
    assert text in check["text"]
    assert bool(check["advice"]) == (status != "ok")


def test_the_relay_to_look_for_is_named_by_flags(folder: Path) -> None:
    with serving(lambda _: relay_with("cloudflare")) as server:
        words = ["--host", "localhost", "--port", str(server.port), "--state-dir", str(folder / "other")]
        result = doctor(*words)
    assert result.exit_code == 1
    assert f"the relay at http://localhost:{server.port} answers with cloudflare" in result.stdout
    assert "Run doctor with the settings of that relay" in result.stdout
    assert f"{folder / 'other'} can be written" in result.stdout


def test_a_server_that_cannot_be_reached_ends_the_examination(free_port: int) -> None:
    base = f"http://127.0.0.1:{free_port}/client/v4"
    environ = {"CLOUDFLARE_ACCOUNT_ID": "acc", "CLOUDFLARE_API_TOKEN": TOKEN, "CLOUDFLARE_API_BASE_URL": base}
    result = doctor("--json", RELAY_PORT="0", **environ)
    assert result.exit_code == 1
    last = json.loads(result.stdout)["checks"][-1]
    assert (last["name"], last["status"]) == ("network", "failed")
    assert "HTTPS_PROXY" in last["advice"]


def test_an_untrusted_certificate_is_called_one() -> None:
    cause = ssl.SSLCertVerificationError(1, "failed")
    cause.verify_message = "self-signed certificate"
    error = RelayError(Fault.UPSTREAM_UNREACHABLE, "No connection.")
    error.__cause__ = ConnectionError()
    error.__cause__.__cause__ = cause
    check = _failure("token", error, {})
    assert check.text == "TLS: self-signed certificate"
    assert "SSL_CERT_FILE" in check.advice


def test_a_gateway_is_not_called() -> None:
    with serving(lambda asked: NONE if "search" in asked.path else GOOD) as server:
        result = doctor(
            CLOUDFLARE_ACCOUNT_ID="acc",
            CLOUDFLARE_API_TOKEN=TOKEN,
            CLOUDFLARE_API_BASE_URL=server.url,
            CLOUDFLARE_AI_GATEWAY="gate",
        )
    assert result.exit_code == 0
    assert "gate: not asked" in result.stdout
