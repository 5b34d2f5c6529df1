"""One transformers model that makes vectors of texts: a batch at a time, in one thread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from adapters.local.inference.errors import UnsupportedModel
from adapters.local.inference.folder import EmbeddingCard, read_embedding_card
from adapters.local.inference.loading import load_weights
from adapters.local.inference.options import ModelOptions
from adapters.local.inference.pooling import load_dense, pool
from adapters.local.inference.progress import OnProgress


class Encoder:
    """Token ids in, unit vectors out."""

    def __init__(self, model: Any, card: EmbeddingCard, dense: Sequence[Any] = ()) -> None:
        """`dense`: what comes after pooling. Raises UnsupportedModel."""
        if model.config.is_encoder_decoder:
            raise UnsupportedModel("encoder-decoder models are not supported")
        self.card = card
        self.max_tokens = _max_tokens(model, card)
        self.vocabulary: int = model.get_input_embeddings().weight.shape[0]
        self._model = model
        self._dense = torch.nn.Sequential(*dense)
        with torch.inference_mode():
            self.size: int = self.encode([[0]]).shape[-1]
            """Of a vector."""

    @classmethod
    def load(cls, folder: Path, options: ModelOptions, on_progress: OnProgress | None = None) -> Encoder:
        """Raises UnsupportedModel. Takes seconds to minutes: not for the event loop. Nothing is downloaded."""
        card = read_embedding_card(folder)
        model = load_weights(transformers.AutoModel, folder, options, on_progress)
        return cls(model, card, [load_dense(folder, each, model.device) for each in card.dense])

    def encode(self, texts: Sequence[Sequence[int]]) -> Any:
        """Unit vectors [n, size] in float32, on the CPU. Texts have a token at least; shorter ones are padded."""
        width = max(map(len, texts))
        ids = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts], device=self._model.device)
        lengths = torch.tensor([len(text) for text in texts], device=self._model.device)
        mask = torch.arange(width, device=self._model.device) < lengths[:, None]
        extra = {"use_cache": False} if hasattr(self._model.config, "use_cache") else {}
        states = self._model(input_ids=ids, attention_mask=mask.long(), **extra).last_hidden_state.float()
        vectors = self._dense(pool(states, mask, self.card.poolings))
        return torch.nn.functional.normalize(vectors, dim=-1).cpu()


def _max_tokens(model: Any, card: EmbeddingCard) -> int:
    limits = [card.max_tokens, getattr(model.config.get_text_config(), "max_position_embeddings", None)]
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            # RoBERTa and its kin count positions from behind the padding's.
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - offset)
    known = [limit for limit in limits if limit]
    if not known:
        raise UnsupportedModel("the model does not say how long its input may be")
    return min(known)
