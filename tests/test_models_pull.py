"""`relay models pull`, `list --local` and `rm`, against a hub on loopback."""

from __future__ import annotations

import fcntl
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli import cli
from proxy.local_models import find_model, is_repository, local_models, model_folder
from proxy.model_files import NothingToPull, choose_files
from tests.support.canned_http import Asked, Canned, serving
from tests.support.hub import COMMIT, REPOSITORY, Hub, refused, serving_hub

WEIGHTS = bytes(range(256)) * 1024
FILES = {
    "model.safetensors": WEIGHTS,
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "README.md": b"# Tiny",
    "pytorch_model.bin": b"pickle",
    ".gitattributes": b"*",
    "modeling_tiny.py": b"import os",
}
TAKEN = {"model.safetensors", "config.json", "tokenizer.json"}
TOKEN = "hf_hunter2hunter2"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELAY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    return tmp_path


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving_hub(Hub(dict(FILES))) as serving_one:
        yield serving_one


def models(*words: str, hub: Hub | None = None, answer: str | None = None, **environ: str) -> Result:
    environ |= {"HF_ENDPOINT": hub.url} if hub is not None else {}
    return CliRunner().invoke(cli, ["models", *words], env=environ, input=answer)


def pull(hub: Hub, *words: str, **environ: str) -> Result:
    return models("pull", REPOSITORY, *words, hub=hub, **environ)


def place(folder: Path) -> Path:
    return model_folder(folder / "state", REPOSITORY)


def stored(folder: Path) -> set[str]:
    """The files that a loader would see."""
    found = (file.relative_to(place(folder)) for file in place(folder).rglob("*") if file.is_file())
    return {str(file) for file in found if not str(file).startswith(".")}


def test_a_model_is_fetched_whole_and_its_commit_is_noted(folder: Path, hub: Hub) -> None:
    result = pull(hub)
    assert result.exit_code == 0, result.output
    assert f"{REPOSITORY} at commit {COMMIT}: 3 files" in result.stdout
    assert str(place(folder)) in result.stdout
    assert stored(folder) == TAKEN
    assert (place(folder) / "model.safetensors").read_bytes() == WEIGHTS
    found = find_model(folder / "state", REPOSITORY)
    assert found is not None and found.note is not None
    assert (found.note.commit, found.note.revision, found.note.source) == (COMMIT, "main", hub.url)


def test_a_second_pull_fetches_nothing(folder: Path, hub: Hub) -> None:
    pull(hub)
    before = len(hub.fetched)
    assert pull(hub).exit_code == 0
    assert len(hub.fetched) == before


