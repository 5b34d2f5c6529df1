"""Puts the engine together: tokenizer, model, cache. All that is heavy is imported here, and only when it is needed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from adapters.local.inference.errors import UnsupportedModel
from adapters.local.inference.folder import kind_of
from adapters.local.inference.options import ModelOptions, cuda_alone
from adapters.local.own import INSTALL, OwnOptions, missing_packages
from adapters.local.serving.app import Model
from adapters.local.serving.folder import ModelFolder, Refused
from adapters.local.serving.room import Room, choose_room
from adapters.local.serving.sampling import recommended

Tell = Callable[[str], None]
"""Is told what is under way, a line at a time; one that ends in a carriage return is painted over by the next."""


class Loaded(NamedTuple):
    """A model that is ready to be started, and has to be closed."""

    model: Model
    start: Callable[[], None]
    close: Callable[[], None]


def load(options: OwnOptions, tell: Tell) -> Loaded:
    """Takes seconds to minutes. Raises Refused."""
    if missing_packages():
        raise Refused(INSTALL)
    folder = ModelFolder(options.model.folder, options.model.repository)
    try:
        kind = kind_of(folder.path)
        if options.embeddings != (kind == "embeddings"):
            raise Refused(_other_kind(folder, options.embeddings))
        folder.check_weights()
        folder.check_tokenizer()
        if alone := cuda_alone(options.model.quantization, options.model.device):
            raise Refused(alone)
        tell("importing torch and transformers")
        load_it = _load_embeddings if options.embeddings else _load_chat
        return load_it(folder, options, tell)
    except UnsupportedModel as exc:
        raise Refused(_in_our_words(folder, _line(exc))) from exc
    except MemoryError as exc:
        raise Refused(_short_of_memory(folder, options)) from exc
    except Exception as exc:
        if _is_out_of_memory(exc):
            raise Refused(_short_of_memory(folder, options)) from exc
        raise


def _in_our_words(folder: ModelFolder, text: str) -> str:
    """Why a model is not taken. transformers explains at length what its own developers could do about it."""
    if found := _NO_ATTENTION.search(text):
        return f"{folder.path.name} is of the class {found[1]}, a kind of model that this engine does not run"
    return text


_NO_ATTENTION = re.compile(r"(\w+) does not support an attention implementation")
"""Of transformers 5.20 to 5.23: what has no attention (Mamba), or one of its own making."""


def _other_kind(folder: ModelFolder, vectors: bool) -> str:
    if vectors:
        return f"{folder.path.name} answers in words: it cannot stand under embeddings"
    return (
        f"{folder.path.name} makes vectors: restart the relay, which then takes it for that, or name it in embeddings"
    )


def _load_chat(folder: ModelFolder, options: OwnOptions, tell: Tell) -> Loaded:
    from adapters.local.inference.engine import Engine  # noqa: PLC0415 - takes seconds and 250 MB
    from adapters.local.inference.free import check_device  # noqa: PLC0415
    from adapters.local.inference.loading import load_model  # noqa: PLC0415
    from adapters.local.inference.model import BatchedModel, own_context  # noqa: PLC0415
    from adapters.local.inference.scheduler import Limits  # noqa: PLC0415
    from adapters.local.serving.chat import ChatService  # noqa: PLC0415
    from adapters.local.serving.drafts import Drafts  # noqa: PLC0415

    check_device(options.model.device)
    tokenizer = _tokenizer(folder, options)
    stop_ids = folder.stop_ids() | ({tokenizer.eos_token_id} - {None})
    tell(_announced(folder))
    weights = load_model(folder.path, _model_options(options), _passing(tell))
    own = own_context(weights.config.get_text_config()) or options.context
    if own is None:
        raise Refused(f"{folder.path.name} does not say how long its context is: context_window does")
    room = _room(weights, options, own)
    tell(f"making a cache for {room.rows} requests of {room.context} tokens on {weights.device}")
    batched = BatchedModel(weights, rows=room.rows, context=room.context)
    engine = Engine(batched, Limits(rows=room.rows, keep=room.rows, queue=options.queue))
    try:
        writer = Drafts(tokenizer, vocabulary=engine.vocabulary, stop_ids=stop_ids)
    except ValueError as exc:
        raise Refused(f"the tokenizer of {folder.path.name} cannot be used: {_line(exc)}") from exc
    service = ChatService(engine, writer, defaults=recommended(folder.generation), stop_ids=stop_ids)

    def close() -> None:
        engine.close()
        writer.close()

    return Loaded(Model(options.names, chat=service), engine.start, close)


def _room(weights: Any, options: OwnOptions, own: int) -> Room:
    """What the cache is made for. On CUDA it leaves what passes take, which is measured at the most that fits."""
    from adapters.local.inference.free import free_bytes  # noqa: PLC0415 - takes seconds and 250 MB
    from adapters.local.inference.model import token_bytes  # noqa: PLC0415
    from adapters.local.inference.scheduler import Limits  # noqa: PLC0415
    from adapters.local.inference.scratch import scratch_bytes  # noqa: PLC0415

    size = token_bytes(weights)

    def fitting(taken: int) -> Room:
        free = max(0, free_bytes(weights.device) - taken)
        return choose_room(rows=options.rows, context=options.context, own=own, token_bytes=size, free=free)

    room = fitting(0)
    if weights.device.type != "cuda":
        return room
    return fitting(scratch_bytes(weights, rows=room.rows, context=room.context, chunk=Limits().idle_chunk))


def _load_embeddings(folder: ModelFolder, options: OwnOptions, tell: Tell) -> Loaded:
    from adapters.local.inference.embedding import EmbeddingModel  # noqa: PLC0415 - takes seconds and 250 MB
    from adapters.local.inference.free import check_device  # noqa: PLC0415
    from adapters.local.serving.embeddings import EmbeddingService  # noqa: PLC0415

    check_device(options.model.device)
    tokenizer = _tokenizer(folder, options)
    tell(_announced(folder))
    model = EmbeddingModel.load(folder.path, _model_options(options), _passing(tell))
    return Loaded(Model(options.names, embedder=EmbeddingService(model, tokenizer)), model.start, model.close)


def _tokenizer(folder: ModelFolder, options: OwnOptions) -> Any:
    from transformers import AutoTokenizer  # noqa: PLC0415 - as above

    try:
        return AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=options.trust_remote_code
        )
    except Exception as exc:  # its files may be broken in any way, and tokenizers raises nothing more special
        raise Refused(f"the tokenizer of {folder.path.name} cannot be loaded: {_line(exc)}") from exc


def _passing(tell: Tell) -> Tell:
    """For what is of no use once the next is told, such as each per cent."""
    return lambda state: tell(f"{state}\r")


def _announced(folder: ModelFolder) -> str:
    size = f"{folder.size / 1e9:.1f} GB" if folder.size >= 1e9 else f"{folder.size / 1e6:.1f} MB"
    return f"loading {size} of weights, {len(folder.weights)} files"


def _model_options(options: OwnOptions) -> ModelOptions:
    model = options.model
    return ModelOptions(
        device=model.device,
        dtype=model.dtype,
        quantization=model.quantization,  # type: ignore[arg-type]  # one of the choices of its flag
        threads=model.threads,
        trust_remote_code=options.trust_remote_code,
    )


def _is_out_of_memory(exc: BaseException) -> bool:
    """Whether the device has no room; torch's own class is not imported here, and older backends raise others."""
    return type(exc).__name__ == "OutOfMemoryError" or "out of memory" in str(exc).lower()


def _short_of_memory(folder: ModelFolder, options: OwnOptions) -> str:
    return (
        f"out of memory on {options.model.device} while {folder.path.name} was loaded ({folder.size / 1e9:.1f} GB of "
        "weights): a smaller dtype or quantization takes less"
    )


def _line(exc: BaseException) -> str:
    return " ".join(str(exc).split())
