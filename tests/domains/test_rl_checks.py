"""Checks of an agent's attributions: flips, deletion, freezing, planted features, lost weights."""

import csv
import io
import json
import pickle
import random
import sys
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import scipy.stats
import torch
from sb3_contrib import QRDQN, RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import ig_core as ig
import ig_rl
from ig_rl.checks import freezing
from ig_rl.checks.deletion import ORDERS
from ig_rl.checks.interval import Estimate, estimate
from ig_rl.checks.randomisation import rank_correlation
from ig_rl.episodes import play
from ig_rl.metrics import Flip

NAMES = ("near", "far", "shared", "noise")
STATE = np.array([1.0, -0.5, 1.0, 0.3], dtype=np.float32)
OTHER = np.array([-1.0, 0.5, 1.0, 0.3], dtype=np.float32)
VISITED = np.stack([STATE, -STATE, OTHER, -OTHER])
"""Their mean is zero."""

WEIGHTS = ((0.0, 0.0, 5.0, 0.0), (2.0, 1.0, 5.0, 0.0))
"""The gap of the second action is 2 near + far; most of every Q-value is shared."""


class Signs(gymnasium.Env):
    """Ten steps on which ``near`` is 1 or -1 in turns; the right action is 1 or 0 then.

    The environment answers the true action, whatever the agent saw.
    """

    observation_space = gymnasium.spaces.Box(-2, 2, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_number = 0
        return self._observation(), {}

    def step(self, action):
        right = self.step_number % 2 == 0
        self.step_number += 1
        return self._observation(), float(right == (action == 1)), self.step_number == 10, False, {}

    def _observation(self):
        noise = self.np_random.normal(scale=0.1, size=3)
        return np.array([1 - 2 * (self.step_number % 2), *noise], dtype=np.float32)


def linear(weights=WEIGHTS, bias=(0.0, 0.0), env=Signs):
    """A DQN whose Q-values are linear in the observation."""
    model = DQN("MlpPolicy", env(), policy_kwargs={"net_arch": []}, seed=0, device="cpu")
    layer = model.q_net.q_net[0]
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights))
        layer.bias.copy_(torch.tensor(bias))
    return model


def deep(kind=DQN, env="CartPole-v1", **options):
    kwargs = {"net_arch": [16, 16], "activation_fn": torch.nn.Tanh}
    return kind("MlpPolicy", env, policy_kwargs=kwargs, seed=0, device="cpu", **options)


def batch(n=6, size=4):
    return np.random.default_rng(0).normal(size=(n, size)).astype(np.float32)


# -- flips ------------------------------------------------------------------------------------


def flips(**options):
    return ig_rl.flips(linear(), [STATE, OTHER], visited=VISITED, **options)


def test_the_action_flips_without_the_top_of_the_gap_and_not_without_its_bottom():
    """gap(near, far) = 2 near + far: 1.5 becomes -0.5 without near and 2 without far."""
    found = flips()
    assert found.rate("gap IG").mean == 1
    assert found.rate("gap IG", "bottom").mean == 0
    assert found.rate("|gap IG|").mean == 1
    assert found.rate("gradient x input").mean == 1


def test_the_action_does_not_flip_without_what_both_actions_share():
    """The shared feature is 5 of the Q-value, so Q IG names it first."""
    found = flips()
    assert found.rate("Q IG").mean == found.rate("|Q IG|").mean == 0
    assert found.difference("gap IG", "Q IG") == Estimate(1, 1, 1)


@pytest.mark.parametrize(("k", "share"), [(1, 1 / 4), (2, 2 / 6), (3, 1 / 4)])
def test_random_features_flip_at_their_exact_expectation(k, share):
    """Sets with near flip; not those with far besides, which leave the gap at 0, a tie.

    In a tie the first action is greedy, which flips the state that prefers the second.
    """
    found = flips(k=k)
    both = {1: 0, 2: 1 / 6, 3: 2 / 4}[k]
    assert found.changed[-1, 0, 0].tolist() == pytest.approx([share + both, share])
    assert found.ways == ("visited mean", "visited states")


