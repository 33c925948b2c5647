"""What the core registers itself, through the same hooks as any plugin."""

from __future__ import annotations

from ig_core.analyses import Analysis, BaselineAgreement
from ig_core.baselines import Baseline, Constant, Given, Mean, Samples, Zeros
from ig_core.case import BenchmarkCase
from ig_core.cases import CASES
from ig_core.domain import Domain
from ig_core.hookspecs import hookimpl
from ig_core.methods import GradientTimesInput, IntegratedGradients, Method, Negated, Random
from ig_core.metrics import Completeness, Evaluations, Metric, RemovalArea
from ig_core.paths import Path, Piecewise, Straight
from ig_core.tensors import TensorDomain


@hookimpl
def ig_domains() -> list[type[Domain]]:
    return [TensorDomain]


@hookimpl
def ig_paths() -> list[type[Path]]:
    return [Straight, Piecewise]


@hookimpl
def ig_baselines() -> list[type[Baseline]]:
    return [Zeros, Constant, Mean, Given, Samples]


@hookimpl
def ig_methods() -> list[type[Method]]:
    return [IntegratedGradients, GradientTimesInput, Random, Negated]


@hookimpl
def ig_metrics() -> list[type[Metric]]:
    return [Completeness, RemovalArea, Evaluations]


@hookimpl
def ig_analyses() -> list[type[Analysis]]:
    return [BaselineAgreement]


@hookimpl
def ig_benchmark_cases() -> list[BenchmarkCase]:
    return list(CASES)
