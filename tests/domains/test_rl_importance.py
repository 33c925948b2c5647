"""Importance of features over many states, and agreement of baselines over many states."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN

import ig_core as ig
import ig_rl
from ig_rl.analyses import FeatureImportance
from ig_rl.findings.agreement import agreement
from ig_rl.findings.importance import Importance, by_action, strength

STATES = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)


def dqn(env="CartPole-v1", net=(16,)):
    kwargs = {"net_arch": list(net), "activation_fn": torch.nn.Tanh}
    return DQN("MlpPolicy", env, policy_kwargs=kwargs, buffer_size=100, seed=3, device="cpu")


@pytest.fixture(scope="module")
def found():
    return ig_rl.wrap(dqn(), states=STATES).importance()


# -- strength ---------------------------------------------------------------------------------


def test_strength_is_of_the_scores():
    scores = np.array([[3.0, -1.0, 0.0], [-1.0, -1.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    own = strength(scores)
    assert own.count == 4
    assert own.magnitude.tolist() == [1.5, 1.0, 0.0]
    assert own.mean.tolist() == [1.0, 0.0, 0.0]
    assert own.share.tolist() == [0.6, 0.4, 0.0]
    assert own.intervals["magnitude"][:, 2].tolist() == [0, 0]


def test_intervals_are_those_of_the_mean_of_many_normal_scores():
    scores = np.random.default_rng(1).normal(0.3, 2.0, size=(1000, 1))
    low, high = strength(scores, resamples=4000).intervals["mean"][:, 0]
    half = 1.96 * scores.std() / np.sqrt(1000)
    assert low == pytest.approx(scores.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(scores.mean() + half, abs=0.1 * half)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(2)
    held = 0
    for trial in range(300):
        low, high = strength(
            generator.normal(1.0, 1.0, size=(60, 1)), resamples=300, seed=trial
        ).intervals["mean"][:, 0]
        held += low <= 1.0 <= high
    assert 0.90 <= held / 300 <= 0.98


def test_one_state_has_no_interval_and_the_seed_repeats():
    assert np.isnan(strength(np.ones((1, 2))).intervals["share"]).all()
    first, again, other = (strength(STATES, seed=s).intervals["mean"] for s in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_no_state_is_refused():
    with pytest.raises(ig.InputError, match="at least one state"):
        strength(np.ones((0, 2)))


def test_actions_part_the_states():
    parts = by_action(np.array([[1.0], [2.0], [6.0]]), ["up", "down", "down"])
    assert list(parts) == ["down", "up"]
    assert {name: part.mean.tolist() for name, part in parts.items()} == {"down": [4], "up": [1]}


# -- importance of an agent -------------------------------------------------------------------


def test_scores_are_those_of_every_state(found):
    model = dqn()
    results = ig.attribute(model, STATES, states=STATES)
    expected = np.stack([one.scores.numpy() for one in results])
    np.testing.assert_allclose(found.scores, expected, atol=5e-7)
    np.testing.assert_allclose(found.overall.magnitude, np.abs(expected).mean(0), atol=5e-7)
    np.testing.assert_allclose(found.values, STATES, atol=0)
    assert found.residual == max(abs(one.residual) for one in results)
    greedy = np.array([int(model.predict(s, deterministic=True)[0]) for s in STATES])
    for action, name in enumerate(("left", "right")):
        if (greedy == action).any():
            mean = expected[greedy == action].mean(0)
            np.testing.assert_allclose(found.per_action[name].mean, mean, atol=5e-7)
            assert found.per_action[name].count == (greedy == action).sum()
    assert sum(part.count for part in found.per_action.values()) == 64


def test_a_dead_feature_has_no_share_at_all():
    model = dqn()
    with torch.no_grad():
        model.q_net.q_net[0].weight[:, 2] = 0
    overall = ig_rl.wrap(model, states=STATES).importance().overall
    assert overall.magnitude[2] == overall.share[2] == 0
    assert overall.intervals["share"][:, 2].tolist() == [0, 0]
    assert overall.share.sum() == pytest.approx(1)


def test_a_fixed_action_gives_the_sign_of_its_quantity():
    agent = ig_rl.wrap(dqn(), states=STATES)
    one, other = (agent.importance(action=pair) for pair in ((1, 0), (0, 1)))
    np.testing.assert_allclose(one.overall.mean, -other.overall.mean, atol=1e-6)
    np.testing.assert_allclose(one.overall.share, other.overall.share, atol=1e-6)
    assert one.quantity == "Q(right) - Q(left)"


def test_of_many_states_some_at_equal_distances_are_explained():
    agent = ig_rl.wrap(dqn(), states=STATES)
    some = agent.importance(most_states=4)
    assert some.values.tolist() == STATES[[0, 21, 42, 63]].tolist()
    assert "explained: 4 of 64 states" in some.notes
    given = agent.importance(list(STATES[:3]))
    assert given.values.tolist() == STATES[:3].tolist()


def test_the_text_has_shares_intervals_and_means_by_action(found):
    text = found.to_text()
    assert f"{found.quantity} of DQN; 64 states" in text
    assert "baseline: visited-mean; completeness: worst residual" in text
    assert "visited states: those given" in text
    top = found.names[found.strongest(1)[0]]
    assert text.splitlines()[1].startswith(top)
    assert found.table().rows[0][1] == found.overall.magnitude.max()


def test_of_pixels_the_strongest_have_rows_and_every_frame_its_sum():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(8, 24))
    found = Importance(
        names=[f"pixel {i}" for i in range(24)],
        scores=scores,
        values=scores,
        overall=strength(scores),
        per_action=by_action(scores, ["left"] * 8),
        quantity="Q",
        baseline="zeros",
        residual=0.0,
        image=(2, 3, 4),
    )
    *pixels, before, now = found.table().rows
    assert [row[0] for row in pixels] == [found.names[i] for i in found.strongest(10)]
    assert [before[0], now[0]] == ["all pixels, 1 step ago", "all pixels, now"]
    assert before[1] == pytest.approx(np.abs(scores[:, :12]).sum(1).mean())
    assert now[4] == pytest.approx(scores[:, 12:].sum(1).mean())
    assert before[5] + now[5] == pytest.approx(1)
    assert before[2] < before[1] < before[3]
    assert [row[0] for row in found.actions().rows[-2:]] == [before[0], now[0]]
    assert found.actions().rows[-1][1] == pytest.approx(now[4])
    assert len(found.to_csv().splitlines()) == 1 + 2 * 24
    np.testing.assert_array_equal(found.maps("mean")[1].ravel(), scores.mean(0)[12:])


def test_maps_are_of_images(found):
    with pytest.raises(ig.InputError, match="maps are of images"):
        found.maps("mean")


def test_csv_and_json_hold_all_numbers(found):
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert len(rows) == 4 * (1 + len(found.per_action))
    assert [float(row["share"]) for row in rows[:4]] == found.overall.share.tolist()
    lows = [float(row["mean 95 % low"]) for row in rows[:4]]
    assert lows == found.overall.intervals["mean"][0].tolist()
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["overall"]["magnitude"] == found.overall.magnitude.tolist()
    assert told["scores"] == found.scores.tolist()


def test_the_page_and_the_picture_are_made(found, tmp_path):
    html = found.to_html(tmp_path / "importance.html")
    assert (tmp_path / "importance.html").read_text() == html
    assert all(name in html for name in found.names)
    assert found.plot() is not None


@pytest.mark.parametrize("most", [0, -1, 1.5, True])
def test_the_most_states_are_a_number_above_zero(most):
    with pytest.raises(ig.InputError, match="most_states must be"):
        ig_rl.wrap(dqn(), states=STATES).importance(most_states=most)


def test_states_are_needed():
    with pytest.raises(ig.InputError, match=r"no states to explain: pass states= .* or env="):
        ig_rl.wrap(dqn()).importance()
    with pytest.raises(ig.InputError, match="at least one state to explain"):
        ig_rl.wrap(dqn(), states=STATES).importance(STATES[:0])


# -- as an analysis ---------------------------------------------------------------------------


def test_the_analysis_parts_states_by_what_they_explain():
    results = ig.attribute(dqn(), STATES[:6], target=[(1, 0), (0, 1)] * 3)
    analysis = ig.plugins().find("analysis", "feature-importance", "rl")()
    found = analysis.find(results, resamples=50)
    assert {name: part.count for name, part in found.per_action.items()} == {"right": 3, "left": 3}
    assert found.quantity == "gap of each state's own actions"
    assert found.overall.mean.tolist() == np.mean([a.scores.numpy() for a in results], 0).tolist()


def test_the_analysis_refuses_what_it_cannot_use():
    results = ig.attribute(dqn(), STATES[:2])
    with pytest.raises(ig.InputError, match="actions must name one for each of 2 states"):
        FeatureImportance().find(results, actions=["left"])
    with pytest.raises(ig.InputError, match="has the options actions, resamples"):
        FeatureImportance().find(results, colour="red")


def test_states_that_failed_are_left_out_and_counted():
    results = ig.attribute(dqn(), STATES[:3])
    broken = {name: value * torch.nan for name, value in results[1].tensors.items()}
    results[1] = replace(results[1], tensors=broken, status="failed")
    found = FeatureImportance().find(results)
    assert (found.overall.count, found.left_out) == (2, 1)
    assert "2 states, 1 left out that could not be explained" in found.to_text()


# -- agreement of baselines -------------------------------------------------------------------


def test_agreement_is_the_mean_of_every_states_own():
    model = dqn()
    agent = ig_rl.wrap(model, states=STATES)
    found = agent.baseline_agreement(STATES[:8], ["visited-mean", "zeros"])
    own = [
        ig.BaselineAgreement().find(
            [ig.attribute(model, s, states=STATES, baseline=b) for b in found.names]
        )
        for s in STATES[:8]
    ]
    for name in ("rank_correlation", "sign_agreement"):
        expected = np.mean([getattr(one, name) for one in own], 0)
        np.testing.assert_allclose(getattr(found, name), expected, atol=1e-12)
    tops = [len({int(np.abs(row).argmax()) for row in one.scores}) == 1 for one in own]
    assert found.same_top[0, 1] == np.mean(tops)


def test_the_baselines_of_visited_states_are_compared_by_default():
    found = ig_rl.wrap(dqn(), states=STATES).baseline_agreement(most_states=4)
    names = ["visited-mean", "visited-median", "visited-states", "normalised-zero"]
    assert found.names == names
    assert len(found.table().rows) == 6
    assert len(found.each) == 4


def test_the_same_baseline_agrees_with_itself_wholly():
    mean = STATES.astype(np.float64).mean(0).astype(np.float32)
    agent = ig_rl.wrap(dqn(), states=STATES)
    found = agent.baseline_agreement(STATES[:8], {"mean": "visited-mean", "own": mean})
    [row] = found.table().rows
    assert row == ["mean / own", *[pytest.approx(1.0)] * 5]


def test_opposite_scores_disagree_wholly():
    """Of a linear network scores are weight times distance, and change sign with the start."""
    agent = ig_rl.wrap(dqn(net=()), states=STATES)
    state = np.zeros((1, 4), np.float32)
    there = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    found = agent.baseline_agreement(state, {"below": -there, "above": there}, "q", action=1)
    assert found.rank_correlation[0, 1] == pytest.approx(-1)
    assert found.sign_agreement[0, 1] == 0
    assert found.same_top[0, 1] == 1
    np.testing.assert_allclose(found.magnitudes[0], found.magnitudes[1], atol=1e-7)


def test_agreement_is_printed_as_a_table(tmp_path):
    agent = ig_rl.wrap(dqn(), states=STATES)
    found = agent.baseline_agreement(STATES[:4], ["visited-mean", "zeros", 0.5, 1.0])
    table = found.table()
    assert [row[0] for row in table.rows][:3] == [
        "visited-mean / zeros", "visited-mean / 0.5", "visited-mean / 1.0",
    ]  # fmt: skip
    assert "4 states" in found.to_text()
    assert "explained" not in found.to_text()
    json.dumps(found.to_dict(), allow_nan=False)
    assert found.to_html(tmp_path / "a.html") == (tmp_path / "a.html").read_text()
    assert found.to_csv().splitlines()[0].startswith("baselines,rho")
    assert "Spearman: visited-mean / zeros" in repr(found)


def test_agreement_does_not_mind_what_is_said_of_the_starts():
    """A start may be cut off, or be no category; the input is the same."""
    narrow = ig_rl.Normalisation(np.zeros(4), np.full(4, 0.2), clip=3.0)
    agent = ig_rl.wrap(dqn(), states=STATES, vecnormalize=narrow)
    inside = STATES[(np.abs(STATES) < 1).all(1)][:4]
    with pytest.warns(ig.IGWarning, match="cuts off"):
        found = agent.baseline_agreement(inside, ["visited-mean", np.full(4, 9, np.float32)])
    assert len(found.each) == 4
    rooms = np.array([0, 0, 0, 1, 2, 3])
    told = ig_rl.wrap(dqn("FrozenLake-v1"), states=rooms).baseline_agreement(
        baselines=["visited-mean", "visited-median", "visited-states"]
    )
    assert len(told.each) == 6 and told.features == ["state"]


def test_agreement_is_drawn_with_the_numbers_that_it_has():
    found = ig_rl.wrap(dqn(), states=STATES).baseline_agreement(
        STATES[:8], ["visited-mean", "zeros", 0.5]
    )
    rho, sizes = found.plot().axes
    np.testing.assert_array_equal(rho.images[0].get_array(), found.rank_correlation)
    order = [found.features.index(label.get_text()) for label in sizes.get_yticklabels()]
    assert sorted(order) == [0, 1, 2, 3]
    np.testing.assert_array_equal(sizes.images[0].get_array(), found.magnitudes[:, order].T)
    assert [label.get_text() for label in rho.get_xticklabels()] == list(found.names)
    assert "<img" in found.to_html()


@pytest.mark.parametrize("few", [[], ["zeros"], "zeros", 3])
def test_agreement_needs_two_baselines(few):
    with pytest.raises(ig.InputError, match="at least two"):
        ig_rl.wrap(dqn(), states=STATES).baseline_agreement(STATES[:2], few)


def test_agreement_is_over_the_same_states():
    one = ig.attribute(dqn(), STATES[:2])
    with pytest.raises(ig.InputError, match=r"over the same states \(got a: 2, b: 1\)"):
        agreement({"a": one, "b": one[:1]})
