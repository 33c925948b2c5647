"""Timelines: one attribution per step of an episode, for a pair of actions that stays."""

import csv
import io
import json
from collections import Counter
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO

import ig_core as ig
import ig_rl
from ig_rl.episodes import play
from ig_rl.findings.timeline import Timeline

STATES = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)


def dqn(env="CartPole-v1", **options):
    kwargs = {"net_arch": [16], "activation_fn": torch.nn.Tanh}
    return DQN(
        "MlpPolicy", env, policy_kwargs=kwargs, buffer_size=100, seed=3, device="cpu", **options
    )


def ppo(env):
    kwargs = {"net_arch": [16], "ortho_init": False, "activation_fn": torch.nn.Tanh}
    return PPO("MlpPolicy", env, policy_kwargs=kwargs, seed=3, device="cpu", n_steps=64)


def made(scores, **changes):
    """A timeline with these scores from a baseline at 0, whose residuals are 0."""
    scores = np.array(scores, dtype=float)
    steps, features = scores.shape
    given = {
        "scores": scores,
        "values": np.arange(steps * features, dtype=float).reshape(steps, features),
        "names": ["angle", "speed", "height"][:features],
        "actions": np.arange(steps) % 2,
        "action_names": ["left", "right"],
        "rewards": np.ones(steps),
        "outputs": scores.sum(1),
        "base": np.zeros(steps),
        "residuals": np.zeros(steps),
        "statuses": ["converged"] * steps,
        "pair": (1, 0),
        "explain": "gap",
        "quantity": "Q(right) - Q(left)",
        "baseline": "visited-mean",
    }
    return Timeline(**given | changes)


@pytest.fixture(scope="module")
def acrobot():
    model, env = dqn("Acrobot-v1"), gymnasium.make("Acrobot-v1")
    return model, env, play(model, env, [0], most_steps=60).episodes[0]


# -- rows of an episode -----------------------------------------------------------------------


def test_every_row_is_a_single_call_at_that_state():
    model, env = dqn(), gymnasium.make("CartPole-v1")
    found = ig_rl.wrap(model, env, states=STATES).explain_episode(seed=5)
    [episode] = play(model, env, [5]).episodes
    assert len(found) == len(episode)
    for t, state in enumerate(episode.states):
        alone = ig.attribute(model, state, states=STATES, target=(1, 0), seed=5)
        for many, one in (
            (found.scores[t], alone.scores.numpy()),
            (found.outputs[t], alone.at_input),
            (found.base[t], alone.at_baseline),
        ):  # products of matrices round differently in a batch
            np.testing.assert_allclose(many, one, atol=5e-7, rtol=0)
        assert found.values[t].tolist() == alone.display["values"]
        assert found.statuses[t] == alone.status
    assert np.array_equal(found.actions, episode.actions)
    assert found.rewards.tolist() == [1.0] * len(episode)
    assert found.total == len(episode)
    assert found.names == ["cart position", "cart velocity", "pole angle", "pole angular velocity"]
    assert (found.quantity, found.pair) == ("Q(right) - Q(left)", (1, 0))
    assert (found.baseline, found.agent, found.seed) == ("visited-mean", "DQN", 5)


def test_rows_are_complete_for_the_explained_number():
    agent = ig_rl.wrap(dqn(), gymnasium.make("CartPole-v1"), states=STATES)
    found = agent.explain_episode(tol=1e-4)
    np.testing.assert_allclose(found.scores.sum(1), found.outputs - found.base, atol=1e-6)
    assert found.residual == np.abs(found.residuals).max() <= 1e-6
    assert f"worst residual {found.residual:.1e}" in found.to_text()


