"""`python -m benchmarks.local`: the same model and prompts through each way to run it, one after the other.

The parent needs nothing but Python's own library, so that it runs on a bare machine with torch and transformers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.local.added import added_milliseconds
from benchmarks.local.load import Scenario, run
from benchmarks.local.report import Figures, best_of, failures, machine, markdown
from benchmarks.local.servers import Server, Serving, servers
from benchmarks.local.shapes import SHAPES
from benchmarks.processes import ROOT, clean_environment

IN_PROCESS = ("generate with a lock", "static batches", "transformers' continuous batching", "own engine")
_LEAST = 16
"""Requests of a scenario: few clients ask several times."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _read(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every child is ended here too
    if missing := _missing(options.python):
        sys.stderr.write(f"{options.python} has no {missing}: {options.python} -m pip install -e '.[local]'\n")
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        report = _Bench(options, Path(scratch)).report()
    sys.stdout.write(markdown(report) + "\n")
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    return 1 if failures(report) or not any("results" in each for each in report["contenders"]) else 0


def _read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local", description=__doc__)
    parser.add_argument("--size", choices=SHAPES, default="10m", help="of the model that is made on the spot")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="measure this one instead")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--rows", type=int, help="requests in a batch, for all that have batches: 32, or 128 on a GPU")
    parser.add_argument("--clients", metavar="N,...", help="1,4,16,32,128, and 64 on a GPU")
    parser.add_argument("--prompt", type=int, default=32, metavar="TOKENS")
    parser.add_argument("--answer", type=int, default=64, metavar="TOKENS")
    parser.add_argument("--long", default="16,512", metavar="CLIENTS,TOKENS", help="one more run, of long prompts")
    parser.add_argument(
        "--limit", type=float, default=12, metavar="SECONDS", help="after which clients give up waiting"
    )
    parser.add_argument(
        "--repeat", type=int, default=1, help="the whole; each figure is that of a contender's best run"
    )
    parser.add_argument("--only", default="", metavar="WORDS,...", help="contenders with one of these in their names")
    parser.add_argument("--python", default=sys.executable, help="with torch and transformers")
    parser.add_argument("--llama-server", default=os.environ.get("LLAMA_SERVER"), metavar="PROGRAM")
    parser.add_argument("--json", metavar="FILE", help="write all figures there too")
    options = parser.parse_args(arguments)
    on_cpu = options.device == "cpu"
    options.rows = options.rows or (32 if on_cpu else 128)
    options.clients = options.clients or ("1,4,16,32,128" if on_cpu else "1,4,16,32,64,128")
    return options


def _missing(python: str) -> str:
    code = "import sys, importlib.util as i; sys.exit(' '.join(n for n in sys.argv[1:] if not i.find_spec(n)) or None)"
    command = [python, "-c", code, "torch", "transformers"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr.strip()


class _Bench:
    """One run."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self._options = options
        self._scratch = scratch
        self._scenarios = _scenarios(options)
        in_folder = options.model is None and SHAPES[options.size].in_folder
        self._folder: Path | None = scratch / "model" if in_folder else options.model
        self._prompts = scratch / "prompts.json"

    def report(self) -> dict[str, Any]:
        """Raises RuntimeError where there is no model to measure with."""
        options = self._options
        if self._folder is not None and options.model is None:
            _say(f"making a model of {options.size} parameters")
            self._worker({"task": "make", "shape": options.size, "folder": str(self._folder)})
        self._worker(self._spec("prompts"))
        wanted = [word for word in options.only.split(",") if word]
        measures: dict[str, Callable[[], Figures]] = {name: partial(self._figures, name) for name in IN_PROCESS}
        measures |= {server.name: partial(self._served, server) for server in servers(options.llama_server)}
        chosen = [name for name in measures if not wanted or any(word in name for word in wanted)]
        runs: dict[str, list[Figures]] = {name: [] for name in chosen}
        for i in range(options.repeat):  # in turns, so that a slow minute of the machine hits all of them
            for name in chosen:
                _say(f"{name} ({i + 1} of {options.repeat}) ...")
                runs[name].append(measures[name]())
        contenders = [best_of(each) for each in runs.values()]
        if options.llama_server is None:
            contenders.append({"name": "llama-server", "skipped": "neither --llama-server nor LLAMA_SERVER names it"})
        return {
            "machine": machine(),
            "model": str(options.model.name if options.model else options.size),
            "device": options.device,
            "dtype": options.dtype,
            "threads": options.threads,
            "rows": options.rows,
            "repeat": options.repeat,
            "contenders": contenders,
        }

    def _spec(self, task: str) -> dict[str, Any]:
        options = self._options
        return {
            "task": task,
            "shape": options.size,
            "folder": str(self._folder) if self._folder else None,
            "device": options.device,
            "dtype": options.dtype,
            "threads": options.threads,
            "rows": options.rows,
            "limit": options.limit,
            "prompts": str(self._prompts),
            "scenarios": [asdict(each) for each in self._scenarios],
        }

    def _figures(self, name: str) -> dict[str, Any]:
        try:
            figures = self._worker(self._spec("measure") | {"contender": name, "begun": time.time()})
        except RuntimeError as exc:
            return {"name": name, "skipped": f"it failed: {str(exc)[-1500:]}"}
        return {"name": name} | figures

    def _worker(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Raises RuntimeError, with the end of what it said."""
        command = [self._options.python, "-m", "benchmarks.local.worker", json.dumps(spec)]
        environment = clean_environment() | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                output, errors = process.communicate()
            finally:
                process.kill()  # a no-op where it has ended
        if process.returncode:
            raise RuntimeError(errors[-2000:])
        figures: dict[str, Any] = json.loads(output.splitlines()[-1])
        return figures

    def _served(self, server: Server) -> dict[str, Any]:
        options = self._options
        if self._folder is None:
            return {"name": server.name, "skipped": f"a model of {options.size} is in no folder; --model names one"}
        longest = max(each.prompt + each.answer for each in self._scenarios) + 64
        serving = Serving(
            options.python, self._folder, options.device, options.dtype, options.threads, options.rows, longest
        )
        if reason := server.missing(serving):
            return {"name": server.name, "skipped": reason}
        given = json.loads(self._prompts.read_text())
        try:
            with tempfile.TemporaryDirectory() as scratch, server.start(serving, Path(scratch)) as running:
                begun = time.monotonic()
                asyncio.run(_first(running.ask, given["warm"][0][0]))
                started = running.startup + time.monotonic() - begun
                results = [
                    asyncio.run(run(scenario, running.ask, asked, options.limit))
                    for scenario, asked in zip(self._scenarios, given["asked"], strict=True)
                ]
                memory = running.account.resident_megabytes()
                added = None
                if running.behind is not None:
                    added = asyncio.run(added_milliseconds(running.ask, running.behind(), given["warm"][0][0]))
        except (RuntimeError, OSError) as exc:
            return {"name": server.name, "skipped": f"it failed: {str(exc)[-1500:]}"}
        return {"name": server.name, "started": started, "results": results, "memory": memory, "added": added}


async def _first(ask: Any, prompt: dict[str, Any]) -> None:
    async for _ in ask(prompt, 2):
        pass


def _scenarios(options: argparse.Namespace) -> list[Scenario]:
    counts = [int(count) for count in options.clients.split(",")]
    pairs = [(count, options.prompt) for count in counts]
    if options.long:
        clients, tokens = map(int, options.long.split(","))
        pairs.append((clients, tokens))
    return [
        Scenario(clients=clients, prompt=tokens, answer=options.answer, rounds=max(1, _LEAST // clients))
        for clients, tokens in pairs
    ]


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
