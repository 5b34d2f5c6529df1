"""The life of jobs in the engine: joins, leaves, cancels, failures; and the end of the engine itself."""

from __future__ import annotations

import asyncio
import copy
import sys
from collections.abc import Callable
from dataclasses import replace
from threading import current_thread
from typing import Any

import anyio
import anyio.to_thread
import hypothesis
import hypothesis.strategies as st
import pytest
import torch

from adapters.local.inference.engine import Engine
from adapters.local.inference.errors import (
    EngineClosed,
    EngineDead,
    InvalidJob,
    JobFailed,
    PromptTooLong,
    QueueFull,
)
from adapters.local.inference.model import BatchedModel, Piece
from adapters.local.inference.request import GREEDY, Finish, Job, Sampling, siblings
from adapters.local.inference.run import Run
from adapters.local.inference.scheduler import Limits
from adapters.local.inference.stats import Stats
from adapters.local.inference.stream import JobStream
from tests.inference.with_torch.tiny import CONTEXT, VOCABULARY, generated, ids_of, read, running, tiny

pytestmark = pytest.mark.anyio
PROMPT = [(7 * i) % VOCABULARY for i in range(90)]
LONG = Job(prompt_ids=PROMPT[:20], max_tokens=200)


class Digits:
    """Allows the tokens 0..9 alone, and is complete after `length` of them; may fail at a call."""

    def __init__(self, length: int = 5, fails: str = "", form: str = "bool") -> None:
        self.left = length
        self.fails = fails
        self.form = form

    def mask(self) -> Any:
        if self.fails == "mask":
            raise LookupError("the answer so far is 42")
        if self.form == "words":
            return torch.tensor([0b1111111111] + [0] * 6, dtype=torch.int32)
        if self.form == "nothing":
            return torch.zeros(VOCABULARY, dtype=torch.bool)
        return torch.arange(VOCABULARY if self.form == "bool" else 3) < 10

    def advance(self, token: int) -> bool:
        if self.fails == "advance":
            raise LookupError("the answer so far is 42")
        assert token < 10
        self.left -= 1
        return self.left == 0


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not holds():  # noqa: ASYNC110 - the engine's thread rings no bell for its numbers
            await anyio.sleep(0.001)


async def test_the_event_loop_and_the_engine_take_turns_often() -> None:
    usual = sys.getswitchinterval()
    try:
        for before, after in ((0.005, 0.0005), (0.0001, 0.0001)):
            sys.setswitchinterval(before)
            async with running():
                assert sys.getswitchinterval() == pytest.approx(after, rel=0.05)
    finally:
        sys.setswitchinterval(usual)


async def test_an_end_token_is_delivered_counted_and_ends_the_answer() -> None:
    want = generated(tiny(), PROMPT, 30)
    end = want[9]
    async with running() as engine:
        tokens, finish = await read(
            engine.submit(Job(prompt_ids=PROMPT, max_tokens=30, stop_ids=frozenset({end, VOCABULARY + 5})))
        )
    cut = want[: want.index(end) + 1]
    assert [token.id for token in tokens] == cut
    assert finish == Finish("stop", len(PROMPT), 0, len(cut))


async def test_an_answer_ends_where_the_context_does() -> None:
    prompt = [3] * (CONTEXT - 5)
    async with running() as engine:
        tokens, finish = await read(engine.submit(Job(prompt_ids=prompt, max_tokens=1000)))
    assert (len(tokens), finish.reason) == (5, "length")
    assert [token.id for token in tokens] == generated(tiny(), prompt, 5)


@pytest.mark.parametrize(
    ("job", "field"),
    [
        (replace(LONG, prompt_ids=[]), "prompt_ids"),
        (replace(LONG, prompt_ids=[VOCABULARY]), "prompt_ids"),
        (replace(LONG, prompt_ids=[-1]), "prompt_ids"),
        (replace(LONG, prompt_ids=[1] * CONTEXT), "prompt_ids"),
        (replace(LONG, sampling=Sampling(logit_bias={VOCABULARY: 1.0})), "logit_bias"),
    ],
    ids=["no prompt", "unknown token", "negative token", "too long", "unknown bias"],
)
async def test_a_job_that_cannot_run_is_refused_at_once(job: Job, field: str) -> None:
    async with running() as engine:
        with pytest.raises(InvalidJob) as caught:
            engine.submit(job)
        assert caught.value.field == field
        assert isinstance(caught.value, PromptTooLong) == (len(job.prompt_ids) == CONTEXT)


