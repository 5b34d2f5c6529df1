"""`proxy.engine_models`: which models engines have."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from adapters.catalogue import CHAT_TASK, EMBEDDING_TASK, load_snapshot
from adapters.local.own import OwnModel
from adapters.local.spec import EngineSpec
from proxy.engine_models import engine_models, engines_of
from proxy.model_rules import Candidate, ModelRule

LLAMA = "@cf/meta/llama-3.2-3b-instruct"
CATALOGUE = load_snapshot()
RETIRED = "@cf/meta/llama-2-7b-chat-int8"


def engine(name: str, *names: str, embeddings: tuple[str, ...] = (), window: int | None = None) -> EngineSpec:
    models = {model: model for model in names}
    return EngineSpec(name=name, urls=("http://a/v1",), models=models, embeddings=embeddings, context_window=window)


def test_a_name_that_means_one_of_cloudflares_models_is_that_model() -> None:
    engines = [engine("a", "Llama-3.2-3B-Instruct"), engine("b", LLAMA), engine("c", "meta/llama-3.2-3b-instruct")]
    assert engine_models(engines, CATALOGUE) == []
    assert engines_of(engines, CATALOGUE) == {
        LLAMA: (
            Candidate("a", "Llama-3.2-3B-Instruct"),
            Candidate("b", LLAMA),
            Candidate("c", "meta/llama-3.2-3b-instruct"),
        )
    }


def test_any_other_name_is_a_model_of_its_own() -> None:
    names = ["my-own", "Qwen/Qwen3-8B", "@cf/acme/nobody-knows-it"]
    engines = [engine("a", *names)]
    assert {model.id: (model.task, model.status) for model in engine_models(engines, CATALOGUE)} == dict.fromkeys(
        names, (CHAT_TASK, "listed")
    )
    assert engines_of(engines, CATALOGUE) == {name: (Candidate("a", name),) for name in names}


def test_a_name_that_fits_several_models_is_one_of_its_own_too() -> None:
    twins = [model for model in CATALOGUE if model.id == LLAMA]
    both = CATALOGUE.with_models([type(twins[0])(id="@cf/acme/llama-3.2-3b-instruct", task=CHAT_TASK, status="listed")])
    (own,) = engine_models([engine("a", "llama-3.2-3b-instruct")], both)
    assert own.id == "llama-3.2-3b-instruct"
    assert both.with_models([own]).resolve("llama-3.2-3b-instruct") == own


def test_an_alias_does_not_change_what_an_engine_has() -> None:
    aliased = CATALOGUE.with_aliases({"my-own": LLAMA})
    (own,) = engine_models([engine("a", "my-own")], aliased)
    assert own.id == "my-own"


def test_models_that_embed_are_told_apart() -> None:
    chat, vectors = engine_models([engine("a", "talk", "vectors", embeddings=("vectors",))], CATALOGUE)
    assert (chat.task, chat.is_chat, chat.streaming) == (CHAT_TASK, True, True)
    assert (vectors.task, vectors.is_chat, vectors.streaming) == (EMBEDDING_TASK, False, None)


def test_the_smallest_context_window_of_all_who_may_answer_counts() -> None:
    engines = [engine("a", "m", window=8192), engine("b", "m"), engine("c", "m", window=4096)]
    (model,) = engine_models(engines, CATALOGUE)
    assert model.context_window == 4096
    assert engine_models([engine("b", "m")], CATALOGUE)[0].context_window is None


def test_of_an_engine_of_our_own_the_folder_tells_the_context() -> None:
    def own(window: int | None, longest: int | None) -> EngineSpec:
        model = OwnModel(folder=Path("/models/m"), longest=longest)
        return msgspec.structs.replace(engine("own", "m", window=window), urls=(), own=model)

    for window, longest, told in ((None, 8192, 8192), (4096, 8192, 4096), (16384, 8192, 8192), (4096, None, 4096)):
        assert engine_models([own(window, longest)], CATALOGUE)[0].context_window == told


def test_what_is_in_the_catalogue_already_is_found_under_its_own_id() -> None:
    engines = [engine("a", "my-own")]
    offered = CATALOGUE.with_models(engine_models(engines, CATALOGUE))
    assert engines_of(engines, offered) == engines_of(engines, CATALOGUE)


REVIVED: dict[str, tuple[list[EngineSpec], dict[str, ModelRule], list[str]]] = {
    "by its id": ([engine("a", RETIRED)], {}, [RETIRED]),
    "by its short name": ([engine("a", "llama-2-7b-chat-int8")], {}, [RETIRED]),
    "as a candidate": ([engine("a", "x")], {RETIRED: ModelRule((Candidate("a", "x"),))}, ["x", RETIRED]),
    "not as a candidate of others": ([engine("a", "x")], {RETIRED: ModelRule((Candidate("cloudflare"),))}, ["x"]),
    "not what nobody knows": ([engine("a", "x")], {"no-such": ModelRule((Candidate("a", "x"),))}, ["x"]),
}


@pytest.mark.parametrize(("engines", "rules", "ids"), REVIVED.values(), ids=REVIVED)
def test_a_retired_model_is_listed_where_an_engine_answers_for_it(
    engines: list[EngineSpec], rules: dict[str, ModelRule], ids: list[str]
) -> None:
    models = engine_models(engines, CATALOGUE, rules)
    assert [model.id for model in models] == ids
    assert all((model.status, model.retired_on) == ("listed", None) for model in models)
    known = CATALOGUE.get(RETIRED)
    assert known is not None and known.is_retired
