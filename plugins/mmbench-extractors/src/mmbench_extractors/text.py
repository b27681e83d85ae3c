"""`hf-text`: token ids to the hidden states of a pretrained text encoder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmbench.batch import Sequence
from mmbench.errors import ConfigError
from mmbench_extractors.config import HFTextConfig
from mmbench_extractors.encoder import PretrainedEncoder
from mmbench_extractors.packing import Packed, can_pack
from mmbench_extractors.tokens import ids_of, load_tokenizer, spans_of, tokenizer_facts


class HFText(PretrainedEncoder):
    """Any Hugging Face text encoder; `width` is its hidden size, `vocabulary` the number of ids that it has embeddings for.

    `longest` is the number of positions that it has embeddings for, or None where it has no such limit.
    """

    component = "hf-text"
    reads = "input_ids"
    config: HFTextConfig

    def __init__(self, config: HFTextConfig):
        super().__init__(config)
        network = self.encoder.config
        self.tokenizer = load_tokenizer(self.source)
        self.width: int = network.hidden_size
        self.vocabulary: int = self.encoder.get_input_embeddings().num_embeddings
        self.padding: int = next((i for i in (network.pad_token_id, self.tokenizer.pad_token_id) if i is not None), 0)
        self.longest = _positions(self.encoder)
        if self.longest is not None and config.max_tokens > self.longest:
            raise ConfigError(f"hf-text: max_tokens: {config.max_tokens}: {config.model!r} reads at most {self.longest} tokens")
        self.packs = can_pack(self.encoder, _first_position(self.encoder))

    def front(self) -> Iterable[nn.Module]:
        """The embeddings."""
        found = [module for name, module in self.encoder.named_children() if name.startswith("embeddings")]
        return found or [self.encoder.get_input_embeddings()]

    def layers(self) -> nn.ModuleList | None:
        """The transformer blocks."""
        count = self.encoder.config.num_hidden_layers
        return next((m for m in self.encoder.modules() if isinstance(m, nn.ModuleList) and len(m) == count), None)

    def options(self) -> dict[str, Any]:
        """The output, the length, and what the tokenizer does."""
        return {"output": self.config.output, "max_tokens": self.config.max_tokens, "tokenizer": tokenizer_facts(self.tokenizer)}

    def prepare(self, path_or_text: Path | str) -> Tensor:
        """A text as token ids (T,), special tokens included, 1 <= T <= `max_tokens`."""
        return ids_of(self.tokenizer, str(path_or_text), self.config.max_tokens)

    def spans(self, text: str) -> list[tuple[int, int]] | None:
        """The characters of each token, (0, 0) for a special one; None with `output: cls`, or where the tokenizer does not tell."""
        return None if self.config.output == "cls" else spans_of(self.tokenizer, text, self.config.max_tokens)

    def forward(self, raw: Sequence) -> Sequence:
        """Ids (B, T) with their mask -> states (B, T, width), or (B, 1, width) of the first token; zero where the mask is False.

        What stands in masked positions, and how many there are, changes nothing: they get the padding id (from which RoBERTa counts
        its positions) and are never attended to. On a CPU they are not computed where `lengths` are known and the network allows it.
        A sample without a token attends to one padding id, and gives zeros.
        """
        mask = raw.mask
        if self.longest is not None and mask.shape[1] > self.longest:
            raise ConfigError(f"hf-text: {mask.shape[1]} tokens in a sample: {self.config.model!r} reads at most {self.longest}")
        ids = raw.values.long().masked_fill(~mask, self.padding)
        if self.packs and raw.lengths is not None and any(raw.lengths) and ids.device.type == "cpu":
            states = Packed.of(raw.lengths, ids.shape[1]).states(self.encoder, ids, _first_position(self.encoder))  # (B, T, width)
        else:
            first = torch.arange(mask.shape[1], device=mask.device) == 0
            attended = mask | (first & ~mask.any(1, keepdim=True))
            states = self.encoder(input_ids=ids, attention_mask=attended.long()).last_hidden_state  # (B, T, width)
        if self.config.output == "cls":
            states, mask = states[:, :1], mask[:, :1]
        return Sequence(states.to(self.encoder.dtype).masked_fill(~mask.unsqueeze(-1), 0.0), mask)


def _positions(network: Any) -> int | None:
    """How many tokens the table of absolute positions allows."""
    table = getattr(getattr(network, "embeddings", None), "position_embeddings", None)
    return table.num_embeddings - _first_position(network) if isinstance(table, nn.Embedding) else None


def _first_position(network: Any) -> int:
    """The number of the first token's position: RoBERTa's start behind the padding id."""
    padding = getattr(getattr(getattr(network, "embeddings", None), "position_embeddings", None), "padding_idx", None)
    return 0 if padding is None else padding + 1
