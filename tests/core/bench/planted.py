"""A plugin with planted cases, methods and metrics; as a script it is ``ig`` with that plugin."""

import os
import signal
import sys
import types
from pathlib import Path

import torch

import ig_core as ig
from ig_core import methods

EVIL = "<img src=x onerror=alert(1)>[red]x[/red]\x1b[31m\x07"


def polynomial(x):
    return x[:, 0] ** 3 + x[:, 0] * x[:, 1] - x[:, 2]


def inputs():
    return list(torch.rand(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))


def closed_form(folder):
    return ig.Loaded(polynomial, inputs(), facts={"made": "by hand"})


def flat(folder):
    return ig.Loaded(lambda x: 0 * x.sum(1) + 1, inputs())


def broken(folder):
    raise RuntimeError(f"no such weights in {Path.home() / 'secret'}")


def evil(folder):
    units = ig.Units((EVIL, "b", "c"), {"x": torch.arange(3)})
    return ig.Loaded(polynomial, inputs(), options={"units": units}, facts={EVIL: EVIL})


class Raising(ig.Method):
    """Never gives anything."""

    name = "raising"

    def attribute(self, task):
        raise ZeroDivisionError(EVIL)


class Killed(methods.IntegratedGradients):
    """IG that ends its process, as an out-of-memory killer would, until it may live."""

    name = "killed"

    def attribute(self, task):
        lives = Path(os.environ["LIVES"])
        left = int(lives.read_text())
        if left:
            lives.write_text(str(left - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().attribute(task)


class Undefined(ig.Metric):
    """Defined for no example."""

    name = "undefined"
    higher_is_better = True

    def measure(self, attribution, game):
        return float("nan")


class Noise(ig.Metric):
    """Whatever the random state gives, so that an unseeded run shows."""

    name = "noise"
    higher_is_better = None

    def measure(self, attribution, game):
        return float(attribution.scores.abs().sum()) + game.seed


class Fragile(ig.Metric):
    """Raises."""

    name = "fragile"
    higher_is_better = True

    def measure(self, attribution, game):
        raise KeyError("lost")


def case(name, load, **more):
    return ig.BenchmarkCase(name, "tensor", load, **{"tags": ("planted",), **more})


CASES = (
    case("planted/polynomial", closed_form, tags=("planted", "smoke"), licence="none"),
    case("planted/second", closed_form),
    case("planted/flat", flat),
    case("planted/broken", broken),
    case("planted/absent", closed_form, requires=("no_such_package",), extra="ig-core[moon]"),
    case(f"planted/{EVIL}", evil, source=EVIL, licence=EVIL),
)


def plugin():
    module = types.ModuleType("planted")
    module.ig_benchmark_cases = ig.hookimpl(lambda: CASES)
    module.ig_methods = ig.hookimpl(lambda: [Raising, Killed])
    module.ig_metrics = ig.hookimpl(lambda: [Undefined, Noise, Fragile])
    return module


if __name__ == "__main__":
    from ig_core.cli import main

    ig.plugins().register(plugin(), "planted")
    main(sys.argv[1:])
