"""Baselines of agents: what the agent itself says at them, and closed forms."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import ig_core as ig
from ig_rl.baselines import (
    DecisionBoundary,
    GivenState,
    NormalisedZero,
    ResetState,
    VisitedMean,
    VisitedMedian,
    VisitedStates,
)
from ig_rl.domain import AgentDomain

STATE = np.array([0.3, -0.8, 0.04, 0.9], np.float32)
VISITED = np.random.default_rng(0).normal(size=(101, 4)).astype(np.float32)
EXACT = {"rule": "exact", "dtype": "float64", "budget": 4096}


def agent(env="CartPole-v1", *, net=(16, 16), family=DQN, **options):
    kwargs = {"net_arch": list(net), "activation_fn": torch.nn.ReLU}
    sized = {"buffer_size": 200} if family in (DQN, SAC) else {"n_steps": 64}
    if family is PPO:
        kwargs["ortho_init"] = False
    return family("MlpPolicy", env, policy_kwargs=kwargs, seed=3, device="cpu", **sized, **options)


def q_of(model, observation, action=0):
    tensors, _ = model.policy.obs_to_tensor(np.asarray(observation))
    with torch.no_grad():
        return float(model.q_net(tensors)[0, action])


def at_baseline(model, baseline, state=STATE, **options):
    options = {"explain": "q", "target": 0, "tol": 1e-3, "budget": 2048, **options}
    return ig.attribute(model, state, baseline=baseline, **options)


def starts_of(baseline, domain, state=STATE, seed=0):
    example = domain.encode(state)
    return baseline.starts(example, domain, torch.Generator().manual_seed(seed))


# -- visited states -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "point"),
    [
        ("visited-mean", VisitedMean, VISITED.astype(float).mean(0)),
        ("visited-median", VisitedMedian, np.median(VISITED, axis=0)),
    ],
)
def test_mean_and_median_are_those_of_the_visited_states(name, given, point):
    model = agent()
    by_name = at_baseline(model, name, states=VISITED)
    own = at_baseline(model, given(VISITED))
    expected = q_of(model, point.astype(np.float32))
    assert by_name.at_baseline == pytest.approx(expected, abs=1e-6)
    assert own.at_baseline == by_name.at_baseline
    assert own.provenance["baseline"] == name


def test_outliers_do_not_move_the_median():
    model = agent()
    spoilt = np.concatenate([VISITED, np.full((20, 4), 1e6), np.full((20, 4), -1e6)])
    clean = at_baseline(model, VisitedMedian(VISITED)).at_baseline
    assert at_baseline(model, VisitedMedian(spoilt)).at_baseline == pytest.approx(clean, abs=1e-6)


def test_expected_gradients_of_a_linear_network_are_those_from_the_mean_of_the_drawn_states():
    model = agent(net=())
    weight = model.q_net.q_net[0].weight.detach().double()[1]
    domain = AgentDomain(model, states=VISITED)
    seed = 5 * 1_000_003
    drawn = starts_of(VisitedStates(), domain, seed=seed)
    assert len(drawn) == 16
    known = {tuple(state.tolist()) for state in VISITED}
    assert all(tuple(start["observation"].tolist()) in known for start in drawn)
    mean = torch.stack([start["observation"] for start in drawn]).double().mean(0)
    result = ig.attribute(
        model, STATE, explain="q", target=1, states=VISITED, baseline="visited-states", seed=5,
        **EXACT,
    )  # fmt: skip
    expected = weight * (torch.tensor(STATE).double() - mean)
    torch.testing.assert_close(result.values, expected, atol=1e-9, rtol=0)
    each = torch.stack([weight * (torch.tensor(STATE) - s["observation"]).double() for s in drawn])
    torch.testing.assert_close(result.spread.pow(2), each.var(0, correction=0), atol=1e-6, rtol=0.1)


@pytest.mark.parametrize("normalised", ["not", "raw", "fed"])
def test_without_states_the_replay_buffer_is_drawn_from(normalised):
    env = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")])
    if normalised != "not":
        env = VecNormalize(env)
    model = agent(env, learning_starts=60)
    model.learn(60)
    options = {"vecnormalize": env} if normalised == "raw" else {}
    drawn = starts_of(VisitedStates(count=200), AgentDomain(model, **options))
    stored = model.replay_buffer.observations[: model.replay_buffer.size(), 0]
    known = stored if normalised == "not" else env.normalize_obs(stored)
    for start in drawn:
        distance = np.abs(known - start["observation"].numpy()).max(1)
        assert distance.min() <= 1e-6
    assert len({tuple(start["observation"].tolist()) for start in drawn}) > 40


@pytest.mark.parametrize(
    "name", ["visited-mean", "visited-median", "visited-states", "decision-boundary"]
)
def test_without_any_states_it_is_said_what_to_pass(name):
    with pytest.raises(ig.BaselineError, match=rf"'{name}' needs states .*pass states="):
        ig.attribute(agent(), STATE, baseline=name)
    with pytest.raises(ig.BaselineError, match="pass states="):
        ig.attribute(agent(family=PPO), STATE, baseline=name)


@pytest.mark.parametrize("count", [0, -1, True, 2.0])
def test_counts_are_whole_numbers(count):
    with pytest.raises(ig.BaselineError, match="whole number of at least 1"):
        VisitedStates(count=count)
    with pytest.raises(ig.BaselineError, match="whole number of at least 1"):
        ResetState(None, count=count)


# -- states of the environment ------------------------------------------------------------------


def test_reset_states_are_those_of_the_seeds_and_the_environment_is_left_alone():
    env = gymnasium.make("CartPole-v1")
    before, _ = env.reset(seed=77)
    state = env.unwrapped.np_random.bit_generator.state
    drawn = starts_of(ResetState(env, count=3, seed=10), AgentDomain(agent()))
    assert env.unwrapped.np_random.bit_generator.state == state
    assert np.array_equal(env.unwrapped.state, before.astype(env.unwrapped.state.dtype)) or (
        np.allclose(env.unwrapped.state, before)
    )
    for seed, start in zip(range(10, 13), drawn, strict=True):
        expected, _ = gymnasium.make("CartPole-v1").reset(seed=seed)
        assert np.array_equal(start["observation"].numpy(), expected)


def test_reset_states_go_through_the_normalisation_once():
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
    env.obs_rms.mean, env.obs_rms.var = np.full(4, 0.01), np.full(4, 0.25)
    expected, _ = gymnasium.make("CartPole-v1").reset(seed=0)
    fed = env.normalize_obs(expected)
    count = env.obs_rms.count
    for options in ({"vecnormalize": env}, {}):
        [start] = starts_of(ResetState(env, count=1), AgentDomain(agent(env), **options))
        np.testing.assert_allclose(start["observation"].numpy(), fed, atol=1e-6)
    assert env.obs_rms.count == count


def test_an_environment_of_another_agent_is_refused():
    with pytest.raises(ig.InputError, match="play the environment that it was trained in"):
        ig.attribute(agent(), STATE, baseline=ResetState(gymnasium.make("Acrobot-v1")))
    with pytest.raises(ig.InputError, match="must be a Gymnasium environment"):
        ig.attribute(agent(), STATE, baseline=ResetState("CartPole-v1"))
    with pytest.raises(ig.InputError, match="pass an instance of ResetState"):
        ig.attribute(agent(), STATE, baseline="reset-state")


# -- given states -------------------------------------------------------------------------------


def test_a_given_state_is_in_the_users_own_space():
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
    env.obs_rms.mean, env.obs_rms.var = np.full(4, 0.2), np.full(4, 0.5)
    model, other = agent(env), np.array([0.1, 0.2, -0.3, 0.4], np.float32)
    result = at_baseline(model, GivenState(other), vecnormalize=env)
    assert result.at_baseline == pytest.approx(q_of(model, env.normalize_obs(other)), abs=1e-6)
    assert result.provenance["baseline"] == "given-state"


def test_given_screens_and_categories_are_what_the_environment_gives():
    class Bare(gymnasium.Env):
        observation_space = spaces.Dict(
            {"eye": spaces.Box(0, 255, (36, 36, 1), np.uint8), "room": spaces.Discrete(3)}
        )
        action_space = spaces.Discrete(2)

    model = DQN("MultiInputPolicy", DummyVecEnv([Bare]), buffer_size=10, seed=0, device="cpu")
    rng = np.random.default_rng(0)
    here, empty = (
        {"eye": rng.integers(0, 256, (36, 36, 1), dtype=np.uint8), "room": room} for room in (1, 2)
    )
    result = ig.attribute(
        model, here, explain="q", target=0, baseline=GivenState(empty), rule="midpoint", steps=4
    )
    tensors, _ = model.policy.obs_to_tensor(empty)
    with torch.no_grad():
        assert result.at_baseline == pytest.approx(float(model.q_net(tensors)[0, 0]), abs=1e-6)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (VISITED[:2], "got a batch"),
        (STATE[:3], "no observation of the agent"),
        ("x", "no observation"),
    ],
)
def test_what_is_no_state_is_refused(given, told):
    with pytest.raises(ig.BaselineError, match=told):
        ig.attribute(agent(), STATE, baseline=GivenState(given))


def test_zero_in_normalised_space_is_the_mean_of_training():
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
    env.obs_rms.mean, env.obs_rms.var = np.array([0.1, 0.2, 0.3, 0.4]), np.full(4, 0.5)
    model = agent(env)
    zero = at_baseline(model, NormalisedZero(), vecnormalize=env)
    mean = at_baseline(model, GivenState(env.obs_rms.mean), vecnormalize=env)
    assert zero.at_baseline == pytest.approx(q_of(model, np.zeros(4, np.float32)), abs=1e-6)
    torch.testing.assert_close(zero.scores, mean.scores, atol=1e-6, rtol=1e-5)


# -- the boundary -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [DQN, PPO])
def test_at_the_boundary_the_gap_is_zero_and_the_values_sum_to_the_gap(family):
    model = agent(family=family)
    batch = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)
    results = ig.attribute(model, batch, baseline="decision-boundary", states=VISITED, **EXACT)
    for result in results:
        assert abs(result.at_baseline) <= 1e-14
        assert result.at_input > 1e-3
        assert float(result.scores.sum()) == pytest.approx(result.at_input, abs=1e-10)
    single = ig.attribute(model, batch, baseline="decision-boundary", states=VISITED, tol=1e-3)
    assert all(abs(result.at_baseline) <= 1e-6 for result in single)


def test_the_boundary_of_a_linear_gap_is_where_the_line_to_the_nearest_state_meets_it():
    model = agent(net=())
    layer = model.q_net.q_net[0]
    with torch.no_grad():  # Q(1) - Q(0) = s_0 + 2 s_1 - 0.5
        layer.weight.copy_(torch.tensor([[0.0, 0, 0, 0], [1.0, 2.0, 0, 0]]))
        layer.bias.copy_(torch.tensor([0.0, -0.5]))
    state = np.array([1.0, 1.0, 0.0, 0.0], np.float32)
    visited = np.array([[-1.0, 0, 0, 0], [-9.0, -9, 0, 0], [2.0, 2.0, 0, 0]], np.float32)
    [start] = starts_of(DecisionBoundary(visited), AgentDomain(model, dtype="float64"), state)
    # From (1, 1) with gap 2.5 to (-1, 0) with gap -1.5: it is zero at 2.5 / 4 of the way.
    expected = torch.tensor([1 - 2 * 0.625, 1 - 0.625, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(start["observation"], expected, atol=1e-12, rtol=0)


def test_the_boundary_is_that_of_the_explained_pair():
    model = agent("Acrobot-v1")
    visited = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32) * 3
    state = np.zeros(6, np.float32) + 0.2
    with torch.no_grad():  # no action is the best everywhere
        layer = model.q_net.q_net[-1]
        layer.bias -= model.q_net(torch.tensor(visited)).mean(0)
    for pair in [(0, 1), (2, 0), (1, 2)]:
        result = ig.attribute(
            model, state, target=pair, states=visited, baseline="decision-boundary", **EXACT
        )
        assert abs(result.at_baseline) <= 1e-14


def test_where_no_visited_state_prefers_the_other_action_it_is_said():
    model = agent()
    with torch.no_grad():
        model.q_net.q_net[-1].bias[1] += 1000
    with pytest.raises(
        ig.BaselineError, match="none of 101 visited states has a higher score for left"
    ):
        ig.attribute(model, STATE, states=VISITED, baseline="decision-boundary")


def test_only_gaps_have_a_boundary():
    with pytest.raises(ig.BaselineError, match="explain='gap' has one"):
        ig.attribute(agent(), STATE, explain="q", states=VISITED, baseline="decision-boundary")


def test_the_boundary_leaves_the_agent_as_it_was():
    model = agent()
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    ig.attribute(model, STATE, states=VISITED, baseline="decision-boundary")
    after = model.policy.state_dict()
    assert all(v.dtype == after[n].dtype and v.equal(after[n]) for n, v in before.items())


# -- actions ------------------------------------------------------------------------------------


def test_the_action_of_a_start_is_the_agents_own_there():
    model = agent("Pendulum-v1", family=SAC)
    states = np.array([[0.6, 0.8, -1.5], [1.0, 0.0, 0.3], [-0.6, 0.8, 4.0]], np.float32)
    domain = AgentDomain(model, explain="q", states=states)
    own = model.policy.scale_action(model.predict(states, deterministic=True)[0])
    drawn = starts_of(VisitedStates(count=30), domain, states[0])
    for start in drawn:
        place = int(np.abs(states - start["observation"].numpy()).sum(1).argmin())
        assert start["action"].tolist() == pytest.approx(own[place].tolist(), abs=1e-5)
    [given] = starts_of(GivenState(states[1]), domain, states[0])
    assert given["action"].tolist() == pytest.approx(own[1].tolist(), abs=1e-5)
    [mean] = starts_of(VisitedMean(), domain, states[0])
    assert mean["action"].tolist() == pytest.approx(own.mean(0).tolist(), abs=1e-5)
    [median] = starts_of(VisitedMedian(), domain, states[0])
    assert median["action"].tolist() == pytest.approx(np.median(own, axis=0).tolist(), abs=1e-5)
    [zero] = starts_of(NormalisedZero(), domain, states[0])
    assert zero["action"].tolist() == [0.0]


def test_baselines_of_agents_are_for_agents():
    x = torch.ones(1, 3)
    for baseline in ("visited-mean", "visited-states", "decision-boundary", "normalised-zero"):
        with pytest.raises(ig.InputError, match=r"no baseline|is for rl"):
            ig.attribute(lambda x: x.sum(1), x, baseline=baseline)
    with pytest.raises(ig.InputError, match="is for rl"):
        ig.attribute(lambda x: x.sum(1), x, baseline=GivenState(STATE))
