"""The core's own benchmark cases: a saturating formula, and a network trained on real data."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ig_core.case import BenchmarkCase, Loaded, made_once
from ig_core.example import Units


def saturated(x: Tensor) -> Tensor:
    """1 - relu(1 - x0) + tanh(x1 x2) - x3 / 2: flat at most inputs, so that gradients mislead."""
    return 1 - (1 - x[:, 0]).relu() + (x[:, 1] * x[:, 2]).tanh() - x[:, 3] / 2


def _load_saturated(folder: Path) -> Loaded:
    inputs = 1 + torch.rand(32, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Loaded(
        saturated, list(inputs), facts={"function": str(saturated.__doc__).partition(":")[0]}
    )


def _load_mlp(folder: Path) -> Loaded:
    """Wisconsin breast cancer: 30 measurements of a cell's nuclei, benign or malignant."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    inputs = torch.tensor(data.data, dtype=torch.float32)
    labels = torch.tensor(data.target)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    train, test = order[:400], order[400:]
    inputs = (inputs - inputs[train].mean(0)) / inputs[train].std(0)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2)
    )

    def fit(file: Path) -> None:
        loss = nn.CrossEntropyLoss()
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-3)
        for _ in range(100):
            optimiser.zero_grad()
            torch.autograd.backward(loss(model(inputs[train]), labels[train]))
            optimiser.step()
        save_file(model.state_dict(), file)

    model.load_state_dict(load_file(made_once(folder / "mlp.safetensors", fit)))
    with torch.no_grad():
        found = model(inputs[test]).argmax(1)
    names = tuple(map(str, data.feature_names))
    return Loaded(
        model,
        list(inputs[test[:64]]),
        targets=found[:64],
        options={"units": Units(names, {"x": torch.arange(30)}, kind="measurement")},
        facts={
            "model": "multilayer perceptron 30-32-16-2, ReLU",
            "explained": "logit of the predicted class (0 malignant, 1 benign)",
            "baseline": "the mean patient (zeros of the standardised measurements)",
            "test accuracy": f"{(found == labels[test]).double().mean():.3f} on {len(test)}",
        },
    )


CASES = (
    BenchmarkCase("saturated-gate", "tensor", _load_saturated, licence="Apache-2.0"),
    BenchmarkCase(
        "breast-cancer",
        "tensor",
        _load_mlp,
        requires=("sklearn",),
        licence="CC BY 4.0",
        source="Breast Cancer Wisconsin (Diagnostic), UCI, doi:10.24432/C5DW2B, in scikit-learn",
        real=True,
    ),
)
"""What the core registers."""
