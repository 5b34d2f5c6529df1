"""What binds fields together, apart from any body."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from adapters.errors import InvalidRequest
from adapters.wire.native import inputs
from adapters.wire.native.blob import Blob
from adapters.wire.native.rules import RULES, check

DATA = Blob(b"1")

FITS: list[Any] = [
    inputs.QueryEmbeddingInputs(text="a"),
    inputs.QueryEmbeddingInputs(queries="a", instruction="b"),
    inputs.EmbeddingOrScoreInputs(text="a", query="b"),
    inputs.EmbeddingOrScoreInputs(contexts=[inputs.Context("a")]),
    inputs.DiffusionInputs("a", mask=DATA, image_b64=DATA),
    inputs.DiffusionInputs("a", seed=-(2**63), guidance=2.0**62),
    inputs.MoondreamInputs(),
    inputs.MoondreamInputs(task="detect", image="https://example.com/a.png"),
    inputs.TextInputs("a"),
]


@pytest.mark.parametrize("struct", FITS, ids=repr)
def test_what_fits_passes(struct: Any) -> None:
    check(struct)


MISFITS: list[tuple[Any, str]] = [
    (inputs.QueryEmbeddingInputs(instruction="b"), "text"),
    (inputs.QueryEmbeddingInputs(text="a", queries="b"), "queries"),
    (inputs.EmbeddingOrScoreInputs(truncate_inputs=True), "text"),
    (inputs.DiffusionInputs("a", mask=DATA), "image"),
    (inputs.DiffusionInputs("a", image=Blob()), "image"),
    (inputs.DiffusionInputs("a", seed=2**63), "seed"),
    (inputs.DiffusionInputs("a", strength=float("nan")), "strength"),
    (inputs.DiffusionInputs("a", guidance=float("-inf")), "guidance"),
    (inputs.MoondreamInputs(task="point"), "image"),
]


@pytest.mark.parametrize(("struct", "param"), MISFITS, ids=repr)
def test_what_does_not_is_named(struct: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(struct)
    assert caught.value.param == param


def test_a_model_may_need_more_than_its_type() -> None:
    needs = (("image", "image_b64"), ("mask",))
    check(inputs.DiffusionInputs("a", image_b64=DATA, mask=DATA), needs)
    with pytest.raises(InvalidRequest, match="'image' or 'image_b64'"):
        check(inputs.DiffusionInputs("a"), needs)
    with pytest.raises(InvalidRequest, match="'mask'"):
        check(inputs.DiffusionInputs("a", image=DATA), needs)


@pytest.mark.parametrize("struct", RULES, ids=lambda struct: struct.__name__)
def test_a_rule_names_fields_that_are_there_and_values_that_are_not_the_default(struct: Any) -> None:
    rule = RULES[struct]
    fields = {field.name: field.default for field in msgspec.structs.fields(struct)}
    named = {*rule.one_of, *rule.beside, *rule.by_value}
    named |= {name for group in rule.beside.values() for name in group}
    named |= {name for by_value in rule.by_value.values() for name in by_value.values()}
    assert named <= fields.keys()
    assert all(fields[name] not in (*by_value, None) for name, by_value in rule.by_value.items())