def test_a_file_that_was_changed_is_fetched_again(folder: Path, hub: Hub) -> None:
    pull(hub)
    (place(folder) / ".relay-model.json").unlink()
    (place(folder) / "model.safetensors").write_bytes(WEIGHTS[::-1])
    pull(hub)
    assert (place(folder) / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.fetched.count("model.safetensors") == 2
    assert hub.fetched.count("config.json") == 1


def test_a_newer_revision_takes_the_place_of_an_older(folder: Path, hub: Hub) -> None:
    pull(hub)
    del hub.files["tokenizer.json"]
    hub.files |= {"config.json": b'{"model_type": "qwen3"}', "sub/extra.json": b"{}"}
    hub.commit = COMMIT[::-1]
    assert pull(hub).exit_code == 0
    assert stored(folder) == {"model.safetensors", "config.json", "sub/extra.json"}
    assert (place(folder) / "config.json").read_bytes() == b'{"model_type": "qwen3"}'
    assert hub.fetched.count("model.safetensors") == 1


BLOCK = 10 * 2**20  # bytes that huggingface_hub takes in at once: a smaller part is lost when a connection breaks
LARGE = bytes(range(256)) * (2 * BLOCK // 256)


def cut(asked: Asked, name: str, whole: Canned) -> Canned:
    """The weights break off in their second half, and the server is down when the rest is asked for."""
    if name != "model.safetensors":
        return whole
    return Canned(503, b"") if "range" in asked.headers else whole._replace(body=whole.body[: BLOCK + 1000])


def test_a_download_that_was_cut_off_goes_on_where_it_ended(folder: Path, hub: Hub) -> None:
    hub.files["model.safetensors"] = LARGE
    hub.twist = cut
    first = pull(hub)
    assert first.exit_code == 1
    assert f"{hub.url} answered 503; run the same command again to go on" in first.stderr
    assert "model.safetensors" not in stored(folder)
    assert find_model(folder / "state", REPOSITORY) is not None
    hub.twist = None
    assert pull(hub).exit_code == 0
    half = f"model.safetensors bytes={BLOCK}-"
    assert [name for name in hub.fetched if name.startswith("model")] == ["model.safetensors", half, half]
    assert (place(folder) / "model.safetensors").read_bytes() == LARGE
    assert [file.name for file in (place(folder) / ".parts").iterdir()] == ["lock"]


def test_a_server_that_cannot_go_on_in_the_middle_sends_the_whole(folder: Path, hub: Hub) -> None:
    hub.files["model.safetensors"] = LARGE
    hub.twist = cut
    pull(hub)
    hub.twist = lambda asked, name, whole: Canned(200, hub.files[name], {"content-length": str(len(hub.files[name]))})
    assert pull(hub).exit_code == 0
    assert (place(folder) / "model.safetensors").read_bytes() == LARGE


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"], ids=["by SHA-256", "by git's name"])
def test_a_wrong_checksum_is_refused_and_the_file_deleted(folder: Path, hub: Hub, name: str) -> None:
    hub.twist = lambda asked, asked_name, whole: whole._replace(body=whole.body[::-1]) if asked_name == name else whole
    result = pull(hub)
    assert result.exit_code == 1
    assert f"{name}: what came has another checksum than the hub tells" in result.stderr
    assert name not in stored(folder)
    hub.twist = None
    assert pull(hub).exit_code == 0
    assert hub.fetched.count(name) == 2


def test_a_part_that_is_longer_than_its_file_is_begun_anew(folder: Path, hub: Hub) -> None:
    hub.files["model.safetensors"] = LARGE
    hub.twist = cut
    pull(hub)
    (part,) = (file for file in (place(folder) / ".parts").iterdir() if file.name != "lock")
    part.write_bytes(LARGE + b"x")
    hub.twist = None
    assert pull(hub).exit_code == 0
    assert (place(folder) / "model.safetensors").read_bytes() == LARGE


def test_a_private_model_is_opened_by_a_token_that_is_never_shown(folder: Path, hub: Hub) -> None:
    hub.token = TOKEN
    result = pull(hub)
    assert result.exit_code == 1
    assert f"has no model {REPOSITORY}; a private one needs HF_TOKEN" in result.stderr
    wrong = pull(hub, HF_TOKEN=f"{TOKEN}x")
    assert "is that what HF_TOKEN may read?" in wrong.stderr
    right = pull(hub, HF_TOKEN=TOKEN)
    assert right.exit_code == 0
    assert TOKEN not in wrong.output + right.output
    assert not any(TOKEN in file.read_text(errors="replace") for file in place(folder).rglob("*") if file.is_file())


def test_a_token_stays_with_the_hub_when_the_files_lie_elsewhere(hub: Hub) -> None:
    elsewhere = Hub(dict(FILES))
    with serving(lambda asked: elsewhere._file(asked, WEIGHTS)) as storage:
        hub.token = TOKEN
        hub.twist = lambda asked, name, whole: (
            Canned(302, b"", {"location": f"{storage.url}/blob"}) if name == "model.safetensors" else whole
        )
        assert pull(hub, HF_TOKEN=TOKEN).exit_code == 0
        (asked,) = storage.asked
        assert "authorization" not in asked.headers


REFUSALS: dict[str, tuple[Canned, str]] = {
    "a gated model": (refused(403, "GatedRepo"), "is gated: accept its terms at"),
    "no such model": (refused(404, "RepoNotFound"), f"has no model {REPOSITORY}"),
    "no such revision": (refused(404, "RevisionNotFound"), f"{REPOSITORY} has no revision main"),
    "an error of the server": (Canned(500, b"oops"), "answered 500"),
}


@pytest.mark.parametrize(("refusal", "text"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_told_in_words(folder: Path, hub: Hub, refusal: Canned, text: str) -> None:
    hub.refusal = refusal
    result = pull(hub)
    assert result.exit_code == 1
    assert text in result.stderr
    assert "Traceback" not in result.output
    assert not place(folder).exists()


def test_a_hub_that_cannot_be_reached_is_named(folder: Path) -> None:
    with serving_hub(Hub({})) as gone:
        pass
    result = pull(gone)
    assert result.exit_code == 1
    assert f"{gone.url} cannot be reached (ConnectError)" in result.stderr


def test_a_hub_without_checksums_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def bare(self: Hub) -> dict[str, object]:
        return {"id": REPOSITORY, "sha": COMMIT, "siblings": [{"rfilename": "model.safetensors", "size": 1}]}

    monkeypatch.setattr(Hub, "_listing", bare)
    assert "tells no size or checksum of model.safetensors" in pull(hub).stderr


@pytest.mark.parametrize("size", [-1, "1", 1.5, None])
def test_a_size_that_is_none_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch, size: object) -> None:
    row = {"rfilename": "model.safetensors", "size": size, "blobId": "0" * 40}
    monkeypatch.setattr(Hub, "_listing", lambda self: {"id": REPOSITORY, "sha": COMMIT, "siblings": [row]})
    assert "tells no size or checksum of model.safetensors" in pull(hub).stderr


LISTINGS: dict[str, dict[str, object]] = {
    "a commit that paints the terminal": {"sha": "\x1b]0;title\x07" + COMMIT},
    "a commit that is a path": {"sha": "../../other"},
    "no commit": {"sha": None},
    "a file whose name is a number": {"sha": COMMIT, "siblings": [{"rfilename": 7, "size": 1, "blobId": "0" * 40}]},
}


@pytest.mark.parametrize("listing", LISTINGS.values(), ids=LISTINGS)
def test_what_no_hub_says_is_not_taken(hub: Hub, monkeypatch: pytest.MonkeyPatch, listing: dict[str, object]) -> None:
    whole = {"id": REPOSITORY, **hub._listing(), **listing}
    monkeypatch.setattr(Hub, "_listing", lambda self: whole)
    result = pull(hub)
    assert result.exit_code == 1
    assert f"{hub.url} does not answer as a hub does" in result.stderr and "\x1b" not in result.output


def test_a_file_has_no_more_bytes_than_the_hub_tells(folder: Path, hub: Hub) -> None:
    hub.files["model.safetensors"] = LARGE
    hub.twist = lambda asked, name, whole: Canned(200, LARGE * 3, {}) if name == "model.safetensors" else whole
    result = pull(hub)
    assert "model.safetensors: more comes than the hub tells" in result.stderr
    assert sum(file.stat().st_size for file in place(folder).rglob("*") if file.is_file()) < len(LARGE)


def test_a_folder_that_cannot_be_written_is_told(folder: Path, hub: Hub) -> None:
    (folder / "state").mkdir()
    (folder / "state" / "models").write_text("")
    result = pull(hub)
    assert result.exit_code == 1
    assert f"{REPOSITORY} cannot be stored (Not a directory)" in result.stderr


def test_a_terminal_sees_how_far_it_is(hub: Hub) -> None:
    assert pull(hub).stderr == ""
    assert "262.2/262.2 kB" in pull(hub, "--all-formats", TTY_COMPATIBLE="1", COLUMNS="200").stderr


def test_a_full_disk_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    pull(hub, "--include", "config.json")
    monkeypatch.setattr("proxy.commands.hub.http_get", full)
    assert "cannot be stored (No space left on device); run the same command again" in pull(hub).stderr


def test_a_file_that_is_too_large_for_this_way_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def huge(self: Hub) -> dict[str, object]:
        row = {"rfilename": "model.safetensors", "size": 10**11, "blobId": "0" * 40}
        return {"id": REPOSITORY, "sha": COMMIT, "siblings": [row]}

    monkeypatch.setattr(Hub, "_listing", huge)
    assert "model.safetensors is too large: at most 50 GB a file" in pull(hub).stderr


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"siblings": [{}]}'])
def test_another_program_is_no_hub(hub: Hub, body: bytes) -> None:
    hub.refusal = Canned(200, body)
    assert f"{hub.url} does not answer as a hub does; is HF_ENDPOINT right?" in pull(hub).stderr


def test_what_is_left_of_an_older_revision_is_deleted(folder: Path, hub: Hub) -> None:
    hub.files["model.safetensors"] = LARGE
    hub.twist = cut
    pull(hub)
    hub.twist = None
    hub.files["model.safetensors"] = WEIGHTS
    assert pull(hub).exit_code == 0
    assert [file.name for file in (place(folder) / ".parts").iterdir()] == ["lock"]


def test_two_pulls_of_one_model_do_not_meet(folder: Path, hub: Hub) -> None:
    lock = place(folder) / ".parts" / "lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "another `relay models pull` of this model is running" in pull(hub).stderr


def test_without_the_extra_it_says_what_to_install(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "proxy.commands.hub", raising=False)
    monkeypatch.delattr("proxy.commands.hub", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    result = pull(hub)
    assert result.exit_code == 1
    assert "pip install 'workers-ai-relay[hub]'" in result.stderr


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "../x", "a/..", "-a/b", "a/b--c", "https://huggingface.co/a/b"])
def test_what_is_no_repository_is_wrong_usage(name: str) -> None:
    assert not is_repository(name)
    result = models("pull", "--", name)
    assert result.exit_code == 2
    assert "expected ORG/NAME" in result.stderr
    with pytest.raises(ValueError, match="is no ORG/NAME"):
        model_folder(Path(), name)


SHARDS = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
CHOICES: dict[str, tuple[list[str], list[str], bool, list[str]]] = {
    "safetensors and what belongs to them": ([*FILES], [], False, sorted(TAKEN)),
    "shards": (
        [*SHARDS, "model.safetensors.index.json", "x.gguf"],
        [],
        False,
        [*SHARDS, "model.safetensors.index.json"],
    ),
    "the same weights once": (["consolidated.safetensors", "model.safetensors"], [], False, ["model.safetensors"]),
    "the only weights": (["consolidated.safetensors"], [], False, ["consolidated.safetensors"]),
    "folders": (
        ["model.safetensors", "1_Pooling/config.json"],
        [],
        False,
        ["1_Pooling/config.json", "model.safetensors"],
    ),
    "what was named": (["a-q4.gguf", "a-q8.gguf", "README.md"], ["*q4*"], False, ["a-q4.gguf"]),
    "one file of a folder": (["q/a.gguf", "b.gguf"], ["q/*"], False, ["q/a.gguf"]),
    "everything": (["model.bin", "b.py", ".x"], [], True, ["b.py", "model.bin"]),
    "a pickle that was wanted": (["model.bin"], ["*.bin"], True, ["model.bin"]),
    "no paths that lead away": (
        ["../up.safetensors", "/root.safetensors", "a//b.json", "a\\b.json", "n\nl.json", "m.safetensors"],
        [],
        False,
        ["m.safetensors"],
    ),
}


@pytest.mark.parametrize(("names", "include", "everything", "chosen"), CHOICES.values(), ids=CHOICES)
def test_files_are_chosen(names: list[str], include: list[str], everything: bool, chosen: list[str]) -> None:
    assert sorted(choose_files(names, include, everything)) == sorted(chosen)


NO_CHOICE: dict[str, tuple[list[str], list[str], str]] = {
    "only pickles": (["pytorch_model.bin"], [], "it has no safetensors; it has: pytorch_model.bin"),
    "nothing": ([], [], "it has no safetensors; it has: nothing"),
    "much": ([f"{n}.gguf" for n in range(10)], [], "7.gguf and 2 more. --include '*.gguf'"),
    "a pickle by name": (["pytorch_model.BIN"], ["*.bin"], "a format that can run code"),
    "nothing of this name": (["a.gguf"], ["*.bin", "x"], "no file is called *.bin or x; there are: a.gguf"),
}


@pytest.mark.parametrize(("names", "include", "text"), NO_CHOICE.values(), ids=NO_CHOICE)
def test_no_files_are_chosen(names: list[str], include: list[str], text: str) -> None:
    with pytest.raises(NothingToPull) as caught:
        choose_files(names, include, False)
    assert text in str(caught.value)


def test_what_cannot_be_chosen_is_told_of_the_model(hub: Hub) -> None:
    result = pull(hub, "--include", "*.bin")
    assert result.exit_code == 1
    assert f"{REPOSITORY}: pytorch_model.bin: a format that can run code" in result.stderr


def test_the_list_tells_what_lies_here(folder: Path, hub: Hub) -> None:
    assert "no models on this machine" in models("list", "--local").stdout
    pull(hub)
    (folder / "state" / "models" / "acme" / "cut").mkdir()
    (folder / "state" / "models" / "acme" / "odd--name").mkdir()
    rows = [line.split() for line in models("list", "--local").stdout.splitlines()[1:]]
    assert rows == [
        ["acme/cut", "not", "whole:", "pull", "it", "again", "0", "bytes", str(place(folder).with_name("cut"))],
        [REPOSITORY, COMMIT[:12], *rows[1][2:4], str(place(folder))],
    ]
    cut_off, whole = json.loads(models("--local", "--json").stdout)["models"]
    assert (cut_off["whole"], cut_off["commit"], cut_off["files"]) == (False, None, None)
    assert (whole["whole"], whole["commit"], set(whole["files"])) == (True, COMMIT, TAKEN)
    assert f"files on this machine (relay models list --local): acme/cut, {REPOSITORY}" in models().stdout


def test_a_note_that_cannot_be_read_is_none(folder: Path, hub: Hub) -> None:
    pull(hub)
    (place(folder) / ".relay-model.json").write_text("{")
    (found,) = local_models(folder / "state")
    assert found.note is None


@pytest.mark.parametrize(("words", "answer"), [(["--yes"], None), ([], "y\n")], ids=["at once", "after asking"])
def test_a_model_is_deleted(folder: Path, hub: Hub, words: list[str], answer: str | None) -> None:
    pull(hub)
    result = models("rm", REPOSITORY, *words, answer=answer)
    assert result.exit_code == 0, result.output
    assert not place(folder).parent.exists()


def test_of_a_link_to_a_model_the_link_alone_is_deleted(folder: Path, hub: Hub) -> None:
    pull(hub)
    elsewhere = folder / "elsewhere"
    place(folder).rename(elsewhere)
    place(folder).symlink_to(elsewhere)
    assert models("rm", "--yes", REPOSITORY).exit_code == 0
    assert not place(folder).is_symlink() and (elsewhere / ".relay-model.json").is_file()


def test_a_model_in_a_linked_folder_is_deleted(folder: Path, hub: Hub) -> None:
    pull(hub)
    organisation = place(folder).parent
    organisation.rename(folder / "elsewhere")
    organisation.symlink_to(folder / "elsewhere")
    assert models("rm", "--yes", REPOSITORY).exit_code == 0
    assert list((folder / "elsewhere").iterdir()) == []


def test_a_model_stays_if_the_answer_is_no(folder: Path, hub: Hub) -> None:
    pull(hub)
    (place(folder).parent / "other").mkdir()
    assert models("rm", REPOSITORY, answer="n\n").exit_code == 1
    assert stored(folder) == TAKEN
    assert models("rm", REPOSITORY, "--yes").exit_code == 0
    assert [model.id for model in local_models(folder / "state")] == ["acme/other"]


def test_only_what_is_there_can_be_deleted() -> None:
    result = models("rm", REPOSITORY, "--yes")
    assert result.exit_code == 1
    assert f"no model {REPOSITORY} on this machine" in result.stderr


def test_what_cannot_be_deleted_is_told(folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    pull(hub)

    def busy(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("proxy.local_models.shutil.rmtree", busy)
    result = models("rm", REPOSITORY, "--yes")
    assert result.exit_code == 1
    assert "cannot be deleted (Permission denied)" in result.stderr