async def test_a_full_queue_refuses_with_an_estimate_and_takes_all_siblings_or_none() -> None:
    async with running(rows=2, queue=1) as engine:
        first = engine.submit_all(siblings(LONG, 2))
        await until(lambda: engine.stats().running == 2)
        with pytest.raises(QueueFull) as caught:
            engine.submit_all(siblings(LONG, 2))
        assert caught.value.retry_after >= 1
        waiting = engine.submit(LONG)
        await until(lambda: engine.stats().waiting == 1)
        for stream in (*first, waiting):
            stream.cancel()
        assert [(await read(stream))[1].reason for stream in (*first, waiting)] == ["cancelled"] * 3


async def test_more_answers_than_would_ever_find_room_are_refused_for_good() -> None:
    async with running(rows=2, queue=3) as engine:
        with pytest.raises(InvalidJob) as caught:
            engine.submit_all(siblings(LONG, 6))
        assert (caught.value.field, str(caught.value)) == ("n", "n: this engine takes no more than 5 answers at once")
        for stream in engine.submit_all(siblings(LONG, 5)):
            stream.cancel()
            assert (await read(stream))[1].reason == "cancelled"


async def test_a_cancelled_job_is_gone_by_the_next_step_and_its_row_is_taken_over() -> None:
    async with running(rows=1) as engine:
        stream = engine.submit(LONG)
        steps = [await anext(stream) for _ in range(3)]
        following = engine.submit(Job(prompt_ids=PROMPT[5:30], max_tokens=4))
        before = engine.stats().generated_tokens
        stream.cancel()
        rest = [step async for step in stream]
        assert rest[-1].finish is not None
        assert rest[-1].finish.reason == "cancelled"
        # What was under way when it was cancelled, and at most one step that had begun to deliver.
        assert len(steps) + len(rest) - 1 <= before + 2
        tokens, _ = await read(following)
        assert [token.id for token in tokens] == generated(tiny(), PROMPT[5:30], 4)


