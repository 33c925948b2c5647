"""Faithfulness of sequences: planted cases, drops by hand, and what is always shown."""

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ig_core as ig
from ig_sequences import Faithfulness, faithfulness, margin, margins
from ig_sequences.methods import Recency

ROWS = ["ig", "|ig|", "occlusion", "recency", "energy", "random"]


class Planted(ig.Method):
    """A ranking that is known, made of the sequence itself."""

    fits = ("sequences",)

    def __init__(self, name: str, scores: Callable[[Tensor], Tensor]) -> None:
        self.name = name
        self.scores = scores

    def attribute(self, task: ig.Task) -> Sequence[ig.Attribution]:
        found = Recency().attribute(task)
        return [
            replace(
                a, tensors={"x": self.scores(e.inputs["x"]).double().expand(e.inputs["x"].shape)}
            )
            for a, e in zip(found, task.examples, strict=True)
        ]


def noise(lengths: Sequence[int], features: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(n, features, generator=generator, dtype=torch.float64) for n in lengths]


def weighted(x: Tensor) -> Tensor:
    """Three planted steps count, one of them speaks against; the level of all others is nothing."""
    return 3 * x[:, 2, 0] - 2 * x[:, 7, 0] + x[:, 11, 0]


def by_steps(x: Tensor) -> Tensor:
    weights = torch.zeros(len(x), 1, dtype=x.dtype)
    weights[[2, 7, 11], 0] = torch.tensor([3.0, -2.0, 1.0], dtype=x.dtype)
    return weights * x


# -- planted cases --------------------------------------------------------------------------------


def test_the_oracle_beats_random_which_beats_the_inverted_one() -> None:
    methods = [Planted("oracle", by_steps), Planted("inverted", lambda x: -by_steps(x))]
    found = faithfulness(weighted, noise([20] * 64, 1), methods=methods)
    for one, other in (("oracle", "random"), ("random", "inverted")):
        for part in found.difference(one, other).values():
            assert all(mean > 3 * error for mean, error in part)


def test_of_signed_sums_and_magnitudes_only_the_first_know_what_speaks_against() -> None:
    found = faithfulness(weighted, noise([20] * 64, 1), parts=(0.2,))
    [(more, error)] = found.difference("ig", "|ig|")["zeros"]
    assert more > 3 * error
    drops = dict(zip(found.rankings, found.drops[0, :, :, 0].mean(1), strict=True))
    assert drops["ig"] == pytest.approx(drops["occlusion"])  # linear: they are the same


def test_recency_wins_where_only_the_newest_steps_count() -> None:
    def newest(x: Tensor) -> Tensor:
        return x[:, -1, 0].abs() + x[:, -2, 0].abs()

    found = faithfulness(newest, noise([20] * 16, 1), parts=(0.1,))
    drops = dict(zip(found.rankings, found.drops[0, :, :, 0].mean(1), strict=True))
    assert drops["recency"] == pytest.approx(drops["occlusion"])
    assert drops["recency"] > 4 * drops["random"]


# -- drops ----------------------------------------------------------------------------------------


def filled(x: Tensor, gone: Sequence[int]) -> Tensor:
    """x with these steps removed and the last kept value held, step by step."""
    kept = [t for t in range(len(x)) if t not in gone]
    found = []
    for t in range(len(x)):
        before = [k for k in kept if k <= t]
        found.append(x[before[-1] if before else kept[0] if kept else 0])
    return torch.stack(found)


def test_drops_are_those_of_removing_the_top_steps_by_hand(classifier: nn.Module) -> None:
    sequences, parts = noise((9, 1, 6, 13)), (0.1, 0.34, 1.0)
    found = faithfulness(classifier, sequences, 1, baseline=0.5, parts=parts)
    results = ig.attribute(classifier, sequences, target=1, baseline=0.5)
    assert found.rankings == ROWS
    assert found.removals == ("0.5", "forward fill")
    for i, (x, result) in enumerate(zip(sequences, results, strict=True)):
        sizes = result.values.abs().sum(1).double()
        for row, scores in (("ig", result.scores), ("|ig|", sizes)):
            for p, part in enumerate(parts):
                top = scores.argsort(descending=True)[: math.ceil(part * len(x))].tolist()
                constant = x.clone()
                constant[top] = 0.5
                for r, point in enumerate((constant, filled(x, top))):
                    drop = (classifier(x[None]) - classifier(point[None]))[0, 1].item()
                    assert found.drops[r, ROWS.index(row), i, p] == pytest.approx(drop, abs=1e-12)
        assert found.outputs[i] == pytest.approx(classifier(x[None])[0, 1].item(), abs=1e-12)


def test_removed_steps_get_another_baseline_than_the_methods_start_at(
    classifier: nn.Module,
) -> None:
    sequences = noise((9, 6))
    found = faithfulness(classifier, sequences, 1, removed="mean", parts=(1.0,))
    assert found.removals[0] == "mean"
    mean = torch.cat(sequences).mean(0)
    for i, x in enumerate(sequences):
        drop = (classifier(x[None]) - classifier(mean.expand(1, len(x), 2)))[0, 1].item()
        assert found.drops[0, :, i, 0] == pytest.approx([drop] * len(ROWS), abs=1e-9)
        held = (classifier(x[None]) - classifier(x[:1].expand(1, len(x), 2)))[0, 1].item()
        assert found.drops[1, :, i, 0] == pytest.approx([held] * len(ROWS), abs=1e-9)


