"""`python -m benchmarks.local.worker SPEC`: one contender in a process of its own; its figures as JSON.

SPEC is a JSON object with `task` "make" (write a model's folder), "prompts" or "measure"; the answer is the last line.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.local.cancel import cancel_milliseconds
from benchmarks.local.load import Prompt, Scenario, run
from benchmarks.local.shapes import SHAPES, make_folder, make_model, make_prompts


def make(spec: dict[str, Any]) -> dict[str, Any]:
    make_folder(SHAPES[spec["shape"]], Path(spec["folder"]))
    return {}


def prompts(spec: dict[str, Any]) -> dict[str, Any]:
    """For each scenario as many different ones as it asks, and some to warm up with."""
    folder = Path(spec["folder"]) if spec["folder"] else None
    if folder is None:
        vocabulary = SHAPES[spec["shape"]].vocabulary
    else:
        vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    scenarios = [Scenario(**each) for each in spec["scenarios"]]
    wanted = [(each.prompt, each.clients * each.rounds) for each in scenarios]
    wanted += [(each.prompt, each.clients) for each in scenarios]
    made = [make_prompts(folder, vocabulary, tokens, count, i) for i, (tokens, count) in enumerate(wanted)]
    half = len(scenarios)
    Path(spec["prompts"]).write_text(json.dumps({"asked": made[:half], "warm": made[half:]}))
    return {}


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Loads the model and runs all scenarios through one contender."""
    import torch  # noqa: PLC0415 - it takes a second that counts as start

    from benchmarks.local.contenders import CONTENDERS, Setting  # noqa: PLC0415

    torch.set_num_threads(spec["threads"])
    _keep_freed_memory()
    model = _model(spec)
    scenarios = [Scenario(**each) for each in spec["scenarios"]]
    longest = max(each.prompt + each.answer for each in scenarios) + 64
    given = json.loads(Path(spec["prompts"]).read_text())
    setting = Setting(model=model, rows=spec["rows"], context=longest)

    async def all_of_them() -> dict[str, Any]:
        results = []
        figures: dict[str, Any] = {}
        async with CONTENDERS[spec["contender"]](setting) as ask:
            async for _ in ask(_short(given["warm"][0][0]), 2):
                pass
            started = time.time() - spec["begun"]
            for scenario, asked, warm in zip(scenarios, given["asked"], given["warm"], strict=True):
                if spec["device"] != "cpu":  # kernels and graphs for this many
                    await run(Scenario(clients=len(warm), prompt=0, answer=4, rounds=1), ask, warm, spec["limit"])
                results.append(await run(scenario, ask, asked, spec["limit"]))
            figures |= {"started": started, "results": results, "memory": _resident_megabytes()}
            if spec["contender"] == "own engine":  # the one that tells when a place is free
                vocabulary = model.config.get_text_config().vocab_size
                size = {"rows": setting.rows, "context": setting.context, "vocabulary": vocabulary}
                figures["cancel"] = await cancel_milliseconds(ask, **size)
        return figures

    figures = asyncio.run(all_of_them())
    figures["parameters"] = sum(p.numel() for p in model.parameters())
    if model.device.type == "cuda":
        figures |= {"device_memory": torch.cuda.max_memory_allocated() / 1e6, **_bandwidth(model)}
    return figures


def _model(spec: dict[str, Any]) -> Any:
    if spec["folder"] is None:
        return make_model(SHAPES[spec["shape"]], spec["device"], spec["dtype"])
    from adapters.local.inference.loading import load_model  # noqa: PLC0415 - as above
    from adapters.local.inference.options import ModelOptions  # noqa: PLC0415

    options = ModelOptions(device=spec["device"], dtype=spec["dtype"], threads=spec["threads"])
    return load_model(Path(spec["folder"]), options)


def _short(prompt: Prompt) -> Prompt:
    return prompt | {"ids": prompt["ids"][:16]}


def _keep_freed_memory() -> None:
    """For all of them, as the relay's own engine has it."""
    from adapters.local.inference.memory import keep_freed_memory  # noqa: PLC0415 - as above

    keep_freed_memory(ctypes.pythonapi)


def _resident_megabytes() -> float | None:
    """At most, since the start."""
    try:
        lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def _bandwidth(model: Any) -> dict[str, float]:
    """Bytes a second that a copy moves, read and written; and the bytes of weights that each step has to read."""
    import torch  # noqa: PLC0415 - as above

    looked_up = model.get_input_embeddings().weight
    tied = looked_up is model.get_output_embeddings().weight
    weights = sum(p.nbytes for p in model.parameters() if tied or p is not looked_up)
    source = torch.empty(2**31, dtype=torch.uint8, device=model.device)
    source.random_()
    target = torch.empty_like(source)
    times = []
    for _ in range(12):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        target.copy_(source)
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return {"weight_bytes": weights, "bandwidth": 2 * source.nbytes / sorted(times)[len(times) // 2]}


TASKS = {"make": make, "prompts": prompts, "measure": measure}


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(TASKS[given["task"]](given)) + "\n")
