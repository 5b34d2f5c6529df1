"""`adapters.local.serving.main`: the process from its first line to its exit status."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from adapters.local.inference.errors import UnsupportedModel
from adapters.local.own import FAILED, INSTALL, REFUSED, OwnModel, OwnOptions
from adapters.local.serving import loading
from adapters.local.serving import main as serving_main
from adapters.local.serving.folder import Refused
from adapters.local.serving.loading import Loaded, load
from adapters.local.serving.main import listening, main
from tests.serving.played import PlayedEngine, chatting
from tests.support.servers import DEADLINE

PLAYED = "tests.serving.played_process"
ROOT = Path(__file__).parent.parent.parent


class Process:
    def __init__(self, child: asyncio.subprocess.Process, socket: Path) -> None:
        self.child = child
        self.socket = socket
        self.lines: list[str] = []

    async def until(self, line: str) -> None:
        assert self.child.stdout is not None
        async with asyncio.timeout(DEADLINE):
            while not self.lines or self.lines[-1] != line:
                read = await self.child.stdout.readline()
                assert read, self.lines
                self.lines.append(read.decode().rstrip("\n"))

    async def ended(self) -> int:
        rest, _ = await asyncio.wait_for(self.child.communicate(), DEADLINE)
        self.lines += rest.decode().splitlines()
        assert self.child.returncode is not None
        return self.child.returncode

    def client(self) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(uds=os.fspath(self.socket))
        return httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=DEADLINE)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Process]:
    place = folder / "e.sock"
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", PLAYED, os.fspath(place), "--model", os.fspath(folder), "--name", "tiny"),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    process = Process(child, place)
    try:
        await process.until("serving tiny")
        yield process
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


def asking(text: str) -> dict[str, object]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}]}


@pytest.mark.anyio
async def test_it_answers_at_its_socket_and_ends_in_order(tmp_path: Path) -> None:
    async with serving(tmp_path) as process:
        assert stat.S_IMODE(process.socket.stat().st_mode) == 0o600
        async with process.client() as client:
            await _healthy(client)
            answer = await client.post("/v1/chat/completions", json=asking("Hello"))
        process.child.send_signal(signal.SIGTERM)
        assert await process.ended() == 0
    assert answer.json()["choices"][0]["message"]["content"] == "Hi"
    assert process.lines == ["loading weights 50% of 1.0 GB", "started", "serving tiny", "submitted", "closed"]


async def _healthy(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).json() == {"status": "ok"}


@pytest.mark.anyio
async def test_answers_under_way_hold_its_end_up_for_a_moment_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as process, process.client() as client, asyncio.TaskGroup() as group:
        asked = group.create_task(_refused(client))
        await process.until("submitted")
        process.child.send_signal(signal.SIGTERM)
        assert await process.ended() == 0
        await asked


async def _refused(client: httpx.AsyncClient) -> None:
    try:
        response = await client.post("/v1/chat/completions", json=asking("wait"))
    except httpx.HTTPError:
        return
    assert response.status_code == 500


@pytest.mark.anyio
async def test_a_dead_engine_ends_the_process_with_the_reason_as_its_last_line(tmp_path: Path) -> None:
    async with serving(tmp_path) as process:
        async with process.client() as client:
            answer = await client.post("/v1/chat/completions", json=asking("die"))
        assert answer.json()["error"]["code"] == "engine_failed"
        assert await process.ended() == FAILED
    assert process.lines[-1] == "the engine failed: OutOfMemoryError"


def options(folder: Path, *, embeddings: bool = False) -> OwnOptions:
    return OwnOptions(model=OwnModel(folder=folder), names=("tiny",), embeddings=embeddings)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "missing_packages", lambda: [])


def model(folder: Path, *architectures: str) -> Path:
    names = ", ".join(f'"{name}"' for name in architectures)
    (folder / "config.json").write_text(f'{{"architectures": [{names}]}}')
    head = b'{"w": {"data_offsets": [0, 2000000]}}'
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + b"x" * 2_000_000)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_what_can_never_work_is_said_in_the_last_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "missing_packages", lambda: ["torch"])
    assert main([os.fspath(tmp_path / "s"), "--model", os.fspath(tmp_path)]) == REFUSED
    assert capsys.readouterr().out.splitlines()[-1] == INSTALL


def _file(place: Path) -> None:
    place.write_text("dear")


def _link(place: Path) -> None:
    (place.parent / "dear").write_text("dear")
    place.symlink_to(place.parent / "dear")


@pytest.mark.parametrize("while_loading", [False, True])
@pytest.mark.parametrize("make", [_file, _link, Path.mkdir])
def test_nothing_but_a_socket_is_removed_for_the_socket(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], None],
    while_loading: bool,
) -> None:
    place = tmp_path / "e.sock"
    closed: list[str] = []

    def load(options: OwnOptions, tell: Callable[[str], None]) -> Loaded:
        assert while_loading, "nothing is loaded in vain"
        make(place)
        return Loaded(chatting(PlayedEngine()), lambda: None, lambda: closed.append("closed"))

    if not while_loading:
        make(place)
    monkeypatch.setattr(serving_main, "load", load)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        assert main([os.fspath(place), "--model", os.fspath(tmp_path)]) == REFUSED
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
    assert capsys.readouterr().out.splitlines()[-1] == (
        "e.sock, where the socket is to lie, is another kind of file: move it away"
    )
    assert place.is_dir() or place.read_text() == "dear"
    assert closed == ["closed"] * while_loading


def test_an_older_socket_gives_way(tmp_path: Path) -> None:
    place = tmp_path / "e.sock"
    with socket.socket(socket.AF_UNIX) as older:
        older.bind(os.fspath(place))
        with listening(place), socket.socket(socket.AF_UNIX) as client:
            client.connect(os.fspath(place))


def test_without_a_name_it_is_called_as_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], installed: None
) -> None:
    assert main([os.fspath(tmp_path / "s"), "--model", os.fspath(tmp_path)]) == REFUSED
    assert "there is no model in" in capsys.readouterr().out


KINDS: dict[str, tuple[tuple[str, ...], bool, str]] = {
    "vectors for words": (("LlamaForCausalLM",), True, "answers in words: it cannot stand under embeddings"),
    "words for vectors": (("BertModel",), False, "makes vectors: restart the relay, which then takes it for that"),
    "neither": (("LlamaForSequenceClassification",), False, "is no model for chats or embeddings"),
}


@pytest.mark.parametrize(("architectures", "embeddings", "words"), KINDS.values(), ids=KINDS)
def test_a_model_of_another_kind_is_refused(
    tmp_path: Path, installed: None, architectures: tuple[str, ...], embeddings: bool, words: str
) -> None:
    with pytest.raises(Refused, match=words):
        load(options(model(tmp_path, *architectures), embeddings=embeddings), lambda line: None)


def without_tokenizer(folder: Path) -> OwnOptions:
    (folder / "tokenizer.json").unlink()
    return options(folder)


def four_bits(folder: Path) -> OwnOptions:
    return OwnOptions(model=OwnModel(folder=folder, device="cpu", quantization="torchao-int4"), names=("tiny",))


HOPELESS: dict[str, tuple[Callable[[Path], OwnOptions], str]] = {
    "no tokenizer": (without_tokenizer, r"has no tokenizer \(tokenizer.json\)"),
    "a method of CUDA alone": (four_bits, "torchao-int4 is for CUDA alone, and the device is cpu: take another one"),
}


@pytest.mark.parametrize(("ask", "words"), HOPELESS.values(), ids=HOPELESS)
def test_what_files_and_settings_tell_is_told_before_torch_is_imported(
    tmp_path: Path, installed: None, ask: Callable[[Path], OwnOptions], words: str
) -> None:
    told: list[str] = []
    with pytest.raises(Refused, match=words):
        load(ask(model(tmp_path, "LlamaForCausalLM")), told.append)
    assert told == []


class OutOfMemoryError(RuntimeError):
    """Called as torch's own."""