def test_a_padded_batch_with_lengths_gives_what_the_list_gives(classifier: nn.Module) -> None:
    sequences = noise((4, 7))
    padded = nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    listed = faithfulness(classifier, sequences)
    together = faithfulness(classifier, padded, lengths=[4, 7])
    assert np.array_equal(listed.drops, together.drops)


# -- what is explained ----------------------------------------------------------------------------


def test_the_margin_of_the_predicted_class_is_explained_unless_a_target_is_given(
    classifier: nn.Module,
) -> None:
    sequences = noise((9, 6, 4))
    found = faithfulness(classifier, sequences)
    tops = [classifier(x[None])[0].detach().topk(2).values for x in sequences]
    assert found.outputs.tolist() == pytest.approx([float(a - b) for a, b in tops], abs=1e-12)
    assert found.explained == "the highest output minus the runner-up"
    one = faithfulness(classifier, sequences, [2, 0, 1])
    logits = [classifier(x[None])[0, k].item() for x, k in zip(sequences, (2, 0, 1), strict=True)]
    assert one.outputs.tolist() == pytest.approx(logits, abs=1e-12)
    assert one.explained == "the target of each sequence"
    assert faithfulness(classifier, sequences, 2).explained == "output 2"


@pytest.mark.parametrize("shape", ["rows", "rows, 1"])
def test_a_single_output_is_explained_itself(shape: str) -> None:
    def model(x: Tensor) -> Tensor:
        total = x.sum((1, 2))
        return total if shape == "rows" else total[:, None]

    sequences = noise((4, 3))
    assert margins(model, sequences) is None
    found = faithfulness(model, sequences)
    assert found.explained == "the output"
    assert found.outputs.tolist() == pytest.approx([float(x.sum()) for x in sequences])


def test_margins_are_targets_of_the_same_batch(classifier: nn.Module) -> None:
    sequences = noise((9, 6, 4))
    results = ig.attribute(classifier, sequences, target=margins(classifier, sequences))
    for x, result in zip(sequences, results, strict=True):
        logits = classifier(x[None])[0].detach()
        first, second = logits.topk(2).indices.tolist()
        assert result.at_input == pytest.approx(float(logits[first] - logits[second]), abs=1e-12)
        assert result.provenance["target"] == f"output {first} minus output {second}"
    assert margin(0, 2) is margin(0, 2)  # one function for all sequences, so that they share passes


def test_outputs_at_every_step_need_to_be_told_which() -> None:
    rnn = nn.GRU(2, 3, batch_first=True).double()
    with pytest.raises(ig.TargetError, match=r"of shape \(4, 3\) per sequence.*step='last'"):
        faithfulness(rnn, noise((4, 4)), output=0)
    assert faithfulness(rnn, noise((4, 4)), output=0, step="last").drops.shape == (2, 6, 2, 4)


# -- what is read ---------------------------------------------------------------------------------


def known(drops: object, rankings: Sequence[str] = ("good", "random")) -> Faithfulness:
    """A finding with drops [removals, rankings, sequences, parts]."""
    drops = np.array(drops, dtype=float)
    return Faithfulness(
        rankings=list(rankings),
        removals=("zeros", "forward fill"),
        parts=(0.1, 0.2)[: drops.shape[3]],
        drops=drops,
        evaluations=np.full(drops.shape[1:3], 8.0),
        outputs=np.arange(drops.shape[2], dtype=float),
        explained="the output",
    )


def test_rows_hold_means_with_their_standard_errors() -> None:
    found = known([[[[1], [3], [5]], [[0], [0], [3]]], [[[2], [2], [2]], [[1], [1], [1]]]])
    good, random, good_held, _ = found.rows
    assert (good.ranking, good.removed, good.drops, good.evaluations) == (
        "good",
        "zeros",
        (3.0,),
        8,
    )
    assert good.errors == pytest.approx([2 / math.sqrt(3)])
    assert random.drops == (1.0,) and random.errors == pytest.approx([1.0])
    assert (good_held.removed, good_held.errors) == ("forward fill", (0.0,))


def test_differences_are_paired() -> None:
    found = known([[[[10], [20], [30]], [[9], [18], [27]]], [[[1], [1], [1]], [[1], [1], [1]]]])
    [(mean, error)] = found.difference("good", "random")["zeros"]
    assert mean == pytest.approx(2) and error == pytest.approx(1 / math.sqrt(3))
    assert found.difference("good", "random")["forward fill"] == [(0.0, 0.0)]
    table = found.differences()
    assert table.rows == [["good", "zeros", mean, error], ["good", "forward fill", 0.0, 0.0]]
    with pytest.raises(ig.InputError, match="no ranking 'best' among good, random"):
        found.difference("best", "random")


