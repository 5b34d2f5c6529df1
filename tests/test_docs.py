"""What exists is documented, and what the documents point at exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.routing import Route

from adapters.errors import Fault
from proxy.app import create_app
from proxy.cli import cli
from proxy.setting_table import SETTINGS
from tests.support.relay import KEY, settings_for

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


@pytest.mark.parametrize("name", [setting.env for setting in SETTINGS])
def test_every_setting_is_documented(name: str) -> None:
    assert f"`{name}`" in page("settings.md")


def test_every_route_is_documented(tmp_path: Path) -> None:
    app = create_app(settings_for(tmp_path), [KEY])
    for route in app.routes:
        assert isinstance(route, Route)
        assert re.sub(r"{\w+(:path)?}", "{id}", route.path) in page("http.md")


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_every_fault_is_documented(fault: Fault) -> None:
    rows = [line for line in page("http.md").splitlines() if line.startswith("|") and fault.value.code in line]
    assert any(str(fault.value.status) in row and fault.value.type in row for row in rows)
    for code in fault.value.upstream:
        assert any(str(code) in row for row in rows), code


@pytest.mark.parametrize("command", cli.list_commands(None))  # type: ignore[arg-type]  # it needs no context
def test_every_command_is_documented(command: str) -> None:
    assert f"`relay {command}" in page("operating.md")


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_every_link_leads_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", file.read_text()):
        if not target.startswith("http"):
            assert (file.parent / target).exists(), target