@pytest.mark.parametrize("leaves", range(3))
async def test_who_is_cancelled_during_a_pass_over_prompts_makes_room_before_the_others_decode(
    leaves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [PROMPT[start : start + 20] for start in (0, 10, 20)]
    model = BatchedModel(tiny(), rows=4)
    prefill, decode = model.prefill, model.decode
    seen: list[tuple[int, Stats]] = []

    def prefill_meanwhile_one_leaves(pieces: list[Piece]) -> Any:
        logits = prefill(pieces)
        if len(late) == 2 and not seen:
            writers[leaves].cancel()
            seen.append((0, engine.stats()))
        return logits

    def decode_counted(ids: list[int], positions: list[int]) -> Any:
        if len(seen) == 1:
            seen.append((len(ids), engine.stats()))
        return decode(ids, positions)

    monkeypatch.setattr(model, "prefill", prefill_meanwhile_one_leaves)  # the seam to the device
    monkeypatch.setattr(model, "decode", decode_counted)
    engine = Engine(model, Limits(rows=4, chunk=8, keep=0))
    late: list[JobStream] = []
    engine.start()
    try:
        writers = [engine.submit(Job(prompt_ids=prompt, max_tokens=100)) for prompt in prompts]
        begun = [[await anext(stream)] for stream in writers]
        late += engine.submit_all([Job(prompt_ids=PROMPT[i:], max_tokens=3) for i in (0, 1)])
        answers = [[*first, *[step async for step in stream]] for first, stream in zip(begun, writers, strict=True)]
        others = [await read(stream) for stream in late]
    finally:
        await anyio.to_thread.run_sync(engine.close)
    (_, before), (decoded, after) = seen
    assert (before.running, before.prefilling, before.waiting) == (3, 1, 1)
    assert (decoded, after.running, after.prefilling, after.waiting) == (2, 2, 2, 0)
    for i, (prompt, steps) in enumerate(zip(prompts, answers, strict=True)):
        ids = [step.token.id for step in steps if step.token is not None]
        assert ids == generated(tiny(), prompt, 100)[: len(ids)]
        assert steps[-1].finish is not None
        assert steps[-1].finish.reason == ("cancelled" if i == leaves else "length")
    for i, (tokens, _) in enumerate(others):
        assert [token.id for token in tokens] == generated(tiny(), PROMPT[i:], 3)


async def test_a_cancel_is_not_lost_while_another_job_is_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    streams: list[JobStream] = []

    class Meddling(Run):
        """As soon as anybody asks whether it was cancelled, the first job is."""

        @property
        def cancelled(self) -> bool:
            if streams and self.stream is not streams[0]:
                streams[0].cancel()
            return self._cancelled

        @cancelled.setter
        def cancelled(self, value: bool) -> None:
            self._cancelled = value

    monkeypatch.setattr("adapters.local.inference.engine.Run", Meddling)
    async with running(rows=2) as engine:
        first = engine.submit(LONG)
        await anext(first)
        streams.append(first)
        await read(engine.submit(Job(prompt_ids=PROMPT, max_tokens=1)))
        assert (await read(first))[1].reason == "cancelled"


async def test_cancelling_is_heeded_wherever_a_job_is_and_however_often_it_is_said() -> None:
    async with running(rows=1, chunk=4, idle_chunk=4) as engine:
        filling = engine.submit(Job(prompt_ids=PROMPT, max_tokens=100))
        waiting = engine.submit(Job(prompt_ids=PROMPT[1:], max_tokens=100))
        waiting.cancel()
        await until(lambda: engine.stats().prefilling == 1)
        filling.cancel()
        filling.cancel()
        assert (await read(filling))[1].reason == "cancelled"
        assert (await read(waiting))[1].reason == "cancelled"
        waiting.cancel()
        assert await ids_of(engine, Job(prompt_ids=PROMPT, max_tokens=3)) == generated(tiny(), PROMPT, 3)
        assert engine.stats().kept == 1


@pytest.mark.parametrize("form", ["bool", "words"])
async def test_a_constraint_holds_and_ends_the_answer_beside_free_rows(form: str) -> None:
    job = Job(prompt_ids=PROMPT[:9], max_tokens=30, sampling=Sampling(seed=1), constraint=Digits(5, form=form))
    async with running() as engine:
        free = engine.submit(Job(prompt_ids=PROMPT, max_tokens=12))
        tokens, finish = await read(engine.submit(job))
        others, _ = await read(free)
    assert (len(tokens), finish.reason) == (5, "stop")
    assert all(token.id < 10 for token in tokens)
    assert [token.id for token in others] == generated(tiny(), PROMPT, 12)


BROKEN = {
    "its mask raises": (Digits(fails="mask"), 0, "the constraint failed: LookupError"),
    "its advance raises": (Digits(fails="advance"), 1, "the constraint failed: LookupError"),
    "its mask has another shape": (Digits(form="short"), 0, "the constraint failed: ValueError"),
    "it allows nothing": (Digits(form="nothing"), 0, "the constraint allows no token"),
}


@pytest.mark.parametrize(("constraint", "tokens", "message"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_constraint_fails_its_own_job_alone(constraint: Digits, tokens: int, message: str) -> None:
    async with running() as engine:
        other = engine.submit(Job(prompt_ids=PROMPT, max_tokens=20))
        got, finish = await read(engine.submit(Job(prompt_ids=PROMPT[:9], max_tokens=9, constraint=constraint)))
        assert (finish.reason, len(got), str(finish.error)) == ("error", tokens, message)
        assert isinstance(finish.error, JobFailed)
        assert [token.id for token in (await read(other))[0]] == generated(tiny(), PROMPT, 20)


async def test_numbers_that_are_not_finite_fail_their_job_alone_and_leave_nothing_behind() -> None:
    poison = VOCABULARY - 1
    model = torch.nn.Module.__new__(type(tiny()))
    model.__init__(tiny().config)
    model.load_state_dict(tiny().state_dict())
    model.eval()
    with torch.no_grad():
        model.get_input_embeddings().weight[poison] = torch.nan
        model.lm_head.weight[poison] = 0
    prompt = [token % (VOCABULARY - 1) for token in PROMPT]
    async with running(model, rows=2, keep=0) as engine:
        for sampling in (GREEDY, Sampling(seed=1)):
            other = engine.submit(Job(prompt_ids=prompt, max_tokens=20))
            bad = Job(prompt_ids=[*prompt[:30], poison, *prompt[:9]], max_tokens=9, sampling=sampling)
            tokens, finish = await read(engine.submit(bad))
            assert (tokens, finish.reason) == ([], "error")
            assert str(finish.error) == "the model gave numbers that are not finite"
            assert [token.id for token in (await read(other))[0]] == generated(model, prompt, 20)
        both = engine.submit_all([Job(prompt_ids=prompt[:20], max_tokens=9)] * 2)  # looks at 32 positions
        for stream in both:
            assert [token.id for token in (await read(stream))[0]] == generated(model, prompt[:20], 9)


async def test_siblings_share_one_prefill_and_differ_by_their_seeds() -> None:
    job = Job(prompt_ids=PROMPT, max_tokens=8, sampling=Sampling(seed=3))
    async with running(rows=4) as engine:
        answers = [await read(stream) for stream in engine.submit_all(siblings(job, 4))]
        assert [finish.cached_tokens for _, finish in answers] == [0, 80, 80, 80]
        assert engine.stats().prompt_tokens == 4 * 90
        assert engine.stats().reused_tokens == 3 * 80
        assert len({tuple(token.id for token in tokens) for tokens, _ in answers}) == 4
        alone = await ids_of(engine, replace(job, sampling=Sampling(seed=5)))
    assert alone == [token.id for token in answers[2][0]]


async def test_a_common_beginning_is_taken_over_and_changes_nothing() -> None:
    prompts = [PROMPT, [*PROMPT[:50], 1, 2, 3], [*PROMPT, *generated(tiny(), PROMPT, 20), 5], PROMPT[:33], PROMPT]
    async with running(rows=2) as engine:
        answers = [await read(engine.submit(Job(prompt_ids=prompt, max_tokens=20))) for prompt in prompts]
    assert [finish.cached_tokens for _, finish in answers] == [0, 48, 96, 32, 80]
    assert [[token.id for token in tokens] for tokens, _ in answers] == [generated(tiny(), p, 20) for p in prompts]


async def test_nothing_is_taken_over_from_jobs_of_another_salt() -> None:
    async with running(rows=4) as engine:

        async def cached(salt: str) -> int:
            tokens, finish = await read(engine.submit(Job(prompt_ids=PROMPT, max_tokens=5, salt=salt)))
            assert [token.id for token in tokens] == generated(tiny(), PROMPT, 5)
            return finish.cached_tokens

        assert [await cached(salt) for salt in ("", "ann", "bob", "ann", "")] == [0, 0, 0, 80, 80]


async def test_decoding_goes_on_while_a_long_prompt_is_prefilled() -> None:
    async with running(rows=2, chunk=8) as engine:
        stream = engine.submit(LONG)
        await anext(stream)
        late = engine.submit(Job(prompt_ids=PROMPT[::-1], max_tokens=1))
        before = engine.stats().generated_tokens
        await read(late)
        assert engine.stats().generated_tokens - before >= len(PROMPT) // 8
        stream.cancel()


async def test_closing_ends_all_jobs_and_refuses_new_ones() -> None:
    async with running(rows=1) as engine:
        streams = engine.submit_all(siblings(LONG, 3))
        await anext(streams[0])
        await anyio.to_thread.run_sync(engine.close)
        for stream in streams:
            _, finish = await read(stream)
            assert finish.reason == "error"
            assert isinstance(finish.error, EngineClosed)
        with pytest.raises(EngineClosed):
            engine.submit(LONG)
        assert not engine.dead


async def test_memory_that_does_not_suffice_for_a_prompt_ends_its_job_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(rows=2) as engine:
        other = engine.submit(LONG)
        await anext(other)
        prefill = engine._model.prefill

        def fails(pieces: list[Piece]) -> Any:
            monkeypatch.setattr(engine._model, "prefill", prefill)
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(engine._model, "prefill", fails)  # the seam to the device
        _, finish = await read(engine.submit(Job(prompt_ids=PROMPT[:40], max_tokens=3)))
        assert (finish.reason, str(finish.error)) == ("error", "the device has no memory for this prompt")
        assert not engine.dead
        _, finish = await read(engine.submit(Job(prompt_ids=PROMPT[:40], max_tokens=3)))
        assert finish.reason == "length"
        assert (await read(other))[1].reason == "length"


async def test_prompts_that_need_too_much_memory_together_are_computed_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(rows=4) as engine:
        prefill = engine._model.prefill
        sizes: list[int] = []

        def fails(pieces: list[Piece]) -> Any:
            logits = prefill(pieces)
            sizes.append(len(pieces))
            if len(pieces) > 1 or pieces[0].ids[0] == 5:
                for layer in engine._model.cache.layers:  # it failed at the end, and what it wrote is no number
                    for piece in pieces:
                        layer.keys[piece.row, :, piece.start : piece.start + len(piece.ids)] = torch.nan
                raise torch.OutOfMemoryError("CUDA out of memory")
            return logits

        monkeypatch.setattr(engine._model, "prefill", fails)  # the seam to the device
        prompts = [[first, *PROMPT[1:12]] for first in (3, 4, 6, 5)]
        jobs = [Job(prompt_ids=prompt, max_tokens=8) for prompt in prompts]
        answers = [await read(stream) for stream in engine.submit_all(jobs)]
        assert max(sizes) > 1
        for prompt, (tokens, finish) in zip(prompts, answers, strict=True):
            want = [] if prompt[0] == 5 else generated(tiny(), prompt, 8)
            assert [token.id for token in tokens] == want, finish
        monkeypatch.undo()
        prompts = [
            [first, 8, 9] for first in (13, 14, 15, 16)
        ]  # in all rows, of which nothing is left that spoils them
        streams = engine.submit_all([Job(prompt_ids=prompt, max_tokens=4) for prompt in prompts])
        for prompt, stream in zip(prompts, streams, strict=True):
            tokens, finish = await read(stream)
            assert [token.id for token in tokens] == generated(tiny(), prompt, 4), finish


class Panic(BaseException):
    """As what is raised for a panic in Rust, it is no Exception."""


async def test_nobody_waits_for_an_engine_that_a_panic_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    model = BatchedModel(tiny(), rows=2)

    def panics(*args: Any) -> Any:
        raise Panic

    monkeypatch.setattr(model, "decode", panics)  # the seam to the device
    engine = Engine(model, Limits(rows=2))
    engine.start()
    with anyio.fail_after(20):
        _, finish = await read(engine.submit(LONG))
    assert isinstance(finish.error, EngineDead) and engine.dead
    await anyio.to_thread.run_sync(engine.close)


async def test_the_thread_takes_the_models_device(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(
        "adapters.local.inference.engine.use_device", lambda device: taken.append(current_thread().name)
    )
    async with running() as engine:
        await read(engine.submit(Job(prompt_ids=[1], max_tokens=1)))
    assert taken == ["inference"]


async def test_a_fault_of_the_device_ends_all_jobs_and_the_engine(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = BatchedModel(tiny(), rows=2)

    def fails(*args: Any) -> Any:
        raise torch.OutOfMemoryError("no memory for the answer 42")

    monkeypatch.setattr(model, "decode", fails)  # the seam to the device
    engine = Engine(model, Limits(rows=2))
    engine.start()
    streams = engine.submit_all(siblings(LONG, 3))
    finishes = [(await read(stream))[1] for stream in streams]
    assert [type(finish.error) for finish in finishes] == [EngineDead] * 3
    assert str(finishes[0].error) == "the engine failed: OutOfMemoryError"
    assert engine.dead
    with pytest.raises(EngineDead):
        engine.submit(LONG)
    await anyio.to_thread.run_sync(engine.close)
    assert "the engine failed" in caplog.text


def test_a_loop_that_is_closed_disturbs_nobody() -> None:
    engine = Engine(BatchedModel(tiny(), rows=2), Limits(rows=2))
    engine.start()

    async def leave() -> None:
        engine.submit(Job(prompt_ids=PROMPT, max_tokens=50))

    async def stay() -> list[int]:
        return await ids_of(engine, Job(prompt_ids=PROMPT[:30], max_tokens=60))

    asyncio.run(leave())
    assert asyncio.run(stay()) == generated(tiny(), PROMPT[:30], 60)
    engine.close()


def drawn(kind: str, length: int, count: int) -> Job:
    """A job with a seed; `penalised` too where that is its kind."""
    sampling = Sampling(seed=length, repetition_penalty=1.3 if kind == "penalised" else 1.0)
    return Job(prompt_ids=PROMPT[:length], max_tokens=count, sampling=sampling)


KINDS = ("greedy", "seeded", "penalised", "constrained", "broken", "cancelled early", "cancelled late")


@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(
    jobs=st.lists(
        st.tuples(st.sampled_from(KINDS), st.integers(1, 80), st.integers(1, 20), st.integers(0, 12)), max_size=14
    ),
    rows=st.integers(1, 5),
    fixed=st.booleans(),
)
def test_whatever_comes_and_goes_every_job_ends_once_and_no_row_is_lost(
    jobs: list[tuple[str, int, int, int]], rows: int, fixed: bool
) -> None:
    async def ask(engine: Engine, kind: str, length: int, count: int, pause: int) -> None:
        for _ in range(pause):
            await anyio.sleep(0.0005)
        job = Job(prompt_ids=PROMPT[:length], max_tokens=count)
        if kind in {"seeded", "penalised"}:
            job = drawn(kind, length, count)
        if kind in {"constrained", "broken"}:
            job = replace(job, constraint=Digits(3, fails="mask" if kind == "broken" else ""))
        if kind == "cancelled late":
            job = replace(job, max_tokens=count + 1)  # it must not end with its first token
        stream = engine.submit(job)
        if kind == "cancelled early":
            stream.cancel()
        if kind == "cancelled late":
            await anext(stream)
            stream.cancel()
        tokens, finish = await read(stream)
        expected = {"broken": {"error"}, "constrained": {"stop", "length"}}
        reasons = expected.get(kind, {"cancelled", "length"} if kind.startswith("cancelled") else {"length"})
        assert finish.reason in reasons
        if kind == "greedy":
            assert [token.id for token in tokens] == answers[length][:count]
        if kind in {"seeded", "penalised"}:
            assert [token.id for token in tokens] == alone[kind, length, count]

    async def everybody() -> None:
        async with running(rows=1, keep=0) as engine:
            for kind, length, count, _ in jobs:
                if kind in {"seeded", "penalised"}:
                    alone[kind, length, count] = await ids_of(engine, drawn(kind, length, count))
        model = copy.deepcopy(tiny()) if fixed else tiny()  # the one's attention is changed
        async with running(model, rows=rows, fixed=fixed) as engine:
            async with anyio.create_task_group() as group:
                for kind, length, count, pause in jobs:
                    group.start_soon(ask, engine, kind, length, count, pause)
            await until(lambda: engine.stats().running == 0)
            stats = engine.stats()
            assert (stats.running, stats.prefilling, stats.waiting) == (0, 0, 0)
            assert stats.kept <= rows
            whole = [await read(stream) for stream in engine.submit_all(siblings(LONG, rows))]
            assert [finish.reason for _, finish in whole] == ["length"] * rows

    alone: dict[tuple[str, int, int], list[int]] = {}
    answers = {length: generated(tiny(), PROMPT[:length], 20) for _, length, _, _ in jobs}
    anyio.run(everybody)
