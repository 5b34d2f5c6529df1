"""The model catalogue: names, stand-ins, refreshes and the file form."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.catalogue import Catalogue, Model, Price, dump, load, load_snapshot
from adapters.errors import Fault, InvalidRequest, RelayError

LLAMA = "@cf/meta/llama-3.2-1b-instruct"
SNAPSHOT = load_snapshot()


def chat(id: str, **fields: Any) -> Model:
    return Model(**{"id": id, "task": "Text Generation", "status": "listed", **fields})


NAMES = {
    "an id": (LLAMA, LLAMA),
    "a percent-encoded id": ("@cf%2Fmeta%2Fllama-3.2-1b-instruct", LLAMA),
    "an encoded at sign too": ("%40cf%2fmeta%2fllama-3.2-1b-instruct", LLAMA),
    "space around": (f" \t{LLAMA}\n", LLAMA),
    "the prefix workers-ai": (f"workers-ai/{LLAMA}", LLAMA),
    "the prefix cloudflare": (f"cloudflare/{LLAMA}", LLAMA),
    "no prefix but an author of that name": ("cloudflare/clef", "@cf/cloudflare/clef"),
    "another case": (LLAMA.upper(), LLAMA),
    "author and name": ("meta/llama-3.2-1b-instruct", LLAMA),
    "a short name": ("llama-3.2-1b-instruct", LLAMA),
    "a short name in another case": ("Llama-3.2-1B-Instruct", LLAMA),
    "a short name that only a retired model has": ("phi-2", "@cf/microsoft/phi-2"),
    "a task other than chat": ("bge-m3", "@cf/baai/bge-m3"),
}


@pytest.mark.parametrize(("name", "id"), NAMES.values(), ids=NAMES)
def test_a_model_is_found_by_every_spelling_of_its_name(name: str, id: str) -> None:
    assert SNAPSHOT.resolve(name).id == id


def test_every_model_of_the_snapshot_is_found_by_its_id_and_by_its_short_name() -> None:
    for model in SNAPSHOT:
        assert SNAPSHOT.resolve(model.id) is model
        assert SNAPSHOT.resolve(model.short_name).short_name == model.short_name


@pytest.mark.parametrize(
    "name", ["@cf/new/model-9b", "@hf/some.one/x_1:q4", "workers-ai/@cf%2Fnew%2Fmodel-9b", "@CF/a/b"]
)
def test_an_id_of_cloudflares_form_is_believed_without_being_known(name: str) -> None:
    model = SNAPSHOT.resolve(name)
    assert model == Model(id=model.id, task="Text Generation", status="unknown")
    assert model.id.startswith(("@cf/", "@hf/"))
    assert model.is_chat and model.openai_form and not model.is_retired


@pytest.mark.parametrize(
    "name",
    [
        "",
        "gpt-4o",
        "@cf/",
        "@cf/meta",
        "@cf/../accounts",
        "@cf/meta/..",
        "@cf/a/../b",
        "@cf/a//b",
        "@cf/a/b?x=1",
        "@cf/a/b#c",
        "@cf/a/%2e%2e/b",
        "@cf/a/b c",
        "@cf/" + "a/" * 8 + "b",
        "@cf/a/" + "b" * 300,
        "\ud800",
        "x" * 100_000,
    ],
    ids=lambda name: f"{name!a:.30}",
)
def test_a_name_that_fits_nothing_is_refused_with_the_name_in_the_message(name: str) -> None:
    with pytest.raises(RelayError) as caught:
        SNAPSHOT.resolve(name)
    assert caught.value.fault is Fault.MODEL_NOT_FOUND
    assert caught.value.param == "model"
    assert repr(name[:6])[1:-1] in caught.value.message
    assert len(caught.value.message) < 400
    assert caught.value.message.isprintable()


def test_a_misspelt_name_is_refused_with_what_may_have_been_meant() -> None:
    with pytest.raises(
        RelayError, match=r"'lama-3\.2-1b' does not exist\. Did you mean '@cf/meta/llama-3\.2-1b-instruct'"
    ):
        SNAPSHOT.resolve("lama-3.2-1b")


def test_part_of_a_name_suggests_models_that_are_still_there() -> None:
    found = SNAPSHOT.suggestions("llama")
    assert len(found) == 3
    assert all("llama" in id and SNAPSHOT.resolve(id).status == "listed" for id in found)


def test_what_all_ids_begin_with_makes_no_name_like_another() -> None:
    assert SNAPSHOT.suggestions("@cf/nope/nope") == []
    assert SNAPSHOT.suggestions("@hf/mete/llama-3.2-1b-instruct")[0] == "@cf/meta/llama-3.2-1b-instruct"


def test_a_short_name_that_fits_two_models_is_refused_with_the_choices() -> None:
    catalogue = Catalogue([chat("@cf/a/twin"), chat("@hf/b/twin"), chat("@cf/a/other")], "2026-01-01")
    with pytest.raises(InvalidRequest, match="'@cf/a/twin' or '@hf/b/twin'") as caught:
        catalogue.resolve("twin")
    assert (caught.value.param, caught.value.code) == ("model", "ambiguous_model")
    assert catalogue.resolve("b/twin").id == "@hf/b/twin"


def test_a_retired_model_does_not_make_a_short_name_ambiguous() -> None:
    catalogue = Catalogue([chat("@cf/a/twin", status="retired"), chat("@hf/b/twin")], "2026-01-01")
    assert catalogue.resolve("twin").id == "@hf/b/twin"
    assert catalogue.resolve("a/twin").id == "@cf/a/twin"


ALIASES = {
    "to an id": ({"gpt-4o-mini": LLAMA}, "gpt-4o-mini"),
    "to a short name": ({"small": "llama-3.2-1b-instruct"}, "small"),
    "to another alias": ({"a": "b", "b": "c", "c": LLAMA}, "a"),
    "in another case": ({"GPT-Small": LLAMA}, "gpt-small"),
    "percent-encoded": ({"my/model": LLAMA}, "my%2Fmodel"),
    "over an id": ({"@cf/microsoft/phi-2": LLAMA}, "@cf/microsoft/phi-2"),
    "over a short name": ({"phi-2": LLAMA}, "phi-2"),
}


@pytest.mark.parametrize(("aliases", "name"), ALIASES.values(), ids=ALIASES)
def test_an_alias_leads_to_its_model(aliases: dict[str, str], name: str) -> None:
    assert SNAPSHOT.with_aliases(aliases).resolve(name).id == LLAMA


@pytest.mark.parametrize("aliases", [{"a": "a"}, {"a": "b", "b": "a"}, {"x": "a", "a": "b", "b": "c", "c": "a"}])
def test_aliases_in_a_circle_are_an_error_when_built(aliases: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="circle"):
        SNAPSHOT.with_aliases(aliases)


@pytest.mark.parametrize("alias", ["mine", "phi-2", LLAMA])
def test_an_alias_that_leads_nowhere_names_what_is_missing_once_it_is_used(alias: str) -> None:
    catalogue = SNAPSHOT.with_aliases({alias: "no-such-thing"})
    with pytest.raises(RelayError, match="'no-such-thing' does not exist") as caught:
        catalogue.resolve(alias)
    assert f"The alias '{alias}' stands for it." in caught.value.message


def test_an_alias_that_fits_several_models_is_named() -> None:
    catalogue = Catalogue([chat("@cf/a/twin"), chat("@hf/b/twin")], "2026-01-01", aliases={"mine": "twin"})
    with pytest.raises(InvalidRequest, match="more than one model.* The alias 'mine' stands for it"):
        catalogue.resolve("mine")
    with pytest.raises(InvalidRequest) as caught:
        catalogue.resolve("twin")
    assert "alias" not in caught.value.message


def test_an_alias_to_a_model_unknown_here_still_goes_to_cloudflare() -> None:
    assert SNAPSHOT.with_aliases({"new": "@cf/new/one"}).resolve("new").status == "unknown"


def test_aliases_outlive_a_refresh_and_come_to_mean_what_it_brings() -> None:
    catalogue = SNAPSHOT.with_aliases({"mine": "brand-new"})
    assert catalogue.aliases == {"mine": "brand-new"}
    row = {"name": "@cf/acme/brand-new", "task": {"name": "Text Generation"}, "properties": []}
    assert catalogue.overlaid([row], "2026-11-01").resolve("mine").id == "@cf/acme/brand-new"


def test_extra_models_are_found_and_take_the_place_of_their_namesakes() -> None:
    extra = chat("relay/simulator")
    catalogue = SNAPSHOT.with_models([extra]).with_models([extra, chat(LLAMA, vision=True)])
    assert catalogue.resolve("relay/simulator") == catalogue.resolve("simulator") == extra
    assert catalogue.resolve(LLAMA).vision is True
    assert len(catalogue) == len(SNAPSHOT) + 1
    assert SNAPSHOT.get("relay/simulator") is None


PROPERTIES: list[tuple[dict[str, Any], str, str, bool, bool]] = [
    ({"id": "@cf/meta/x-1b"}, "meta", "x-1b", True, True),
    ({"id": "@cf/meta/x-1b", "native_result": "response"}, "meta", "x-1b", True, False),
    ({"id": "@cf/a/b", "native_result": "response_or_openai_chat"}, "a", "b", True, False),
    ({"id": "@cf/a/b", "native_result": "openai_chat"}, "a", "b", True, True),
    ({"id": "@cf/a/b", "native_result": "openai_chat_or_responses"}, "a", "b", True, True),
    ({"id": "@cf/cloudflare/clef", "native_result": "clef"}, "cloudflare", "clef", False, False),
    ({"id": "@cf/a/b", "task": "Text Embeddings", "native_result": "data_shape"}, "a", "b", False, False),
    ({"id": "lone"}, "", "lone", True, True),
]


@pytest.mark.parametrize(("fields", "author", "short", "is_chat", "openai_form"), PROPERTIES)
def test_a_model_says_what_follows_from_its_fields(
    fields: dict[str, Any], author: str, short: str, is_chat: bool, openai_form: bool
) -> None:
    model = chat(**fields)
    assert (model.author, model.short_name, model.is_chat, model.openai_form) == (author, short, is_chat, openai_form)


SUCCESSORS = {
    "the one that Cloudflare named": ("@cf/moonshotai/kimi-k2.5", "@cf/moonshotai/kimi-k2.6"),
    "the same author and nearly the same name": (
        "@cf/meta/llama-3.1-8b-instruct",
        "@cf/meta/llama-3.1-8b-instruct-fp8",
    ),
    "the same family from another author": (
        "@hf/thebloke/mistral-7b-instruct-v0.1-awq",
        "@cf/mistralai/mistral-small-3.1-24b-instruct",
    ),
    "no base for LoRA adapters": ("@hf/google/gemma-7b-it", "@cf/google/gemma-4-26b-a4b-it"),
    "none left for the task": ("@cf/facebook/bart-large-cnn", None),
}


@pytest.mark.parametrize(("retired", "successor"), SUCCESSORS.values(), ids=SUCCESSORS)
def test_a_retired_model_has_the_nearest_listed_successor(retired: str, successor: str | None) -> None:
    assert SNAPSHOT.successor(SNAPSHOT.resolve(retired)) == successor


def test_stand_ins_are_listed_models_of_the_same_task() -> None:
    extended = SNAPSHOT.with_models([chat("relay/simulator")])
    for model in extended:
        for id in extended.suggestions(model, limit=50):
            other = extended.resolve(id)
            assert other.status == "listed" and other.task == model.task and other.is_chat == model.is_chat
            assert id not in (model.id, "relay/simulator")


def row(name: Any = LLAMA, task: Any = None, **properties: Any) -> dict[str, Any]:
    listed = [{"property_id": id, "value": value} for id, value in properties.items()]
    return {"id": "uuid", "name": name, "task": task or {"name": "Text Generation"}, "properties": listed}


VALUES: dict[str, tuple[str, Any, str, Any]] = {
    "a count in a string": ("context_window", "128000", "context_window", 128000),
    "a count": ("context_window", 128000, "context_window", 128000),
    "an answer limit": ("max_output_tokens", "4096", "max_output", 4096),
    "dimensions": ("output_dimensions", "768", "output_dimensions", 768),
    "a flag in a string": ("function_calling", "true", "function_calling", True),
    "a flag": ("function_calling", False, "function_calling", False),
    "a capitalised flag": ("vision", "True", "vision", True),
    "a flag that we call otherwise": ("require_workers_paid", "true", "requires_paid_plan", True),
    "efforts in an object": (
        "reasoning_effort",
        {"supported_efforts": ["low", "high", 5]},
        "reasoning_efforts",
        ("low", "high"),
    ),
    "efforts in a list": ("reasoning_effort", ["low"], "reasoning_efforts", ("low",)),
    "prices": (
        "price",
        [{"unit": "per M input tokens", "price": 0.35, "currency": "USD"}, "?", {"unit": "x", "price": "much"}],
        "price",
        (Price(unit="per M input tokens", price_usd=0.35, neurons=31818.18),),
    ),
}


@pytest.mark.parametrize(("property_id", "value", "field", "expected"), VALUES.values(), ids=VALUES)
def test_a_refresh_reads_each_property_in_the_shapes_that_it_comes_in(
    property_id: str, value: Any, field: str, expected: Any
) -> None:
    fresh = SNAPSHOT.overlaid([row(**{property_id: value})], "2026-11-01")
    assert getattr(fresh.resolve(LLAMA), field) == expected
    assert fresh.as_of == "2026-11-01"


WRONG_COUNTS: list[Any] = ["", "many", "-1", "0", "1e9", "9" * 5000, "\u0664", -1, 0, 1.5, True, None, [], {}]
WRONG_FLAGS: list[Any] = ["yes", 1, None, [], {}]
MALFORMED = {f"context_window {wrong!a:.12}": ("context_window", wrong) for wrong in WRONG_COUNTS}
MALFORMED |= {f"vision {wrong!a}": ("vision", wrong) for wrong in WRONG_FLAGS}


@pytest.mark.parametrize(("property_id", "value"), MALFORMED.values(), ids=MALFORMED)
def test_a_refresh_passes_over_a_value_of_a_wrong_shape(property_id: str, value: Any) -> None:
    fresh = SNAPSHOT.overlaid([row(**{property_id: value}, max_output="77")], "2026-11-01").resolve(LLAMA)
    assert getattr(fresh, property_id) == getattr(SNAPSHOT.resolve(LLAMA), property_id)
    assert fresh.max_output == 77


@pytest.mark.parametrize(
    "bad",
    [
        None,
        5,
        "x",
        [],
        {},
        {"name": 5},
        row(name="gpt-4o"),
        row(name="@cf/a/../b"),
        {"name": "@cf/a/b"},
        row("@cf/a/b", task=7),
    ],
    ids=str,
)
def test_a_refresh_passes_over_a_malformed_row_alone(bad: Any) -> None:
    fresh = SNAPSHOT.overlaid([bad, row("@cf/acme/new-1b", vision="true")], "2026-11-01")
    assert [model.id for model in fresh] == [*(model.id for model in SNAPSHOT), "@cf/acme/new-1b"]
    assert fresh.resolve("new-1b").vision is True


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
rows = st.fixed_dictionaries(
    {"name": st.sampled_from([LLAMA, "@cf/a/b"]) | json_values},
    optional={
        "task": json_values | st.fixed_dictionaries({"name": json_values}),
        "properties": json_values
        | st.lists(
            st.fixed_dictionaries(
                {
                    "property_id": st.sampled_from(["price", "context_window", "reasoning_effort", "lora"]),
                    "value": json_values,
                }
            ),
            max_size=4,
        ),
    },
)


@given(st.lists(rows | json_values, max_size=4))
def test_whatever_a_refresh_brings_the_result_can_be_kept(found: list[Any]) -> None:
    fresh = SNAPSHOT.overlaid(found, "2026-11-01")
    assert list(load(dump(fresh))) == list(fresh)


def test_what_the_account_lists_is_not_retired() -> None:
    old = "@cf/moonshotai/kimi-k2.5"
    fresh = SNAPSHOT.overlaid([row("@cf/microsoft/phi-2"), row(old)], "2026-11-01")
    for id in ("@cf/microsoft/phi-2", old):
        model = fresh.resolve(id)
        assert (model.status, model.retired_on, model.replaced_by) == ("listed", None, None)
    assert SNAPSHOT.resolve("phi-2").is_retired


def test_a_refresh_keeps_what_it_does_not_speak_of() -> None:
    assert SNAPSHOT.overlaid([row()], "2026-11-01").resolve(LLAMA) == SNAPSHOT.resolve(LLAMA)


def test_a_catalogue_survives_being_written_and_read() -> None:
    again = load(dump(SNAPSHOT))
    assert list(again) == list(SNAPSHOT)
    assert again.as_of == SNAPSHOT.as_of


def test_the_file_has_its_date_on_top_and_one_model_a_line() -> None:
    lines = dump(SNAPSHOT).splitlines()
    assert lines[0] == b'{"as_of":"2026-10-09","models":['
    assert len(lines) == len(SNAPSHOT) + 2
    assert all(line.startswith(b'{"id":') for line in lines[1:-1])


def test_the_shipped_file_is_in_the_form_that_dump_writes() -> None:
    assert files("adapters").joinpath("catalogue.json").read_bytes() == dump(SNAPSHOT)


def _with_model(**fields: Any) -> bytes:
    model = {"id": "@cf/a/b", "task": "Text Generation", "status": "listed", **fields}
    return msgspec.json.encode({"as_of": "2026-01-01", "models": [model]})


JUNK: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"catalogue",
    "cut off": dump(SNAPSHOT)[:-5],
    "another shape": b"[]",
    "no date": b'{"models":[]}',
    "a date that is none": b'{"as_of":"yesterday","models":[]}',
    "a status that is none": _with_model(status="fine"),
    "a wrong type": _with_model(context_window="big"),
    "a window of no size": _with_model(context_window=0),
    "an empty id": _with_model(id=""),
    "not UTF-8": b'{"as_of":"\xff","models":[]}',
    "the same id twice": b'{"as_of":"2026-01-01","models":[%b,%b]}' % (2 * (msgspec.json.encode(chat("@cf/a/b")),)),
    "nested without end": b'{"as_of":"2026-01-01","models":[],"x":' + b"[" * 100_000,
}


@pytest.mark.parametrize("body", JUNK.values(), ids=JUNK)
def test_junk_is_no_catalogue(body: bytes) -> None:
    with pytest.raises(ValueError):
        load(body)


FACTS: list[tuple[str, Callable[[Model], bool]]] = [
    (LLAMA, lambda model: model.context_window == 60_000 and model.native_result == "response"),
    ("@cf/openai/gpt-oss-120b", lambda model: model.reasoning_efforts == ("low", "medium", "high")),
    ("@cf/mistralai/mistral-small-3.1-24b-instruct", lambda model: model.vision is None),
    ("@cf/meta/llama-3.2-11b-vision-instruct", lambda model: model.vision is True),
    ("@cf/microsoft/phi-2", lambda model: model.is_retired and model.retired_on == "2026-05-30"),
    ("@cf/baai/bge-m3", lambda model: model.output_dimensions == 1024),
    ("@cf/meta/llama-3.3-70b-instruct-fp8-fast", lambda model: bool(model.price) and model.streaming is True),
]


@pytest.mark.parametrize(("id", "holds"), FACTS)
def test_the_snapshot_knows_its_facts(id: str, holds: Callable[[Model], bool]) -> None:
    model = SNAPSHOT.get(id)
    assert model is not None and holds(model)
