"""What bad input and bad models get in every domain: one list of faults, five kinds of model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo
from torch import Tensor, nn

import ig_core as ig

NAN = float("nan")


@dataclass(frozen=True)
class Kind:
    """A model of one domain, two of its raw inputs, and the module whose output is explained."""

    model: Any
    head: nn.Module
    raws: list[Any]
    options: dict[str, Any] = field(default_factory=dict)
    wrong_targets: tuple[Any, ...] = (-1, 99, 1.5, "1", True)

    def attribute(self, **options: Any) -> list[ig.Attribution]:
        return ig.attribute(self.model, self.raws, **{**self.options, **options})

    def refused(self, error: type[Exception], *told: str, **options: Any) -> Exception:
        """The call raises this class of ig_core's, and its message holds all of ``told``."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ig.IGWarning)
            with pytest.raises(error) as caught:
                self.attribute(**options)
        assert isinstance(caught.value, ig.IGError)
        for part in told:
            assert part in str(caught.value), f"{part!r} is missing in: {caught.value}"
        return caught.value

    @contextmanager
    def with_head(self, fault: Callable[[Tensor], Any]) -> Iterator[None]:
        """The output of the head goes through ``fault``."""
        handle = self.head.register_forward_hook(lambda module, args, out: fault(out))
        try:
            yield
        finally:
            handle.remove()


def tensor() -> Kind:
    torch.manual_seed(0)
    body = [nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5)]
    model = nn.Sequential(*body, nn.Linear(8, 3))
    return Kind(model, model[-1], list(torch.randn(2, 3)), {"target": 1})


def text() -> Kind:
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[PAD]", "[UNK]", "a", "dull", "fine", "film"]
    vocabulary = {word: i for i, word in enumerate(words)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]"
    )
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, num_labels=3, pad_token_id=0, initializer_range=0.2,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    raws = ["a dull film", "a fine fine film"]
    return Kind(model, model.classifier, raws, {"tokenizer": tokenizer, "target": 1})


def graphs() -> Kind:
    geometric = pytest.importorskip("torch_geometric")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.drop = geometric.nn.GCNConv(3, 8), nn.Dropout(0.5)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
            hidden = self.drop(torch.tanh(self.conv(x, edge_index)))
            return self.head(geometric.nn.global_mean_pool(hidden, batch))

    torch.manual_seed(0)
    model = Net()
    raws = [
        geometric.data.Data(x=torch.randn(n, 3), edge_index=torch.tensor([[0, 1], [1, n - 1]]))
        for n in (4, 3)
    ]
    return Kind(model, model.head, raws, {"target": 1, "level": "graph"})


def sequences() -> Kind:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 8, batch_first=True)
            self.drop, self.head = nn.Dropout(0.5), nn.Linear(8, 3)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
            return self.head(self.drop(self.rnn(packed)[1][-1]))

    torch.manual_seed(0)
    model = Net()
    raws = [torch.randn(5, 3), torch.randn(3, 3)]
    return Kind(model, model.head, raws, {"domain": "sequences", "target": 1})


def rl() -> Kind:
    pytest.importorskip("gymnasium")
    baselines = pytest.importorskip("stable_baselines3")
    policy = {"net_arch": [16], "activation_fn": nn.Tanh}
    agent = baselines.DQN(
        "MlpPolicy", "CartPole-v1", policy_kwargs=policy, buffer_size=10, seed=3, device="cpu"
    )
    raws = list(np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32))
    return Kind(agent, agent.policy.q_net.q_net[-1], raws, {"target": 1, "explain": "q"})


@pytest.fixture(params=[tensor, text, graphs, sequences, rl], ids=lambda make: make.__name__)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param()


# -- what is passed in ----------------------------------------------------------------------------


def test_the_kinds_are_explained_where_nothing_is_wrong(
    kind: Kind, every_model_is_left_as_found: list[int]
) -> None:
    for result in kind.attribute(tol=1e-3):
        assert result.status == "converged" and result.reason == ""
        assert float(result.scores.sum()) == pytest.approx(result.delta, abs=1e-3)
    assert sum(every_model_is_left_as_found) >= 1, "the watch saw the model"


