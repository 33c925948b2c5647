"""Integrated Gradients for text, graphs, sequences and reinforcement learning.

>>> import torch
>>> import ig_core as ig
>>> [result] = ig.attribute(lambda x: (x**2).sum(1), torch.tensor([[1.0, 2.0]]))
>>> [round(v, 6) for v in result.values.tolist()]
[1.0, 4.0]
"""

from ig_core.analyses import Agreement, Analysis, BaselineAgreement
from ig_core.api import attribute, load, prepare
from ig_core.attribution import Attribution
from ig_core.baselines import Baseline, Constant, Given, Mean, Samples, Zeros
from ig_core.bench.archive import Archive
from ig_core.case import BenchmarkCase, Loaded, made_once
from ig_core.domain import Domain
from ig_core.engine import Progress
from ig_core.errors import (
    BaselineError,
    ForwardError,
    IGError,
    IGWarning,
    InputError,
    MissingFrameworkError,
    ModelChangedWarning,
    ModelError,
    NameClashError,
    NoGradientError,
    NonFiniteError,
    NotConvergedError,
    NotConvergedWarning,
    OutputError,
    PluginError,
    PluginWarning,
    StorageError,
    TargetError,
    UnknownNameError,
)
from ig_core.example import Example, Target, Units
from ig_core.hookspecs import hookimpl
from ig_core.layout import Cat, Layout, Pad, Stack
from ig_core.manager import PluginManager, PluginRecord, plugins
from ig_core.methods import Method, Task
from ig_core.metrics import Game, Metric
from ig_core.paths import Path, Piecewise, Straight
from ig_core.quadrature import Rule
from ig_core.report.card import Card
from ig_core.report.figure import embedded as embedded_figure
from ig_core.report.figure import new as new_figure
from ig_core.report.figure import saved as saved_figure
from ig_core.report.figure import words as figure_words
from ig_core.report.html import heat, page, templates
from ig_core.report.plain import number as plain_number
from ig_core.report.plain import numbers as plain_numbers
from ig_core.report.table import Table
from ig_core.report.text import clean, shortened, signed
from ig_core.results import Integral
from ig_core.rows import Rows
from ig_core.site import Site
from ig_core.tensors import Selector, pick

__version__ = "0.1.0"

__all__ = [
    "Agreement", "Analysis", "Archive", "Attribution", "Baseline", "BaselineAgreement",
    "BaselineError", "BenchmarkCase", "Card", "Cat", "Constant", "Domain", "Example",
    "ForwardError", "Game", "Given", "IGError", "IGWarning", "InputError", "Integral", "Layout",
    "Loaded", "Mean", "Method", "Metric", "MissingFrameworkError", "ModelChangedWarning",
    "ModelError", "NameClashError", "NoGradientError", "NonFiniteError", "NotConvergedError",
    "NotConvergedWarning", "OutputError", "Pad", "Path", "Piecewise", "PluginError",
    "PluginManager", "PluginRecord", "PluginWarning", "Progress", "Rows", "Rule", "Samples",
    "Selector", "Site", "Stack", "StorageError", "Straight", "Table", "Target", "TargetError",
    "Task", "Units", "UnknownNameError", "Zeros", "attribute", "clean", "embedded_figure",
    "figure_words", "heat", "hookimpl", "load", "made_once", "new_figure", "page", "pick",
    "plain_number", "plain_numbers", "plugins", "prepare", "saved_figure", "shortened", "signed",
    "templates",
]  # fmt: skip
