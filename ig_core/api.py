"""attribute(): the one-call front door."""

from __future__ import annotations

import difflib
import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ig_core import invariance
from ig_core.adaptive import rule_named
from ig_core.attribution import ADVICE, Attribution
from ig_core.baselines import Baseline, Constant, Given, check_starts
from ig_core.domain import Domain
from ig_core.engine import Progress
from ig_core.errors import (
    BaselineError,
    IGError,
    IGWarning,
    InputError,
    NonFiniteError,
    NotConvergedError,
    NotConvergedWarning,
    TargetError,
)
from ig_core.example import Example, all_finite
from ig_core.manager import PluginManager, plugins
from ig_core.methods import Method, Task
from ig_core.paths import Inputs, Path
from ig_core.quadrature import Rule
from ig_core.report.bar import teller

SMALLEST_BUDGET = 11
"""The adaptive rule begins a leg that may have kinks with so many nodes."""

CAPTUM = {
    "baselines": "baseline=",
    "additional_forward_args": "per_example= or shared=, by the names of the model's arguments",
    "n_steps": "rule='gauss-legendre', steps=",
    "internal_batch_size": "nothing: rows are packed into chunks that fit",
    "return_convergence_delta": "nothing: every result has its residual",
}
"""What Captum's arguments are here."""

ALIASES = {"tolerance": "tol"}
"""What else some options could have been called."""


def attribute(
    model: Any,
    inputs: Any,
    *,
    domain: str | Domain | None = None,
    target: Any = None,
    targets: Any = None,
    baseline: Any = None,
    path: str | Path = "straight",
    method: str | Method = "ig",
    tol: float = 1e-2,
    budget: int = 512,
    rule: str | Rule = "adaptive",
    steps: int | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    strict: bool = False,
    progress: bool | Callable[[Progress], None] | None = None,
    **domain_options: Any,
) -> Attribution | list[Attribution] | list[list[Attribution]]:
    """Explain one number of a model's output by its inputs.

    >>> import torch
    >>> import ig_core as ig
    >>> [result] = ig.attribute(lambda x: x[:, 0] * x[:, 1], torch.tensor([[2.0, 3.0]]))
    >>> [round(v, 6) for v in result.values.tolist()], round(result.delta, 6)
    ([3.0, 3.0], 6.0)

    Args:
        model: what to explain; it is left exactly as it was found.
        inputs: one example, or a batch: a list, or a tensor whose first dimension counts
            examples. What an example is depends on the domain.
        domain: name or instance of the domain; guessed from model and inputs if not given. The
            built-in ones are ``"tensor"`` and those of the four plugins: ``"text"``
            (:class:`ig_text.TextDomain`), ``"graphs"`` (:class:`ig_graphs.GraphDomain`),
            ``"sequences"`` (:class:`ig_sequences.SequenceDomain`), ``"rl"``
            (:class:`ig_rl.AgentDomain`).
        target: the number to explain: an index, a tuple with one index per output dimension, a
            function of the output, a list with one of these per example, or None where the
            output is a single number (some domains choose by themselves then).
        targets: several numbers of every output, each given as for ``target``, explained
            together: what is returned for one example is then a list with one result per target,
            in that order. The results are those of single calls (up to rounding); the forward
            passes are shared. Some domains know more than lists, such as ``"each"`` for every
            generated token of a text.
        baseline: where the path starts: a name, a :class:`Baseline`, a number, a tensor (of one
            example, or of the batch), a mapping by input name, a function of the example, or a
            list of these, whose results are averaged. The domain's own by default.
        path: name or instance of the path.
        method: name or instance of the method.
        tol: relative tolerance of the estimated L1 error and of the residual.
        budget: gradient evaluations per example and start, at least 11 (for each leg of the path:
            a rule's first nodes, and all nodes of a fixed rule, are never left out).
        rule: ``"adaptive"``, which computes the kinks of a ReLU network by itself where they are
            few; ``"exact"``, for piecewise linear networks only (paths of more than ``budget``
            pieces are refined instead); or a fixed rule (``"gauss-legendre"``, ``"midpoint"``,
            ``"trapezoid"``) with ``steps``.
        steps: steps of a fixed rule, for each leg of the path.
        device: where to compute; where the model is by default.
        seed: of everything random.
        strict: raise instead of warning when an example fails or misses the tolerance.
        progress: True for a bar, or a function that is told the progress.
        **domain_options: options of the domain, such as ``tokenizer=``; they are documented with
            its class: ``help(ig_text.TextDomain)``, or ``help(ig.plugins().domain("tensor"))``.

    Returns:
        One :class:`Attribution` for one example, a list for a batch (empty for an empty batch);
        with ``targets`` a list of them in place of each.

    Raises:
        InputError: inputs, target, baseline or options that cannot be attributed.
        ModelError, NonFiniteError: no example at all could be explained.
        NotConvergedError: ``strict`` and an example missed its tolerance.
    """
    manager = plugins()
    subject = _domain(manager, model, inputs, domain, domain_options)
    chosen = _component(manager, "method", method, Method, subject.name)
    raws = subject.split(inputs)
    with subject.prepared():
        task = prepare(
            subject,
            [inputs] if raws is None else raws,
            target=target,
            targets=targets,
            baseline=baseline,
            path=path,
            tol=tol,
            budget=budget,
            rule=rule,
            steps=steps,
            device=device,
            seed=seed,
            batch=raws is not None,
        )
        if not task.examples:
            return []
        with _told(progress, len(task.examples)) as tell:
            results = list(chosen.attribute(replace(task, progress=tell)))
        results = list(subject.finish(task, results))
    found = [
        results[i * task.targets : i * task.targets + count] for i, count in enumerate(task.own)
    ]
    told = [result for own in found for result in own]
    _judge(told, tol, strict, "examples" if targets is None else "results")
    if targets is None:
        return results if raws is not None else results[0]
    return found if raws is not None else found[0]