def test_an_empty_batch_is_an_empty_list(kind: Kind) -> None:
    assert ig.attribute(kind.model, [], **{"domain": _name(kind), **kind.options}) == []


def test_a_target_that_picks_nothing_is_refused(kind: Kind) -> None:
    for wrong in kind.wrong_targets:
        kind.refused(ig.TargetError, str(wrong), target=wrong)
    kind.refused(ig.TargetError, "each of 2 examples (got 3)", target=[0, 1, 2])


@pytest.mark.parametrize(
    ("baseline", "told"),
    [
        (torch.zeros(1, 1, 1, 1, 7), "of shape (1, 1, 1, 1, 7)"),
        (lambda e: {n: v.double() for n, v in e.inputs.items()}, "got torch.float64"),
        (lambda e: {n: v * NAN for n, v in e.inputs.items()}, "holds NaN"),
        (lambda e: {n: v.to("meta") for n, v in e.inputs.items()}, "meta"),
        (lambda e: {}, "must name the inputs"),
        (lambda e: 1 / 0, "raised ZeroDivisionError"),
        (NAN, "holds NaN"),
        ("zerso", "did you mean 'zeros'?"),
        ("", "no baseline is called ''"),
    ],
    ids=["shape", "float64", "NaN", "meta", "names", "raises", "number", "typo", "no"],
)
def test_a_baseline_that_does_not_fit_is_refused(kind: Kind, baseline: Any, told: str) -> None:
    kind.refused(ig.InputError, "baseline", told, baseline=baseline)


def test_a_baseline_of_whole_numbers_is_refused_or_what_an_environment_gives(kind: Kind) -> None:
    def ones(example: ig.Example) -> dict[str, Tensor]:
        return {n: torch.ones_like(v, dtype=torch.int64) for n, v in example.inputs.items()}

    if kind.options.get("explain") != "q":  # only observations of agents can be whole numbers
        kind.refused(ig.InputError, "baseline", "got torch.int64", baseline=ones)
        return
    whole, same = kind.attribute(baseline=ones)[0], kind.attribute(baseline=1.0)[0]
    assert whole.values.equal(same.values)


@pytest.mark.parametrize(
    ("option", "wrong"),
    [("budget", 0), ("budget", -5), ("tol", 0), ("tol", NAN), ("seed", -1), ("device", "nowhere")],
)
def test_numbers_out_of_range_are_refused(kind: Kind, option: str, wrong: Any) -> None:
    kind.refused(ig.InputError, option, repr(wrong), **{option: wrong})


def test_another_device_than_the_model_s_is_refused(kind: Kind) -> None:
    kind.refused(ig.InputError, "is on cpu", "model.to('meta')", device="meta")


def test_no_grad_and_inference_mode_around_the_call_change_nothing(kind: Kind) -> None:
    plain = kind.attribute()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = kind.attribute()
        for a, b in zip(found, plain, strict=True):
            assert torch.equal(a.scores, b.scores)


# -- what the model does --------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_nan_in_the_weights_is_named(kind: Kind, bad: float) -> None:
    with torch.no_grad():
        kind.head.bias[:] = bad
    kind.refused(ig.NonFiniteError, "output is NaN or infinite at t = ")


