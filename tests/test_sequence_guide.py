"""What the guide to sequences shows runs as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs/sequences.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


class Last(nn.Module):
    """A GRU that takes lengths and answers from its last state, or from a given first one."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        return self.head(self.gru(packed)[1][-1])


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: Tensor, h0: Tensor) -> Tensor:
        return self.head(self.gru(x, h0)[1][-1])


class EveryStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0])


class Translator(nn.Module):
    """The logits of a decoder that reads tokens after the encoder has read the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = (nn.GRU(3, 8, batch_first=True) for _ in "ed")
        self.embedding, self.head = nn.Embedding(5, 3), nn.Linear(8, 5)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        state = self.encoder(x)[1]
        return self.head(self.decoder(self.embedding(tokens), state)[0])


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv1d(3, 8, 5), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.conv(x)).mean(2))


def seeded(make: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


def small_models() -> dict[str, Any]:
    """What the guide calls by name."""
    generator = torch.Generator().manual_seed(1)
    return {
        "__name__": "guide",
        "gru": seeded(Last),
        "every_step": seeded(EveryStep),
        "tagger": seeded(EveryStep),
        "stateful": seeded(Stateful),
        "seq2seq": seeded(Translator),
        "conv": seeded(Convolution),
        "weather": torch.randn(30, 3, generator=generator),
        "stations": [torch.randn(n, 3, generator=generator) for n in (30, 12, 25, 30, 18, 27)],
        "tokens": torch.tensor([0, 3, 1]),
    }


def test_the_guide_to_sequences_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) >= 6
    names = small_models()
    for block in BLOCKS:
        exec(compile(block, "docs/sequences.md", "exec"), names)
    for file in (
        "weather.html",
        "weather.png",
        "decay.html",
        "decay.png",
        "decay.json",
        "faithfulness.html",
        "sweep.html",
        "faithfulness.png",
    ):
        assert (tmp_path / file).stat().st_size > 1000
    steps = names["ordered"].scores
    prefixes = torch.tensor(names["ordered"].display["prefixes"])
    assert steps == pytest.approx(prefixes.diff().tolist(), abs=1e-3)
    told = re.findall(r"^\| \.\d+ \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \|", GUIDE, re.MULTILINE)
    found = zip(names["found"].half_lives, names["found"].decays, strict=True)
    measured = [(f"{life:.3g}", *(f"{end:.3g}" for end in d.interval)) for life, d in found]
    assert measured == [tuple(f"{float(cell):.3g}" for cell in row) for row in told]


def test_every_status_is_in_the_guide() -> None:
    from ig_sequences.decay.status import MEANING

    assert {*re.findall(r"^\| `([a-z_]+)` \|", GUIDE, re.MULTILINE)} == {*MEANING}
