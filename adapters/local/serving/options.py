"""The command line of the engine's process; `adapters.local.own` writes it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from adapters.local.inference.options import QUANTIZATIONS
from adapters.local.own import QUEUE, OwnModel, OwnOptions


def read_options(arguments: Sequence[str]) -> tuple[Path, OwnOptions]:
    """Where to listen, and what to serve. Ends the process with status 2 for what it cannot read."""
    parser = argparse.ArgumentParser(prog="python -m adapters.local.serving.main", description=__doc__)
    parser.add_argument("socket", type=Path, help="path of the Unix socket to listen at")
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--repository", metavar="ORG/NAME", help="what `relay models pull` calls the model")
    parser.add_argument("--name", action="append", dest="names", metavar="NAME", help="what clients ask for")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--quantization", default="none", choices=QUANTIZATIONS)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rows", type=int, help="requests that are computed at once")
    parser.add_argument("--queue", type=int, default=QUEUE, help="requests that may wait")
    parser.add_argument("--context", type=int, help="tokens of prompt and answer, at most")
    parser.add_argument("--embeddings", action="store_true", help="the model makes vectors")
    parser.add_argument("--trust-remote-code", action="store_true")
    given = parser.parse_args(arguments)
    model = OwnModel(
        folder=given.model,
        repository=given.repository,
        device=given.device,
        dtype=given.dtype,
        quantization=given.quantization,
        threads=given.threads,
    )
    options = OwnOptions(
        model=model,
        names=tuple(given.names or (given.model.resolve().name,)),
        rows=given.rows,
        queue=given.queue,
        context=given.context,
        embeddings=given.embeddings,
        trust_remote_code=given.trust_remote_code,
    )
    return given.socket, options