def test_values_of_visited_states_flip_as_often_as_they_differ():
    """Near is 1 in two visited states and -1 in the other two, of which only -1 flips."""
    found = flips()
    assert found.rate("gap IG", way="visited states").mean == 0.5
    assert found.rate("gap IG", "bottom", "visited states").mean == 0


def test_removing_all_features_leaves_nothing_to_rank():
    found = flips(k=4)
    rates = {found.rate(name, end).mean for name in found.rankings for end in ("top", "bottom")}
    assert len(rates) == 1


def test_intervals_draw_whole_episodes_where_they_are_known():
    alone, grouped = flips(), flips(groups=[0, 0])
    assert np.isfinite(alone.rate("random").low)
    assert np.isnan(grouped.rate("random").low)


@pytest.mark.parametrize("k", [0, 5, 1.0, True])
def test_as_many_features_are_replaced_as_there_are(k):
    with pytest.raises(ig.InputError, match="1 to 4"):
        flips(k=k)


def test_what_is_not_known_is_named():
    found = flips()
    with pytest.raises(ig.InputError, match="no ranking 'q'"):
        found.rate("q")
    with pytest.raises(ig.InputError, match="no way 'zeros'"):
        found.rate("gap IG", way="zeros")
    with pytest.raises(ig.InputError, match="episode of every state: 2"):
        flips(groups=[1])
    with pytest.raises(ig.InputError, match="no option 'tolerance'"):
        flips(tolerance=1)
    with pytest.raises(ig.InputError, match="several states"):
        ig_rl.flips(linear(), STATE, visited=VISITED)


# -- deletion ---------------------------------------------------------------------------------


def test_deletion_follows_the_order_of_the_scores():
    """The gap 1.5 owes 2 to near, nothing to two features and -0.5 to far."""
    found = ig_rl.deletion(linear(), [STATE, OTHER], visited=VISITED)
    assert found.curves[0, 0].tolist() == pytest.approx([1.5, -0.5, -0.5, -0.5, 0], abs=1e-6)
    assert found.parts.tolist() == [0, 0.25, 0.5, 0.75, 1]
    expected = 1.5 * (1 - found.parts)
    assert found.random.mean(0) == pytest.approx(expected, abs=4 / np.sqrt(2 * ORDERS))


def test_the_deletion_area_is_divided_by_the_range_of_all_curves():
    found = ig_rl.deletion(linear(), [STATE, OTHER], visited=VISITED)
    every = np.concatenate([found.curves, found.random[None]])
    reach = every.max((0, 2)) - every.min((0, 2))
    under = [np.trapezoid(one, found.parts) for one in (found.random, found.curves[0])]
    assert found.areas[0] == pytest.approx((under[0] - under[1]) / reach)
    assert found.area("gap IG").mean > found.area("Q IG").mean


def test_a_gap_that_never_changes_has_no_area():
    flat = linear(((0.0,) * 4, (0.0,) * 4), bias=(0.0, 1.0))
    found = ig_rl.deletion(flat, [STATE, OTHER])
    assert np.isnan(found.areas).all()
    assert np.isnan(found.area("gap IG").mean)


# -- freezing ---------------------------------------------------------------------------------


def frozen(model=None, env=None, seeds=(3, 4), **options):
    options = {"states": VISITED, "feature_names": NAMES} | options
    return ig_rl.frozen(model or linear(bias=(0.0, 0.2)), env or Signs(), seeds, **options)


