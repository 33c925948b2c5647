from __future__ import annotations

import gc
import time
import warnings
import weakref
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import ig_core as ig
from ig_core.adaptive import Adaptive

X = torch.tensor([[1.0, 2.0], [3.0, -1.0]])


def squares(x: Tensor) -> Tensor:
    return (x**2).sum(1)


class Words(ig.Domain):
    """Strings of digits: one example is a string, a batch a list of them."""

    name = "words"
    layouts = {"x": ig.Pad()}  # noqa: RUF012

    def encode(self, raw, target=None):
        x = torch.tensor([[float(c)] for c in raw])
        units = ig.Units(tuple(raw), {"x": torch.arange(len(raw))}, kind="digit")
        return ig.Example({"x": x}, target=target, units=units, display={"text": raw})

    def forward(self, rows):
        return rows.select(self.model(rows["x"]).sum((1, 2)))


def test_one_example_gives_one_and_a_list_gives_a_list() -> None:
    domain = Words(lambda x: x**2)
    one = ig.attribute(domain.model, "12", domain=domain)
    assert isinstance(one, ig.Attribution)
    assert one.top() == [("2", pytest.approx(4)), ("1", pytest.approx(1))]
    assert one.display == {"text": "12"}
    several = ig.attribute(domain.model, ["12", "345"], domain=domain)
    assert [r.scores.tolist() for r in several] == [
        pytest.approx([1, 4]),
        pytest.approx([9, 16, 25]),
    ]
    assert ig.attribute(domain.model, [], domain=domain) == []


class Finished(Words):
    """Adds to every result what F is where all digits are nines, asked for all of them at once."""

    def finish(self, task, results):
        nines = [{"x": torch.full_like(e.inputs["x"], 9.0)} for e in task.examples]
        found = task.values_of(task.examples, nines).tolist()
        return [
            replace(result, display={**result.display, "facts": {"F(nines)": f"{value:g}"}})
            for result, value in zip(results, found, strict=True)
        ]


def test_a_domain_completes_the_results_of_a_call() -> None:
    calls: list[tuple[int, ...]] = []

    def model(x: Tensor) -> Tensor:
        calls.append(tuple(x.shape))
        return x**2

    results = ig.attribute(None, ["12", "345"], domain=Finished(model))
    assert [r.display["facts"] for r in results] == [{"F(nines)": "162"}, {"F(nines)": "243"}]
    assert calls[-1] == (2, 3, 1), "one pass for both"
    assert results[0].card().facts["F(nines)"] == "162"
    assert "F(nines)" in results[1].to_html()


def test_a_list_of_targets_needs_a_list_of_examples() -> None:
    with pytest.raises(ig.TargetError, match="a list of targets needs a list of examples"):
        ig.attribute(None, "12", domain=Words(lambda x: x), target=[0])


def test_the_domain_is_guessed_named_or_given() -> None:
    [guessed, _] = ig.attribute(squares, X)
    [named, _] = ig.attribute(squares, X, domain="tensor")
    assert guessed.provenance["domain"] == named.provenance["domain"] == "tensor"
    given = ig.attribute(None, "12", domain=Words(lambda x: x))
    assert given.provenance["domain"] == "words"


def test_the_rules_have_one_value_where_the_integrand_is_linear() -> None:
    for rule in (
        {},
        {"rule": Adaptive()},
        {"rule": "midpoint", "steps": 3},
        {"rule": "trapezoid", "steps": 1},
    ):
        for result, row in zip(ig.attribute(squares, X, **rule), X, strict=True):
            torch.testing.assert_close(result.values, row**2)


def test_the_result_names_what_was_asked_for() -> None:
    facts = ig.attribute(squares, X, rule="midpoint", steps=3)[0].provenance
    assert (facts["rule"], facts["steps"], facts["model"]) == ("fixed", 3, "function")
    assert ig.attribute(nn.Linear(2, 1), X)[0].provenance["model"] == "Linear"


def test_a_float_tensor_of_parameters_is_never_touched() -> None:
    net = nn.Linear(2, 1)
    ig.attribute(net, X)
    assert net.weight.grad is None and net.weight.requires_grad


@pytest.mark.unwatched
def test_one_warning_a_call_names_the_worst() -> None:
    zigzag = lambda x: x.sum(1) + ((x * 997) % 1 - 0.5).abs().sum(1) / 997  # noqa: E731
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = ig.attribute(zigzag, X, tol=1e-5)
    assert [w.category for w in caught] == [ig.NotConvergedWarning]
    number = max((0, 1), key=lambda i: max(results[i].error, abs(results[i].residual)))
    told = (
        f"2 of 2 examples missed tol=1e-05 (the worst is number {number}: estimated error "
        f"{results[number].error:.1e} of the values' L1 norm, residual "
    )
    assert told in str(caught[0].message)
    assert f" of the difference, worst panel {results[number].worst[0]})" in str(caught[0].message)
    assert caught[0].filename == __file__, "the warning points at the call"


def test_one_vector_is_told_to_be_a_batch_of_numbers() -> None:
    net, vector = nn.Linear(3, 1), torch.ones(3)
    taken = torch.ones(4)  # four numbers, which the network cannot take for one row either
    with pytest.raises(ig.ModelError, match=r"a single number: .*, and one vector .* x\[None\]"):
        ig.attribute(net, taken)
    [result] = ig.attribute(net, vector[None])
    assert result.status == "converged"


def test_targets_may_be_a_range() -> None:
    net = nn.Linear(2, 4)
    [[*several]] = ig.attribute(net, X[:1].float(), targets=range(1, 3))
    [single] = ig.attribute(net, X[:1].float(), target=2)
    assert len(several) == 2 and torch.equal(several[1].values, single.values)


