"""The direction of imports, proved on the source: what may know of what."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("adapters", "auth", "proxy", "wrangler_compat")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}

MAY_IMPORT = {
    "adapters": ("adapters",),
    "auth": ("auth",),
    "proxy": PACKAGES,
    "wrangler_compat": ("wrangler_compat", "adapters"),
    "adapters.wire": ("adapters.wire", "adapters.canonical", "adapters.errors"),
}
"""Package: those of ours that its modules may import. Every package that a module is in binds it."""

KNOW_SETTINGS = ("proxy.app", "proxy.cli", "proxy.commands", "proxy.server", "proxy.settings")
KNOW_HTTPX = ("adapters", "proxy.app", "proxy.cli", "proxy.commands")
READ_THE_ENVIRONMENT = ("proxy.cli", "proxy.commands", "proxy.settings")


def inside(name: str, packages: tuple[str, ...]) -> bool:
    """Whether the dotted `name` is one of `packages` or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def names(module: str) -> Iterator[str]:
    """Dotted names of everything that `module` imports, wherever in the file it does so.

    `from a import b` gives `a.b` where that is a module of ours and `a` otherwise: a package's `__init__` is empty,
    so importing a module from it is importing that module.
    """
    for node in ast.walk(ast.parse(FILES[module].read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}, line {node.lineno}: imports are absolute"
            source = node.module or ""
            for alias in node.names:
                full = f"{source}.{alias.name}"
                yield full if full in FILES else source


IMPORTS = {module: frozenset(names(module)) for module in FILES}


def ours(module: str) -> list[str]:
    """What `module` imports from our packages."""
    return sorted(name for name in IMPORTS[module] if inside(name, PACKAGES))


def importers(target: str) -> list[str]:
    """Who imports `target` or anything in it."""
    return [module for module in FILES if any(inside(name, (target,)) for name in IMPORTS[module])]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    wrong = {
        module: upward
        for module in FILES
        if inside(module, (package,))
        if (upward := [name for name in ours(module) if not inside(name, MAY_IMPORT[package])])
    }
    assert wrong == {}


def test_settings_are_known_only_where_the_relay_is_put_together() -> None:
    assert [module for module in importers("proxy.settings") if not inside(module, KNOW_SETTINGS)] == []


def test_httpx_is_known_only_to_backends_and_where_the_relay_is_put_together() -> None:
    wrong = [m for m in importers("httpx") if not inside(m, KNOW_HTTPX) or inside(m, ("adapters.wire",))]
    assert wrong == []


def test_only_settings_read_the_environment() -> None:
    readers = {
        module
        for module, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Attribute | ast.alias)
        if (node.attr if isinstance(node, ast.Attribute) else node.name) in {"environ", "environb", "getenv"}
    }
    assert {module for module in readers if not inside(module, READ_THE_ENVIRONMENT)} == set()


def test_no_imports_go_round_in_a_circle() -> None:
    TopologicalSorter({module: ours(module) for module in FILES}).prepare()  # its CycleError names the circle


@pytest.mark.parametrize("path", [p for p in FILES.values() if p.name == "__init__.py"], ids=lambda p: p.parent.name)
def test_a_package_init_holds_a_docstring_and_nothing_else(path: Path) -> None:
    tree = ast.parse(path.read_bytes())
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1