def load(path: str | FilePath) -> Attribution:
    """Read a saved attribution, with the views and units of its domain if that is installed.

    Raises:
        StorageError: there is no such file, or it is no attribution, or damaged.
    """
    found = Attribution.load(path)
    try:
        own = plugins().domain(str(found.provenance.get("domain")))
    except IGError:
        return found
    return replace(found, view=own.render, grouping=own.regroup)


def prepare(
    domain: Domain,
    raws: Sequence[Any],
    *,
    target: Any = None,
    targets: Any = None,
    baseline: Any = None,
    path: str | Path = "straight",
    tol: float = 1e-2,
    budget: int = 512,
    rule: str | Rule = "adaptive",
    steps: int | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    batch: bool = True,
) -> Task:
    """The checked task of explaining some raw inputs; call it inside ``domain.prepared()``.

    With several ``targets`` it has an example for each, those of one raw input in a row.
    """
    manager = plugins()
    _check_numbers(tol, budget, seed)
    chosen = _component(manager, "path", path, Path, domain.name).of(domain)
    asked = _rule(rule, steps)
    columns, own = _columns(domain, raws, target, targets, batch)
    several = len(columns)
    examples = [domain.encode(raw, column[i]) for i, raw in enumerate(raws) for column in columns]
    starts: list[Sequence[Inputs]] = [()] * len(examples)
    for first in range(several):  # position and number of examples are those of a call alone
        some = examples[first::several]
        _check(some)
        starts[first::several] = check_starts(
            some, [_starts(manager, domain, baseline, some, i, seed) for i in range(len(some))]
        )
    return Task(
        domain=domain,
        examples=examples,
        starts=starts,
        device=domain.device(device, examples[0]) if examples else torch.device("cpu"),
        path=chosen,
        rule=asked,
        tol=tol,
        budget=budget,
        seed=seed,
        provenance={
            "model": type(domain.model).__name__,
            "domain": domain.name,
            "path": chosen.name,
            "baseline": _baseline_name(baseline, domain),
            "rule": asked.name,
            "steps": steps,
            "tol": tol,
            "budget": budget,
            "seed": seed,
            "torch": torch.__version__,
        },
        targets=several,
        own=own,
    )


