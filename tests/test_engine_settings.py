"""`proxy.engine_table` and `proxy.model_rules`: `[[engines]]` and `[models]` of relay.toml."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from adapters.catalogue import load_snapshot
from adapters.local import own
from adapters.local.own import NOTE, OwnModel, OwnOptions
from adapters.local.serving.options import read_options
from adapters.local.spec import EngineSpec
from proxy.engine_models import engines_of
from proxy.engine_table import KEYS, shown_engine
from proxy.model_rules import Candidate, ModelRule
from proxy.settings import Settings, SettingsError, load_settings

SECRET = "hunter2-hunter2"
CLOUDFLARE = {"CLOUDFLARE_ACCOUNT_ID": "a" * 32, "CLOUDFLARE_API_TOKEN": "cfut_secret"}
URL = 'url = "http://127.0.0.1:8000/v1"'
COMMAND = 'command = "serve --port {port}"'
OWN = 'kind = "transformers"\nmodel = "org/name"'


def load(folder: Path, toml: str, **environ: str) -> Settings:
    (folder / "relay.toml").write_text(toml)
    return load_settings({}, environ, folder)


def problems(folder: Path, toml: str, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(folder, toml, **environ)
    return list(caught.value.problems)


def engine(folder: Path, lines: str, **environ: str) -> EngineSpec:
    (spec,) = load(folder, f'[[engines]]\nname = "e"\n{lines}\n', **environ).engines
    return spec


READINGS: dict[str, tuple[str, str, object]] = {
    "a base URL": (URL, "urls", ("http://127.0.0.1:8000/v1",)),
    "an address alone": ('url = "http://box:8000/"', "urls", ("http://box:8000/v1",)),
    "a path of another kind": ('url = "https://x.example/api/openai/"', "urls", ("https://x.example/api/openai",)),
    "a Unix socket": ('url = "unix:/run/vllm.sock"', "urls", ("unix:/run/vllm.sock",)),
    "a Unix socket as a URL": ('url = "unix:///run/vllm.sock"', "urls", ("unix:/run/vllm.sock",)),
    "replicas": ('url = ["http://a/v1", "http://b/v1"]', "urls", ("http://a/v1", "http://b/v1")),
    "weights of replicas": ('url = ["http://a", "http://b"]\nweights = [2, 0.5]', "weights", (2.0, 0.5)),
    "a command line": (
        "command = 'llama-server -m \"my model.gguf\" --port {port}'",
        "command",
        ("llama-server", "-m", "my model.gguf", "--port", "{port}"),
    ),
    "a command in words": (
        'command = ["serve", "a b", "{socket}"]',
        "command",
        ("serve", "a b", "{socket}"),
    ),
    "a command without a place": ('command = "serve"\nport = 8001', "port", 8001),
    "its environment": (f"{COMMAND}\nenvironment = {{ A = 'x', B = 1 }}", "environment", {"A": "x", "B": "1"}),
    "a key": (f'{URL}\napi_key = "k"', "api_key", "k"),
    "a key in the environment": (f'{URL}\napi_key_env = "MY_KEY"', "api_key", SECRET),
    "a profile in capitals": (f'{URL}\nprofile = "vLLM"', "profile", "vllm"),
    "no profile": ('url = "http://127.0.0.1:11434"', "profile", "openai"),
    "a list of models": (f'{URL}\nmodels = ["a", "b"]', "models", {"a": "a", "b": "b"}),
    "a table of models": (f'{URL}\nmodels = {{ a = "Own Name:8b" }}', "models", {"a": "Own Name:8b"}),
    "embeddings": (f'{URL}\nmodels = ["a", "b"]\nembeddings = ["b"]', "embeddings", ("b",)),
    "concurrency": (f"{URL}\nmax_concurrency = 64", "max_concurrency", 64),
    "a queue of nobody": (f"{URL}\nqueue = 0", "queue", 0),
    "a context window": (f"{URL}\ncontext_window = 8192", "context_window", 8192),
    "kept for ever": (f'{COMMAND}\nkeep_alive = "forever"', "keep_alive", None),
    "kept for ever by a number": (f"{COMMAND}\nkeep_alive = -1", "keep_alive", None),
    "stopped at once": (f"{COMMAND}\nkeep_alive = 0", "keep_alive", 0.0),
    "kept for the usual time": (COMMAND, "keep_alive", 300.0),
    "time to start": (f"{COMMAND}\nstart_timeout = 5", "start_timeout", 5.0),
    "memory": (f'{COMMAND}\nmemory = "20GiB"', "memory", 20 * 2**30),
    "memory in bytes": (f"{COMMAND}\nmemory = 2097152", "memory", 2**21),
    "no code of the model's author": (COMMAND, "trust_remote_code", False),
    "code of the model's author": (f"{COMMAND}\ntrust_remote_code = true", "trust_remote_code", True),
}


@pytest.mark.parametrize(("lines", "attribute", "value"), READINGS.values(), ids=READINGS)
def test_an_engine_is_read(tmp_path: Path, lines: str, attribute: str, value: object) -> None:
    assert getattr(engine(tmp_path, lines, MY_KEY=SECRET), attribute) == value


@pytest.mark.parametrize("name", [key.name for key in KEYS])
def test_every_key_is_documented(name: str) -> None:
    page = (Path(__file__).parent.parent / "docs" / "settings.md").read_text()
    assert f"| `{name}`" in page


def test_a_folder_starts_where_relay_toml_lies(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    assert engine(tmp_path, f'{COMMAND}\ndirectory = "weights"').directory == tmp_path / "weights"


REFUSALS: dict[str, tuple[str, str]] = {
    "no name": (f"[[engines]]\n{URL}", "engines[0].name in relay.toml: missing"),
    "a name with a slash": (f'[[engines]]\nname = "a/b"\n{URL}', "engines[0].name in relay.toml: expected a name"),
    "a name of dots": (f'[[engines]]\nname = ".."\n{URL}', "engines[0].name in relay.toml: expected a name"),
    "a long name": (f'[[engines]]\nname = "{"n" * 65}"\n{URL}', "engines[0].name in relay.toml: expected a name"),
    "an upstream's name": (f'[[engines]]\nname = "Cloudflare"\n{URL}', "and not cloudflare or simulator, got"),
    "a name taken": (
        f'[[engines]]\nname = "a"\n{URL}\n[[engines]]\nname = "A"\n{URL}',
        "engines[1].name in relay.toml: another engine is called 'A' too",
    ),
    "no list of tables": ("engines = 1", "engines in relay.toml: expected entries that begin with [[engines]]"),
    "a plain table": ("[engines]\nname = 'x'", "engines in relay.toml: expected entries that begin with [[engines]]"),
}


@pytest.mark.parametrize(("toml", "text"), REFUSALS.values(), ids=REFUSALS)
def test_entries_are_refused(tmp_path: Path, toml: str, text: str) -> None:
    (problem,) = problems(tmp_path, toml)
    assert text in problem


BROKEN: dict[str, tuple[str, str]] = {
    "nothing to reach it by": ("", " in relay.toml: expected url or command, found neither"),
    "two ways to reach it": (f"{URL}\n{COMMAND}", " in relay.toml: expected url or command, found both"),
    "a misspelt key": (f"{URL}\nmodel_names = []", ".model_names in relay.toml: no such key; did you mean"),
    "a URL of a file": ('url = "file:///x"', ".url in relay.toml: expected a base URL"),
    "a URL of one route": ('url = "http://a/v1/chat/completions"', ".url in relay.toml: expected a base URL"),
    "a socket that is none": ('url = "unix:relative"', ".url in relay.toml: expected a base URL"),
    "a socket without a name": ('url = "unix:///"', ".url in relay.toml: expected a base URL"),
    "no URL at all": ("url = []", ".url in relay.toml: expected a base URL"),
    "a replica twice": ('url = ["http://a", "http://a/v1"]', ".url in relay.toml: expected a base URL"),
    "a weight too few": ('url = ["http://a", "http://b"]\nweights = [1]', ".weights in relay.toml: expected one for"),
    "a weight of nothing": (f"{URL}\nweights = [0]", ".weights in relay.toml: expected a list of numbers above 0"),
    "no weights": (f"{URL}\nweights = []", ".weights in relay.toml: expected a list of numbers above 0"),
    "weights that are none": (f"{URL}\nweights = 1", ".weights in relay.toml: expected a list of numbers above 0"),
    "weights of a broken URL": ('url = "x"\nweights = [1, 2]', ".url in relay.toml: expected a base URL"),
    "weights of a command": (f"{COMMAND}\nweights = [1]", ".weights in relay.toml: expected one for each url, so 0"),
    "an open quotation": ("command = 'serve \"x {port}'", ".command in relay.toml: expected a command line"),
    "an empty command": ('command = ""', ".command in relay.toml: expected a command line"),
    "a command of numbers": ("command = [1]", ".command in relay.toml: expected a command line"),
    "a command that is none": ("command = 1", ".command in relay.toml: expected a command line"),
    "no place to listen": ('command = "serve"', ".command in relay.toml: expected {port} or {socket} in it"),
    "a port that is none": (f"{COMMAND}\nport = 0", ".port in relay.toml: expected a whole number from 1 to 65535"),
    "a folder that is not there": (f'{COMMAND}\ndirectory = "no"', ".directory in relay.toml: expected a folder that"),
    "a variable that is none": (f"{COMMAND}\nenvironment = {{ 'A B' = 'x' }}", ".environment in relay.toml: expected"),
    "a variable's odd value": (f"{COMMAND}\nenvironment = {{ A = [] }}", ".environment in relay.toml: expected"),
    "a zero byte in a variable": (
        f'{COMMAND}\nenvironment = {{ A = "\\u0000" }}',
        ".environment in relay.toml: expect",
    ),
    "an environment that is none": (f"{COMMAND}\nenvironment = 1", ".environment in relay.toml: expected a table"),
    "two keys": (f'{URL}\napi_key = "a"\napi_key_env = "B"', ".api_key in relay.toml: expected it or api_key_env"),
    "a key of nobody": (f'{URL}\napi_key_env = "B"', ".api_key_env in relay.toml: B is not set"),
    "a key with a space": (f'{URL}\napi_key_env = "SPACED"', ".api_key_env in relay.toml: SPACED holds no printable"),
    "a variable's name that is none": (f'{URL}\napi_key_env = "A-B"', ".api_key_env in relay.toml: expected the name"),
    "an unknown profile": (f'{URL}\nprofile = "triton"', ".profile in relay.toml: expected vllm, sglang"),
    "a model twice": (f'{URL}\nmodels = ["a", "a"]', ".models in relay.toml: expected a list"),
    "a model with a space": (f'{URL}\nmodels = ["a b"]', ".models in relay.toml: expected a list"),
    "a long model": (f'{URL}\nmodels = ["{"m" * 201}"]', ".models in relay.toml: expected a list"),
    "models that are none": (f"{URL}\nmodels = 1", ".models in relay.toml: expected a list"),
    "a nameless model": (f"{URL}\nmodels = {{ a = '' }}", ".models in relay.toml: expected a list"),
    "embeddings of nobody": (f'{URL}\nmodels = ["a"]\nembeddings = ["b"]', ".embeddings in relay.toml: expected names"),
    "no concurrency": (f"{URL}\nmax_concurrency = 0", ".max_concurrency in relay.toml: expected a whole number"),
    "a negative time": (f"{COMMAND}\nkeep_alive = -2", ".keep_alive in relay.toml: expected a number of seconds"),
    "a time of words": (f'{COMMAND}\nkeep_alive = "long"', ".keep_alive in relay.toml: expected a number of seconds"),
    "a time of yes": (f"{COMMAND}\nkeep_alive = true", ".keep_alive in relay.toml: expected a number of seconds"),
    "too little memory": (f"{COMMAND}\nmemory = 20", ".memory in relay.toml: expected a size such as 20GiB"),
    "no model for a kind": (
        'kind = "transformers"',
        ".model in relay.toml: missing: kind = 'transformers' needs a folder or ORG/NAME",
    ),
    "a kind with an address": (
        f"{URL}\n{OWN}",
        ".url in relay.toml: has no meaning beside kind = 'transformers'",
    ),
    "a kind with a profile": (
        f'{OWN}\nprofile = "vllm"',
        ".profile in relay.toml: has no meaning beside kind = 'transformers'",
    ),
    "a folder that nobody has": (
        'kind = "transformers"\nmodel = "./no/such"',
        ".model in relay.toml: expected a folder that is there, or ORG/NAME: there is no folder /",
    ),
    "a file of a model": (
        'kind = "transformers"\nmodel = "relay.toml"',
        ".model in relay.toml: expected a folder that is there, or ORG/NAME: /",
    ),
    "vectors under another name than its own": (
        f'{OWN}\nembeddings = ["small"]',
        ".model in relay.toml: one model makes vectors or text: expected all of models in embeddings, or none",
    ),
    "a model that is none": ('kind = "transformers"\nmodel = 1', ".model in relay.toml: expected a folder or ORG/NAME"),
    "some of the names as vectors": (
        f'{OWN}\nmodels = ["a", "b"]\nembeddings = ["a"]',
        ".model in relay.toml: one model makes vectors or text: expected all of models in embeddings, or none",
    ),
    "a device that is none": (f'{OWN}\ndevice = "gpu"', ".device in relay.toml: expected auto, cpu, mps, cuda"),
    "no device": (f"{OWN}\ndevice = []", ".device in relay.toml: expected auto, cpu, mps, cuda"),
    "a device twice": (f"{OWN}\ndevice = ['cuda:0', 'cuda:0']", ".device in relay.toml: expected auto, cpu, mps, cuda"),
    "devices that may be one": (f"{OWN}\ndevice = ['cuda', 'cuda:0']", ".device in relay.toml: expected auto, cpu"),
    "an unknown type": (f'{OWN}\ndtype = "int3"', ".dtype in relay.toml: expected auto, bfloat16, float16 or float32"),
    "an unknown kind of weights": (f'{OWN}\nquantization = "q4"', ".quantization in relay.toml: expected none, int8"),
    "our own profile by name": (f'{URL}\nprofile = "relay"', ".profile in relay.toml: expected vllm, sglang"),
    "a device of a command": (f'{COMMAND}\ndevice = "cpu"', ".device in relay.toml: needs kind = 'transformers'"),
    "an unknown kind": ('kind = "magic"', ".kind in relay.toml: expected transformers"),
    "a model without a kind": (f'{URL}\nmodel = "org/name"', ".model in relay.toml: needs kind = 'transformers'"),
}


@pytest.mark.parametrize(("lines", "text"), BROKEN.values(), ids=BROKEN)
def test_an_engine_is_refused(tmp_path: Path, lines: str, text: str) -> None:
    (problem,) = problems(tmp_path, f'[[engines]]\nname = "e"\n{lines}\n', SPACED="a b")
    assert problem.startswith(f"engines[0]{text}")


def test_where_a_folder_was_looked_for_is_told(tmp_path: Path) -> None:
    place = f"{tmp_path}/no/such"
    (problem,) = problems(tmp_path, '[[engines]]\nname = "e"\nkind = "transformers"\nmodel = "./no/such"\n')
    assert problem.endswith(f"ORG/NAME: there is no folder {place}")
    (problem,) = problems(tmp_path, '[[engines]]\nname = "e"\nkind = "transformers"\nmodel = "relay.toml"\n')
    assert problem.endswith(f"ORG/NAME: {tmp_path}/relay.toml is a file; name its folder")


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    toml = f'[[engines]]\nname = "a"\n{URL}\nqueue = -1\nfoo = 1\n[[engines]]\nname = "b"\n{COMMAND}\nport = 0\n'
    toml += '[models.x]\ncandidates = ["c"]\n'
    assert [problem.partition(" in relay.toml")[0] for problem in problems(tmp_path, toml)] == [
        "engines[0].queue",
        "engines[0].foo",
        "engines[1].port",
        'candidates in [models."x"]',
    ]


SECRETS = {
    "a key": f'{URL}\napi_key = "{SECRET} "\nqueue = -1',
    "an environment": f"{COMMAND}\nenvironment = {{ A = ['{SECRET}'] }}",
    "a URL with a password": f'url = "http://me:{SECRET}@box/v1"',
    "a key instead of its variable's name": f'{URL}\napi_key_env = "{SECRET}"',
}


@pytest.mark.parametrize("lines", SECRETS.values(), ids=SECRETS)
def test_no_problem_tells_a_secret(tmp_path: Path, lines: str) -> None:
    assert SECRET not in "\n".join(problems(tmp_path, f'[[engines]]\nname = "e"\n{lines}\n'))


def test_no_secret_is_shown(tmp_path: Path) -> None:
    spec = engine(
        tmp_path,
        f"command = 'serve --port {{port}} --api-key {SECRET} --hf_token={SECRET} --max-tokens 5 -p'\n"
        f'api_key = "{SECRET}"\nenvironment = {{ A = "{SECRET}" }}',
    )
    shown = shown_engine(spec, "***")
    assert SECRET not in json.dumps(shown) + repr(spec)
    assert shown["command"] == "serve --port '{port}' --api-key '***' '--hf_token=***' --max-tokens 5 -p"
    assert shown["environment"] == {"A": "***"}
    assert shown["api_key"] == "***"


SHOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "a remote one": (
        'url = ["http://a", "http://b"]\nweights = [1, 2]\nmodels = ["m"]\nembeddings = ["m"]',
        {"url": ["http://a/v1", "http://b/v1"], "weights": [1.0, 2.0], "models": {"m": "m"}, "embeddings": ["m"]},
    ),
    "a local one": ('command = "x"\nport = 1', {"command": "x", "port": 1, "keep_alive": 300.0}),
    "one that stays": ('command = "{socket}"\nkeep_alive = -1', {"command": "'{socket}'", "keep_alive": "forever"}),
    "a folder": ('command = "x"\nport = 1\ndirectory = "."', {"directory": "{folder}"}),
    "one of our own": (
        f'{OWN}\ndevice = "cpu"\nthreads = 2',
        {
            **{"kind": "transformers", "model": "org/name", "device": "cpu", "threads": 2, "profile": "relay"},
            **{"models": {"org/name": "org/name"}, "keep_alive": 300.0},
        },
    ),
}


@pytest.mark.parametrize(("lines", "shown"), SHOWN.values(), ids=SHOWN)
def test_an_engine_is_shown_by_the_keys_that_it_was_given(tmp_path: Path, lines: str, shown: dict[str, Any]) -> None:
    found = shown_engine(engine(tmp_path, lines), "***")
    expected = {"name": "e", "profile": "openai", **shown}
    if "directory" in shown:
        expected = {**found, "directory": str(tmp_path)}
    assert found == expected


def model_folder(place: Path, *, vectors: bool = False) -> Path:
    """A folder that passes for a model's as far as settings look."""
    place.mkdir(parents=True)
    (place / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    if vectors:
        (place / "modules.json").write_text("[]")
    return place


def told(spec: EngineSpec) -> OwnOptions:
    """What the process of one of our own engines makes of its command."""
    assert spec.command[:4] == (sys.executable, "-P", "-m", "adapters.local.serving.main")
    socket, options = read_options(spec.command[4:])
    assert str(socket) == "{socket}"
    return options


def test_an_engine_of_our_own_is_a_process_that_is_told_all_of_it(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "my model")
    spec = engine(
        tmp_path,
        'kind = "transformers"\nmodel = "my model"\nmodels = { small = "tiny", "mini" = "tiny" }\ndevice = "cuda:1"\n'
        'dtype = "float16"\nquantization = "nf4"\nthreads = 3\nmax_concurrency = 8\nqueue = 5\ncontext_window = 4096\n'
        "trust_remote_code = true\nkeep_alive = 9\nmemory = '2GiB'\nenvironment = { A = 'b' }",
    )
    model = OwnModel(folder=folder, device="cuda:1", dtype="float16", quantization="nf4", threads=3)
    assert told(spec) == OwnOptions(
        model=model, names=("tiny",), rows=8, queue=5, context=4096, embeddings=False, trust_remote_code=True
    )
    assert (spec.profile, spec.keep_alive, spec.memory, spec.environment) == ("relay", 9.0, 2 * 2**30, {"A": "b"})
    assert spec.is_local


def test_an_engine_of_our_own_needs_nothing_but_its_model(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "models" / "My Model")
    spec = engine(tmp_path, 'kind = "transformers"\nmodel = "models/My Model"')
    assert spec.models == {"My-Model": "My-Model"}
    assert told(spec) == OwnOptions(model=OwnModel(folder=folder), names=("My-Model",))


@pytest.mark.parametrize("lines", ["", 'embeddings = ["minilm"]'])
def test_a_folder_says_itself_that_it_makes_vectors(tmp_path: Path, lines: str) -> None:
    model_folder(tmp_path / "minilm", vectors=True)
    spec = engine(tmp_path, f'kind = "transformers"\nmodel = "minilm"\nmodels = ["minilm"]\n{lines}')
    assert spec.embeddings == ("minilm",) and told(spec).embeddings


LONGEST: dict[str, tuple[dict[str, str], int | None]] = {
    "a model that chats": ({"config.json": '{"architectures": ["XForCausalLM"], "max_position_embeddings": 512}'}, 512),
    "one that does not say": ({"config.json": '{"architectures": ["XForCausalLM"]}'}, None),
    "one that makes vectors": (
        {
            "config.json": '{"architectures": ["BertModel"], "max_position_embeddings": 512}',
            "modules.json": "[]",
            "sentence_bert_config.json": '{"max_seq_length": 256}',
        },
        256,
    ),
    "one that is not there": ({}, None),
    "one that cannot be read": ({"config.json": "{"}, None),
}


@pytest.mark.parametrize(("files", "tokens"), LONGEST.values(), ids=LONGEST)
def test_a_folder_says_how_long_its_context_is(tmp_path: Path, files: dict[str, str], tokens: int | None) -> None:
    (tmp_path / "m").mkdir()
    for name, text in files.items():
        (tmp_path / "m" / name).write_text(text)
    assert engine(tmp_path, 'kind = "transformers"\nmodel = "m"').longest_context == tokens


def test_a_model_of_the_hub_lies_where_it_is_pulled_into(tmp_path: Path) -> None:
    settings = load(tmp_path, f'state_dir = "state"\n[[engines]]\nname = "e"\n{OWN}\n')
    (spec,) = settings.engines
    place = tmp_path / "state" / "models" / "org" / "name"
    assert told(spec).model == OwnModel(folder=place, repository="org/name")
    assert spec.models == {"org/name": "org/name"}


MISSING: dict[str, tuple[tuple[str, ...], str | None]] = {
    "nothing of it": ((), "org/name is not on this machine: relay models pull org/name"),
    "a part of it": (("config.json",), "org/name is not whole on this machine: relay models pull org/name"),
    "one that cannot be served": (("config.json", NOTE), "name has no weights (*.safetensors)"),
    "all of it": (("config.json", "model.safetensors", NOTE), None),
}


@pytest.mark.parametrize(("files", "problem"), MISSING.values(), ids=MISSING)
def test_a_model_that_was_not_pulled_is_a_warning_with_the_command(
    tmp_path: Path, files: tuple[str, ...], problem: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "missing_packages", lambda: [])
    place = tmp_path / "state" / "models" / "org" / "name"
    for file in files:
        place.mkdir(parents=True, exist_ok=True)
        (place / file).write_text('{"architectures": ["LlamaForCausalLM"]}')
    settings = load(tmp_path, f'state_dir = "state"\n[[engines]]\nname = "e"\n{OWN}\n')
    assert settings.warnings == (() if problem is None else (f"engine 'e' in relay.toml cannot run: {problem}",))


def test_without_the_extra_the_warning_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "missing_packages", lambda: ["torch"])
    settings = load(tmp_path, f'[[engines]]\nname = "e"\n{OWN}\n')
    assert settings.warnings == (
        "engine 'e' in relay.toml cannot run: it needs the extra 'local': make install EXTRAS=local (or pip install "
        "'workers-ai-relay[local]')",
    )