def test_the_pair_is_of_the_two_actions_taken_most_often(acrobot):
    model, env, episode = acrobot
    agent = ig_rl.wrap(model, env, states=episode.states)
    found = agent.explain_episode(most_steps=60)
    counts = Counter(found.actions.tolist())
    first, *others = [a for a, _ in counts.most_common()]
    assert found.pair[0] == first
    assert found.pair[1] == others[0] if others else found.pair[1] != first
    names = ("torque -1", "no torque", "torque +1")
    assert found.quantity == f"Q({names[found.pair[0]]}) - Q({names[found.pair[1]]})"


def taken(actions):
    """A three-armed environment whose agent does as told, step by step."""

    class Arms(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
        action_space = gymnasium.spaces.Discrete(3)

        def state(self):
            if self.at == len(actions):
                return np.zeros(3, np.float32)
            return np.eye(3, dtype=np.float32)[actions[self.at]]

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.at = 0
            return self.state(), {}

        def step(self, action):
            assert action == actions[self.at]
            self.at += 1
            return self.state(), float(action), self.at == len(actions), False, {}

    model = DQN("MlpPolicy", Arms(), policy_kwargs={"net_arch": []}, buffer_size=10, device="cpu")
    with torch.no_grad():
        model.q_net.q_net[0].weight.copy_(torch.eye(3) + 0.1 * torch.tensor([[1.0], [2.0], [3.0]]))
        model.q_net.q_net[0].bias.zero_()
    return ig_rl.wrap(model, Arms(), states=np.zeros((2, 3), np.float32))


@pytest.mark.parametrize(
    ("actions", "options", "pair"),
    [
        ([2, 0, 2], {}, (2, 0)),
        ([0, 1, 1, 2, 1, 0], {}, (1, 0)),
        ([0, 0], {}, (0, 2)),  # only ever 0: 2 comes second
        ([0, 1, 1, 2, 1, 0], {"versus": 1}, (0, 1)),
        ([0, 1, 1, 2, 1, 0], {"versus": 2}, (1, 2)),
        ([1, 1], {"versus": 1}, (2, 1)),
        ([0, 1, 1, 2, 1, 0], {"action": 2}, (2, 1)),
        ([0, 1, 1, 2, 1, 0], {"action": 1}, (1, 0)),
        ([0, 1], {"action": 2, "versus": 0}, (2, 0)),
        ([0, 1], {"action": (2, 0)}, (2, 0)),
        ([0, 1, 1], {"target": "q"}, (1,)),
        ([0, 1, 1], {"target": "q", "action": 2}, (2,)),
    ],
)
def test_what_is_explained_stays_and_can_be_named(actions, options, pair):
    found = taken(actions).explain_episode(**options)
    assert found.actions.tolist() == actions
    assert found.pair == pair
    assert found.total == sum(actions)


def test_linear_scores_are_known():
    found = taken([2, 0, 2]).explain_episode(action=(2, 0))
    gap = np.array([-0.8, 0.2, 1.2])  # of the weights 0.1 * 3 + [0, 0, 1] and 0.1 + [1, 0, 0]
    expected = np.eye(3)[[2, 0, 2]] * gap
    np.testing.assert_allclose(found.scores, expected, atol=1e-6)


def test_against_the_runner_up_every_step_has_its_own_pair():
    found = taken([2, 0, 1]).explain_episode(versus="runner-up")
    assert found.pair == ()
    assert found.quantity == "gap of each state's own actions"
    assert any("signs change with the question" in note for note in found.notes)
    fixed = taken([2, 0, 1]).explain_episode()
    assert not any("signs change" in note for note in fixed.notes)


def test_a_value_has_no_actions():
    env = gymnasium.make("Pendulum-v1")
    agent = ig_rl.wrap(ppo("Pendulum-v1"), env, states=env.reset(seed=0)[0][None])
    found = agent.explain_episode(target="value", most_steps=4)
    assert (found.pair, found.quantity) == ((), "V(s)")
    assert found.actions.shape == (4, 1)
    assert found.action(0) == f"[{float(found.actions[0, 0]):+.3g}]"
    assert found.ties == []
    found.to_text(), found.to_csv(), json.dumps(found.to_dict(), allow_nan=False)


def test_ties_of_the_greedy_action_are_named_with_their_step():
    agent = taken([0, 0, 0])
    with torch.no_grad():
        agent.model.q_net.q_net[0].weight[1] = agent.model.q_net.q_net[0].weight[0]
    found = agent.explain_episode()
    assert found.ties == [
        f"step {t}: the greedy action is action 0, tied with action 1" for t in range(3)
    ]
    assert "ties: step 0" in found.to_text()


def test_pictures_belong_to_their_steps():
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    agent = ig_rl.wrap(dqn(), env, states=STATES)
    found = agent.explain_episode(render=True, most_steps=3)
    assert found.frames.shape == (3, 400, 600, 3)
    with pytest.raises(ig.InputError, match="has no frames: make the environment with"):
        agent.explain_episode(most_steps=3).video("a.gif")


# -- measures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "flips"),
    [
        ([[1, 0], [2, 0.5], [1, -3], [1, 2], [1, 0]], 1 / 4),
        ([[1, 0], [-1, 0], [1, 0]], 1.0),
        ([[1, 2], [-1, 2]], 0.0),  # the weaker one flips
        ([[1, 0], [0, 3]], 0.0),  # it vanishes, which is no flip
        ([[1, 0], [np.nan, np.nan], [-1, 0], [1, 0]], 1.0),
    ],
)
def test_flips_are_of_the_strongest_feature_one_step_later(scores, flips):
    assert made(scores).sign_flips == flips