def _domain(
    manager: PluginManager,
    model: Any,
    inputs: Any,
    domain: str | Domain | None,
    options: Mapping[str, Any],
) -> Domain:
    if isinstance(domain, Domain):
        if options:
            raise InputError(
                f"options {sorted(options)} belong to the domain, which was given ready made"
            )
        return domain
    if domain is not None and not isinstance(domain, str):
        raise InputError(f"domain must be a name or a Domain (got {domain!r})")
    found = manager.guess(model, inputs) if domain is None else manager.domain(domain)
    guessed = " (guessed: domain= names another)" if domain is None else ""
    _check_options(found, options, f"domain {found.name!r}{guessed}")
    return found(model, **options)


def _check_options(domain: type[Domain], options: Mapping[str, Any], called: str) -> None:
    takes = _parameters(domain)
    known = [p.name for p in takes if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    anything = any(p.kind == p.VAR_KEYWORD for p in takes)
    for name in options if not anything else ():
        if name in known:
            continue
        if name in CAPTUM:
            raise InputError(f"Captum's {name!r} is here {CAPTUM[name]}")
        names = [*known, *inspect.signature(attribute).parameters]
        close = [n for n in names if n == ALIASES.get(name)] or difflib.get_close_matches(
            name, names
        )
        hint = f"; did you mean {close[0]!r}?" if close else "."
        told = ", ".join(known) or "none"
        raise InputError(f"{called} has no option {name!r}{hint} Options: {told}")
    for p in takes:
        if p.name in known and p.default is p.empty and p.name not in options:
            raise InputError(f"{called} needs the option {p.name!r}; see help({domain.__name__})")


@lru_cache(maxsize=64)
def _parameters(domain: type[Domain]) -> Sequence[inspect.Parameter]:
    """What a domain takes besides the model; looked up once, because that is slow."""
    return list(inspect.signature(domain).parameters.values())[1:]


def _component(manager: PluginManager, kind: str, given: Any, base: type, domain: str) -> Any:
    if isinstance(given, base):
        fits = getattr(given, "fits", ())
        if fits and domain not in fits:
            raise InputError(
                f"the {kind} {getattr(given, 'name', given)!r} is for {', '.join(fits)}, "
                f"not for {domain!r}"
            )
        return given
    if not isinstance(given, str):
        raise InputError(f"{kind} must be a name or a {base.__name__} (got {given!r})")
    found = manager.find(kind, given, domain)
    try:
        return found()
    except TypeError as error:
        raise InputError(
            f"the {kind} {given!r} needs arguments; pass an instance of {found.__name__} ({error})"
        ) from error


def _rule(given: Any, steps: int | None) -> Rule:
    if isinstance(given, Rule):
        if steps is not None:
            raise InputError(f"steps={steps!r} belongs to the name of a rule (got a Rule)")
        return given
    return rule_named(given if isinstance(given, str) else repr(given), steps)


def _columns(
    domain: Domain, raws: Sequence[Any], target: Any, targets: Any, batch: bool
) -> tuple[list[list[Any]], list[int]]:
    """First targets of all inputs, second ones, and so on; and how many are each input's own.

    An input with fewer targets than another is given its last one again, whose rows are shared.
    """
    if targets is None:
        return [_targets(target, len(raws), batch)], [1] * len(raws)
    if target is not None:
        raise TargetError(f"give target= or targets=, not both (got {target!r} and {targets!r})")
    targets = _plain(list(targets) if isinstance(targets, range) else targets)
    if isinstance(targets, list) and targets:
        return [_targets(one, len(raws), batch) for one in targets], [len(targets)] * len(raws)
    each = [domain.expand(raw, targets) for raw in raws]
    most = max(map(len, each), default=1)
    columns = [[own[min(k, len(own) - 1)] for own in each] for k in range(most)]
    return columns, [len(own) for own in each]


def _targets(target: Any, count: int, batch: bool) -> list[Any]:
    target = _plain(target)
    if not isinstance(target, list):
        return [target] * count
    if not batch:
        raise TargetError(f"a list of targets needs a list of examples (got {target!r} for one)")
    if len(target) != count:
        raise TargetError(f"expected one target for each of {count} examples (got {len(target)})")
    return target


def _plain(target: Any) -> Any:
    """Numbers of torch and numpy as Python's, which results can keep as JSON."""
    if isinstance(target, (Tensor, np.ndarray, np.generic)):
        return target.tolist()
    return type(target)(map(_plain, target)) if type(target) in (list, tuple) else target


def _starts(
    manager: PluginManager,
    domain: Domain,
    baseline: Any,
    examples: Sequence[Example],
    position: int,
    seed: int,
) -> Sequence[Inputs]:
    """The starts of one example's paths, from whatever the user gave."""
    example = examples[position]
    if baseline is None:
        return [domain.baseline(example)]
    if isinstance(baseline, list):
        if not baseline:
            raise BaselineError("a list of baselines needs at least one (got none)")
        each = [_starts(manager, domain, one, examples, position, seed) for one in baseline]
        return [start for starts in each for start in starts]
    if isinstance(baseline, (int, float)) and not isinstance(baseline, bool):
        baseline = Constant(float(baseline))
    elif isinstance(baseline, (Tensor, Mapping, tuple)):
        baseline = Given(_own_part(baseline, example, position, len(examples)))
    elif callable(baseline) and not isinstance(baseline, (Baseline, type)):
        try:
            found = baseline(example)
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise BaselineError(f"the baseline's function raised {told}") from error
        [start] = Given(found).starts(example, domain, torch.Generator())
        return [domain.start(example, start)]
    elif not isinstance(baseline, (str, Baseline)):
        raise BaselineError(
            "a baseline is a name, a Baseline, a number, a tensor, a mapping, a function or a list "
            f"of these (got {baseline!r:.80})"
        )
    chosen = _component(manager, "baseline", baseline, Baseline, domain.name)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + position)
    return [domain.start(example, given) for given in chosen.starts(example, domain, generator)]