def test_the_return_falls_to_chance_without_the_only_feature_that_matters():
    """With near at its mean, 0, the bias decides: always the second action, right in half."""
    model = linear(((0.0,) * 4, (1.0, 0.0, 0.0, 0.0)), bias=(0.0, 0.2))
    found = frozen(model)
    assert found.intact.tolist() == [10, 10]
    assert found.returns.tolist() == [[5, 5], [10, 10], [10, 10], [10, 10]]
    assert found.change(0) == Estimate(-5, -5, -5)
    assert list(found.names) == list(NAMES)


def test_frozen_features_are_those_that_were_asked_for():
    found = frozen(features=[2, 0], importance={"gap IG": np.array([[3.0, 0.0, -4.0, 0.0]])})
    assert list(found.names) == ["shared", "near"]
    assert found.importance["gap IG"].tolist() == [4, 3]
    assert found.first("gap IG") == 0
    assert "gap IG names shared first" in found.table().to_text()
    with pytest.raises(ig.InputError, match="from 0 to 3"):
        frozen(features=[4])
    with pytest.raises(ig.InputError, match="no attribution 'q'"):
        found.first("q")


def test_the_intact_return_is_that_of_the_agent_itself():
    env = gymnasium.make("CartPole-v1")
    model = deep()
    expected = []
    for seed in range(3):
        state, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            action, _ = model.predict(state, deterministic=True)
            state, reward, terminated, truncated, _ = env.step(action)
            total, over = total + reward, terminated or truncated
        expected.append(total)
    found = ig_rl.frozen(model, env, range(3), states=batch())
    assert found.intact.tolist() == expected


class Fixed(Signs):
    """The same, where ``noise`` is what never changes."""

    def _observation(self):
        found = super()._observation()
        found[3] = 0.25
        return found


def test_a_feature_that_never_changes_says_nothing():
    """The weight of ``noise`` is large, and still freezing it costs nothing here."""
    model = linear(((0.0,) * 4, (1.0, 0.0, 0.0, 0.3)))
    importance = {"gap IG": np.array([[1.0, 0.0, 0.0, 2.0]])}
    seen = play(model, Fixed(), (3, 4))
    found = frozen(model, Fixed(), states=seen.states, intact=seen, importance=importance)
    assert found.constant == [False, False, False, True]
    assert np.isnan(found.change(3).mean)
    assert found.table().rows[3][2:5] == ["constant in these episodes", "", ""]
    assert found.verdict == (
        "Freezing near costs the most: -5 of 10; gap IG names noise (constant in these episodes)."
    )
    assert "noise first; it is constant" in found.table().to_text()
    assert found.to_dict()["constant"] == found.constant
    nothing = replace(found, constant=[True] * 4)
    assert nothing.worst is None
    assert "says nothing" in nothing.verdict


def test_features_that_cost_nothing_are_not_called_costly():
    found = frozen(linear(((0.0,) * 4, (0.0,) * 4)))
    assert found.verdict.startswith("No feature costs the return")


def test_continuous_actions_are_played_on_their_own_scale():
    env = gymnasium.make("Pendulum-v1")
    model = deep(PPO, "Pendulum-v1", n_steps=64)
    state, _ = env.reset(seed=5)
    total = 0.0
    for _ in range(200):
        state, reward, *_ = env.step(model.predict(state, deterministic=True)[0])
        total += reward
    found = ig_rl.frozen(model, env, [5], states=batch(size=3), features=[0])
    assert found.intact[0] == pytest.approx(total, rel=1e-4)
    assert found.returns[0, 0] != found.intact[0]


def test_an_endless_episode_is_cut():
    found = frozen(features=[0], most_steps=4)
    assert found.intact.tolist() == [4, 4]
    assert found.notes == ["2 of 2 episodes were cut after 4 steps"]


