"""A network that reads words letter by letter, and says the phoneme that they begin with."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ig_core import BenchmarkCase, Loaded, MissingFrameworkError
from ig_sequences.cases.memory import remembered

WORDS = {
    "knight": "N", "gnome": "N", "write": "R", "psalm": "S", "phone": "F", "chorus": "K",
    "thought": "TH", "shadow": "SH", "judge": "JH", "city": "S", "queue": "K", "unicorn": "Y",
}  # fmt: skip
"""Words and the phoneme that they begin with."""


class LettersToPhonemes(nn.Module):
    """The encoder and the first decoder step of g2p-en: which phoneme does a word begin with?

    Park and Kim (2019), https://github.com/Kyubyong/g2p. It reads embeddings of letters, with an
    end mark after the last, and answers one logit per phoneme.
    """

    letters = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
    phonemes = (
        "<pad>", "<unk>", "<s>", "</s>",
        *(f"{vowel}{stress}" for vowel in ("AA", "AE", "AH", "AO", "AW", "AY") for stress in "012"),
        "B", "CH", "D", "DH",
        *(f"{vowel}{stress}" for vowel in ("EH", "ER", "EY") for stress in "012"),
        "F", "G", "HH",
        *(f"{vowel}{stress}" for vowel in ("IH", "IY") for stress in "012"),
        "JH", "K", "L", "M", "N", "NG",
        *(f"{vowel}{stress}" for vowel in ("OW", "OY") for stress in "012"),
        "P", "R", "S", "SH", "T", "TH", "UH0", "UH1", "UH2", "UW", "UW0", "UW1", "UW2",
        "V", "W", "Y", "Z", "ZH",
    )  # fmt: skip

    embedding: Tensor
    start: Tensor

    def __init__(self, letters: Float[Tensor, "letters width"], phonemes: int) -> None:
        super().__init__()
        width = letters.shape[1]
        self.register_buffer("embedding", letters)
        self.register_buffer("start", torch.zeros(width))
        self.encoder = nn.GRU(width, width, batch_first=True)
        self.decoder = nn.GRUCell(width, width)
        self.head = nn.Linear(width, phonemes)

    @classmethod
    def pretrained(cls) -> LettersToPhonemes:
        """The weights in the package g2p-en, read without importing it (that wants corpora).

        Raises:
            MissingFrameworkError: the package is not installed.
        """
        found = importlib.util.find_spec("g2p_en")
        if found is None or found.origin is None:
            raise MissingFrameworkError("these weights need g2p-en: pip install 'ig-core[bench]'")
        with np.load(Path(found.origin).with_name("checkpoint20.npz"), allow_pickle=False) as file:
            weights = {name: torch.from_numpy(file[name]) for name in file.files}
        model = cls(weights["enc_emb"], len(weights["fc_w"]))
        state = {"embedding": weights["enc_emb"], "start": weights["dec_emb"][2]}
        for part in ("w_ih", "w_hh", "b_ih", "b_hh"):
            long = part.replace("w_", "weight_").replace("b_", "bias_")
            state[f"encoder.{long}_l0"] = weights[f"enc_{part}"]
            state[f"decoder.{long}"] = weights[f"dec_{part}"]
        state |= {"head.weight": weights["fc_w"], "head.bias": weights["fc_b"]}
        model.load_state_dict(state)
        return model.eval()

    def forward(
        self, x: Float[Tensor, "rows time width"], lengths: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows phonemes"]:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        _, hidden = self.encoder(packed)
        return self.head(self.decoder(self.start.expand(len(x), -1), hidden[0]))

    def embed(self, word: str) -> Float[Tensor, "time width"]:
        """A word's letters and the end mark."""
        found = [self.letters.index(c) if c in self.letters else 1 for c in word.lower()]
        return self.embedding[[*found, 2]]

    def spell(self, x: Float[Tensor, "time width"]) -> list[str]:
        """The letters that an embedding stands for."""
        return [self.letters[i] for i in torch.cdist(x, self.embedding.to(x)).argmin(1).tolist()]

    def first_phoneme(self, words: Sequence[Float[Tensor, "time width"]]) -> list[int]:
        """The most likely phoneme at the start of every word."""
        with torch.no_grad():
            return [int(self(w[None], torch.tensor([len(w)])).argmax()) for w in words]


def first_phoneme(folder: Path) -> Loaded:
    """Words of which g2p-en says the first phoneme, letter by letter."""
    model = LettersToPhonemes.pretrained()
    inputs = [model.embed(word) for word in WORDS]
    targets = model.first_phoneme(inputs)
    said = [model.phonemes[i] for i in targets]
    right = sum(a.rstrip("012") == b for a, b in zip(said, WORDS.values(), strict=True))
    loaded = Loaded(
        model,
        inputs,
        targets,
        options={"labels": model.spell},
        facts={
            "first phonemes right": f"{right} of {len(WORDS)}",
            "explained": dict(zip(WORDS, said, strict=True)),
        },
    )
    return remembered(loaded, "letters")


CASE = BenchmarkCase(
    name="g2p-first-phoneme",
    domain="sequences",
    load=first_phoneme,
    requires=("g2p_en",),
    licence="Apache-2.0",
    source="package g2p-en 2.1.0 (Park and Kim 2019)",
    real=True,
)
