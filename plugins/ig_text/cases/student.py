"""A translation model of Bergamot: a transformer encoder and a recurrent (SSRU) decoder.

After Kim et al. (2019), From Research to Production and Back: Ludicrously Fast Neural Machine
Translation, doi:10.18653/v1/D19-5632, as Marian implements it (``dec-cell: ssru``): six layers that
attend, two that recur and attend to the source, normalisation after every sum, one table for the
words of both languages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

NORM = 1e-6
"""What Marian adds to a variance."""


@dataclass(frozen=True)
class Sizes:
    """How large a student is; ``end`` closes a sentence, and tells the decoder to start."""

    vocabulary: int = 32000
    width: int = 256
    inner: int = 1536
    heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 2
    end: int = 0


@dataclass(frozen=True)
class Translated:
    """What a student makes of a batch; position j of ``logits`` speaks of the word after j."""

    logits: Float[Tensor, "rows length vocabulary"]
    encoder_last_hidden_state: Float[Tensor, "rows words width"]


class Attention(nn.Module):
    """Attention with several heads, its sum with the queries, normalised."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.query = nn.Linear(sizes.width, sizes.width)
        self.key = nn.Linear(sizes.width, sizes.width)
        self.value = nn.Linear(sizes.width, sizes.width)
        self.output = nn.Linear(sizes.width, sizes.width)
        self.norm = nn.LayerNorm(sizes.width, eps=NORM)

    def forward(
        self,
        queries: Float[Tensor, "rows length width"],
        states: Float[Tensor, "rows words width"],
        mask: Bool[Tensor, "rows 1 1 words"],
    ) -> Float[Tensor, "rows length width"]:
        parts = (self.query(queries), self.key(states), self.value(states))
        query, key, value = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in parts)
        found = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.norm(queries + self.output(found.transpose(1, 2).flatten(2)))


class Feedforward(nn.Module):
    """Two linear maps with a ReLU between, their sum with the input, normalised."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.inner = nn.Linear(sizes.width, sizes.inner)
        self.outer = nn.Linear(sizes.inner, sizes.width)
        self.norm = nn.LayerNorm(sizes.width, eps=NORM)

    def forward(self, x: Float[Tensor, "rows length width"]) -> Float[Tensor, "rows length width"]:
        return self.norm(x + self.outer(self.inner(x).relu()))


class Recurrence(nn.Module):
    """A simpler simple recurrent unit: c_t = f_t c_(t-1) + (1 - f_t) W x_t, f = sigmoid(V x + b).

    The ReLU of c is added to the input and normalised.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.input = nn.Linear(sizes.width, sizes.width, bias=False)
        self.forget = nn.Linear(sizes.width, sizes.width)
        self.norm = nn.LayerNorm(sizes.width, eps=NORM)

    def forward(self, x: Float[Tensor, "rows length width"]) -> Float[Tensor, "rows length width"]:
        kept = self.forget(x).sigmoid()
        new = (1 - kept) * self.input(x)
        cell = torch.zeros_like(x[:, 0])
        cells = []
        for one, other in zip(kept.unbind(1), new.unbind(1), strict=True):
            cell = one * cell + other
            cells.append(cell)
        return self.norm(x + torch.stack(cells, 1).relu())


class EncoderLayer(nn.Module):
    """The source attends to itself."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention = Attention(sizes)
        self.feedforward = Feedforward(sizes)

    def forward(
        self, x: Float[Tensor, "rows words width"], mask: Bool[Tensor, "rows 1 1 words"]
    ) -> Float[Tensor, "rows words width"]:
        return self.feedforward(self.attention(x, x, mask))


class DecoderLayer(nn.Module):
    """The translation remembers what went before and attends to the source."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.recurrence = Recurrence(sizes)
        self.attention = Attention(sizes)
        self.feedforward = Feedforward(sizes)

    def forward(
        self,
        x: Float[Tensor, "rows length width"],
        states: Float[Tensor, "rows words width"],
        mask: Bool[Tensor, "rows 1 1 words"],
    ) -> Float[Tensor, "rows length width"]:
        return self.feedforward(self.attention(self.recurrence(x), states, mask))


class Encoder(nn.Module):
    """The words of the source; pads, right of them, are left out by the mask."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(sizes.vocabulary, sizes.width)
        self.layers = nn.ModuleList(EncoderLayer(sizes) for _ in range(sizes.encoder_layers))

    def forward(
        self, input_ids: Int[Tensor, "rows words"], mask: Bool[Tensor, "rows 1 1 words"]
    ) -> Float[Tensor, "rows words width"]:
        x = placed(self.embed_tokens(input_ids))
        for layer in self.layers:
            x = layer(x, mask)
        return x


class Decoder(nn.Module):
    """The words of the translation so far; the start has the zero vector."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.start = sizes.end
        self.embed_tokens = nn.Embedding(sizes.vocabulary, sizes.width)
        self.layers = nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes.decoder_layers))

    def forward(
        self,
        decoder_input_ids: Int[Tensor, "rows length"],
        states: Float[Tensor, "rows words width"],
        mask: Bool[Tensor, "rows 1 1 words"],
    ) -> Float[Tensor, "rows length width"]:
        words = (decoder_input_ids != self.start)[..., None]
        x = placed(self.embed_tokens(decoder_input_ids) * words)
        for layer in self.layers:
            x = layer(x, states, mask)
        return x