def test_under_vecnormalize_the_normalised_value_is_frozen():
    """Frozen at the visited mean, 0 in raw numbers; the agent sees (0 - 4) / 2 and does nothing."""
    env = VecNormalize(DummyVecEnv([Signs]), training=False, norm_reward=False)
    env.obs_rms.mean[0], env.obs_rms.var[0] = 4.0, 4.0
    model = linear(((0.0,) * 4, (1.0, 0.0, 0.0, 0.0)), bias=(0.0, 2.1))
    found = frozen(model, env, vecnormalize=env)
    assert found.intact.tolist() == [10, 10]
    assert found.returns[0].tolist() == [5, 5]


def test_what_cannot_be_frozen_is_refused(monkeypatch):
    with pytest.raises(ig.InputError, match="at least one seed"):
        frozen(seeds=[])
    with pytest.raises(ig.InputError, match="Gymnasium environment"):
        frozen(env="CartPole-v1")
    monkeypatch.setattr(freezing, "MOST_FEATURES", 3)
    with pytest.raises(ig.InputError, match="name some with features="):
        frozen()


# -- planted ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "explain"), [(DQN, "gap"), (DQN, "q"), (PPO, "value")])
def test_planted_features_get_exactly_zero_and_the_others_do_not(kind, explain):
    model = deep(kind)
    before = pickle.dumps({k: v.tolist() for k, v in model.policy.state_dict().items()})
    found = ig_rl.planted(model, batch(), explain=explain)
    assert found.exact
    assert found.dead.tolist() == [0, 0, 0, 0]
    assert (found.alive > 1e-4).all()
    assert pickle.dumps({k: v.tolist() for k, v in model.policy.state_dict().items()}) == before


def test_a_feature_that_was_not_cut_off_is_told(monkeypatch):
    monkeypatch.setattr("ig_rl.checks.planting.READING", ())
    found = ig_rl.planted(linear(), VISITED, features=[0, 3])
    assert found.dead.tolist() == pytest.approx([2, 0])
    assert not found.exact
    assert "NOT every dead feature" in found.table().to_text()


def test_pixels_cannot_be_planted():
    class Screen(Signs):
        observation_space = gymnasium.spaces.Box(0, 255, (1, 36, 36), np.uint8)

    model = PPO("CnnPolicy", Screen(), seed=0, device="cpu", n_steps=64)
    screens = np.random.default_rng(0).integers(0, 256, (2, 1, 36, 36), dtype=np.uint8)
    with pytest.raises(ig.InputError, match="such as a convolution"):
        ig_rl.planted(model, screens, features=[0], rule="midpoint", steps=2, tol=10.0)
    with pytest.raises(ig.InputError, match="from 0 to 1295"):
        ig_rl.planted(model, screens, features=[-1])


# -- randomised -------------------------------------------------------------------------------


def test_weights_are_lost_from_the_output_to_the_input():
    found = ig_rl.randomised(deep(), batch(), copies=2)
    assert list(found.layers) == ["q_net.q_net.4", "q_net.q_net.2", "q_net.q_net.0"]
    assert found.signed.shape == (3, 2, 6)
    assert not np.array_equal(found.signed[-1, 0], found.signed[-1, 1])


def test_a_value_loses_the_weights_of_the_critic_only():
    found = ig_rl.randomised(deep(PPO), batch(), copies=1, explain="value")
    assert found.layers[0] == "value_net"
    assert not any("policy" in name or "action" in name for name in found.layers)


def test_critics_lose_their_weights_together():
    """Of one of them alone the other would be the smallest, and the scores would stay."""
    model = deep(SAC, "Pendulum-v1", buffer_size=10)
    states = batch(size=3)
    heads = ig_rl.randomised(model, states, copies=1, explain="q").layers
    assert heads == ["critic.qf*.4", "critic.qf*.2", "critic.qf*.0"]
    alone = ig_rl.randomised(model, states, copies=1, explain="q1").layers
    assert len(alone) == 3
    assert model.policy.critic.qf0[0].weight.abs().sum() > 0


