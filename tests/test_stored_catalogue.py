"""The stored list of models: anybody who can write the folder can have written it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from adapters.catalogue import CHAT_TASK, Catalogue, Model, load_snapshot
from proxy.stored_catalogue import StoredCatalogueError, catalogue_file, read_catalogue, write_catalogue

GOOD = Model(id="@cf/acme/one-1b", task=CHAT_TASK, status="listed", context_window=4321)
BAD_IDS = {
    "a way out of the path": "@cf/acme/../../user/tokens/verify",
    "a query": "@cf/acme/one?x=1",
    "a fragment": "@cf/acme/one#x",
    "a line end": "@cf/acme/one\r\nx: y",
    "an escape": "@cf/acme/%2e%2e",
    "an empty segment": "@cf//one",
    "no author": "@cf/one",
    "an address": "https://evil.example.com/@cf/acme/one",
    "a name without a prefix": "gpt-4o-mini",
}


def stored(folder: Path, *ids: str) -> None:
    rows = [Model(id=id, task=CHAT_TASK, status="listed") for id in ids]
    write_catalogue(folder, Catalogue([*rows, GOOD], "2026-10-01"))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("id", BAD_IDS.values(), ids=BAD_IDS)
def test_a_row_whose_id_no_model_can_have_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, id: str
) -> None:
    stored(tmp_path, id)
    catalogue = read_catalogue(tmp_path)
    assert list(catalogue) == [GOOD] and catalogue.as_of == "2026-10-01"
    (warning,) = warnings(caplog)
    assert "1 rows" in warning and "relay models refresh" in warning and id not in warning


def test_however_many_rows_are_left_out_there_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stored(tmp_path, *BAD_IDS.values())
    assert list(read_catalogue(tmp_path)) == [GOOD]
    (warning,) = warnings(caplog)
    assert f"{len(BAD_IDS)} rows" in warning


def test_what_the_relay_wrote_is_read_whole_and_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_catalogue(tmp_path, load_snapshot())
    assert list(read_catalogue(tmp_path)) == list(load_snapshot())
    assert warnings(caplog) == []


@pytest.mark.parametrize("ids", [[], list(BAD_IDS.values())], ids=["no row", "no row that can be used"])
def test_a_list_of_nothing_cannot_be_used(tmp_path: Path, ids: list[str]) -> None:
    rows = [Model(id=id, task=CHAT_TASK, status="listed") for id in ids]
    write_catalogue(tmp_path, Catalogue(rows, "2026-10-01"))
    with pytest.raises(StoredCatalogueError):
        read_catalogue(tmp_path)


def test_without_a_file_the_shipped_list_is_used(tmp_path: Path) -> None:
    assert not catalogue_file(tmp_path).exists()
    assert list(read_catalogue(tmp_path)) == list(load_snapshot())
