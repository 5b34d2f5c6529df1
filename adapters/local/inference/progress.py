"""How much of a model's weights has been loaded, told while transformers loads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.utils.logging import set_tqdm_hook

OnProgress = Callable[[str], None]

_WEIGHTS = "Loading weights"
"""What transformers calls the bar of its loading; one step is one parameter, which may be made of several tensors."""


@contextmanager
def weights_progress(folder: Path, on_progress: OnProgress | None) -> Iterator[None]:
    """Tell `on_progress` each whole per cent while weights are loaded inside, and keep transformers' bars away.

    The hook is the process's: one model is loaded at a time.
    """
    report = Report(tensor_sizes(folder), on_progress or (lambda text: None))

    def hook(factory: Any, args: Any, kwargs: Any) -> Any:
        return report.steps(args[0]) if kwargs.get("desc") == _WEIGHTS else factory(*args, **kwargs | {"disable": True})

    before = set_tqdm_hook(hook)
    try:
        yield
    finally:
        set_tqdm_hook(before)


class Report:
    """Counts the bytes of parameters by the names that they have in the files."""

    def __init__(self, sizes: dict[str, int], tell: OnProgress) -> None:
        self._sizes = sizes
        self._tell = tell

    def steps(self, items: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """The same items, with a word after those that complete another per cent."""
        items = list(items)
        usual = sum(self._sizes.values()) // max(1, len(self._sizes)) or 1
        sizes = [self._sizes.get(name, usual) for name, _ in items]  # one that is renamed counts as the average
        whole, done, told = sum(sizes), 0, -1
        size = _size(sum(self._sizes.values()))
        for item, part in zip(items, sizes, strict=True):
            yield item
            done += part
            if (share := done * 100 // whole) > told:
                told = share
                self._tell(f"loading weights {share}% of {size}")


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def tensor_sizes(folder: Path) -> dict[str, int]:
    """Bytes of each tensor in the folder's safetensors files, whose first eight bytes are the length of a JSON head."""
    sizes: dict[str, int] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, tensor in head.items():
            if name != "__metadata__":
                start, end = tensor["data_offsets"]
                sizes[name] = end - start
    return sizes
