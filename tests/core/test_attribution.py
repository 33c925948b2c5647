from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import ig_core as ig
from ig_core.attribution import WorstPanel


def attribution(**changes: object) -> ig.Attribution:
    index = torch.tensor([0, 1, 1])
    facts: dict[str, object] = {
        "tensors": {"x": torch.tensor([[1.0, 2.0], [-4.0, 1.0], [0.5, 0.0]])},
        "units": ig.Units(("good", "bad"), {"x": index}, kind="word"),
        "at_input": 2.0,
        "at_baseline": 1.0,
        "residual": -0.5,
        "error": 0.01,
        "uncertainty": torch.tensor([0.1, 0.2], dtype=torch.float64),
        "spread": torch.tensor([0.3, 0.4], dtype=torch.float64),
        "evaluations": 17,
        "reason": "a note",
        "provenance": {"path": "straight", "seed": 3},
        "display": {"text": "good bad"},
        "worst": [
            WorstPanel(0.375, 0.5, 0.62, None, [("good", 0.4), ("bad", 0.3)]),
            WorstPanel(0.0, 1.0, 0.1, 2),
        ],
    }
    return ig.Attribution(**(facts | changes))


def two_inputs() -> ig.Attribution:
    index = torch.tensor([0, 1])
    return attribution(
        tensors={"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([10.0, 20.0])},
        units=ig.Units(("one", "two"), {"a": index, "b": index}),
    )


def test_values_are_the_tensor_itself_when_there_is_one_input() -> None:
    assert torch.equal(attribution().values, attribution().tensors["x"])
    assert list(two_inputs().values) == ["a", "b"]


def test_scores_delta_and_top() -> None:
    result = attribution()
    assert result.scores.tolist() == [3, -2.5]
    assert result.delta == 1
    assert result.top(1) == [("good", 3)]
    assert result.top() == [("good", 3), ("bad", -2.5)]
    assert result.top(0) == result.top(-1) == []
    assert two_inputs().scores.tolist() == [11, 22]


@pytest.mark.parametrize(
    ("status", "converged"),
    [
        ("converged", True),
        ("noise_floor", True),
        ("one_shot", False),
        ("budget", False),
        ("failed", False),
    ],
)
def test_converged_is_told_from_missed(status: str, converged: bool) -> None:
    assert attribution(status=status).converged is converged


@pytest.mark.parametrize("make", [attribution, two_inputs])
def test_what_is_saved_is_loaded(tmp_path: Path, make: object) -> None:
    result = make()
    path = result.save(tmp_path / "a.safetensors")
    loaded = ig.Attribution.load(path)
    assert loaded.to_dict() == result.to_dict()
    for name, value in result.tensors.items():
        assert (
            torch.equal(loaded.tensors[name], value) and loaded.tensors[name].dtype == value.dtype
        )
    for name, index in result.units.index.items():
        assert torch.equal(loaded.units.index[name], index)
    assert torch.equal(loaded.uncertainty, result.uncertainty)
    assert torch.equal(loaded.spread, result.spread)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_result_of_a_call_is_saved_whole(tmp_path: Path) -> None:
    x = torch.randn(3, 4, 2)
    for number, result in enumerate(
        ig.attribute(lambda x: x.sum((1, 2)), x.transpose(1, 2), target=None)
    ):
        loaded = ig.Attribution.load(result.save(tmp_path / str(number)))
        assert torch.equal(loaded.values, result.values)
        assert loaded.to_dict() == result.to_dict()
        assert loaded.to_text() == result.to_text()


def test_saving_again_replaces_the_file(tmp_path: Path) -> None:
    attribution(reason="old").save(tmp_path / "a")
    attribution(reason="new").save(tmp_path / "a")
    assert ig.Attribution.load(tmp_path / "a").reason == "new"


def test_elements_that_do_not_exist_and_numbers_that_are_not_finite_survive(tmp_path: Path) -> None:
    none = ig.Units((), {"x": torch.zeros(0, dtype=torch.long)})
    lost = {"error": math.nan, "residual": math.nan, "at_input": math.inf}
    result = attribution(
        tensors={"x": torch.zeros(0, 2)}, units=none, uncertainty=None, spread=None, **lost
    )
    loaded = ig.Attribution.load(result.save(tmp_path / "a"))
    assert loaded.values.shape == (0, 2)
    assert loaded.uncertainty is None and loaded.spread is None
    assert math.isnan(loaded.error) and math.isnan(loaded.at_input)


def test_to_dict_is_strict_json() -> None:
    record = attribution(error=math.nan, residual=math.inf).to_dict()
    text = json.dumps(record, allow_nan=False)
    assert json.loads(text)["error"] is None
    assert record["labels"] == ["good", "bad"] and record["scores"] == [3, -2.5]
    assert record["shapes"] == {"x": [3, 2]}


def test_a_label_cannot_inject_html(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    result = attribution(units=ig.Units((evil, "b"), {"x": torch.tensor([0, 1, 1])}), reason=evil)
    for page in (result.to_html(), result._repr_html_()):
        assert evil not in page
        assert "&lt;script&gt;" in page
    assert (tmp_path / "page.html").exists() is False
    assert result.to_html(tmp_path / "page.html") == (tmp_path / "page.html").read_text()


def test_a_view_of_the_domain_is_used() -> None:
    result = attribution(view=lambda a, fmt: f"{fmt} of {a.delta}")
    assert result.to_text() == "text of 1.0"
    assert result._repr_html_() == "html of 1.0"
    assert "html of 1.0" in result.to_html()


def test_repr_says_what_matters() -> None:
    assert repr(attribution()) == (
        "Attribution(2 words, delta=1, residual=-5.0e-01, converged: good +3, bad -2.5)"
    )


def test_the_card_holds_no_tensors() -> None:
    card = attribution(error=math.nan).card()
    assert card.labels == ["good", "bad"] and card.scores == [3.0, -2.5]
    assert card.facts["estimated error"] == "none"
    assert card.facts["reason"] == "a note"
    assert card.facts["status"].startswith("converged (")


def test_an_attribution_of_the_failed_says_so() -> None:
    lost = torch.full((3, 2), math.nan)
    assert "failed" in repr(attribution(status="failed", tensors={"x": lost}))


def test_the_residual_and_the_error_say_what_they_are_relative_to() -> None:
    facts = attribution(residual=-0.0035, at_input=5.0, at_baseline=1.0, error=0.0023).card().facts
    assert facts["residual"] == "-3.5e-03 (0.088 % of the difference)"
    assert facts["estimated error"] == "0.23 % of the values' L1 norm"
    assert attribution(residual=0.5, at_baseline=2.0).card().facts["residual"] == "5.0e-01"


def test_what_was_explained_is_a_fact_of_every_view() -> None:
    result = attribution(display={"explained": "logit of 'good'"})
    assert next(iter(result.card().facts.items())) == ("explained", "logit of 'good'")
    assert "explained        logit of 'good'" in result.to_text()
    assert "logit of &#39;good&#39;" in result.to_html()
    assert "explained" not in attribution().card().facts


def test_labels_cannot_steer_a_terminal_or_a_page() -> None:
    units = ig.Units(("\x1b[31mred\x07", "b"), {"x": torch.tensor([0, 1, 1])}, kind="\x1b]k")
    result = attribution(units=units, reason="\x1b[2J")
    for shown in (repr(result), result.to_text(), result.to_html(), result._repr_html_()):
        assert "red" in shown and "\x1b" not in shown and "\x07" not in shown


def test_saving_follows_a_link_and_refuses_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert attribution().save(tmp_path / "link").is_symlink()
    assert ig.Attribution.load(tmp_path / "target").reason == "a note"
    os.mkfifo(tmp_path / "pipe")
    for write in (attribution().save, attribution().to_html):
        with pytest.raises(ig.StorageError, match="no file"):
            write(tmp_path / "pipe")
    with pytest.raises(ig.StorageError, match="no file"):
        ig.Attribution.load(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_what_is_no_path_is_a_named_error(path: str) -> None:
    with pytest.raises(ig.StorageError, match="cannot write"):
        attribution().save(path)
    with pytest.raises(ig.StorageError, match="cannot read"):
        ig.Attribution.load(path)


def panel(**changes: object) -> dict[str, object]:
    """A panel as a file holds it."""
    return {"start": 0.0, "end": 0.5, "share": 0.5, "leg": None, "units": []} | changes


def test_a_file_from_before_there_were_worst_panels_is_read(tmp_path: Path) -> None:
    path = attribution().save(tmp_path / "a")
    with safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()["ig_core"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del record["worst"]
    save_file(tensors, path, metadata={"ig_core": json.dumps(record)})
    assert list(ig.Attribution.load(path).worst) == []


def test_worst_panels_are_one_line_of_every_view() -> None:
    told = "t = 0.375 to 0.5: 62 % of the error, mostly in 'good', 'bad'; t = 0 to 1 of leg 2: "
    result = attribution()
    assert result.card().facts["worst panels"] == told + "10 % of the error"
    assert told in result.to_text()
    assert "62 % of the error, mostly in &#39;good&#39;, &#39;bad&#39;" in result.to_html()
    assert "worst panels" not in attribution(worst=()).to_text()
    assert json.loads(json.dumps(result.to_dict()))["worst"] == result.to_dict()["worst"]


def test_the_ends_of_a_narrow_panel_are_told_apart() -> None:
    assert str(WorstPanel(0.5, 0.5 + 1e-9, 1.0)) == "t = 0.5 to 0.500000001: 100 % of the error"
    assert str(WorstPanel(0.5, math.nan, 1.0)).startswith("t = 0.5 to nan: ")


def test_a_label_of_a_panel_can_neither_inject_nor_steer() -> None:
    evil = "<script>\x1b[31mred\x07'\n\ud800"
    result = attribution(worst=[WorstPanel(0.0, 0.5, 0.5, None, [(evil, 1.0)])])
    for shown in (result.to_text(), result.to_html(), result._repr_html_()):
        assert "red" in shown and "\x1b" not in shown and "\x07" not in shown
        shown.encode()
    assert "<script>" not in result.to_html()
    assert result.to_text().splitlines()[-1].startswith("worst panels")


@pytest.mark.parametrize(
    "change",
    [
        {"labels": "ab"}, {"labels": [1, 2]}, {"labels": ["one"]}, {"names": ["y"]},
        {"names": [["x"]]}, {"at_input": "high"}, {"residual": [1]}, {"evaluations": "many"},
        {"status": "perfect"}, {"reason": None}, {"display": []}, {"provenance": 3}, {"kind": 0},
        {"scores": "["}, {"worst": {}}, {"worst": ["x"]}, {"worst": [{"start": 0.0}]},
        {"worst": [panel(start="here")]}, {"worst": [panel(leg=1.5)]}, {"worst": [panel(more=1)]},
        {"worst": [panel(units=[[3, 0.5]])]}, {"worst": [panel(units="ab")]},
    ],
)  # fmt: skip
def test_a_field_of_a_wrong_type_is_damage(tmp_path: Path, change: dict[str, object]) -> None:
    path = attribution().save(tmp_path / "a")
    with safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()["ig_core"]) | change
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    told = "[" * 100_000 if "scores" in change else json.dumps(record)
    save_file(tensors, path, metadata={"ig_core": told})
    with pytest.raises(ig.StorageError, match="damaged"):
        ig.Attribution.load(path)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("unit/x", torch.tensor([0, 1])),
        ("unit/x", torch.tensor([0, 1, 2])),
        ("unit/x", torch.tensor([0.0, 1.0, 1.0])),
        ("unit/y", torch.tensor([0, 1, 1])),
        ("uncertainty", torch.zeros(3)),
        ("spread", torch.zeros(2, 1)),
    ],
)
def test_tensors_that_do_not_fit_are_damage(tmp_path: Path, name: str, tensor: object) -> None:
    path = attribution().save(tmp_path / "a")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors | {name: tensor}, path, metadata=metadata)
    with pytest.raises(ig.StorageError, match="damaged"):
        ig.Attribution.load(path)