DEVICES = f'{OWN}\ndevice = ["cuda:0", "cuda:1"]\nmodels = ["m"]'


def test_several_devices_are_as_many_engines_of_one_name(tmp_path: Path) -> None:
    settings = load(tmp_path, f'[[engines]]\nname = "gpu"\n{DEVICES}\n[models.x]\ncandidates = ["gpu"]\n')
    assert [(spec.name, spec.upstream, told(spec).model.device) for spec in settings.engines] == [
        ("gpu-0", "gpu", "cuda:0"),
        ("gpu-1", "gpu", "cuda:1"),
    ]
    assert settings.model_rules == {"x": ModelRule((Candidate("gpu", "m"),))}
    assert engines_of(settings.engines, load_snapshot()) == {"m": (Candidate("gpu", "m"),)}


@pytest.mark.parametrize("name", ["gpu", "gpu-1", "GPU-0"])
def test_the_names_of_several_devices_are_taken(tmp_path: Path, name: str) -> None:
    toml = f'[[engines]]\nname = "gpu"\n{DEVICES}\n[[engines]]\nname = "{name}"\n{URL}\n'
    (problem,) = problems(tmp_path, toml)
    assert problem == f"engines[1].name in relay.toml: another engine is called '{name}' too"


TWO = f"""
[[engines]]
name = "box"
{URL}
models = {{ "llama" = "Llama-3.2", "@cf/meta/llama-3.2-3b-instruct" = "Llama-3.2" }}
[[engines]]
name = "many"
{URL}
models = ["a", "b"]
"""