def _own_part(given: Any, example: Example, position: int, count: int) -> Inputs:
    """A user's tensors as the start of one example: all of them, or its row of a batch."""
    if isinstance(given, Tensor):
        given = (given,)
    if isinstance(given, tuple):
        if len(given) != len(example.inputs):
            raise BaselineError(
                f"expected one baseline tensor for each of {sorted(example.inputs)} "
                f"(got {len(given)})"
            )
        given = dict(zip(example.inputs, given, strict=True))
    own = {}
    for name, value in given.items():
        if not isinstance(value, Tensor):
            raise BaselineError(f"the baseline of {name!r} must be a tensor (got {value!r})")
        like = example.inputs.get(name)
        batched = like is not None and value.dim() == like.dim() + 1 and len(value) in (count, 1)
        own[name] = value[min(position, len(value) - 1)] if batched else value
    return own


def _baseline_name(baseline: Any, domain: Domain) -> Any:
    if isinstance(baseline, list):
        return [_baseline_name(one, domain) for one in baseline]
    if baseline is None:
        return domain.baseline_name
    if isinstance(baseline, (str, int, float)):
        return baseline
    return baseline.name if isinstance(baseline, Baseline) else "given"


def _check(examples: Sequence[Example]) -> None:
    for position, example in enumerate(examples):
        _check_kind(example, position)
    # All at once, and one by one only to say where.
    if not all_finite([value for example in examples for value in example.inputs.values()]):
        for position, example in enumerate(examples):
            _check_finite(example, position)