class Student(nn.Module):
    """An encoder-decoder model that is called as those of transformers are."""

    def __init__(self, sizes: Sizes | None = None) -> None:
        super().__init__()
        self.sizes = sizes or Sizes()
        self.decoder_start_token_id = self.sizes.end
        self.encoder = Encoder(self.sizes)
        self.decoder = Decoder(self.sizes)
        self.decoder.embed_tokens.weight = self.encoder.embed_tokens.weight
        self.bias = nn.Parameter(torch.zeros(self.sizes.vocabulary))

    def forward(
        self,
        input_ids: Int[Tensor, "rows words"],
        attention_mask: Int[Tensor, "rows words"] | None = None,
        decoder_input_ids: Int[Tensor, "rows length"] | None = None,
    ) -> Translated:
        """Logits of the next word after every word of ``decoder_input_ids``, the start's first.

        ``attention_mask`` is 0 at pads, which must be right of the words.
        """
        if decoder_input_ids is None:
            decoder_input_ids = input_ids.new_full((len(input_ids), 1), self.decoder.start)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        mask = attention_mask[:, None, None, :].bool()
        states = self.encoder(input_ids, mask)
        decoded = self.decoder(decoder_input_ids, states, mask)
        return Translated(decoded @ self.encoder.embed_tokens.weight.T + self.bias, states)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Int[Tensor, "1 words"],
        attention_mask: Int[Tensor, "1 words"] | None = None,
        max_new_tokens: int = 100,
        do_sample: bool = False,
        num_beams: int = 1,
    ) -> Int[Tensor, "1 length"]:
        """The start, and the likeliest word after each word, until the sentence ends.

        Raises:
            ValueError: several texts, a sample or a search among beams.
        """
        if do_sample or num_beams != 1 or len(input_ids) != 1:
            raise ValueError("a student translates one text, by the likeliest word each time")
        found = input_ids.new_full((1, 1), self.decoder.start)
        for _ in range(max_new_tokens):
            word = self(input_ids, attention_mask, found).logits[:, -1].argmax(1, keepdim=True)
            found = torch.cat([found, word], dim=1)
            if int(word) == self.sizes.end:
                break
        return found


def placed(
    embedded: Float[Tensor, "rows length width"],
) -> Float[Tensor, "rows length width"]:
    """Word embeddings times sqrt(width), plus sines and cosines of their places.

    In Marian's order: all sines, then all cosines, of place x 10000^(-i / (width / 2 - 1)).
    """
    length, width = embedded.shape[1:]
    places = torch.arange(length, device=embedded.device, dtype=embedded.dtype)
    channels = torch.arange(width // 2, device=embedded.device, dtype=embedded.dtype)
    angles = places[:, None] * 10000 ** (-channels / (width // 2 - 1))
    return embedded * math.sqrt(width) + torch.cat([angles.sin(), angles.cos()], 1)


def student(marian: Mapping[str, Tensor]) -> Student:
    """The model that has the parameters of a Marian file, by their names there."""
    table = marian["Wemb"]
    sizes = Sizes(
        vocabulary=len(table),
        width=table.shape[1],
        inner=marian["encoder_l1_ffn_W1"].shape[1],
        encoder_layers=sum(name.endswith("_self_Wq") for name in marian),
        decoder_layers=sum(name.endswith("_rnn_W") for name in marian),
    )
    model = Student(sizes)
    state = {
        "encoder.embed_tokens.weight": table,
        "decoder.embed_tokens.weight": table,
        "bias": marian["decoder_ff_logit_out_b"][0],
    }
    for name, parameter in model.named_parameters():
        if ".layers." in name:
            value = marian[_name(name)]
            state[name] = value.T if parameter.dim() == 2 else value[0]
    model.load_state_dict(state)
    return model.requires_grad_(False).eval()


PARTS = {
    "recurrence.input.weight": "rnn_W",
    "recurrence.forget.weight": "rnn_Wf",
    "recurrence.forget.bias": "rnn_bf",
    "recurrence.norm": "rnn_ffn_ln",
    "feedforward.inner.weight": "ffn_W1",
    "feedforward.inner.bias": "ffn_b1",
    "feedforward.outer.weight": "ffn_W2",
    "feedforward.outer.bias": "ffn_b2",
    "feedforward.norm": "ffn_ffn_ln",
    **{
        f"attention.{ours}.{kind}": f"{letter}{theirs}"
        for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "o"))
        for kind, letter in (("weight", "W"), ("bias", "b"))
    },
    "attention.norm": "Wo_ln",
}
"""What Marian calls the parts of a layer; a norm's weight is a scale there."""


def _name(ours: str) -> str:
    """Marian's name of a layer's parameter, such as ``encoder_l1_self_Wq``."""
    side, _, number, rest = ours.split(".", 3)
    part, _, kind = rest.rpartition(".")
    theirs = PARTS.get(rest) or f"{PARTS[part]}_{'scale' if kind == 'weight' else kind}"
    attends = {"encoder": "self_", "decoder": "context_"}[side]
    return f"{side}_l{int(number) + 1}_{attends * rest.startswith('attention')}{theirs}"