RULES: dict[str, tuple[str, ModelRule]] = {
    "candidates": (
        'candidates = ["cloudflare", "box:Own:8b", "simulator"]',
        ModelRule((Candidate("cloudflare"), Candidate("box", "Own:8b"), Candidate("simulator"))),
    ),
    "an engine of one model": ('candidates = ["box"]', ModelRule((Candidate("box", "Llama-3.2"),))),
    "an engine that has it by this name": ('candidates = ["many"]', ModelRule((Candidate("many", "a"),))),
    "a policy": ('policy = "cheapest"', ModelRule(policy="cheapest")),
    "a patience": ("handover_after = 20", ModelRule(handover_after=20.0)),
    "shares": ("share = { cloudflare = 3, box = 1 }", ModelRule((), "share", {"cloudflare": 3.0, "box": 1.0})),
    "shares of candidates": (
        'candidates = ["cloudflare", "box"]\npolicy = "share"\nshare = { cloudflare = 0, box = 0.5 }',
        ModelRule((Candidate("cloudflare"), Candidate("box", "Llama-3.2")), "share", {"cloudflare": 0.0, "box": 0.5}),
    ),
}


@pytest.mark.parametrize(("lines", "rule"), RULES.values(), ids=RULES)
def test_a_models_rule_is_read(tmp_path: Path, lines: str, rule: ModelRule) -> None:
    assert load(tmp_path, f"{TWO}[models.a]\n{lines}\n").model_rules == {"a": rule}


