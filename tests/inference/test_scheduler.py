"""Who is computed next; needs no torch."""

from __future__ import annotations

import pytest

from adapters.local.inference.errors import QueueFull
from adapters.local.inference.request import Job
from adapters.local.inference.scheduler import Limits, Scheduler, Sequence
from tests.inference.test_rows import Lists


def scheduler(*prompts: list[int], rows: int = 4, chunk: int = 8, idle_chunk: int = 32) -> Scheduler[Sequence]:
    made: Scheduler[Sequence] = Scheduler(Limits(rows=rows, queue=2, chunk=chunk, idle_chunk=idle_chunk), Lists(rows))
    made.waiting.extend(Sequence(Job(prompt_ids=prompt, max_tokens=5), 5) for prompt in prompts)
    return made


GROUPS = {
    "one prompt that fits": ([20], [20]),
    "one that does not": ([50], [32]),
    "some alike": ([10, 10, 9], [10, 10, 9]),
    "as many as fit when padded": ([10, 9, 8, 10], [10, 9, 8]),
    "a longer one behind takes a part": ([10, 30], [10, 10]),
    "one that would be mostly padding waits": ([10, 4, 8], [10, 8]),
}


@pytest.mark.parametrize(("lengths", "counts"), GROUPS.values(), ids=GROUPS)
def test_prompts_of_like_lengths_are_computed_together(lengths: list[int], counts: list[int]) -> None:
    made = scheduler(*([i] * length for i, length in enumerate(lengths)))
    made.admit(0.0)
    assert [count for _, count in made.prefill()] == counts


def steps_until_complete(made: Scheduler[Sequence], most: int = 200) -> dict[int, int]:
    """How many steps each prompt took, by its first token, until its last token was computed."""
    taken: dict[int, int] = {}
    for step in range(1, most):
        for sequence, count in made.prefill():
            sequence.cached += count
            if not sequence.missing:
                taken[sequence.tokens[0]] = step
                made.rows.promote(sequence)
    return taken


def test_a_short_prompt_does_not_wait_for_the_long_ones_before_it() -> None:
    made = scheduler([1] * 300, [2] * 300, [3] * 300, [4] * 5)
    made.admit(0.0)
    taken = steps_until_complete(made)
    assert taken[4] == 2
    assert sorted(taken) == [1, 2, 3, 4]


def test_a_long_prompt_does_not_wait_for_ever_for_short_ones_that_keep_coming() -> None:
    made = scheduler([1] * 128, idle_chunk=32)
    (long,) = made.admit(0.0)
    steps = 0
    while long.missing:
        made.waiting.append(Sequence(Job(prompt_ids=[5] * 32, max_tokens=5), 5))
        made.admit(0.0)
        for sequence, count in made.prefill():
            sequence.cached += count
            if sequence is not long and not sequence.missing:
                made.remove(sequence, 0.0, keep=False)
        steps += 1
    assert steps <= 2 * 128 // 32


def test_less_is_computed_of_prompts_while_others_decode() -> None:
    made = scheduler([1] * 4, [2] * 40)
    first, second = made.admit(0.0)
    first.cached = 4
    made.rows.promote(first)
    assert made.prefill() == [(second, 8)]


def test_a_pass_over_prompts_takes_no_longer_than_it_may_where_it_is_not_as_small_as_can_be() -> None:
    made: Scheduler[Sequence] = Scheduler(Limits(rows=2, idle_seconds=0.05, least_chunk=16), Lists(2))
    made.waiting.append(Sequence(Job(prompt_ids=[1] * 5000, max_tokens=5), 5))
    (long,) = made.admit(0.0)
    assert made.prefill() == [(long, 16)]  # nothing is known yet
    made.prefilled(8, 0.001)  # too few to tell
    assert made.prefill() == [(long, 16)]
    made.prefilled(1000, 1.0)
    assert made.prefill() == [(long, 50)]
    made.prefilled(1000, 0.01)
    assert made.prefill()[0][1] > 500
    for _ in range(30):
        made.prefilled(20, 10.0)
    assert made.prefill() == [(long, 16)]