class _Sick(torch.autograd.Function):
    """The identity, with a gradient that is not a number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * NAN


def test_nan_in_the_gradient_names_the_element_and_t(kind: Kind) -> None:
    with kind.with_head(_Sick.apply):
        kind.refused(ig.NonFiniteError, "gradient is NaN or infinite for element [", "at t = 0")


@pytest.mark.parametrize("cut", [Tensor.detach, lambda out: out.detach() + 0 * out, torch.round])
def test_a_gradient_that_is_cut_is_refused(kind: Kind, cut: Callable[[Tensor], Tensor]) -> None:
    with kind.with_head(lambda out: cut(50 * out)):
        kind.refused(ig.NoGradientError, "the output changes by", "explain a logit")


def test_an_output_that_does_not_depend_on_the_input_gives_zeros_with_a_note(kind: Kind) -> None:
    with torch.no_grad():
        kind.head.weight.zero_()
    for result in kind.attribute():
        assert (result.scores == 0).all()
        assert result.status == "converged" and "does not depend on the input" in result.reason


@pytest.mark.parametrize("target", [{}, {"target": None}], ids=["target", "margin"])
@pytest.mark.parametrize(
    "fault",
    [lambda out: out.sum(), lambda out: out.mean(0), lambda out: out[:1].repeat(len(out) + 1, 1)],
    ids=["scalar", "mean", "one more row"],
)
def test_an_output_without_the_rows_is_an_error_with_its_shape(
    kind: Kind, fault: Callable[[Tensor], Tensor], target: dict[str, None]
) -> None:
    with kind.with_head(fault):
        kind.refused(ig.OutputError, "one ", "(got ", **target)


class _Refuses:
    """Raises at a call, counted from the first."""

    def __init__(self, error: BaseException, first: int) -> None:
        self.error, self.left = error, first

    def __call__(self, out: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return out


@pytest.mark.parametrize("first", [0, 2, 4])
@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (KeyError("weights"), ig.ForwardError),
        (RuntimeError("CUDA error: out of memory"), ig.ForwardError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_model_that_raises_is_named_and_left_as_found(
    kind: Kind, error: BaseException, seen: type, first: int
) -> None:
    with (
        kind.with_head(_Refuses(error, first)),
        warnings.catch_warnings(),
        pytest.raises(seen) as caught,
    ):
        warnings.simplefilter("ignore", ig.IGWarning)
        kind.attribute(tol=1e-9)
    if seen is ig.ForwardError:
        assert type(error).__name__ in str(caught.value)
        assert caught.value.__cause__ is error


def test_out_of_memory_above_some_rows_changes_nothing(kind: Kind) -> None:
    plain = kind.attribute()

    def greedy(out: Tensor) -> Tensor:
        if len(out) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return out

    with kind.with_head(greedy):
        found = kind.attribute()
    for a, b in zip(found, plain, strict=True):
        torch.testing.assert_close(a.scores, b.scores, rtol=1e-4, atol=1e-6)


def test_training_mode_changes_nothing_and_comes_back(kind: Kind) -> None:
    plain = kind.attribute()
    root = kind.model if isinstance(kind.model, nn.Module) else kind.model.policy
    root.train()
    for a, b in zip(kind.attribute(), plain, strict=True):
        assert torch.equal(a.scores, b.scores)
    assert root.training


def test_rows_that_mix_are_run_alone_with_a_note(kind: Kind) -> None:
    def mixing(out: Tensor) -> Tensor:
        return out / (1 + out.abs().amax())

    with kind.with_head(mixing):
        for result in kind.attribute(tol=0.1):
            assert "do not share a batch" in result.reason


def test_strict_raises_what_is_a_warning_otherwise(kind: Kind) -> None:
    rough = {"rule": "midpoint", "steps": 1, "tol": 1e-6}
    kind.refused(ig.NotConvergedError, "2 of 2 examples missed tol=1e-06", strict=True, **rough)
    with pytest.warns(ig.NotConvergedWarning, match="steps of a fixed rule"):
        kind.attribute(**rough)


def test_a_model_compiled_in_place_gives_the_same(kind: Kind) -> None:
    plain = kind.attribute()
    root = kind.model if isinstance(kind.model, nn.Module) else kind.model.policy.q_net.q_net
    torch._dynamo.reset()
    if "tokenizer" in kind.options:  # whose embedding has to be reached by a hook
        whole = text()
        whole.model.compile(backend="eager")
        whole.refused(ig.ModelError, "compile the layers behind it only")
        root = root.bert.encoder
    root.compile(backend="aot_eager", dynamic=True)
    for a, b in zip(kind.attribute(), plain, strict=True):
        torch.testing.assert_close(a.scores, b.scores, rtol=1e-4, atol=1e-6)
        assert a.status == b.status
    torch._dynamo.reset()


def _name(kind: Kind) -> str:
    if not isinstance(kind.model, nn.Module):
        return "rl"
    named = {"tokenizer": "text", "level": "graphs", "domain": "sequences"}
    return next((name for option, name in named.items() if option in kind.options), "tensor")