def test_turned_weights_turn_the_ranks(monkeypatch):
    def turn(module, name, seed):
        with torch.no_grad():
            module.weight.neg_()

    monkeypatch.setattr("ig_rl.checks.randomisation._initialise", turn)
    found = ig_rl.randomised(linear(), VISITED, copies=3)
    assert found.correlation(0).mean == pytest.approx(-1)
    assert found.correlation(0, magnitude=True).mean == pytest.approx(1)


def test_rank_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 4, (2, 20, 6)).astype(float)
    expected = [scipy.stats.spearmanr(a, b).statistic for a, b in zip(one, other, strict=True)]
    assert rank_correlation(one, other) == pytest.approx(expected)


def test_no_check_needs_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    found = ig_rl.faithfulness(linear(), Signs(), [0], count=2, copies=1)
    assert [*found.sections] == ["flips", "deletion", "frozen", "planted", "randomised"]


@pytest.mark.parametrize("copies", [0, 1.5, True])
def test_copies_are_counted(copies):
    with pytest.raises(ig.InputError, match="whole number of at least 1"):
        ig_rl.randomised(linear(), VISITED, copies=copies)


# -- intervals --------------------------------------------------------------------------------


def test_the_interval_of_a_share_is_that_of_the_binomial():
    values = np.repeat([0.0, 1.0], [30, 70])
    found = estimate(values, resamples=20_000)
    low, high = scipy.stats.binom(100, 0.7).ppf([0.025, 0.975]) / 100
    assert found.mean == pytest.approx(0.7)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.011)


def test_whole_groups_are_drawn():
    values = np.repeat([0.0, 1.0], 50)
    assert estimate(values, groups=[0] * 50 + [1] * 50) == Estimate(0.5, 0, 1)
    assert estimate(values).low > 0.35


def test_what_is_not_known_counts_for_nothing():
    assert estimate(np.array([np.nan, 2.0, 2.0])) == Estimate(2, 2, 2)
    assert np.isnan(estimate(np.array([np.nan])).mean)
    assert estimate(np.array([np.nan])).to_dict() == {"mean": None, "low": None, "high": None}


# -- the metric -------------------------------------------------------------------------------


@pytest.mark.parametrize(("explain", "flips"), [("gap", 1.0), ("q", 0.0)])
def test_the_metric_says_whether_the_top_unit_decides(explain, flips):
    domain = ig_rl.AgentDomain(linear(), explain=explain, states=VISITED)
    result = ig.attribute(domain.model, STATE, domain=domain)
    game = ig.Game(ig.prepare(domain, [STATE]), 0)
    metric = ig.plugins().find("metric", "flip", "rl")
    assert metric is Flip
    assert metric().measure(result, game) == flips


def test_the_metric_is_not_defined_for_continuous_actions():
    domain = ig_rl.AgentDomain(deep(PPO, "Pendulum-v1", n_steps=64), explain="value")
    state = batch(size=3)[0]
    result = ig.attribute(domain.model, state, domain=domain)
    assert np.isnan(Flip().measure(result, ig.Game(ig.prepare(domain, [state]), 0)))


# -- all of them ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    names = ("near", "<b>far</b>", "shared", "$noise$")
    model = linear(bias=(0.0, 0.2))
    return ig_rl.faithfulness(model, Signs(), range(3), count=12, copies=2, feature_names=names)


def test_every_check_is_made_on_states_of_the_episodes(found):
    assert list(found.sections) == ["flips", "deletion", "frozen", "planted", "randomised"]
    assert found.states == 12
    assert len(found.flips.groups) == 12
    assert set(found.flips.groups) <= {0, 1, 2}
    assert found.notes == ["states are of 3 episodes"]


def test_the_finding_is_written_as_text_table_and_json(found):
    text = found.to_text()
    assert "Does the greedy action change" in text
    assert "every dead feature got exactly 0" in text
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    [top] = [row for row in rows if row["what"] == "top of gap IG"]
    assert float(top["mean"]) == found.flips.rate("gap IG").mean
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["planted"]["exact"] is True
    assert told["frozen"]["intact"] == found.frozen.intact.tolist()


