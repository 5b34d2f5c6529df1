"""Which file is a project's configuration. The expected values were compared with wrangler 4.164's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.test_wrangler_config import write
from wrangler_compat.config import read_project

SEARCH: dict[str, tuple[tuple[str, ...], dict[str, Any], str | None]] = {
    "JSON first": (("wrangler.json", "wrangler.jsonc", "wrangler.toml"), {}, "wrangler.json"),
    "then JSON with comments": (("wrangler.jsonc", "wrangler.toml"), {}, "wrangler.jsonc"),
    "then TOML": (("wrangler.toml",), {}, "wrangler.toml"),
    "a parent": (("../wrangler.toml",), {}, "../wrangler.toml"),
    "the nearest": (("wrangler.toml", "../wrangler.toml"), {}, "wrangler.toml"),
    "a parent's JSON beats the TOML here": (("../../wrangler.json", "wrangler.toml"), {}, "../../wrangler.json"),
    "a parent's JSONC beats the TOML here": (("../wrangler.jsonc", "wrangler.toml"), {}, "../wrangler.jsonc"),
    "a child's does not count": (("child/wrangler.toml",), {}, None),
    "a folder of that name is passed by": (("wrangler.json/x", "wrangler.toml"), {}, "wrangler.toml"),
    "beside the script": (
        ("sub/wrangler.toml", "wrangler.toml"),
        {"script": Path("sub/index.js")},
        "sub/wrangler.toml",
    ),
    "above the script": (("wrangler.toml",), {"script": Path("sub/deep/index.js")}, "wrangler.toml"),
    "the script's folder applied twice": (
        ("sub/sub/wrangler.toml", "sub/wrangler.toml"),
        {"script": Path("sub/index.js")},
        "sub/sub/wrangler.toml",
    ),
    "a script above, whose folder is passed by": (("../wrangler.toml",), {"script": Path("../x.js")}, None),
    "a script above, from further up": (("../../wrangler.toml",), {"script": Path("../x.js")}, "../../wrangler.toml"),
    "named": (("other.toml", "wrangler.json"), {"config": Path("other.toml")}, "other.toml"),
    "named, over the script": (
        ("sub/wrangler.toml", "wrangler.toml"),
        {"config": Path("wrangler.toml"), "script": Path("sub/index.js")},
        "wrangler.toml",
    ),
}


@pytest.mark.parametrize(("files", "arguments", "found"), SEARCH.values(), ids=SEARCH)
def test_the_configuration_is_found_where_wrangler_looks(
    tmp_path: Path, files: tuple[str, ...], arguments: dict[str, Any], found: str | None
) -> None:
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    for name in files:
        # A name that only this file has proves which one was read.
        tag = "w" + "".join(character for character in name if character.islower())
        write(here, {name: f'name = "{tag}"' if name.endswith("toml") else f'{{"name": "{tag}"}}'})
    project = read_project(here, **arguments)
    assert project.shown_path == (os.path.join(*found.split("/")) if found else None)
    assert project.name == ("w" + "".join(character for character in found if character.islower()) if found else None)
    assert project.config_path is None or os.path.samefile(project.config_path, here / str(found))


def test_the_search_ends_where_it_cannot_look(tmp_path: Path) -> None:
    here = tmp_path / "project"
    here.mkdir()
    write(tmp_path, {"wrangler.json": '{"name": "a-stranger"}'})
    (here / "wrangler.json").symlink_to("wrangler.json")  # to itself
    project = read_project(here)
    assert project.config_path is None
    (error,) = project.errors
    assert error.startswith("wrangler.json: cannot be read (")