def test_a_rule_and_a_stream_mode_stand_in_one_table(tmp_path: Path) -> None:
    settings = load(
        tmp_path, f'{TWO}[models.x]\nstream = "native"\ncandidates = ["box"]\n[models.y]\nstream = "auto"\n'
    )
    assert (settings.model_streams, list(settings.model_rules)) == ({"x": "native", "y": "auto"}, ["x"])


BROKEN_RULES = {
    "no list": ('candidates = "box"', "candidates in WHERE: expected a list such as"),
    "no candidates": ("candidates = []", "candidates in WHERE: expected a list such as"),
    "an unknown engine": ('candidates = ["bix"]', "candidates in WHERE: expected one of cloudflare, simulator, box, "),
    "a number": ("candidates = [1]", "candidates in WHERE: expected one of cloudflare"),
    "Cloudflare's other model": ('candidates = ["cloudflare:x"]', "candidates in WHERE: 'cloudflare' takes no name"),
    "no model behind the colon": ('candidates = ["box:"]', "candidates in WHERE: expected the engine's own name"),
    "one of several": ('candidates = ["many"]', "candidates in WHERE: expected 'many:MODEL', since the engine does"),
    "one twice": ('candidates = ["box", "box:Llama-3.2"]', "candidates in WHERE: 'box:Llama-3.2' stands there more"),
    "no patience": ("handover_after = 0", "handover_after in WHERE: expected a number of seconds above 0, got 0"),
    "a patience of words": (
        'handover_after = "soon"',
        "handover_after in WHERE: expected a number of seconds above 0, got 'soon'",
    ),
    "a policy": ('policy = "best"', "policy in WHERE: expected ordered, cheapest or share, got 'best'"),
    "shares that are missing": ('policy = "share"', "policy in WHERE: 'share' needs a table such as"),
    "shares beside a policy": ('policy = "ordered"\nshare = { box = 1 }', "share in WHERE: has no meaning beside"),
    "a share of a stranger": (
        'candidates = ["cloudflare"]\nshare = { cloudflare = 1, box = 1 }',
        "share in WHERE: 'box' is none of the candidates",
    ),
    "a negative share": ("share = { cloudflare = 1, box = -1 }", "share in WHERE: expected a number from 0 for 'box'"),
    "an endless share": ("share = { cloudflare = 1, box = inf }", "share in WHERE: expected a number from 0 for 'box'"),
    "shares of nothing": ("share = { box = 0 }", "share in WHERE: expected a table with a number above 0"),
    "no shares": ("share = {}", "share in WHERE: expected a table with a number above 0"),
    "shares that are none": ("share = 1", "share in WHERE: expected a table with a number above 0"),
    "shares of twins": (
        'candidates = ["many:a", "many:b", "cloudflare"]\nshare = { many = 1, cloudflare = 1 }',
        "share in WHERE: two candidates are 'many'",
    ),
    "an unknown option": ("candidate = []", "candidate in WHERE: no such option; did you mean candidates?"),
}