FAILURES: dict[str, tuple[Exception, str]] = {
    "torch's word": (OutOfMemoryError("Tried to allocate 9 GiB"), "out of memory on auto while"),
    "another backend's": (RuntimeError("MPS backend out of memory"), "out of memory on auto while"),
    "Python's": (MemoryError(), "out of memory on auto while"),
}


@pytest.mark.parametrize(("failure", "words"), FAILURES.values(), ids=FAILURES)
def test_a_model_that_is_too_large_is_refused_with_its_size(
    tmp_path: Path, installed: None, monkeypatch: pytest.MonkeyPatch, failure: Exception, words: str
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(loading, "_load_chat", fail)
    with pytest.raises(Refused, match=words) as caught:
        load(options(model(tmp_path, "LlamaForCausalLM")), lambda line: None)
    assert "(0.0 GB of weights)" in str(caught.value)


def test_a_kind_of_model_without_attention_is_refused_in_our_words(
    tmp_path: Path, installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UnsupportedModel(
            "/models/m cannot be loaded: MambaForCausalLM does not support an attention implementation through "
            "torch.nn.functional.scaled_dot_product_attention yet. Please request the support"
        )

    monkeypatch.setattr(loading, "_load_chat", fail)
    with pytest.raises(Refused) as caught:
        load(options(model(tmp_path, "MambaForCausalLM")), lambda line: None)
    assert str(caught.value) == (
        f"{tmp_path.name} is of the class MambaForCausalLM, a kind of model that this engine does not run"
    )


def test_weights_that_are_cut_off_are_refused_before_anything_is_imported(tmp_path: Path, installed: None) -> None:
    folder, told = model(tmp_path, "LlamaForCausalLM"), list[str]()
    os.truncate(folder / "model.safetensors", 1_000_000)
    with pytest.raises(Refused, match="model.safetensors of .* is cut off at 1000000 bytes: fetch it again"):
        load(options(folder), told.append)
    assert told == []


def test_a_bug_while_loading_is_no_refusal(tmp_path: Path, installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(loading, "_load_chat", fail)
    with pytest.raises(KeyError):
        load(options(model(tmp_path, "LlamaForCausalLM")), lambda line: None)