def _check_kind(example: Example, position: int) -> None:
    if not example.inputs:
        raise InputError(f"example {position} has no input tensor")
    for name, value in example.inputs.items():
        if value.is_meta:
            raise InputError(f"input {name!r} of example {position} is on 'meta', without numbers")
        if value.layout != torch.strided:
            raise InputError(
                f"input {name!r} of example {position} is sparse ({value.layout}), along which "
                "there is no path: pass its to_dense(), or its values as the input"
            )
        if not value.is_floating_point():
            raise InputError(
                f"input {name!r} of example {position} has dtype {value.dtype}, along which there "
                "is no path: pass floating-point numbers, or for token ids the model's "
                "embeddings (domain='text' does that)"
            )


def _check_finite(example: Example, position: int) -> None:
    for name, value in example.inputs.items():
        bad = (~torch.isfinite(value)).nonzero()
        if len(bad):
            raise NonFiniteError(
                f"input {name!r} of example {position} is NaN or infinite at {bad[0].tolist()}"
            )


def _check_numbers(tol: Any, budget: Any, seed: Any) -> None:
    if isinstance(tol, bool) or not isinstance(tol, (int, float)) or not 0 < tol < 1:
        raise InputError(f"tol must lie between 0 and 1 (got {tol!r})")
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < SMALLEST_BUDGET:
        raise InputError(
            f"budget must be a whole number of at least {SMALLEST_BUDGET} (got {budget!r})"
        )
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"seed must be a whole number from 0 to 2**32 - 1 (got {seed!r})")


def _told(
    progress: bool | Callable[[Progress], None] | None, total: int
) -> AbstractContextManager[Callable[[Progress], None] | None]:
    if callable(progress):
        return nullcontext(progress)
    return teller(total) if progress else nullcontext()


def _judge(results: Sequence[Attribution], tol: float, strict: bool, things: str) -> None:
    """One warning a call for what failed or missed its tolerance; errors where asked for."""
    failed = [a for a in results if a.status == "failed"]
    if failed and (strict or len(failed) == len(results)) and failed[0].cause is not None:
        raise failed[0].cause
    missed = [a for a in results if a.status == "budget"]
    told = []
    if failed:
        told.append(f"{len(failed)} of {len(results)} {things} failed: {failed[0].reason}")
    if missed:
        worst = max(missed, key=_missed_by)
        told.append(
            f"{len(missed)} of {len(results)} {things} missed tol={tol:g} (the worst is number "
            f"{results.index(worst)}: {_shortfall(worst)}); {ADVICE['budget']}"
        )
    unscaled = [a for a in results if invariance.LOOKS in a.reason]
    if unscaled:
        told.append(f"{len(unscaled)} of {len(results)} {things}: {unscaled[0].reason}")
    if missed and strict:
        raise NotConvergedError("; ".join(told))
    if told:
        category = NotConvergedWarning if missed else IGWarning
        warnings.warn("; ".join(told), category, stacklevel=3)


def _missed_by(result: Attribution) -> float:
    """The larger of the relative error and the relative residual."""
    return max(0.0 if math.isnan(result.error) else result.error, _relative_residual(result))


def _relative_residual(result: Attribution) -> float:
    return abs(result.residual / result.delta) if result.delta else abs(result.residual)


def _shortfall(result: Attribution) -> str:
    of = "of the difference" if result.delta else "where there is no difference"
    parts = [f"residual {_relative_residual(result):.1e} {of}"]
    if not math.isnan(result.error):
        parts.insert(0, f"estimated error {result.error:.1e} of the values' L1 norm")
    if result.worst:
        parts.append(f"worst panel {result.worst[0]}")
    return ", ".join(parts)
