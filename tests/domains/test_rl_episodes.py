"""Episodes that agents play: what is recorded, and that nobody's state is changed by it."""

import random
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

import ig_core as ig
from ig_rl.episodes import play


class Counting(gymnasium.Env):
    """The state counts steps from the seed on; action 1 pays its number, action 0 nothing."""

    observation_space = spaces.Box(-100, 100, (2,), np.float64)
    action_space = spaces.Discrete(2)
    metadata: ClassVar = {"render_modes": ["rgb_array"]}

    def __init__(self, steps=5, render_mode=None, fails=None, pays=1.0):
        self.steps, self.render_mode, self.fails, self.pays = steps, render_mode, fails, pays
        self.at = self.start = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = self.start = seed or 0
        return self.state(), {}

    def state(self):
        return np.array([self.at, self.at - self.start], dtype=np.float64)

    def step(self, action):
        {0: None, 1: None}[action]  # a key of a dictionary, as environments use actions
        if self.at - self.start == self.fails:
            raise RuntimeError("a wheel came off")
        self.at += 1
        over = self.at - self.start == self.steps
        return self.state(), self.pays * self.at * action, over, False, {}

    def render(self):
        return np.full((4, 6, 3), self.at, dtype=np.uint8)


class Alternating:
    """An agent by rule: action 1 at even states."""

    observation_space = Counting.observation_space
    action_space = Counting.action_space

    def predict(self, seen, state=None, episode_start=None, deterministic=False):
        assert deterministic
        self.seen = [*getattr(self, "seen", []), np.array(seen)]
        return np.array(1 - np.asarray(seen)[..., 0].astype(int) % 2), None


def small(kind=DQN, env="CartPole-v1", policy="MlpPolicy", **options):
    if kind is DQN:
        options["buffer_size"] = 100
    return kind(policy, env, policy_kwargs={"net_arch": [8]}, seed=3, device="cpu", **options)


def test_states_actions_and_rewards_are_those_of_the_environment():
    [episode] = play(Alternating(), Counting(), [2]).episodes
    assert episode.states.tolist() == [[2, 0], [3, 1], [4, 2], [5, 3], [6, 4]]
    assert episode.actions.tolist() == [1, 0, 1, 0, 1]
    assert episode.rewards.tolist() == [3, 0, 5, 0, 7]
    assert (episode.total, episode.end, episode.seed, len(episode)) == (15, "terminated", 2, 5)
    assert episode.frames is None


def test_episodes_stand_one_after_the_other():
    played = play(Alternating(), Counting(steps=2), range(3))
    assert played.states[:, 0].tolist() == [0, 1, 1, 2, 2, 3]
    assert played.returns.tolist() == [1, 3, 3]
    assert played.notes == []


def test_a_vector_environment_gives_its_first_one():
    fns = [lambda: Counting(steps=5), lambda: Counting(steps=2)]
    [vector] = play(Alternating(), DummyVecEnv(fns), [2]).episodes
    [alone] = play(Alternating(), Counting(), [2]).episodes
    assert np.array_equal(vector.states, alone.states)
    assert np.array_equal(vector.actions, alone.actions)
    assert np.array_equal(vector.rewards, alone.rewards)
    assert vector.end == "terminated"


def test_cartpole_plays_as_stable_baselines_does():
    model, env = small(), gymnasium.make("CartPole-v1")
    [episode] = play(model, env, [7]).episodes
    state, _ = env.reset(seed=7)
    over, told = False, []
    while not over:
        told.append(state)
        action, _ = model.predict(state, deterministic=True)
        state, _, terminated, truncated, _ = env.step(action)
        over = terminated or truncated
    assert np.array_equal(episode.states, np.stack(told))
    assert episode.total == len(told)


@pytest.mark.parametrize("name", ["CartPole-v1", "Acrobot-v1", "Pendulum-v1"])
def test_the_given_environment_stays_where_it_is_also_with_an_open_window(name):
    pytest.importorskip("pygame")
    env = gymnasium.make(name, render_mode="rgb_array")
    env.reset(seed=1)
    env.render()
    inner = env.unwrapped
    before = np.array(inner.state), str(inner.np_random.bit_generator.state), inner.screen
    played = play(small(PPO, name, n_steps=8, batch_size=8), env, [0], most_steps=3, render=True)
    assert played.episodes[0].frames.shape == (3, *env.render().shape)
    assert np.array_equal(inner.state, before[0])
    assert str(inner.np_random.bit_generator.state) == before[1]
    assert inner.screen is before[2]
    assert played.notes == ["1 of 1 episodes were cut after 3 steps"]