@pytest.mark.parametrize(("lines", "text"), BROKEN_RULES.values(), ids=BROKEN_RULES)
def test_a_models_rule_is_refused(tmp_path: Path, lines: str, text: str) -> None:
    (problem,) = problems(tmp_path, f"{TWO}[models.x]\n{lines}\n")
    assert problem.startswith(text.replace("WHERE", '[models."x"] in relay.toml'))


def test_a_candidate_whose_engine_is_broken_is_no_second_problem(tmp_path: Path) -> None:
    toml = '[[engines]]\nname = "e"\n[models.x]\ncandidates = ["e", "e:own"]\n'
    assert len(problems(tmp_path, toml)) == 1


WARNINGS = {
    "what is for a command": (f"{URL}\nkeep_alive = 5\nmodels = ['a']", "engines[0].keep_alive in relay.toml has no"),
    "a limit that would end the engine": (
        f"{URL}\nprofile = 'chatglm.cpp'\nmodels = ['a']",
        "engines[0].context_window in relay.toml is missing: it has to be the engine's own MAX_LENGTH (4096 is taken)",
    ),
    "no models": (URL, "engine 'e' in relay.toml has no models"),
    "no credentials": (
        f'{URL}\n[models.x]\ncandidates = ["cloudflare", "e:a"]',
        "name cloudflare, which is passed over",
    ),
}


