"""The conformance kit passes good domains and catches planted bugs by the promise they break."""

import types
import unittest

import pytest
import torch
from torch import nn

import ig_core as ig
from ig_core.testing import TOYS, ConformanceError, NotApplicable, Subject, checks, toys

torch.set_num_threads(1)


# -- two good domains, one of each ragged layout ------------------------------------------------


class Pooled(nn.Module):
    """Mean over time of a nonlinear layer, then a class logit; with dropout and a buffer."""

    def __init__(self, layer=None):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(3, 8)
        self.drop = nn.Dropout(0.5)
        self.outer = nn.Linear(8, 2)
        self.layer = layer
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, mask):
        hidden = torch.tanh(self.inner(x)) * mask[..., None]
        pooled = self.drop(hidden.sum(1) / mask.sum(1, keepdim=True))
        return self.outer(pooled if self.layer is None else self.layer(pooled))


class Series(ig.Domain):
    name = "series"
    layouts = {"x": ig.Pad()}  # noqa: RUF012

    def encode(self, raw, target=None):
        index = torch.arange(len(raw))
        units = ig.Units([f"t{i}" for i in range(len(raw))], {"x": index}, kind="step")
        return ig.Example({"x": raw}, target=target, units=units, display={"length": len(raw)})

    def mask(self, rows):
        steps = torch.arange(rows["x"].shape[1])
        return (steps < rows.sizes("x")[:, None]).to(rows["x"].dtype)

    def forward(self, rows):
        return rows.select(self.model(rows["x"], self.mask(rows)))


class Network(nn.Module):
    """One round of messages along edges, then a sum over the nodes of each graph."""

    def __init__(self, norm=False):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(2, 6)
        self.outer = nn.Linear(6, 1)
        self.norm = norm

    def forward(self, x, edges, graph, count):
        hidden = torch.tanh(self.inner(x))
        if self.norm:
            hidden = hidden - hidden.mean(0)
        hidden = hidden.index_add(0, edges[1], hidden[edges[0]])
        pooled = hidden.new_zeros(count, 6).index_add(0, graph, torch.sigmoid(hidden))
        return self.outer(pooled)


class Graphs(ig.Domain):
    name = "small-graphs"
    layouts = {"x": ig.Cat(), "edges": ig.Cat(dim=1, into="x")}  # noqa: RUF012

    def encode(self, raw, target=None):
        x, edges = raw
        return ig.Example({"x": x}, {"edges": edges}, target)

    def forward(self, rows):
        return rows.select(self.model(rows["x"], rows["edges"], rows.owners("x"), len(rows)))


def _numbers(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


SERIES = (_numbers(5, 3), _numbers(2, 3), _numbers(3, 3))
GRAPHS = (
    (_numbers(4, 2), torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])),
    (_numbers(3, 2), torch.tensor([[0, 2], [1, 1]])),
)


def series(domain=Series, model=Pooled, **options):
    options = {"examples": SERIES, "targets": 1} | options
    return Subject(make=lambda: domain(model()), **options)


def graphs(domain=Graphs, model=Network):
    return Subject(make=lambda: domain(model()), examples=GRAPHS)


def broken(subject):
    """The names of the broken promises, and what was said about each."""
    said = {check.name: outcome(check) for check in checks(subject)}
    return {name: text for name, text in said.items() if text}


def outcome(check):
    try:
        check()
    except NotApplicable:
        return ""
    except ConformanceError as error:
        return str(error)
    return ""


def plugin(**hooks):
    module = types.ModuleType("a_plugin")
    for name, function in hooks.items():
        setattr(module, name, function)
    return module


@pytest.mark.parametrize(
    "subject", [series(smallest=_numbers(1, 3)), graphs()], ids=["series", "graphs"]
)
def test_a_good_domain_keeps_every_promise(subject):
    assert broken(subject) == {}


def test_what_does_not_apply_is_skipped_with_its_reason():
    reasons = {check.name: check.skip_reason for check in checks(graphs()) if check.skip_reason}
    assert reasons == {
        "smallest-example": "the subject has no smallest",
        "import-light": "the subject has no plugin",
        "hooks-are-marked": "the subject has no plugin",
    }
    [padding] = [check for check in checks(graphs()) if check.name == "padding-changes-nothing"]
    with pytest.raises(unittest.SkipTest, match="no input has the layout Pad"):
        padding()


