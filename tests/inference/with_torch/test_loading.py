"""How weights are loaded: progress, types, and fewer bits; what is missing is named."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers.utils.logging import set_tqdm_hook

from adapters.local.inference import loading
from adapters.local.inference.errors import UnsupportedModel
from adapters.local.inference.loading import choose_dtype, load_model, needs_placing, quantization_config
from adapters.local.inference.model import BatchedModel, Piece
from adapters.local.inference.options import PACKAGES, QUANTIZATIONS, ModelOptions
from adapters.local.inference.progress import Report, tensor_sizes, weights_progress
from tests.inference.with_torch.tiny import SHAPE, tiny

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tiny().save_pretrained(path, max_shard_size="50KB")
    return path


def test_progress_is_told_up_to_the_end(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    load_model(folder, ModelOptions(device="cpu", threads=1), told.append)
    size = sum(parameter.nbytes for parameter in tiny().parameters()) / 1e6
    assert told[0].startswith("loading weights ")
    assert told[-1] == f"loading weights 100% of {size:.1f} MB"
    shares = [int(line.split()[2].rstrip("%")) for line in told]
    assert shares == sorted(set(shares))
    assert len(shares) > 5
    assert "Loading weights" not in capfd.readouterr().err  # transformers' own bar
    assert set_tqdm_hook(None) is None


def test_tensors_count_as_what_they_take() -> None:
    told: list[str] = []
    report = Report({"large": 3_000_000_000, "small": 1_000_000_000}, told.append)
    assert list(report.steps({"large": 1, "small": 2}.items())) == [("large", 1), ("small", 2)]
    assert told == ["loading weights 75% of 4.0 GB", "loading weights 100% of 4.0 GB"]
    renamed = Report({"one": 4, "two": 4}, told.append)
    list(renamed.steps([("another", 1), ("and another", 2)]))
    assert told[2:] == ["loading weights 50% of 0.0 MB", "loading weights 100% of 0.0 MB"]
    list(Report({}, told.append).steps([("of another file", 1)]))
    assert told[4:] == ["loading weights 100% of 0.0 MB"]


def test_other_bars_are_made_but_not_shown(tmp_path: Path) -> None:
    with weights_progress(tmp_path, None):
        bar = transformers.utils.logging.tqdm([1, 2], desc="Something else")
        assert (list(bar), bar.disable) == ([1, 2], True)


def test_sizes_are_read_from_the_heads_of_the_files(folder: Path) -> None:
    assert len(list(folder.glob("*.safetensors"))) > 1
    sizes = tensor_sizes(folder)
    assert sizes == {name: tensor.nbytes for name, tensor in tiny().state_dict().items()}


DTYPES: dict[str, tuple[str, Any, Any, bool, Any]] = {
    "as in the folder": ("auto", torch.float16, CPU, True, "auto"),
    "the CPU takes all": ("auto", torch.float32, CPU, True, "auto"),
    "half as much on CUDA": ("auto", torch.float32, CUDA, True, torch.bfloat16),
    "an old card": ("auto", torch.float32, CUDA, False, torch.float16),
    "nothing said": ("auto", None, CUDA, True, torch.bfloat16),
    "half already": ("auto", torch.float16, CUDA, True, "auto"),
    "as good as the card": ("auto", torch.bfloat16, CUDA, True, "auto"),
    "newer than the card": ("auto", torch.bfloat16, CUDA, False, torch.float16),
    "the CPU takes that too": ("auto", torch.bfloat16, CPU, False, "auto"),
    "as asked for": ("float32", torch.float16, CUDA, True, torch.float32),
}


@pytest.mark.parametrize(("name", "own", "device", "bf16", "expected"), DTYPES.values(), ids=DTYPES)
def test_the_type_suits_folder_and_device(
    name: str, own: Any, device: Any, bf16: bool, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A card without it is one to torch, which then computes it in float32.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or bf16)
    config = transformers.LlamaConfig()
    config.dtype = own
    assert choose_dtype(name, config, device) == expected


# ---------------------------------------------------------------- fewer bits


def options(quantization: str) -> ModelOptions:
    return ModelOptions(device="cpu", threads=1, quantization=quantization)  # type: ignore[arg-type]  # also wrong ones


@pytest.mark.parametrize("name", [name for name in PACKAGES if name != "torchao-int4"])
def test_what_a_quantisation_takes_is_named_where_it_is_missing(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(QUANTIZATIONS) == {"none", *PACKAGES}
    monkeypatch.setattr(loading, "find_spec", lambda package: None)
    with pytest.raises(UnsupportedModel) as caught:
        load_model(folder, options(name))
    missing = PACKAGES[name]
    assert str(caught.value) == (f"quantization {name} needs {' and '.join(missing)}: pip install {' '.join(missing)}")


def test_only_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda package: None if package == "torchao" else object())
    with pytest.raises(UnsupportedModel, match="torchao-int8 needs torchao: pip install torchao$"):
        quantization_config(options("torchao-int8"), transformers.LlamaConfig(), "auto")


def test_what_only_a_gpu_computes_is_refused_elsewhere(folder: Path) -> None:
    with pytest.raises(UnsupportedModel, match="torchao-int4 is for CUDA alone, and the device is cpu"):
        load_model(folder, options("torchao-int4"))


@pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")
@pytest.mark.parametrize("name", [name for name in PACKAGES if name.startswith("torchao")])
def test_torchao_knows_what_it_is_asked_for(name: str) -> None:
    config = loading._METHODS[name](torch.bfloat16).quant_type
    assert type(config).__name__.lower().startswith(name.removeprefix("torchao-"))


def test_an_unknown_quantisation_is_refused(folder: Path) -> None:
    with pytest.raises(UnsupportedModel, match="quantization: 'q4' is none of none, int8, nf4, torchao-int8"):
        load_model(folder, options("q4"))


def awq(folder: Path, to: Path) -> Path:
    """A folder that says that its weights are quantised."""
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq", "bits": 4, "group_size": 16, "zero_point": True}
    (to / "config.json").write_text(json.dumps(config))
    for file in folder.glob("*.safetensors*"):
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_weights_are_quantised_once(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="nf4 cannot be had, since the folder is quantised already by awq"):
        load_model(awq(folder, tmp_path), options("nf4"))


@pytest.mark.skipif(find_spec("gptqmodel") is not None, reason="gptqmodel, which loads such folders, is installed")
def test_a_quantised_folder_names_what_it_takes(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="cannot be loaded: .*gptqmodel"):
        load_model(awq(folder, tmp_path), options("none"))


def test_a_configuration_may_be_an_object(folder: Path) -> None:
    config = transformers.LlamaConfig()
    config.quantization_config = transformers.AwqConfig(bits=4)
    with pytest.raises(UnsupportedModel, match="quantised already by awq"):
        quantization_config(options("int8"), config, "auto")


PLACED: dict[str, tuple[Any, str, bool, bool]] = {
    "on the CPU": (CPU, "none", True, False),
    "on CUDA": (CUDA, "none", True, True),
    "on CUDA without accelerate": (CUDA, "none", False, False),
    "quantised": (CPU, "int8", True, True),
}


@pytest.mark.parametrize(("device", "quantization", "accelerate", "expected"), PLACED.values(), ids=PLACED)
def test_weights_go_straight_to_the_device_where_they_can(
    device: Any, quantization: str, accelerate: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda package: object() if accelerate else None)
    assert needs_placing(device, transformers.LlamaConfig(), options(quantization)) == expected


@pytest.mark.parametrize("name", ["int8", "nf4", "torchao-int8"])
def test_quantised_weights_give_nearly_the_same(name: str, tmp_path: Path) -> None:
    if missing := [package for package in PACKAGES[name] if find_spec(package) is None]:
        pytest.skip(f"{' and '.join(missing)} not installed")
    torch.manual_seed(7)
    sizes = SHAPE | {"intermediate_size": 128}  # nf4 goes by blocks of 64
    plain = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**sizes)).eval()
    plain.save_pretrained(tmp_path)
    models = (load_model(tmp_path, options(name)), plain)
    with torch.inference_mode():
        logits, expected = (
            BatchedModel(model, rows=1, context=64).prefill([Piece(0, 0, list(range(40)))]).float() for model in models
        )
    assert torch.nn.functional.cosine_similarity(logits, expected).item() > 0.9
    assert not torch.equal(logits, expected)