def test_the_page_is_escaped_and_holds_the_plot(found, tmp_path):
    path = tmp_path / "checks.html"
    page = found.to_html(path)
    assert path.read_text() == page
    assert "<b>far" not in page
    assert "&lt;b&gt;far" in page
    assert "data:image/svg+xml;base64," in page
    assert page.count("<details>") == 6
    assert page.index("The feature that the gap names first") < page.index("<img")


def test_every_check_ends_in_a_sentence(found):
    assert list(found.verdicts) == list(found.sections)
    assert found.to_text().startswith(f"* {found.flips.verdict}")
    assert found.to_dict()["verdicts"]["planted"] == "Dead features get exactly 0."
    assert found.frozen.verdict.startswith("Freezing near costs the most: -5")


def test_the_verdict_of_flips_says_what_can_be_told_apart():
    def told(gap, random, **options):
        changed = np.stack([np.broadcast_to(own, (2, 1, len(own))) for own in (gap, random)])
        names = ["gap IG", "random"]
        return ig_rl.checks.Flips(
            rankings=names, ways=["zeros"], k=1, changed=changed, **options
        ).verdict

    ones, zeros, mixed = np.ones(8), np.zeros(8), np.arange(8) % 2.0
    assert told(ones, mixed) == (
        "The feature that the gap names first decides in 100 % of states (a random one in 50 %)."
    )
    assert "less often than chance" in told(zeros, ones)
    assert "cannot be told apart" in told(mixed, 1 - mixed)
    assert "no action flips" in told(zeros, zeros)
    assert "no interval" in told(ones, mixed, groups=[0] * 8)
    assert "no state could be explained" in told(np.full(8, np.nan), mixed)


def test_the_verdict_of_deletion_says_what_can_be_told_apart():
    def told(areas, **options):
        areas = np.array([areas])
        curves = np.zeros((1, areas.shape[1], 2))
        parts = np.array([0.0, 1.0])
        return ig_rl.checks.Deletion(
            rankings=["gap IG"], parts=parts, curves=curves, random=curves[0], areas=areas,
            **options,
        ).verdict  # fmt: skip

    assert "falls faster" in told([0.2, 0.3, 0.25])
    assert "more slowly" in told([-0.2, -0.3, -0.25])
    assert "cannot be told apart" in told([0.2, -0.2, 0.1, -0.1])
    assert "no interval" in told([0.2, 0.3], groups=[0, 0])
    assert "never changes" in told([np.nan, np.nan])


@pytest.mark.parametrize(
    ("rho", "said"),
    [(0.1, "no longer look alike"), (0.9, "STILL look alike"), (np.nan, "no ranks differ")],
)
def test_the_verdict_of_lost_weights_is_of_the_last_layer(rho, said):
    found = ig_rl.checks.Randomised(
        layers=["a", "b"],
        signed=np.stack([np.full((3, 2), 0.5), np.full((3, 2), rho)]),
        magnitude=np.ones((2, 3, 2)),
        quantity="gap",
    )
    assert said in found.verdict
    unsure = replace(found, signed=np.stack([found.signed[0], np.eye(3, 2)]))
    assert "cannot be told" in unsure.verdict


def test_a_dead_feature_that_is_alive_is_named():
    found = ig_rl.checks.Planted(
        names=NAMES, dead=np.array([0, 0.25, 0, 0]), alive=np.ones(4), states=2, quantity="gap"
    )
    assert found.verdict == "NOT every dead feature gets exactly 0: far gets 0.25."


def test_the_figure_has_a_panel_for_every_check_that_can_be_drawn(found):
    assert len(found.plot().axes) == 4


