"""Series that small networks tell apart: power demand, vowels, motions, appliances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from ig_core import BenchmarkCase, Loaded
from ig_sequences.cases.memory import remembered
from ig_sequences.cases.readers import Convolutions, Recurrent
from ig_sequences.cases.series import packaged
from ig_sequences.cases.training import Schedule, accuracy, classifier, digest, predicted, spread


@dataclass(frozen=True, kw_only=True)
class Classified:
    """A data set of the package aeon, the network fitted to it, and how its parts are called.

    ``build`` takes the number of ``features`` and of ``outputs``, ``steps`` names a step by its
    place; ``count`` sequences of the test set are explained.
    """

    name: str
    build: Callable[..., nn.Module]
    about: str
    schedule: Schedule
    count: int
    classes: Sequence[str]
    features: Sequence[str]
    steps: Callable[[int], str] | None = None

    def __call__(self, folder: Path) -> Loaded:
        """The network on sequences of the test set: the predicted class against the runner-up.

        Raises:
            StorageError: the series are not in ``folder`` and could not be fetched.
        """
        train, test = packaged(self.name, folder)
        path = folder / f"{self.name}-weights.safetensors"
        build = partial(self.build, features=train.features, outputs=len(train.names))
        model = classifier(build, train, path, self.schedule)
        right = accuracy(model, test)
        shown = [test.sequences[i] for i in spread(test.classes, self.count)]
        options: dict[str, Any] = {"feature_names": self.features}
        if self.steps is not None:
            options["labels"] = lambda x: [self.steps(t) for t in range(len(x))]
        loaded = Loaded(
            model,
            shown,
            predicted(model, shown, self.classes),
            baseline="mean",
            options=options,
            facts={
                "explained": "logit of the predicted class minus that of the runner-up",
                "baseline": "the mean of each feature over these sequences, at every step",
                "model": self.about,
                "test accuracy": f"{right:.3f} on {len(test)}, fitted to {len(train)}",
                "weights sha256": digest(path),
            },
        )
        return remembered(loaded) if isinstance(model, Recurrent) else loaded


POWER = Classified(
    name="ItalyPowerDemand",
    build=partial(Recurrent, nn.GRU, width=16),
    about="GRU of width 16",
    schedule=Schedule(epochs=100, batch=67),
    count=16,
    classes=("October to March", "April to September"),
    features=("demand",),
    steps=lambda hour: f"{hour:02}:00",
)
"""Electric power that Italy took in each hour of a day, standardised by the day."""

VOWELS = Classified(
    name="JapaneseVowels",
    build=partial(Recurrent, nn.LSTM, width=32),
    about="LSTM of width 32 on packed sequences of 7 to 29 steps",
    schedule=Schedule(epochs=20, batch=32),
    count=18,
    classes=tuple(f"speaker {number}" for number in range(1, 10)),
    features=tuple(f"cepstrum {number}" for number in range(1, 13)),
)
"""Two vowels that nine men said one after the other, as twelve coefficients at every step."""

MOTIONS = Classified(
    name="BasicMotions",
    build=partial(Recurrent, nn.GRU, width=16),
    about="GRU of width 16",
    schedule=Schedule(epochs=100, batch=10, decay=1e-2),
    count=16,
    classes=("standing", "running", "walking", "badminton"),
    features=tuple(f"{sensor} {axis}" for sensor in ("acceleration", "turn") for axis in "xyz"),
    steps=lambda step: f"{step / 10:.1f} s",
)
"""What a watch on a wrist measured ten times a second."""

APPLIANCES = Classified(
    name="ACSF1",
    build=partial(Convolutions, width=32),
    about="three convolutions of stride 2, batch norm, mean and peak over time",
    schedule=Schedule(epochs=60, batch=10, rate=1e-3),
    count=10,
    classes=tuple(f"appliance {number}" for number in range(10)),
    features=("power",),
)
"""The power that an appliance takes; the file does not say which number is which appliance."""

CASES = [
    BenchmarkCase(
        name=name,
        domain="sequences",
        load=load,
        tags=(suite,),
        licence=licence,
        source=f"{source}, in aeon 1.6.0",
        real=True,
    )
    for name, load, suite, licence, source in (
        (
            "italy-power-demand",
            POWER,
            "smoke",
            "aeon BSD-3-Clause; the series: none stated (UCR archive)",
            "Keogh et al. (2006), Intelligent Icons, doi:10.1109/ICDM.2006.90",
        ),
        (
            "japanese-vowels",
            VOWELS,
            "smoke",
            "aeon BSD-3-Clause; the series CC BY 4.0 (UCI)",
            "Kudo, Toyama and Shimbo (1999), doi:10.24432/C5NS47",
        ),
        (
            "basic-motions",
            MOTIONS,
            "default",
            "aeon BSD-3-Clause; the series: none stated (UEA archive)",
            "Students' project, University of East Anglia",
        ),
        (
            "appliances-acsf1",
            APPLIANCES,
            "default",
            "aeon BSD-3-Clause; the series: none stated (UCR archive)",
            "Gisler et al. (2013), doi:10.1109/WoSSPA.2013.6602380",
        ),
    )
]