def test_checks_have_distinct_names_and_say_what_is_promised():
    found = list(checks(series()))
    assert len({check.name for check in found}) == len(found) >= 20
    assert all(str(check) == check.name and check.promise.endswith(".") for check in found)


def test_a_subject_needs_two_examples():
    with pytest.raises(ig.InputError, match=r"at least two different examples \(got 1\)"):
        Subject(make=lambda: Series(Pooled()), examples=[SERIES[0]])


def test_a_subject_needs_a_target_for_each_example():
    with pytest.raises(ig.InputError, match=r"one target for each of 3 examples \(got 2\)"):
        series(targets=[0, 1])


# -- planted bugs -------------------------------------------------------------------------------


class NoMask(Series):
    def mask(self, rows):
        return torch.ones(rows["x"].shape[:2])


class Detached(Series):
    def forward(self, rows):
        return rows.select(self.model(rows["x"].detach(), self.mask(rows)))


class WrongCount(Series):
    def forward(self, rows):
        return super().forward(rows).repeat(2)


class WholeNumbers(Series):
    def forward(self, rows):
        return self.model(rows["x"], self.mask(rows)).argmax(1)


class Rounded(Series):
    def forward(self, rows):
        return (100 * super().forward(rows)).round()


class Batched(Series):
    def encode(self, raw, target=None):
        return ig.Example({"x": raw[None]}, target=target)


class TokenIds(Series):
    def encode(self, raw, target=None):
        return ig.Example({"x": raw.long()}, target=target)


class NoLayout(Series):
    def encode(self, raw, target=None):
        return ig.Example({"x": raw}, {"length": torch.tensor(len(raw))}, target)


class Stacked(Series):
    layouts = {"x": ig.Stack()}  # noqa: RUF012


class Jittered(Series):
    def encode(self, raw, target=None):
        return super().encode(raw + 1e-6 * torch.randn_like(raw), target)


class Blank(Series):
    def render(self, attribution, fmt="text"):
        return ""


class WrongBaseline(Series):
    def baseline(self, example):
        return {"x": torch.zeros(3)}


class UnnamedBaseline(Series):
    def baseline(self, example):
        return {"x": torch.ones_like(example.inputs["x"])}


class UnitsOfPadding(Series):
    def encode(self, raw, target=None):
        units = ig.Units(["a", "b"], {"x": torch.tensor([0, 1] * 3)})
        return ig.Example({"x": raw}, target=target, units=units)


class TensorsInDisplay(Series):
    def encode(self, raw, target=None):
        return ig.Example({"x": raw}, target=target, display={"raw": raw})


class InPlace(Series):
    def encode(self, raw, target=None):
        raw -= raw.mean()
        return super().encode(raw, target)


class Unescaped(Series):
    def render(self, attribution, fmt="text"):
        if fmt == "html":
            return "".join(f"<p>{label}</p>" for label in attribution.units.labels)
        return super().render(attribution, fmt)


class UnescapedAttribute(Series):
    def render(self, attribution, fmt="text"):
        if fmt == "html":
            return "".join(f'<p title="{label}">.</p>' for label in attribution.units.labels)
        return super().render(attribution, fmt)


class RawText(Series):
    def render(self, attribution, fmt="text"):
        return super().render(attribution, fmt) if fmt == "html" else attribution.units.labels[0]


class FromTheNetwork(Series):
    def render(self, attribution, fmt="text"):
        extra = '<script src="https://example.org/d3.js"></script>' if fmt == "html" else ""
        return super().render(attribution, fmt) + extra


class Unnamed(Series):
    """A wrapper around its module that does not tell the core about it."""

    def __init__(self, model):
        super().__init__(self.call)
        self.net = model.eval()

    def call(self, x, mask):
        return self.net(x, mask)


class Counting(Unnamed):
    def forward(self, rows):
        self.net.calls += len(rows)
        return super().forward(rows)


