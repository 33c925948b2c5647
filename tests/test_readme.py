"""What the README, the guides and the docstrings of text show runs as it stands there."""

import doctest
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn

import ig_core as ig
import ig_text

ROOT = Path(__file__).parents[1]
WORDS = ["a", "actor", "and", "ann", "came", "dull", "film", "great", "late", "lifeless", "no"]
WORDS += ["plot", "the", "who", "with", ","]
SPECIAL = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
IDS = {token: i for i, token in enumerate([*SPECIAL, *WORDS])}


def blocks(path: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / path).read_text("utf-8"), re.DOTALL)


README, TEXT = blocks("README.md"), blocks("docs/text.md")


def test_the_pages_have_blocks_that_run() -> None:
    assert len(README) >= 2
    assert len(TEXT) >= 8


@pytest.mark.parametrize("block", README, ids=range(len(README)))
def test_block_of_the_readme_runs(block: str) -> None:
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("command", ["make bench", "make test"])
def test_the_readme_shows_the_command(command: str) -> None:
    assert command in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.filterwarnings("ignore::ig_core.IGWarning")  # random models are hard to integrate
def test_the_guide_to_text_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = small_models()
    for block in TEXT:
        exec(compile(block, "docs/text.md", "exec"), names)
    assert (tmp_path / "matrix.html").exists()


TOLD = (
    "DIG", "LOO", "NeutralText", "OtherText", "SIG", "TextDomain", "TokenIds", "UDIG", "comparison",
    "cosine_to", "matrix", "show", "terminal",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore::ig_core.IGWarning")  # random models are hard to integrate
@pytest.mark.parametrize("name", TOLD)
def test_the_example_of_a_public_name_of_text_runs(name: str) -> None:
    names = {**vars(ig_text), **small_models(), "ig": ig}
    [example] = doctest.DocTestFinder(recurse=False).find(getattr(ig_text, name), name, globs=names)
    assert example.examples
    told: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=told.append)
    assert not told, "".join(told)


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(len(IDS), 6)
        self.worth = nn.Linear(6, 2, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.worth(self.words(tokens)).sum(1)


def small_models() -> dict[str, Any]:
    """One of each kind that the guide names."""
    backend = Tokenizer(models.WordLevel(IDS, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, IDS[name]) for name in ("[CLS]", "[SEP]")],
    )
    kinds = ("unk_token", "pad_token", "cls_token", "sep_token", "mask_token")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template="{% for m in messages %}[CLS] {{ m.content }} [SEP] {% endfor %}",
        **dict(zip(kinds, SPECIAL, strict=True)),
    )
    bert = transformers.BertConfig(
        vocab_size=len(IDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=48, initializer_range=0.2, pad_token_id=1,
        id2label={0: "bad", 1: "good"},
    )  # fmt: skip
    gpt2 = transformers.GPT2Config(
        vocab_size=len(IDS), n_embd=16, n_layer=1, n_head=2, n_positions=48, initializer_range=0.2
    )
    bart = transformers.BartConfig(
        vocab_size=len(IDS), d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16,
        encoder_attention_heads=2, decoder_attention_heads=2, decoder_ffn_dim=16, init_std=0.2,
        pad_token_id=1, bos_token_id=2, eos_token_id=3, decoder_start_token_id=3,
    )  # fmt: skip
    torch.manual_seed(0)
    return {
        "__name__": "guide",
        "tokenizer": tokenizer,
        "classifier": transformers.BertForSequenceClassification(bert).eval(),
        "tagger": transformers.BertForTokenClassification(bert).eval(),
        "reader": transformers.BertForQuestionAnswering(bert).eval(),
        "filler": transformers.BertForMaskedLM(bert).eval(),
        "encoder": transformers.BertModel(bert).eval(),
        "lm": transformers.GPT2LMHeadModel(gpt2).eval(),
        "mt": transformers.BartForConditionalGeneration(bart).eval(),
        "bag": Bag(),
        "to_ids": lambda text: [IDS[word] for word in text.split()],
    }