def test_pictures_are_of_the_states():
    env = Counting(render_mode="rgb_array")
    for own in (env, DummyVecEnv([lambda: env])):
        [episode] = play(Alternating(), own, [2], render=True).episodes
        assert episode.frames.shape == (5, 4, 6, 3)
        assert episode.frames[:, 0, 0, 0].tolist() == episode.states[:, 0].tolist()


def test_flags_and_random_states_are_put_back():
    model = small()
    model.policy.set_training_mode(True)
    flags = [module.training for module in model.policy.modules()]
    torch.manual_seed(11), np.random.seed(12), random.seed(13)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    play(model, gymnasium.make("CartPole-v1"), [0])
    assert any(flags)
    assert [module.training for module in model.policy.modules()] == flags
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2]


def test_global_randomness_in_an_environment_repeats_with_the_seed():
    class Noisy(Counting):
        def state(self):
            noise = np.random.normal() + random.random() + float(torch.rand(()))
            return np.array([2 * self.at, noise])

    first, again = (play(Alternating(), Noisy(), [4]).states for _ in range(2))
    assert np.array_equal(first, again)
    assert len(np.unique(first[:, 1])) == len(first)


# -- normalised observations ------------------------------------------------------------------


def normalising(**options):
    env = VecNormalize(DummyVecEnv([Counting]), **options)
    env.obs_rms.mean, env.obs_rms.var = np.array([2.0, 0.0]), np.array([4.0, 1.0])
    env.ret_rms.var = np.array(9.0)
    return env


@pytest.mark.parametrize("own", [True, False])
def test_states_are_raw_and_the_agent_sees_them_normalised(own):
    env, agent = normalising(), Alternating()
    before = env.obs_rms.mean.copy(), env.obs_rms.count, env.returns.copy()
    [episode] = (
        play(agent, env, [2]) if own else play(agent, Counting(), [2], vecnormalize=env)
    ).episodes
    assert episode.states[:, 0].tolist() == [2, 3, 4, 5, 6]
    seen = np.array(agent.seen).reshape(5, 2)[:, 0]
    np.testing.assert_allclose(seen, (episode.states[:, 0] - 2) / 2, atol=1e-6)
    assert episode.rewards.tolist() == [
        pay * action for pay, action in zip([3, 4, 5, 6, 7], episode.actions, strict=True)
    ]
    assert env.training and env.norm_reward
    assert np.array_equal(env.obs_rms.mean, before[0])
    assert env.obs_rms.count == before[1]
    assert np.array_equal(env.returns, before[2])


def test_a_normaliser_within_other_wrappers_does_not_learn_from_episodes():
    inner = normalising()
    env = VecMonitor(inner)
    count = inner.obs_rms.count
    [episode] = play(Alternating(), env, [2]).episodes
    np.testing.assert_allclose(episode.states[:, 0], [0, 0.5, 1, 1.5, 2], atol=1e-6)
    assert episode.rewards.max() == 7  # raw rewards
    assert inner.training and inner.norm_reward
    assert inner.obs_rms.count == count
    assert env.venv is inner


# -- kinds of observations and agents ---------------------------------------------------------


def test_frame_stacks_are_states():
    def stack():
        return VecFrameStack(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]), 3)

    [episode] = play(small(PPO, stack(), n_steps=8, batch_size=8), stack(), [0]).episodes
    assert episode.states.shape[1:] == (12,)
    assert np.array_equal(episode.states[1, 4:8], episode.states[0, 8:])


def test_dict_observations_are_stacked_by_key():
    class Keyed(Counting):
        observation_space = spaces.Dict(
            {"at": spaces.Box(0, 9, (2,), np.float32), "kind": spaces.Discrete(3)}
        )

        def state(self):
            return {"at": np.float32([self.at, 0]), "kind": self.at % 3}

    model = small(PPO, Keyed(), "MultiInputPolicy", n_steps=8, batch_size=8)
    played = play(model, Keyed(), [1, 2])
    assert played.states["at"][:, 0].tolist() == [1, 2, 3, 4, 5, 2, 3, 4, 5, 6]
    assert played.states["kind"].tolist() == [1, 2, 0, 1, 2, 2, 0, 1, 2, 0]