def test_a_device_that_runs_ahead_is_given_whole_chunks_however_long_a_call_took() -> None:
    made: Scheduler[Sequence] = Scheduler(Limits(rows=2), Lists(2), timed=False)
    made.waiting.append(Sequence(Job(prompt_ids=[1] * 5000, max_tokens=5), 5))
    (long,) = made.admit(0.0)
    made.prefilled(64, 10.0)
    assert made.prefill() == [(long, 1024)]


def test_a_full_queue_reckons_with_what_runs_for_long() -> None:
    made = scheduler([1], [2], [3], [4], rows=2)
    made.admit(100.0)
    with pytest.raises(QueueFull) as caught:
        made.check_room(1, 0, 120.0)
    assert caught.value.retry_after == 20.0


def test_a_job_waits_for_the_prefill_that_it_can_share_and_lets_others_pass() -> None:
    made = scheduler([1] * 100, [1] * 99, [2] * 10)
    first, other = made.admit(0.0)
    assert [first.tokens[0], other.tokens[0]] == [1, 2]
    first.cached = 80
    assert made.admit(0.0) == []
    first.cached = 100
    (second,) = made.admit(0.0)
    assert (second.reused, second.missing, first.missing) == (96, 3, 0)


def test_who_waits_for_another_s_prefill_is_compared_with_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts are long, and there may be hundreds that wait in every step."""
    made = scheduler([1] * 100, [1] * 99, [1] * 98)
    (first,) = made.admit(0.0)
    with monkeypatch.context() as patched:
        patched.setattr(made.rows, "coming", None)
        for first.cached in (16, 32, 80):
            assert made.admit(0.0) == []
    made.remove(first, 0.0, keep=False)
    (second,) = made.admit(0.0)  # it is the next to compute what the last waits for
    assert (second.reused, made.admit(0.0)) == (0, [])
    second.cached = 99
    (third,) = made.admit(0.0)
    assert third.reused == 96


def test_nobody_waits_for_the_prefill_of_another_salt() -> None:
    made = scheduler()
    jobs = [Job(prompt_ids=[1] * 100, max_tokens=5, salt=salt) for salt in ("ann", "bob", "ann")]
    made.waiting.extend(Sequence(job, 5) for job in jobs)
    assert [sequence.salt for sequence in made.admit(0.0)] == ["ann", "bob"]


def test_short_common_beginnings_are_not_worth_waiting() -> None:
    assert len(scheduler([1] * 60, [1] * 60).admit(0.0)) == 2


def test_the_queue_is_bounded_and_tells_when_to_come_back() -> None:
    made = scheduler([1], [2], [3], rows=2)
    first, _ = made.admit(100.0)
    made.check_room(1, 0, 0.0)
    for jobs, arrived in ((2, 0), (1, 1)):
        with pytest.raises(QueueFull) as caught:
            made.check_room(jobs, arrived, 0.0)
        assert caught.value.retry_after == 1.0  # nothing is known yet
    made.remove(first, 200.0, keep=True)
    with pytest.raises(QueueFull) as caught:
        made.check_room(5, 0, 0.0)
    assert caught.value.retry_after == pytest.approx((0.9 * 1 + 0.1 * 100) * 3 / 2)


def test_who_gives_up_waiting_leaves_the_queue() -> None:
    made = scheduler([1], [2], rows=1)
    made.admit(0.0)
    made.waiting[0].cancelled = True
    (gone,) = made.cancelled()
    made.remove(gone, 1.0, keep=False)
    assert (list(made.waiting), made.busy, len(made.rows.filling)) == ([], True, 1)
    made.remove(made.rows.filling[0], 1.0, keep=False)
    assert not made.busy
