"""What `relay doctor` says of an engine of the relay's own, of which it loads nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from adapters.local import main_memory, own
from proxy.cli import cli
from proxy.commands import own_engine_diagnosis

LLAMA = '{"architectures": ["LlamaForCausalLM"]}'
WEIGHTS = (2).to_bytes(8, "little") + b"{}"
WHOLE: dict[str, str | bytes] = {
    "config.json": LLAMA,
    "model.safetensors": WEIGHTS,
    "tokenizer.json": "{}",
    "chat_template.jinja": "{{ messages }}",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with the extra and without a GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELAY_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("RELAY_PORT", "0")
    monkeypatch.setattr(own, "missing_packages", lambda names=(): [])
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(own_engine_diagnosis, "_DEV", tmp_path / "dev")
    (tmp_path / "dev").mkdir()
    return tmp_path


def examined(folder: Path, files: Mapping[str, str | bytes], *lines: str) -> tuple[str, str, str, int]:
    """Status, text and advice of the check, and the exit status."""
    if files:
        (folder / "tiny").mkdir()
    for name, content in files.items():
        (folder / "tiny" / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    entry = (
        'name = "mine"',
        'kind = "transformers"',
        *(() if "model" in "".join(lines) else ('model = "tiny"',)),
        *lines,
    )
    (folder / "relay.toml").write_text("\n".join(["[[engines]]", *entry]))
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    (check,) = [check for check in json.loads(result.stdout)["checks"] if check["name"] == "engine"]
    return check["status"], check["text"], check["advice"], result.exit_code


def test_one_that_can_run_is_fine(folder: Path) -> None:
    assert examined(folder, WHOLE) == ("ok", f"mine: {folder / 'tiny'} is here", "", 0)


def test_the_packages_of_a_quantisation_are_looked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "missing_packages", lambda names=(): [name for name in names if name == "bitsandbytes"])
    said = "mine: quantization nf4 needs bitsandbytes", "Run pip install bitsandbytes"
    assert examined(folder, WHOLE, 'quantization = "nf4"') == ("failed", *said, 1)
    (folder / "tiny").rename(folder / "other")
    assert examined(folder, WHOLE, 'quantization = "torchao-int8"')[0] == "ok"


FOUR_BITS: dict[str, tuple[str, str, tuple[str, str]]] = {
    "on the CPU": (
        'device = "cpu"',
        "failed",
        ("quantization torchao-int4 is for CUDA alone, and the device is cpu", "Take another one."),
    ),
    "where no GPU is seen": (
        'device = "auto"',
        "warning",
        ("quantization torchao-int4 is for CUDA alone, and the device is cpu", "Take another one."),
    ),
    "on a GPU": ('device = "cuda:0"', "ok", ("FOLDER is here", "")),
    "where a GPU is seen": ('device = "auto"', "ok", ("FOLDER is here", "")),
}


@pytest.mark.parametrize(("device", "status", "said"), FOUR_BITS.values(), ids=FOUR_BITS)
def test_a_quantisation_of_cuda_alone_is_looked_at_beside_the_device(
    folder: Path, device: str, status: str, said: tuple[str, str]
) -> None:
    if status == "ok":
        (folder / "dev" / "nvidia0").touch()
    found = examined(folder, WHOLE, 'quantization = "torchao-int4"', device)
    text = f"mine: {said[0]}".replace("FOLDER", str(folder / "tiny"))
    assert found == (status, text, said[1], int(status == "failed"))


def test_a_model_that_answers_in_words_makes_no_vectors(folder: Path) -> None:
    said = "mine: tiny answers in words", "Take its names out of embeddings."
    assert examined(folder, WHOLE, 'embeddings = ["tiny"]') == ("failed", *said, 1)


def test_a_folder_is_quantised_once(folder: Path) -> None:
    files = WHOLE | {"config.json": LLAMA[:-1] + ', "quantization_config": {"quant_method": "awq"}}'}
    said = "mine: quantization int8 cannot be had, since the folder is quantised already by awq", "Leave it out."
    assert examined(folder, files, 'quantization = "int8"') == ("failed", *said, 1)


NO_FOLDER = "FOLDER is no model folder as transformers writes them"
MALFORMED: dict[str, tuple[dict[str, str | bytes], str]] = {
    "modules": ({"modules.json": "[1]", "config.json": '{"architectures": ["BertModel"]}'}, NO_FOLDER),
    "kinds": ({"config.json": '{"architectures": 5}'}, NO_FOLDER),
    "a way to stretch": ({"config.json": LLAMA[:-1] + ', "rope_scaling": {"type": ["yarn"]}}'}, "FOLDER is here"),
    "the tokenizer's settings": ({"tokenizer_config.json": "[]"}, "FOLDER/tokenizer_config.json holds no settings"),
    "names of files": (
        {"model.safetensors.index.json": '{"weight_map": {"a": ["b"]}}'},
        "tiny is not whole",
    ),
}


@pytest.mark.parametrize(("files", "text"), MALFORMED.values(), ids=MALFORMED)
def test_files_of_another_shape_than_they_should_have_stop_nothing(
    folder: Path, files: dict[str, str | bytes], text: str
) -> None:
    assert examined(folder, WHOLE | files)[1] == f"mine: {text}".replace("FOLDER", str(folder / "tiny"))


SIZES = '"num_hidden_layers": 16, "num_attention_heads": 32, "hidden_size": 2048, "dtype": "float32"'
LONG = f'{LLAMA[:-1]}, "max_position_embeddings": 131072, {SIZES}}}'
"""262,144 bytes a token."""
CACHES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "beyond the memory": (
        LONG,
        ("max_concurrency = 64", "context_window = 32768"),
        "a cache for 64 requests of 32768 tokens takes 549.8 GB, and 10.0 GB are free",
    ),
    "no more than the model's own context": (
        LONG.replace("131072", "1024"),
        ("max_concurrency = 64", "context_window = 32768"),
        "a cache for 64 requests of 1024 tokens takes 17.2 GB, and 10.0 GB are free",
    ),
    "the context of the settings alone": (
        LONG.replace('"max_position_embeddings": 131072, ', ""),
        ("max_concurrency = 2", "context_window = 32768"),
        "a cache for 2 requests of 32768 tokens takes 17.2 GB, and 10.0 GB are free",
    ),
    "what fits": (LONG, ("max_concurrency = 2", "context_window = 8192"), ""),
    "on a GPU": (LONG, ("max_concurrency = 64", "context_window = 32768", 'device = "cuda"'), ""),
    "of unknown size": (LLAMA, ("max_concurrency = 64", "context_window = 32768"), ""),
    "of a model that has none": (
        LONG.replace("LlamaForCausalLM", "BertModel"),
        ("max_concurrency = 64", "context_window = 32768"),
        "",
    ),
}


@pytest.mark.parametrize(("config", "lines", "text"), CACHES.values(), ids=CACHES)
def test_a_cache_beyond_the_memory_is_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch, config: str, lines: tuple[str, ...], text: str
) -> None:
    (folder / "dev" / "nvidia0").touch()
    free = 20_000_000_000 + len(WEIGHTS)
    monkeypatch.setattr(main_memory, "_available", lambda: free)
    monkeypatch.setattr(main_memory, "_left_in_group", lambda group: free)
    device = () if "device" in "".join(lines) else ('device = "cpu"',)
    found = examined(folder, WHOLE | {"config.json": config}, *lines, *device)
    if text:
        assert found == ("warning", f"mine: {text}", "Lower max_concurrency or context_window.", 0)
    else:
        assert found[0] == "ok", found


@pytest.mark.parametrize("absent", ["the extra", "the model"])
def test_what_a_command_brings_is_told_with_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    if absent == "the extra":
        monkeypatch.setattr(own, "missing_packages", lambda names=(): ["torch"])
        said = "it needs the extra 'local'", "Run make install EXTRAS=local (or pip install 'workers-ai-relay[local]')"
    else:
        said = "org/name is not on this machine", "Run relay models pull org/name"
    assert examined(folder, {}, 'model = "org/name"') == ("failed", f"mine: {said[0]}", said[1], 1)


UNFIT: dict[str, tuple[dict[str, str | bytes], str, str, str]] = {
    "no model": (
        {"README.md": ""},
        "failed",
        "there is no model in FOLDER (no config.json)",
        "Put the model there, or name another folder.",
    ),
    "an encoder and a decoder": (
        {"config.json": '{"is_encoder_decoder": true}'},
        "failed",
        "tiny is an encoder-decoder model, which this engine does not run",
        "Name another folder: docs/engines.md says what runs.",
    ),
    "ChatGLM3": (
        {"config.json": '{"architectures": ["ChatGLMModel"]}'},
        "failed",
        "tiny is of the class ChatGLMModel, whose code is too old for today's transformers",
        "Serve it through chatglm.cpp, or of GLM-4 take the folder that ends in -hf (docs/engines.md).",
    ),
    "neither for chats nor for vectors": (
        {"config.json": '{"architectures": ["LlamaForSequenceClassification"]}'},
        "failed",
        "FOLDER is no model for chats or embeddings",
        "Its config.json says LlamaForSequenceClassification.",
    ),
    "weights that are cut off": (
        {"model.safetensors": WEIGHTS[:9]},
        "failed",
        "model.safetensors of tiny is cut off at 9 bytes",
        "Fetch it again.",
    ),
    "no tokenizer": (
        {"tokenizer.json": b"", "chat_template.jinja": b""},
        "failed",
        "tiny has no tokenizer (tokenizer.json)",
        "Fetch the model's other files too.",
    ),
    "no chat template": (
        {"chat_template.jinja": b""},
        "warning",
        "tiny has no chat template, so it cannot chat",
        "Take the variant of the model that was trained for conversations (its name ends in -Instruct or -it).",
    ),
}


@pytest.mark.parametrize(("files", "status", "text", "advice"), UNFIT.values(), ids=UNFIT)
def test_a_folder_that_is_unfit_is_told_before_anything_is_loaded(
    folder: Path, files: dict[str, str | bytes], status: str, text: str, advice: str
) -> None:
    some = {name: content for name, content in (WHOLE | files).items() if content != b""}
    some = {"README.md": ""} if "README.md" in files else some
    text = f"mine: {text}".replace("FOLDER", str(folder / "tiny"))
    assert examined(folder, some) == (status, text, advice, int(status == "failed"))


def test_a_model_for_vectors_needs_no_chat_template(folder: Path) -> None:
    files = {name: content for name, content in WHOLE.items() if name != "chat_template.jinja"}
    files["config.json"] = '{"architectures": ["BertModel"]}'
    assert examined(folder, files)[0] == "ok"


DEVICES: dict[str, tuple[str, str, str, str | None]] = {
    "none": ("linux", "", 'device = "cuda"', "cuda"),
    "none of several": ("linux", "", 'device = ["cuda:0", "cuda:1"]', "cuda:0, cuda:1"),
    "NVIDIA's": ("linux", "nvidia0", 'device = "cuda:0"', None),
    "AMD's": ("linux", "kfd", 'device = "cuda"', None),
    "its control alone": ("linux", "nvidiactl", 'device = "cuda"', "cuda"),
    "one that nobody can look for": ("win32", "", 'device = "cuda"', None),
    "Apple's elsewhere": ("linux", "", 'device = "mps"', "mps"),
    "Apple's": ("darwin", "", 'device = "mps"', None),
    "whatever there is": ("linux", "", 'device = "auto"', None),
}


@pytest.mark.parametrize(("platform", "file", "line", "absent"), DEVICES.values(), ids=DEVICES)
def test_a_device_that_nobody_sees_is_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch, platform: str, file: str, line: str, absent: str | None
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    if file:
        (folder / "dev" / file).touch()
    status, text, advice, _ = examined(folder, WHOLE, line)
    if absent is None:
        assert status == "ok"
    else:
        assert (status, text) == ("warning", f"mine: no device {absent} is seen on this machine")
        assert advice == "Look at its driver, or set device = 'cpu'."


MEMORIES: dict[str, tuple[str, str, Any]] = {
    "the machine's": ('device = "cpu"', "", "warning"),
    "the machine's, for want of a GPU": ("", "", "warning"),
    "perhaps a GPU's": ("", "nvidia0", "ok"),
    "a GPU's": ('device = "cuda"', "nvidia0", "ok"),
}


@pytest.mark.parametrize(("line", "file", "status"), MEMORIES.values(), ids=MEMORIES)
def test_weights_larger_than_the_memory_are_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, file: str, status: str
) -> None:
    monkeypatch.setattr(own_engine_diagnosis, "machine_memory", lambda: 1_000_000)
    if file:
        (folder / "dev" / file).touch()
    found, text, _, _ = examined(
        folder, WHOLE | {"model.safetensors": WEIGHTS + bytes(2_000_000)}, *([line] * bool(line))
    )
    assert found == status
    if status == "warning":
        assert text == "mine: its weights take 2.0 MB, this machine has 1.0 MB"