class Keyed(Signs):
    """The same with a ``Dict`` of a box and a category."""

    observation_space = gymnasium.spaces.Dict(
        {"box": gymnasium.spaces.Box(-2, 2, (2,), np.float32), "kind": gymnasium.spaces.Discrete(3)}
    )

    def _observation(self):
        box = self.np_random.normal(size=2).clip(-2, 2).astype(np.float32)
        return {"box": box, "kind": int(self.np_random.integers(3))}


@pytest.mark.parametrize(
    ("kind", "policy", "env", "features"),
    [
        (QRDQN, "MlpPolicy", Signs, 4),
        (RecurrentPPO, "MlpLstmPolicy", Signs, 4),
        (DQN, "MultiInputPolicy", Keyed, 3),
        (SAC, "MlpPolicy", lambda: gymnasium.make("Pendulum-v1"), 3),
    ],
)
def test_agents_of_every_kind_are_checked(kind, policy, env, features):
    model = kind(policy, env(), policy_kwargs={"net_arch": [16]}, seed=0, device="cpu")
    found = ig_rl.faithfulness(model, env(), [0, 1], count=4, copies=1)
    discrete = {"flips", "deletion"} if kind is not SAC else set()
    assert {*found.sections} == {"frozen", "planted", "randomised"} | discrete
    assert found.planted.exact
    assert (found.planted.alive > 0).all()
    assert len(found.frozen.names) == features


def test_networks_of_plain_pytorch_are_checked_but_do_not_play():
    net = torch.nn.Linear(4, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor(WEIGHTS))
        net.bias.zero_()
    model = ig_rl.Functions(net, observation_space=(4,), actions=2)
    found = ig_rl.faithfulness(model, Signs(), [0], states=VISITED, copies=1)
    assert {*found.sections} == {"flips", "deletion", "planted", "randomised"}
    assert "frozen left out" in found.notes[0]
    assert found.planted.exact
    assert net.weight.tolist() == [list(row) for row in WEIGHTS]


@pytest.mark.parametrize("check", [ig_rl.planted, ig_rl.randomised])
def test_networks_that_are_not_copied_are_never_changed(check):
    net = torch.nn.Linear(4, 2)
    hidden = ig_rl.Functions(lambda z: net(z) + 1, observation_space=(4,), actions=2)
    formula = ig_rl.Functions(lambda z: z[:, :2], observation_space=(4,), actions=2, symbol="merit")
    before = net.weight.tolist()
    with pytest.raises(ig.InputError, match="cannot be copied"):
        check(hidden, VISITED)
    with pytest.raises(ig.InputError, match="no network takes part"):
        check(formula, VISITED)
    assert net.weight.tolist() == before
    assert ig_rl.flips(formula, VISITED).rankings[1] == "merit IG"


def test_continuous_agents_are_checked_without_flips():
    env = gymnasium.make("Pendulum-v1")
    model = deep(PPO, env, n_steps=64)
    found = ig_rl.faithfulness(model, env, [0], count=8, copies=1)
    assert list(found.sections) == ["frozen", "planted", "randomised"]
    assert "single discrete actions only" in found.notes[1]
    assert found.planted.exact
    assert len(found.plot().axes) == 2


def test_a_check_that_does_not_suit_the_agent_is_left_out_with_a_note(monkeypatch):
    monkeypatch.setattr(freezing, "MOST_FEATURES", 3)
    found = ig_rl.faithfulness(linear(), Signs(), [0], states=VISITED, checks=["frozen"])
    assert found.frozen is None
    assert found.sections == {}
    assert "frozen left out: 4 features are too many" in found.notes[0]
    with pytest.raises(ig.InputError, match="none of these checks"):
        found.plot()
    assert found.to_html().count("<details>") == 1