def test_agreement_is_the_rank_correlation_of_the_rankings_means() -> None:
    zeros = [[[1, 1]], [[2, 2]], [[3, 3]], [[4, 4]]]
    held = [[[2, 40]], [[3, 30]], [[5, 20]], [[9, 10]]]
    found = known([zeros, held], ("a", "b", "c", "d"))
    assert found.agreement.tolist() == pytest.approx([1.0, -1.0])
    tied = known([zeros, [[[1, 0]], [[1, 0]], [[2, 0]], [[2, 0]]]], ("a", "b", "c", "d"))
    assert tied.agreement[0] == pytest.approx(2 / math.sqrt(5))
    assert math.isnan(tied.agreement[1])


def test_a_sequence_that_fails_is_left_out_of_all_rows() -> None:
    def root(x: Tensor) -> Tensor:
        return (x.sum((1, 2)) + 3).sqrt()

    sequences = [torch.ones(3, 1), torch.full((3, 1), -2.0), torch.ones(2, 1)]
    with pytest.warns(ig.IGWarning, match="1 of 3 examples failed"):
        found = faithfulness(root, sequences)
    assert np.isnan(found.drops[:, :, 1]).all() and np.isfinite(found.drops[:, :, [0, 2]]).all()
    assert all(math.isfinite(drop) for row in found.rows for drop in row.drops)
    assert "2 sequences; explained: the output" in found.to_text()
    assert "left out, because a method could not explain them: 1 of 3" in found.to_text()


def test_the_table_is_text_html_and_csv(classifier: nn.Module, tmp_path: Path) -> None:
    found = faithfulness(classifier, noise((9, 6)), methods=[Planted("<b>", by_energy)])
    rows = [*csv.reader(io.StringIO(found.to_csv()))]
    parts = ("5", "10", "20", "50")
    assert rows[0][2:-1] == [f"{what} {p} %" for p in parts for what in ("drop at", "+/-")]
    assert len(rows) == 1 + 2 * len(found.rankings)
    assert float(rows[1][2]) == found.rows[0].drops[0]
    html = found.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == html
    assert "&lt;b&gt;" in html and "<b>" not in html and "image/svg+xml" in html
    assert "higher is better" in found.to_text()


def test_a_finding_is_json_in_which_nothing_is_nan() -> None:
    found = known([[[[1.5]], [[0.5]]], [[[1.0]], [[1.0]]]])
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    row = {"ranking": "good", "removed": "zeros", "drops": [1.5], "errors": [None]}
    assert told["rows"][0] == {**row, "evaluations": 8.0}
    assert (told["sequences"], told["parts"], told["agreement"]) == (1, [0.1], [None])


def by_energy(x: Tensor) -> Tensor:
    return x.abs()


def test_controls_that_are_asked_for_are_not_shown_twice(classifier: nn.Module) -> None:
    found = faithfulness(classifier, noise((9, 6)), methods=["occlusion", "gradient-x-input"])
    expected = [
        "occlusion",
        "gradient-x-input",
        "|gradient-x-input|",
        "recency",
        "energy",
        "random",
    ]
    assert found.rankings == expected


def test_a_finding_is_the_same_for_the_same_seed(classifier: nn.Module) -> None:
    found = [faithfulness(classifier, noise((9, 6)), seed=seed).drops for seed in (0, 0, 1)]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0][:, ROWS.index("random")], found[2][:, ROWS.index("random")])


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"x": torch.ones(4, 2)}, r"several sequences are needed.*got shape \(4, 2\)"),
        ({"x": []}, "several sequences are needed"),
        ({"parts": ()}, "parts are of the steps, above 0 and at most 1"),
        ({"parts": (0.0,)}, "parts are of the steps"),
        ({"parts": (1.5,)}, "parts are of the steps"),
        ({"methods": "ig"}, "methods must be a list of names or Methods"),
        ({"methods": ["ig", "ig"]}, "the method 'ig' is given twice"),
        ({"length": [3]}, r"no option 'length'; options: .*lengths"),
        ({"methods": ["igg"]}, "no method is called 'igg'"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(
    classifier: nn.Module, change: dict[str, object], told: str
) -> None:
    options = {"x": noise((4, 4)), **change}
    with pytest.raises(ig.InputError, match=told):
        faithfulness(classifier, options.pop("x"), **options)


def test_a_sequence_that_the_model_refuses_counts_for_none() -> None:
    def picky(x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] == 2:
            raise ValueError("two is too short")
        return x.sum((1, 2))

    x = [torch.ones(n, 1, dtype=torch.float64) for n in (4, 2, 6)]
    with pytest.warns(ig.IGWarning, match="two is too short"):
        found = faithfulness(picky, x, target=lambda y: y, parts=[0.5])
    known = found.drops[0, found.rankings.index("ig"), :, 0]
    assert known[[0, 2]].tolist() == [2.0, 3.0] and np.isnan(found.drops[:, :, 1]).all()
    with pytest.raises(ig.InputError, match=r"a list of parts of the steps \(got 0.5\)"):
        faithfulness(picky, x, parts=0.5)  # type: ignore[arg-type]
