"""Ways to run one transformers model for many, each in this process; all of them answer greedily and to full length."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from benchmarks.local.load import Ask, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The model, and for how much at once a contender is made."""

    model: Any
    rows: int
    context: int
    """Tokens of one prompt with its answer, at most."""


Contender = Callable[[Setting], AbstractAsyncContextManager[Ask]]


class _Generation:
    """`generate` for a batch, told of each token."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, prompts: Sequence[Sequence[int]], count: int, tell: Callable[[], object], stop: Any) -> None:
        """In a thread. `tell` is called after each step; it ends early once the event `stop` is set."""
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])

        def after_each(input_ids: Any, scores: Any, **kwargs: Any) -> Any:
            tell()
            return torch.full((len(input_ids),), stop.is_set(), dtype=torch.bool, device=input_ids.device)

        with torch.inference_mode():
            self._model.generate(
                ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                stopping_criteria=transformers.StoppingCriteriaList([after_each]),
                generation_config=transformers.GenerationConfig(
                    max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0
                ),
            )


@asynccontextmanager
async def locked_generate(setting: Setting) -> AsyncIterator[Ask]:
    """One at a time: whoever comes waits for all before."""
    generate = _Generation(setting.model)
    lock = asyncio.Lock()

    async def ask(prompt: Prompt, count: int) -> AsyncIterator[int]:
        loop = asyncio.get_running_loop()
        steps: asyncio.Queue[None] = asyncio.Queue()
        stop = threading.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(steps.put_nowait, None)

        await lock.acquire()
        try:
            work = loop.run_in_executor(None, generate, [prompt["ids"]], count, tell, stop)
            try:
                for i in range(count):
                    await steps.get()
                    yield i + 1
            finally:
                stop.set()
                await work
        finally:
            lock.release()

    yield ask


@asynccontextmanager
async def static_batches(setting: Setting) -> AsyncIterator[Ask]:
    """All that wait when the last batch is done, as the next one."""
    generate = _Generation(setting.model)
    waiting: list[tuple[Prompt, int, asyncio.Queue[None]]] = []
    changed = asyncio.Event()

    async def work() -> None:
        loop = asyncio.get_running_loop()
        while True:
            await changed.wait()
            batch = waiting[: setting.rows]
            del waiting[: setting.rows]
            if not waiting:
                changed.clear()

            def tell(queues: list[asyncio.Queue[None]] = [q for _, _, q in batch]) -> None:  # noqa: B006 - this batch's
                for queue in queues:
                    loop.call_soon_threadsafe(queue.put_nowait, None)

            prompts = [prompt["ids"] for prompt, _, _ in batch]
            count = max(count for _, count, _ in batch)
            await loop.run_in_executor(None, generate, prompts, count, tell, threading.Event())

    async def ask(prompt: Prompt, count: int) -> AsyncIterator[int]:
        steps: asyncio.Queue[None] = asyncio.Queue()
        waiting.append((prompt, count, steps))
        changed.set()
        for i in range(count):
            await steps.get()
            yield i + 1

    async with asyncio.TaskGroup() as group:
        worker = group.create_task(work())
        try:
            yield ask
        finally:
            worker.cancel()


@asynccontextmanager
async def transformers_batching(setting: Setting) -> AsyncIterator[Ask]:
    """transformers' own continuous batching, with room for as many as the others have."""
    page = 32
    on_cpu = setting.model.device.type == "cpu"
    config = transformers.generation.configuration_utils.ContinuousBatchingConfig
    by_name = {
        "page_size" if hasattr(config, "page_size") else "block_size": page,
        "num_blocks": setting.rows * (-(-setting.context // page) + 1),
        "max_requests_per_batch": setting.rows,
        # On a GPU it knows better itself.
        "max_batch_tokens": max(1024, setting.rows) if on_cpu else None,
    }
    manager = setting.model.init_continuous_batching(
        generation_config=transformers.GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0),
        continuous_batching_config=config(**by_name),
    )
    manager.start()
    names = iter(range(2**62))

    async def ask(prompt: Prompt, count: int) -> AsyncIterator[int]:
        name = f"request-{next(names)}"
        outputs: asyncio.Queue[Any] = asyncio.Queue()
        manager.register_result_handler(name, outputs.put_nowait)
        added = manager.add_request(prompt["ids"], request_id=name, max_new_tokens=count, streaming=True)
        if added is None:
            raise RuntimeError(f"the manager has ended: {manager.background_thread_status.fatal_error}")
        come = 0
        try:
            while come < count:
                output = await outputs.get()
                if output.error:
                    raise RuntimeError(output.error)
                if len(output.generated_tokens) > come:
                    come = len(output.generated_tokens)
                    yield come
        finally:
            if come < count:
                manager.cancel_request(name)

    try:
        yield ask
    finally:
        await asyncio.to_thread(manager.stop, block=True)


@asynccontextmanager
async def own_engine(setting: Setting) -> AsyncIterator[Ask]:
    """The relay's own."""
    from adapters.local.inference.engine import Engine  # noqa: PLC0415 - the others need not have it
    from adapters.local.inference.model import BatchedModel  # noqa: PLC0415
    from adapters.local.inference.request import Job  # noqa: PLC0415
    from adapters.local.inference.scheduler import Limits  # noqa: PLC0415

    model = BatchedModel(setting.model, rows=setting.rows, context=setting.context)
    engine = Engine(model, Limits(rows=setting.rows, queue=1024))
    engine.start()

    async def ask(prompt: Prompt, count: int) -> AsyncIterator[int]:
        stream = engine.submit(Job(prompt_ids=prompt["ids"], max_tokens=count))
        come = 0
        try:
            async for step in stream:
                if step.token is None:
                    raise RuntimeError(f"ended by {step.finish}")
                come += 1
                yield come
        finally:
            if come < count:
                stream.cancel()
                async for _ in stream:  # to its end: then its row is free
                    pass

    try:
        yield ask
    finally:
        await asyncio.to_thread(engine.close)


CONTENDERS: dict[str, Contender] = {
    "generate with a lock": locked_generate,
    "static batches": static_batches,
    "transformers' continuous batching": transformers_batching,
    "own engine": own_engine,
}