def test_a_single_step_has_no_flips():
    assert np.isnan(made([[1, 2]]).sign_flips)


def test_the_strongest_features_come_first():
    found = made([[1, -4, 2], [-1, 2, 2]])
    assert found.strength.tolist() == [1, 3, 2]
    assert found.strongest(2) == [1, 2]
    assert repr(found) == (
        "Timeline(Q(right) - Q(left), 2 steps, return 2, strongest: speed, height, angle)"
    )


# -- tables and files -------------------------------------------------------------------------


def test_csv_has_all_numbers_in_full():
    found = made([[1 / 3, -4], [2e-17, 2]], rewards=np.array([0.1, 7.0]))
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [float(row["angle"]) for row in rows] == [1 / 3, 2e-17]
    assert [float(row["value of speed"]) for row in rows] == [1, 3]
    assert [row["action"] for row in rows] == ["left", "right"]
    assert [float(row["reward"]) for row in rows] == [0.1, 7.0]
    assert [float(row["F"]) for row in rows] == found.outputs.tolist()
    assert [row["status"] for row in rows] == ["converged"] * 2


def test_the_table_has_a_row_for_each_step():
    found = made([[1, -4], [3, 2]])
    table = found.table()
    assert table.columns == ["step", "action", "reward", "F", "angle", "speed"]
    assert table.rows == [[0, "left", 1.0, -3.0, 1.0, -4.0], [1, "right", 1.0, 5.0, 3.0, 2.0]]


def test_json_holds_everything_and_no_nan():
    found = made([[1, np.nan], [3, 2]], statuses=["failed", "converged"])
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["scores"] == [[1, None], [3, 2]]
    assert told["pair"] == [1, 0]
    assert told["actions"] == [0, 1]
    assert told["total"] == 2
    assert told["statuses"] == ["failed", "converged"]


def test_the_text_names_target_baseline_and_completeness():
    text = made([[1, -4], [3, 2]], residuals=np.array([1e-9, -3e-7]), seed=4).to_text()
    assert "Q(right) - Q(left) of the agent: 2 steps with seed 4, return 2" in text
    assert "baseline: visited-mean, where F is 0" in text
    assert "completeness of Q(right) - Q(left): worst residual 3.0e-07; 2 converged" in text


def test_steps_that_failed_are_counted_and_not_averaged():
    found = made([[1, 3], [np.nan, np.nan]], statuses=["converged", "failed"])
    assert found.strength.tolist() == [1, 3]
    assert "1 converged, 1 failed" in found.to_text()