@pytest.mark.parametrize(("lines", "text"), WARNINGS.values(), ids=WARNINGS)
def test_what_has_no_effect_is_a_warning(tmp_path: Path, lines: str, text: str) -> None:
    (warning,) = load(tmp_path, f'[[engines]]\nname = "e"\n{lines}\n').warnings
    assert text in warning


def test_an_engine_that_candidates_name_needs_no_models_of_its_own(tmp_path: Path) -> None:
    toml = f'[[engines]]\nname = "e"\n{URL}\n[models.x]\ncandidates = ["cloudflare", "e:a"]\n'
    assert load(tmp_path, toml, **CLOUDFLARE).warnings == ()


def test_an_engine_must_fit_into_the_memory_of_all(tmp_path: Path) -> None:
    toml = f'[[engines]]\nname = "e"\n{COMMAND}\nmodels = ["a"]\nmemory = "20GiB"\n'
    assert load(tmp_path, toml, RELAY_ENGINES_MEMORY="20GiB").engines_memory == 20 * 2**30
    (problem,) = problems(tmp_path, toml, RELAY_ENGINES_MEMORY="19GiB")
    assert problem == "memory of engine 'e' in relay.toml: more than RELAY_ENGINES_MEMORY allows for all"


@pytest.mark.parametrize(("environ", "upstream"), [({}, "simulator"), (CLOUDFLARE, "cloudflare")])
def test_engines_do_not_change_who_answers_for_all_other_models(
    tmp_path: Path, environ: dict[str, str], upstream: str
) -> None:
    settings = load(tmp_path, f'[[engines]]\nname = "e"\n{URL}\nmodels = ["a"]\n', **environ)
    assert settings.upstream == upstream
    assert settings.prefer == "cloudflare"