class Hooking(Unnamed):
    def forward(self, rows):
        self.net.inner.register_forward_hook(lambda *_: None)
        return super().forward(rows)


class HalfTidy(Unnamed):
    """Sets a switch of the model and turns it back, but not when the model raises."""

    def forward(self, rows):
        self.net.inner.requires_grad_(False)
        found = super().forward(rows)
        self.net.inner.requires_grad_(True)
        return found


class Noisy(Series):
    def forward(self, rows):
        return super().forward(rows) + 1e-6 * torch.randn(len(rows))


class BackInTraining(Series):
    """Leaves dropout on."""

    def forward(self, rows):
        self.model.train()
        return super().forward(rows)


class Drawing(Series):
    """Draws from the global generator where nobody puts it back."""

    def split(self, raw):
        torch.rand(1)
        return super().split(raw)


class FloatOnly(Series):
    def forward(self, rows):
        return super().forward(rows).float()


class Dashed(Series):
    requires = "torch-geometric"


class Touchy(Series):
    @classmethod
    def accepts(cls, model, raw):
        return raw.shape[0] > 1


class Greedy(Series):
    @classmethod
    def accepts(cls, model, raw):
        return True


class Lonely(Series):
    def split(self, raw):
        return None


class TwoSteps(Series):
    def encode(self, raw, target=None):
        if len(raw) < 2:
            raise ig.InputError("too short")
        return super().encode(raw, target)


class NoOffset(Graphs):
    layouts = {"x": ig.Cat(), "edges": ig.Cat(dim=1)}  # noqa: RUF012


class TrainMode(Series):
    """Batch normalisation over the rows at hand: the module is switched back to training."""

    def forward(self, rows):
        self.model.layer.train()
        return super().forward(rows)


def with_batch_norm():
    return Pooled(nn.BatchNorm1d(8))


PLANTED = [
    (series(NoMask), "rows-do-not-mix", "example 1 between others"),
    (series(NoMask), "padding-changes-nothing", "of length 2 padded to 5 is"),
    (graphs(NoOffset), "rows-do-not-mix", "between others is"),
    (graphs(model=lambda: Network(norm=True)), "rows-do-not-mix", "between others is"),
    (graphs(model=lambda: Network(norm=True)), "gradients-do-not-mix", "to another example's"),
    (
        graphs(model=lambda: Network(norm=True)),
        "a-batch-gives-what-single-calls-give",
        "example 0 has the note: rows of this model do not share a batch",
    ),
    (series(TrainMode, with_batch_norm), "rows-do-not-mix", "more than 1 value per channel"),
    (series(TrainMode, with_batch_norm), "gradients-do-not-mix", "to another example's inputs"),
    (series(Detached), "gradients-reach-the-inputs", "while no gradient reaches it"),
    (series(Detached), "attributions-are-complete", "NoGradientError: the output changes by"),
    (series(Rounded), "attributions-are-complete", "NoGradientError: the output changes by"),
    (series(WrongCount), "one-number-per-row", r"4 rows gave torch.float32 of shape \(8,\)"),
    (series(WholeNumbers), "one-number-per-row", "4 rows gave torch.int64"),
    (series(Batched), "inputs-are-unbatched-floats", "length 1 in every example"),
    (series(TokenIds), "inputs-are-unbatched-floats", "has dtype torch.int64"),
    (series(NoLayout), "layouts-cover-all-tensors", "the layout of 'length' is None"),
    (series(Stacked), "layouts-cover-all-tensors", "InputError: 'x' must have one shape"),
    (series(Jittered), "encode-leaves-the-input", "'x' differs the second time"),
    (series(Blank), "renders-text-and-html", "text is ''"),
    (series(WrongBaseline), "baseline-fits", r"of shape \(5, 3\)"),
    (series(UnnamedBaseline), "baseline-fits", "baseline_name is 'zeros', but it is not zero"),
    (series(UnitsOfPadding), "units-fit", r"InputError: .*\(5, 3\) \(got \(6,\)\)"),
    (series(TensorsInDisplay), "display-is-json", "Tensor is not JSON serializable"),
    (series(TensorsInDisplay), "saved-results-load", "Tensor is not JSON serializable"),
    (
        series(InPlace, examples=[x.clone() for x in SERIES]),
        "encode-leaves-the-input",
        "Tensor was changed",
    ),
    (series(Unescaped), "render-escapes-labels", "a label became a tag"),
    (series(UnescapedAttribute), "render-escapes-labels", "a label became a tag"),
    (series(RawText), "render-escapes-labels", "escape sequence reached the terminal"),
    (series(FromTheNetwork), "renders-text-and-html", "the page holds a script"),
    (series(Counting), "model-is-left-as-found", "it changed the buffer Pooled.calls"),
    (series(Hooking), "model-is-left-as-found", "it changed the hooks of Pooled.inner"),
    (series(HalfTidy), "model-is-left-as-found-after-an-error", "inner.weight.requires_grad"),
    (series(Drawing), "model-is-left-as-found", "it changed torch's random state"),
    (series(Noisy), "two-calls-give-the-same", "F of example 0 is .*, then"),
    (series(BackInTraining), "two-calls-give-the-same", "differs between two calls|, then"),
    (series(FloatOnly), "agrees-with-float64", "gave an F of torch.float32"),
    (series(Dashed), "name-and-requires", "requires is 'torch-geometric'"),
    (series(Touchy), "accepts-answers", "raised AttributeError"),
    (series(Greedy), "accepts-answers", r"accepts a bare object\(\)"),
    (series(Lonely), "empty-batch", "raised TargetError: a list of targets"),
    (series(TwoSteps, smallest=_numbers(1, 3)), "smallest-example", "InputError: too short"),
    (series(examples=[SERIES[0]] * 2), "rows-do-not-mix", "examples with different outputs"),
    (series(plugin=plugin()), "hooks-are-marked", "Series is not among its domains"),
    (
        series(plugin=plugin(ig_domains=lambda: [Series])),
        "hooks-are-marked",
        "ig_domains is not marked",
    ),
]