class Screen(gymnasium.Env):
    """Two frames of noise, 6 rows and 20 columns."""

    observation_space = gymnasium.spaces.Box(0, 255, (2, 6, 20), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 3
        return self._observation(), {}

    def step(self, action):
        self.left -= 1
        return self._observation(), 1.0, self.left == 0, False, {}

    def _observation(self):
        return self.np_random.integers(0, 256, (2, 6, 20), dtype=np.uint8)


def screened():
    """Plain networks, as Stable-Baselines3's convolutions need larger images."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(240, 2))
    space = Screen.observation_space
    return ig_rl.Functions(net, observation_space=space, actions=2)


def test_of_images_a_part_of_the_pixels_is_replaced_and_the_page_says_so():
    torch.manual_seed(0)
    states = np.random.default_rng(0).integers(0, 256, (6, 2, 6, 20), dtype=np.uint8)
    found = ig_rl.faithfulness(screened(), Screen(), [0], states=states, frames=2)
    assert found.flips.k == 12
    assert found.deletion.curves.shape == (6, 6, 17)
    assert found.deletion.orders == 8
    assert found.randomised.signed.shape[1:] == (3, 4)
    assert "5 % of them are replaced at once" in found.notes[0]
    assert found.flips.rate("gap IG").mean > found.flips.rate("random").mean
    assert ig_rl.flips(screened(), states, k=1, frames=2).k == 1


def test_a_single_feature_leaves_nothing_to_rank():
    class Rooms(Signs):
        observation_space = gymnasium.spaces.Discrete(4)

        def _observation(self):
            return int(self.np_random.integers(4))

    model = DQN("MlpPolicy", Rooms(), policy_kwargs={"net_arch": []}, seed=0, device="cpu")
    found = ig_rl.faithfulness(model, Rooms(), [0, 1], count=4)
    assert list(found.sections) == ["frozen", "planted"]
    assert "one feature only: nothing to rank" in found.notes[1]
    assert "nothing to rank" in found.to_html()


def test_progress_is_told_where_it_is_asked_for(capsys):
    def said(progress):
        ig_rl.faithfulness(
            linear(), Signs(), [0], states=VISITED, checks=["flips"], progress=progress
        )
        return capsys.readouterr()

    assert "flips" in said(True).err
    assert said(None) == said(False) == ("", "")


def test_unknown_checks_and_counts_are_refused():
    with pytest.raises(ig.UnknownNameError, match="planted"):
        ig_rl.faithfulness(linear(), Signs(), [0], checks=["plante"])
    with pytest.raises(ig.InputError, match="count"):
        ig_rl.faithfulness(linear(), Signs(), [0], count=0)
    with pytest.raises(ig.InputError, match="at least one seed"):
        ig_rl.faithfulness(linear(), Signs(), [])


def everything(model, env):
    """All state that the checks could change."""
    inner = env.unwrapped
    return {
        "weights": pickle.dumps({k: v.tolist() for k, v in model.policy.state_dict().items()}),
        "flags": [m.training for m in model.policy.modules()],
        "frozen": [p.requires_grad for p in model.policy.parameters()],
        "gradients": [p.grad for p in model.policy.parameters()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.policy.modules()
        ],
        "environment": (tuple(inner.state), str(inner.np_random.bit_generator.state)),
        "random": (
            torch.get_rng_state().tolist(),
            pickle.dumps(np.random.get_state()),
            random.getstate(),
        ),
    }


def test_agent_and_environment_are_left_as_they_were_found():
    env = gymnasium.make("CartPole-v1")
    env.reset(seed=7)
    env.step(0)
    model = deep()
    model.policy.set_training_mode(True)
    policy = model.policy
    before = everything(model, env)
    ig_rl.faithfulness(model, env, range(2), count=6, copies=1)
    assert everything(model, env) == before
    assert model.policy is policy


def test_the_same_seed_finds_the_same():
    first, again, other = (
        ig_rl.faithfulness(linear(), Signs(), range(2), count=5, copies=2, seed=seed)
        for seed in (0, 0, 1)
    )
    assert first.to_dict() == again.to_dict()
    assert first.to_dict() != other.to_dict()