def test_failures_and_misses_share_one_warning() -> None:
    def model(x: Tensor) -> Tensor:
        zigzag = x.sum(1) + ((x * 997) % 1 - 0.5).abs().sum(1) / 997
        return torch.where(x[:, 0] > 2.9, torch.nan, zigzag)

    with pytest.warns(
        ig.NotConvergedWarning, match="1 of 2 examples failed: .*; 1 of 2 examples missed"
    ):
        ig.attribute(model, X, tol=1e-5)


def test_progress_true_draws_a_bar_that_ends(capsys: pytest.CaptureFixture[str]) -> None:
    ig.attribute(squares, X, progress=True)
    assert "2/2" in capsys.readouterr().out


def test_a_progress_function_is_told() -> None:
    seen: list[ig.Progress] = []
    ig.attribute(squares, X, progress=seen.append)
    assert seen == [ig.Progress(evaluations=10, open=0, total=2)]


def test_a_seed_makes_a_call_reproducible_and_leaves_torch_s_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    options = {
        "baseline": ig.Samples(torch.randn(50, 2, generator=torch.Generator().manual_seed(1))),
        "seed": 9,
    }
    first, again = (ig.attribute(squares, X, **options) for _ in range(2))
    assert all(torch.equal(a.values, b.values) for a, b in zip(first, again, strict=True))
    assert torch.equal(torch.rand(3), expected)


def test_a_call_gives_the_same_twice() -> None:
    net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
    first, again = (ig.attribute(net, X, tol=0.1) for _ in range(2))
    assert all(torch.equal(a.values, b.values) for a, b in zip(first, again, strict=True))


def test_a_task_can_be_prepared_without_being_run() -> None:
    domain = Words(lambda x: x**2)
    with domain.prepared():
        task = ig.prepare(domain, ["12", "3"], baseline=1.0, tol=0.5)
        [one, two] = [integral for _, integral in task.integrals()]
    assert one.values["x"].tolist() == [[0], [3]]
    assert two.values["x"].tolist() == [[8]]
    assert task.tol == 0.5 and len(task.examples) == 2


@pytest.mark.filterwarnings("ignore::ig_core.errors.NotConvergedWarning")
def test_a_warm_call_on_a_tiny_network_costs_milliseconds() -> None:
    """64 states x 50 steps take about 10 ms; a loop over rows would take seconds."""
    net = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    states = torch.randn(64, 4)
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        ig.attribute(net, states, target=0, rule="gauss-legendre", steps=50, tol=0.999)
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.25


class Tuned(Words):
    """A domain with one option that it needs and one that it does not."""

    name = "tuned"

    def __init__(self, model: object, *, tokenizer: object, gain: float = 1.0) -> None:
        super().__init__(model)

    @classmethod
    def accepts(cls, model: object, raw: object) -> bool:
        return raw == "12"


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ig.PluginManager, "domain", lambda self, name: Tuned)
    monkeypatch.setattr(ig.PluginManager, "guess", lambda self, model, raw: Tuned)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"domain": "tuned", "tokeniser": 1},
            r"^domain 'tuned' has no option 'tokeniser'; did you mean 'tokenizer'\? "
            r"Options: tokenizer, gain$",
        ),
        (
            {"tokenizer": 1, "size": 1},
            r"^domain 'tuned' \(guessed: domain= names another\) has no option 'size'\. Options: ",
        ),
        ({"domain": "tuned", "tokenizer": 1, "tolerance": 1}, r"did you mean 'tol'\?"),
        ({"domain": "tuned"}, r"^domain 'tuned' needs the option 'tokenizer'; see help\(Tuned\)$"),
        ({"tokenizer": 1, "tragets": 1}, "did you mean 'targets'"),
        ({"baselines": 0}, "^Captum's 'baselines' is here baseline=$"),
        ({"additional_forward_args": ()}, "per_example= or shared="),
        ({"n_steps": 50}, "rule='gauss-legendre', steps="),
        ({"internal_batch_size": 8}, "nothing: rows are packed"),
    ],
)
def test_an_option_that_the_domain_lacks_is_told_in_words(
    tuned: None, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ig.InputError, match=message):
        ig.attribute(squares, "12", **options)


def test_a_mistake_inside_a_domain_is_not_taken_for_a_wrong_option(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(Words):
        def __init__(self, model: object) -> None:
            super().__init__(model, 2)

    monkeypatch.setattr(ig.PluginManager, "domain", lambda self, name: Broken)
    with pytest.raises(TypeError, match="positional"):
        ig.attribute(squares, "12", domain="broken")


def test_the_help_of_attribute_names_the_domains_and_their_options() -> None:
    told = ig.attribute.__doc__ or ""
    for name in ("TextDomain", "GraphDomain", "SequenceDomain", "AgentDomain", "help("):
        assert name in told


def test_a_result_does_not_keep_the_model_alive() -> None:
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    [result, _] = ig.attribute(net, X)
    kept = weakref.ref(net)
    del net
    gc.collect()
    assert kept() is None
    assert "residual" in result.to_text() and result.to_html()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.ones(2, 2, device="meta"), "is on 'meta', without numbers"),
        (torch.nested.nested_tensor(list(X), layout=torch.jagged), r"is nested: pass the list"),
    ],
)
def test_tensors_without_plain_numbers_are_refused(x: Tensor, message: str) -> None:
    with pytest.raises(ig.InputError, match=message):
        ig.attribute(squares, x)


@pytest.mark.parametrize("point", [3, "a", {"x": 3}])
def test_a_point_of_a_piecewise_path_is_a_tensor(point: object) -> None:
    with pytest.raises(ig.InputError, match="a point of a piecewise path must be a tensor"):
        ig.attribute(squares, X, path=ig.Piecewise([point]))