@pytest.mark.parametrize(
    ("subject", "promise", "seen"),
    PLANTED,
    ids=[f"{type(s.make()).__name__}-{promise}" for s, promise, _ in PLANTED],
)
def test_a_planted_bug_is_caught(subject, promise, seen):
    [check] = [check for check in checks(subject) if check.name == promise]
    with pytest.raises(ConformanceError, match=seen) as caught:
        check()
    assert str(caught.value).startswith(f"{promise}: {check.promise} But ")


def test_every_promise_can_be_broken():
    """But two, which a test of their own or a CUDA device covers."""
    names = {check.name for check in checks(series())}
    assert names - {promise for _, promise, _ in PLANTED} == {"import-light", "computes-on-cuda"}


def test_a_bug_in_the_view_breaks_no_promise_about_numbers():
    assert set(broken(series(Unescaped))) == {"render-escapes-labels"}


def test_a_heavy_import_is_caught(tmp_path, monkeypatch):
    (tmp_path / "heavy_framework.py").write_text("")
    (tmp_path / "heavy_plugin.py").write_text("import heavy_framework\n")
    (tmp_path / "light_plugin.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))

    class Heavy(Series):
        requires = ("heavy_framework",)

    def check(name):
        subject = series(Heavy, plugin=types.ModuleType(name))
        [found] = [check for check in checks(subject) if check.name == "import-light"]
        found()

    check("light_plugin")
    with pytest.raises(ConformanceError, match="heavy_framework was loaded"):
        check("heavy_plugin")


# -- toys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_the_exact_attribution_of_a_toy_is_complete(toy):
    assert float(toy.exact.sum()) == pytest.approx(toy.delta, abs=1e-12)


@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_toy_agrees_with_a_fine_midpoint_sum(toy):
    t = (torch.arange(200_000, dtype=torch.float64)[:, None] + 0.5) / 200_000
    points = (toy.baseline + t * (toy.example - toy.baseline)).requires_grad_()
    [gradient] = torch.autograd.grad(toy.model(points).sum(), points)
    found = gradient.mean(0) * (toy.example - toy.baseline)
    torch.testing.assert_close(found, toy.exact, rtol=0, atol=1e-4)


def test_toys_are_found_by_name():
    assert toys.named("product").exact.tolist() == [1.0, 6.0]