def test_the_page_escapes_names(tmp_path):
    found = replace(made([[1, -4], [3, 2]]), names=["<script>", "speed"])
    html = found.to_html(tmp_path / "timeline.html")
    assert "<script>" not in html
    assert (tmp_path / "timeline.html").read_text() == html


# -- as an analysis ---------------------------------------------------------------------------


def test_the_analysis_makes_a_timeline_of_attributions():
    model = dqn()
    results = ig.attribute(model, STATES[:3], target=(1, 0))
    analysis = ig.plugins().find("analysis", "episode-timeline", "rl")()
    found = analysis.find(results, actions=[0, 1, 1], rewards=[1, 2, 3])
    assert np.array_equal(found.scores, np.stack([one.scores.numpy() for one in results]))
    assert (found.total, found.action(2)) == (6, "action 1")
    for missing in ({"actions": [0, 1, 1]}, {"rewards": [1, 2], "actions": [0, 1, 1]}):
        with pytest.raises(ig.InputError, match="needs rewards=, one for each"):
            analysis.find(results, **missing)
    with pytest.raises(ig.InputError, match="has the options actions, rewards"):
        analysis.find(results, actions=[0] * 3, rewards=[0] * 3, colour="red")


def test_attributions_of_different_questions_make_no_timeline():
    model = dqn()
    find = ig_rl.analyses.EpisodeTimeline().find
    given = {"actions": [0, 0], "rewards": [1, 1]}
    gap, q = (ig.attribute(model, STATES[0], explain=e) for e in ("gap", "q"))
    with pytest.raises(ig.InputError, match="of another explain than attribution 0"):
        find([gap, q], **given)
    other = ig.attribute(model, STATES[0], baseline=0.5)
    with pytest.raises(ig.InputError, match=r"another baseline .*\(got '0.5' and 'zeros'\)"):
        find([gap, other], **given)
    [tensors] = ig.attribute(lambda x: x.sum(1), torch.ones(1, 2))
    with pytest.raises(ig.InputError, match="none of an agent"):
        find([tensors], actions=[0], rewards=[0])
    with pytest.raises(ig.InputError, match="at least one attribution"):
        find([], actions=[], rewards=[])


# -- pixels -----------------------------------------------------------------------------------


class Dot(gymnasium.Env):
    """A screen of 6 x 5 pixels with one bright dot, which moves down."""

    observation_space = gymnasium.spaces.Box(0, 255, (1, 6, 5), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def state(self):
        screen = np.zeros((1, 6, 5), np.uint8)
        screen[0, self.at, 2] = 255
        return screen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.state(), {}

    def step(self, action):
        self.at += 1
        return self.state(), 1.0, self.at == 5, False, {}


@pytest.fixture(scope="module")
def pixels():
    model = DQN(
        "MlpPolicy", Dot(), policy_kwargs={"net_arch": [8]}, buffer_size=10, seed=0, device="cpu"
    )
    return ig_rl.wrap(model, Dot()).explain_episode(baseline="zeros")


def test_pixels_are_features_whose_shape_is_known(pixels):
    assert tuple(pixels.image) == (1, 6, 5)
    assert pixels.scores.shape == pixels.values.shape == (5, 30)
    assert pixels.values.argmax(1).tolist() == [5 * t + 2 for t in range(5)]
    moved = pixels.scores != 0
    assert moved.sum(1).tolist() == [1] * 5  # nothing but the dot differs from black
    assert all(moved[t, 5 * t + 2] for t in range(5))


def test_an_episode_of_pixels_is_a_video_and_a_page(pixels, tmp_path):
    imageio = pytest.importorskip("imageio")
    written = pixels.video(tmp_path / "dot.gif", fps=5)
    assert len(imageio.mimread(written)) == 5
    assert "frames of the episode" in pixels.to_html()