def test_images_get_their_channels_where_the_agent_has_them():
    class Screen(Counting):
        observation_space = spaces.Box(0, 255, (36, 40, 3), np.uint8)

        def state(self):
            screen = np.zeros((36, 40, 3), np.uint8)
            screen[1, 2, 0] = self.at
            return screen

    model = PPO("CnnPolicy", Screen(), n_steps=8, batch_size=8, device="cpu", seed=0)
    for env in (Screen(), DummyVecEnv([Screen])):
        states = play(model, env, [3]).states
        assert states.shape == (5, *model.observation_space.shape)
        assert states[:, 0, 1, 2].tolist() == [3, 4, 5, 6, 7]


def test_a_recurrent_policy_carries_its_state_from_step_to_step():
    model = RecurrentPPO(
        "MlpLstmPolicy", "CartPole-v1", n_steps=8, batch_size=8, seed=0, device="cpu",
        policy_kwargs={"lstm_hidden_size": 4},
    )  # fmt: skip
    [episode] = play(model, gymnasium.make("CartPole-v1"), [0]).episodes
    hidden, cell = episode.carried
    assert hidden.shape == cell.shape == (len(episode), 1, 4)
    assert not hidden[0].any() and not cell[0].any()
    start = np.zeros(1, bool)
    for t in (0, len(episode) - 2):
        state = tuple(part[t][:, None] for part in (hidden, cell))
        _, after = model.predict(episode.states[t], state, start, deterministic=True)
        np.testing.assert_allclose(after[0][:, 0], hidden[t + 1], atol=1e-6)
        np.testing.assert_allclose(after[1][:, 0], cell[t + 1], atol=1e-6)


# -- what cannot be played --------------------------------------------------------------------


def test_an_environment_that_cannot_be_copied_is_played_itself_and_the_notes_say_so():
    env = Counting()
    env.lock = __import__("threading").Lock()
    played = play(Alternating(), env, [2])
    assert played.returns.tolist() == [15]
    assert env.at == 7
    assert "the environment itself was played" in played.notes[0]


def test_an_environment_that_raises_is_named_with_its_step():
    with pytest.raises(ig.InputError, match=r"at step 3 in the episode with seed 2: .*a wheel"):
        play(Alternating(), Counting(fails=3), [2])


def test_an_agent_that_raises_is_named_with_its_step():
    class Broken(Alternating):
        def predict(self, seen, **_):
            raise RuntimeError("no idea")

    with pytest.raises(ig.ForwardError, match=r"the agent raised at step 0 .* seed 2: .*no idea"):
        play(Broken(), Counting(), [2])


def test_an_environment_that_takes_no_seed_is_refused():
    class Seedless(Counting):
        def reset(self):
            return self.state(), {}

    with pytest.raises(ig.InputError, match=r"reset\(seed=\.\.\.\) .* expected is Gymnasium's"):
        play(Alternating(), Seedless(), [0])


def test_what_is_paid_must_be_a_number():
    with pytest.raises(ig.InputError, match="paid nan at step 0"):
        play(Alternating(), Counting(pays=np.nan), [1])


@pytest.mark.parametrize(
    ("env", "match"),
    [
        ("CartPole-v1", "must be a Gymnasium environment"),
        (None, r"must be a Gymnasium environment or a VecEnv .*\(got NoneType\)"),
    ],
)
def test_what_is_no_environment_is_refused(env, match):
    with pytest.raises(ig.InputError, match=match):
        play(small(), env, [0])


def test_environments_of_other_agents_are_refused():
    with pytest.raises(ig.InputError, match=r"takes actions of Discrete\(3\), the agent has"):
        play(small(), gymnasium.make("Acrobot-v1"), [0])
    with pytest.raises(ig.InputError, match=r"shows Box.*the agent sees Box"):
        play(small(), Counting(), [0])


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, True, None])
def test_seeds_are_whole_numbers(seed):
    with pytest.raises(ig.InputError, match="a seed is a whole number"):
        play(Alternating(), Counting(), [seed])


@pytest.mark.parametrize("most", [0, -1, 2.0, True])
def test_the_most_steps_are_a_number_above_zero(most):
    with pytest.raises(ig.InputError, match="most_steps must be"):
        play(Alternating(), Counting(), [0], most_steps=most)


def test_pictures_need_an_environment_that_draws():
    with pytest.raises(ig.InputError, match=r"render_mode='rgb_array' \(got render_mode=None\)"):
        play(Alternating(), Counting(), [0], render=True)
