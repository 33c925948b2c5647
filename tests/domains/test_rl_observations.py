"""Observation spaces of agents: what moves, what it is called, and what the agent itself says."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
)

import ig_core as ig
import ig_rl
from ig_core.testing import Subject, checks
from ig_rl.domain import AgentDomain

EXACT = {"rule": "exact", "dtype": "float64", "budget": 4096}
IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)


def env_of(observed, acted=None):
    """An environment that only has spaces."""

    class Bare(gymnasium.Env):
        observation_space = observed
        action_space = acted or spaces.Discrete(3)

    return DummyVecEnv([Bare])


def dqn(env, *, net=(16, 16), policy=None, **options):
    space = env.observation_space
    policy = policy or ("MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy")
    kwargs = {"net_arch": list(net), **options}
    return DQN(policy, env, policy_kwargs=kwargs, buffer_size=50, seed=3, device="cpu")


def q_of(model, observation, action):
    """Q by the agent's own public functions."""
    tensors, _ = model.policy.obs_to_tensor(observation)
    with torch.no_grad():
        return float(model.q_net(tensors)[0, action])


def sampled(space, count=1, seed=0):
    space.seed(seed)
    return [space.sample() for _ in range(count)]


SPACES = {
    "vector": spaces.Box(-1, 1, (5,)),
    "matrix": spaces.Box(-1, 1, (3, 4)),
    "discrete": spaces.Discrete(7),
    "multi-discrete": spaces.MultiDiscrete([3, 2, 4]),
    "multi-binary": spaces.MultiBinary(6),
    "dict": spaces.Dict(
        {
            "position": spaces.Box(-1, 1, (3,)),
            "room": spaces.Discrete(4),
            "switches": spaces.MultiBinary(2),
            "eye": IMAGE,
        }
    ),
    "image": IMAGE,
}


def model_on(name):
    policy = "CnnPolicy" if name == "image" else None
    return dqn(env_of(SPACES[name]), policy=policy)


def conformance():
    for name in ("discrete", "multi-discrete", "multi-binary", "matrix"):
        subject = Subject(
            make=lambda name=name: AgentDomain(model_on(name)),
            examples=sampled(SPACES[name], 3),
            targets=1,
        )
        for check in checks(subject):
            yield pytest.param(check, id=f"{name}-{check.name}")


@pytest.mark.parametrize("check", list(conformance()))
def test_the_domain_keeps_its_promises_in_every_space(check):
    check()


@pytest.mark.parametrize("name", SPACES)
def test_q_is_what_the_agent_says_and_the_values_are_complete(name):
    model = model_on(name)
    for observation in sampled(SPACES[name], 2):
        result = ig.attribute(
            model, observation, explain="q", target=2, domain="rl", budget=4096, tol=1e-3
        )
        assert result.at_input == pytest.approx(q_of(model, observation, 2), abs=1e-6)
        size = float(result.scores.abs().sum())
        assert abs(result.residual) <= 1e-3 * size
        assert len(result.display["names"]) == len(result.display["values"]) == len(result.units)


@pytest.mark.parametrize("name", SPACES)
def test_a_batch_is_what_its_observations_are_alone(name):
    model = model_on(name)
    several = sampled(SPACES[name], 3)
    options = {"domain": "rl", "rule": "gauss-legendre", "steps": 8, "tol": 0.5}
    together = ig.attribute(model, several, **options)
    for observation, result in zip(several, together, strict=True):
        alone = ig.attribute(model, observation, **options)
        assert alone.provenance["target"] == result.provenance["target"]
        torch.testing.assert_close(result.scores, alone.scores, atol=2e-5, rtol=2e-4)
        assert alone.units.labels == result.units.labels


def test_stacked_arrays_and_dicts_of_them_are_batches():
    model, several = model_on("dict"), sampled(SPACES["dict"], 3)
    stacked = {key: np.stack([one[key] for one in several]) for key in several[0]}
    for one, other in zip(ig.attribute(model, stacked), ig.attribute(model, several), strict=True):
        torch.testing.assert_close(one.scores, other.scores)
    categories = np.array([int(one) for one in sampled(SPACES["discrete"], 3)])
    assert len(ig.attribute(model_on("discrete"), categories)) == 3


# -- discrete observations ----------------------------------------------------------------------


def test_a_category_is_one_unit_whose_score_is_the_weight_of_a_linear_network():
    model = dqn(env_of(spaces.Discrete(5)), net=())
    weight = model.q_net.q_net[0].weight.detach().double()
    result = ig.attribute(model, 3, domain="rl", explain="q", target=1, **EXACT)
    assert list(result.units.labels) == ["state 3"]
    assert float(result.scores[0]) == pytest.approx(float(weight[1, 3]), abs=1e-12)


def test_categories_are_elements_with_names():
    alone = ig.attribute(dqn(env_of(spaces.Discrete(3))), 2, domain="rl", explain="q")
    assert list(alone.by("element").units.labels) == ["state 0", "state 1", "state 2"]
    model, [observation] = model_on("dict"), sampled(SPACES["dict"])
    both = ig.attribute(model, observation, explain="q").by("element")
    assert {"room = 0", "room = 3"} <= set(both.units.labels)
    assert len(set(both.units.labels)) == len(both.units)


def test_from_the_mean_of_visited_categories_mass_moves_to_the_present_one():
    model = dqn(env_of(spaces.Discrete(4)), net=())
    weight = model.q_net.q_net[0].weight.detach().double()
    visited = np.array([0, 0, 1, 3])
    result = ig.attribute(model, 1, domain="rl", explain="q", target=2, states=visited, **EXACT)
    mean = torch.tensor([0.5, 0.25, 0.0, 0.25], dtype=torch.float64)
    expected = weight[2] * (torch.eye(4, dtype=torch.float64)[1] - mean)
    torch.testing.assert_close(result.values, expected, atol=1e-9, rtol=0)
    assert float(result.scores[0]) == pytest.approx(float(expected.sum()), abs=1e-9)
    assert result.display["start"]["notes"] == [
        "the start of observation is a distribution over categories"
    ]


def test_every_component_of_a_multi_discrete_observation_is_a_unit():
    model = dqn(env_of(SPACES["multi-discrete"]), net=())
    weight = model.q_net.q_net[0].weight.detach().double()
    result = ig.attribute(model, np.array([2, 0, 3]), explain="q", target=0, **EXACT)
    expected = weight[0, [2, 3 + 0, 3 + 2 + 3]]
    torch.testing.assert_close(result.scores, expected, atol=1e-12, rtol=0)
    assert list(result.units.labels) == [
        "observation[0] = 2", "observation[1] = 0", "observation[2] = 3",
    ]  # fmt: skip
    start = torch.tensor([1, 1, 0])  # whole numbers are categories
    moved = ig.attribute(model, np.array([2, 1, 3]), explain="q", baseline=start, **EXACT)
    assert moved.scores[1] == 0


@pytest.mark.parametrize("name", ["FrozenLake-v1", "Taxi-v4"])
def test_environments_of_categories_are_explained(name):
    model = dqn(DummyVecEnv([lambda: gymnasium.make(name)]))
    result = ig.attribute(model, 5, domain="rl")
    assert list(result.units.labels) == ["state 5"]
    assert "south" in model_names(model) if name == "Taxi-v4" else "up" in model_names(model)


def model_names(model):
    return AgentDomain(model).action_names


# -- images and frames --------------------------------------------------------------------------


def colour(height=40, width=36, **options):
    env = env_of(spaces.Box(0, 255, (height, width, 3), np.uint8))
    return PPO("CnnPolicy", env, seed=0, device="cpu", n_steps=64, **options)


def test_channels_are_transposed_as_the_agent_does_and_summed():
    model = colour()
    assert isinstance(model.get_env(), VecTransposeImage)
    screen = np.random.default_rng(0).integers(0, 256, (40, 36, 3), dtype=np.uint8)
    given = ig.attribute(model, screen, explain="value", rule="midpoint", steps=4)
    first = np.moveaxis(screen, -1, 0)
    own = ig.attribute(model, first, explain="value", rule="midpoint", steps=4)
    torch.testing.assert_close(given.values, own.values)
    tensors, _ = model.policy.obs_to_tensor(screen)
    with torch.no_grad():
        value = float(model.policy.predict_values(tensors))
    assert given.at_input == pytest.approx(value, abs=1e-5)
    torch.testing.assert_close(given.scores, given.values.sum(0).flatten().double())
    assert given.units.labels[36 + 2] == "pixel (1, 2)"
    assert given.display["image"]["shape"] == [40, 36]
    expected = screen.mean(-1) / 255
    np.testing.assert_allclose(given.display["image"]["pixels"], expected, atol=1e-6)


def test_a_screen_of_whole_numbers_is_a_start_as_the_environment_gives_it():
    model, rng = colour(), np.random.default_rng(0)
    here, there = (rng.integers(0, 256, (40, 36, 3), dtype=np.uint8) for _ in range(2))
    options = {"explain": "value", "rule": "midpoint", "steps": 4, "tol": 0.5}
    result = ig.attribute(model, here, baseline=torch.tensor(there), **options)
    tensors, _ = model.policy.obs_to_tensor(there)
    with torch.no_grad():
        value = float(model.policy.predict_values(tensors))
    assert result.at_baseline == pytest.approx(value, abs=1e-5)


def test_saved_results_know_their_groupings(tmp_path):
    model, [observation] = model_on("dict"), sampled(SPACES["dict"])
    result = ig.attribute(model, observation, explain="q", target=0)
    result.save(tmp_path / "result.ig")
    for by in ("key", "feature", "pixel", "element"):
        torch.testing.assert_close(
            ig.load(tmp_path / "result.ig").by(by).scores, result.by(by).scores
        )
    with pytest.raises(ig.InputError, match="no frames; frames= says"):
        result.by("frame")
    with pytest.raises(ig.InputError, match=r"the units element, .*got 'keys'"):
        result.by("keys")


def test_an_image_of_another_order_is_refused_with_both_shapes():
    with pytest.raises(ig.InputError, match=r"\(3, 40, 36\), channels .*\(got \(36, 40, 3\)\)"):
        ig.attribute(colour(), np.zeros((36, 40, 3), np.uint8))


def test_an_image_that_was_divided_already_is_refused():
    with pytest.raises(ig.InputError, match="whole numbers from 0 to 255, as the env"):
        ig.attribute(colour(), np.full((40, 36, 3), 0.5, np.float32))


def test_images_that_come_normalised_are_images_too():
    env = env_of(spaces.Box(0, 1, (1, 36, 36), np.float32))
    kwargs = {"normalize_images": False}
    model = PPO("CnnPolicy", env, policy_kwargs=kwargs, seed=0, device="cpu", n_steps=64)
    screen = np.random.default_rng(0).random((1, 36, 36), dtype=np.float32)
    result = ig.attribute(model, screen, explain="value", rule="midpoint", steps=4)
    tensors, _ = model.policy.obs_to_tensor(screen)
    with torch.no_grad():
        assert result.at_input == pytest.approx(
            float(model.policy.predict_values(tensors)), abs=1e-5
        )
    assert result.units.labels[0] == "pixel (0, 0)"


def stacked_cartpole(frames=3):
    return VecFrameStack(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]), frames)


def test_frames_of_a_vec_frame_stack_are_named_by_their_age():
    model = dqn(stacked_cartpole())
    result = ig.attribute(model, np.arange(12, dtype=np.float32) / 10)
    labels = list(result.units.labels)
    assert labels[2] == "pole angle, 2 steps ago = +0.2 rad"
    assert labels[6] == "pole angle, 1 step ago = +0.6 rad"
    assert labels[10] == "pole angle = +1 rad"
    scores = result.scores.view(3, 4)
    features = result.by("feature")
    assert list(features.units.labels)[2] == "pole angle"
    torch.testing.assert_close(features.scores, scores.sum(0))
    frames = result.by("frame")
    assert list(frames.units.labels) == ["2 steps ago", "1 step ago", "now"]
    torch.testing.assert_close(frames.scores, scores.sum(1))
    torch.testing.assert_close(result.by("element").scores, result.scores)
    torch.testing.assert_close(frames.by("feature").scores, features.scores)


def test_frames_of_gymnasiums_wrapper_lie_along_a_dimension_of_their_own():
    env = gymnasium.wrappers.FrameStackObservation(gymnasium.make("CartPole-v1"), 2)
    model = dqn(DummyVecEnv([lambda: env]))
    result = ig.attribute(model, np.arange(8, dtype=np.float32).reshape(2, 4) / 10)
    assert result.units.labels[0] == "cart position, 1 step ago = +0 m"
    assert result.units.labels[4] == "cart position = +0.4 m"
    torch.testing.assert_close(result.by("frame").scores, result.values.sum(1).double())


def test_stacked_screens_have_pixels_of_every_frame():
    env = env_of(spaces.Box(0, 255, (4, 36, 36), np.uint8))
    model = PPO("CnnPolicy", env, seed=0, device="cpu", n_steps=64)
    screens = np.random.default_rng(0).integers(0, 256, (4, 36, 36), dtype=np.uint8)
    options = {"explain": "value", "rule": "midpoint", "steps": 4}
    result = ig.attribute(model, screens, frames=4, **options)
    assert len(result.units) == 4 * 36 * 36
    assert result.units.labels[1] == "pixel (0, 1), 3 steps ago"
    torch.testing.assert_close(result.scores, result.values.flatten().double())
    pixels = result.by("pixel")
    torch.testing.assert_close(pixels.scores, result.values.double().sum(0).flatten())
    np.testing.assert_allclose(result.display["image"]["pixels"], screens[-1] / 255, atol=1e-6)
    assert result.display["image"]["frames"] == 4
    together = ig.attribute(model, screens, **options)
    assert len(together.units) == 36 * 36, "without frames= channels are one pixel's"


def test_frames_that_do_not_divide_are_refused():
    with pytest.raises(ig.InputError, match=r"frames=3 .*do not divide the shape \(4,\)"):
        ig.attribute(
            dqn(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")])),
            np.zeros(4, np.float32),
            frames=3,
        )
    with pytest.raises(ig.InputError, match="at least 1"):
        AgentDomain(model_on("vector"), frames=0)


# -- keys ---------------------------------------------------------------------------------------


def test_every_key_has_its_own_tensor_and_units():
    model, [observation] = model_on("dict"), sampled(SPACES["dict"])
    result = ig.attribute(model, observation, explain="q", target=0)
    assert set(result.values) == {
        "observation.position", "observation.room", "observation.switches", "observation.eye",
    }  # fmt: skip
    keys = result.by("key")
    for name, score in zip(keys.units.labels, keys.scores, strict=True):
        total = result.values[f"observation.{name}"].double().sum()
        torch.testing.assert_close(score, total)
    labels = [label for label in result.units.labels if not label.startswith("eye pixel")]
    assert labels[0].startswith("position[0] = ")
    assert f"room = {observation['room']}" in labels
    start = {
        "position": torch.zeros(3), "room": torch.tensor(0), "switches": torch.zeros(2),
        "eye": torch.zeros(1, 36, 36),
    }  # fmt: skip
    moved = ig.attribute(model, observation, explain="q", target=0, baseline=start)
    here = q_of(model, observation, 0)
    black = {"position": np.zeros(3, np.float32), "room": 0, "switches": np.zeros(2, np.int8)}
    there = q_of(model, black | {"eye": np.zeros((1, 36, 36), np.uint8)}, 0)
    assert moved.delta == pytest.approx(here - there, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda o: {k: v for k, v in o.items() if k != "room"}, r"dict with the keys .*'room'"),
        (lambda o: o | {"rooms": 1}, r"got the keys .*'rooms'"),
        (lambda o: o["position"], "dict with the keys"),
        (lambda o: (o, {}), "pass the first"),
        (lambda o: o | {"room": 4}, "categories there are 0 to 3"),
        (lambda o: o | {"room": 1.0}, "whole numbers"),
        (lambda o: o | {"position": np.zeros(4)}, r"\['position'\] has the shape \(3,\)"),
        (lambda o: o | {"switches": np.array([0, 2])}, "zeros and ones"),
    ],
)
def test_observations_that_are_not_in_the_dict_are_refused(change, told):
    model, [observation] = model_on("dict"), sampled(SPACES["dict"])
    with pytest.raises(ig.InputError, match=told):
        ig.attribute(model, change(observation), domain="rl")


@pytest.mark.parametrize(
    ("name", "raw", "told"),
    [
        ("discrete", 7, "the categories there are 0 to 6"),
        ("discrete", -1, "the categories there are 0 to 6"),
        ("discrete", 1.5, "whole numbers"),
        ("discrete", np.array([0.0, 1.0]), "whole numbers"),
        ("discrete", np.eye(7)[None], "has the shape"),
        ("multi-discrete", np.array([0, 2, 0]), r"holds 2 at \[1\]; .* 0 to 1"),
        ("multi-discrete", np.array([0, 1]), r"the shape \(3,\)"),
        ("vector", {"a": np.zeros(5)}, "without keys"),
        ("multi-binary", np.full(6, 0.5), "zeros and ones"),
    ],
)
def test_what_is_no_observation_of_the_space_is_refused(name, raw, told):
    with pytest.raises(ig.InputError, match=told):
        ig.attribute(model_on(name), raw, domain="rl")


def test_spaces_without_networks_are_refused_by_name():
    space = spaces.Tuple([spaces.Discrete(2)])
    model = model_on("vector")
    model.policy.observation_space = space
    with pytest.raises(ig.InputError, match=r"must lie in a Box.* \(got Tuple"):
        AgentDomain(model)


# -- normalisation ------------------------------------------------------------------------------


def normalised_cartpole(**options):
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]), **options)
    env.obs_rms.mean = np.array([0.1, -0.2, 0.03, 0.4])
    env.obs_rms.var = np.array([0.5, 1.5, 0.02, 2.0])
    return env


RAW = np.array([[0.3, -0.8, 0.04, 0.9], [-0.5, 0.2, -0.1, 0.1], [1.0, 2.0, 0.2, -3.0]], np.float32)


@pytest.mark.parametrize("way", ["the wrapper", "arrays", "the model's own"])
def test_raw_observations_give_what_normalised_ones_give(way):
    env = normalised_cartpole()
    model = dqn(env)
    given = {
        "the wrapper": env,
        "arrays": ig_rl.Normalisation(env.obs_rms.mean, env.obs_rms.var),
        "the model's own": True,
    }[way]
    before = [env.obs_rms.mean.copy(), env.obs_rms.var.copy(), env.obs_rms.count]
    raw = ig.attribute(model, list(RAW), vecnormalize=given, states=RAW, tol=1e-4, budget=4096)
    fed = env.normalize_obs(RAW)
    own = ig.attribute(model, list(fed), states=fed, tol=1e-4, budget=4096)
    for one, other, observation in zip(raw, own, RAW, strict=True):
        torch.testing.assert_close(one.scores, other.scores, atol=1e-6, rtol=0)
        assert one.at_input == pytest.approx(other.at_input, abs=1e-6)
        assert one.display["values"] == observation.astype(float).tolist()
        assert one.units.labels[2] == f"pole angle = {observation[2]:+.3g} rad"
    after = [env.obs_rms.mean, env.obs_rms.var, env.obs_rms.count]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_given_starts_are_raw_and_the_default_is_zero_in_normalised_space():
    env = normalised_cartpole()
    model = dqn(env)
    options = {"explain": "q", "target": 0, "vecnormalize": env}
    mean = torch.tensor(env.obs_rms.mean, dtype=torch.float32)
    default = ig.attribute(model, RAW[0], **options)
    given = ig.attribute(model, RAW[0], baseline=mean, **options)
    assert default.provenance["baseline"] == "normalised-zero"
    assert default.at_baseline == pytest.approx(q_of(model, np.zeros(4, np.float32), 0), abs=1e-6)
    assert given.at_baseline == pytest.approx(default.at_baseline, abs=1e-5)
    raw_zero = ig.attribute(model, RAW[0], baseline="zeros", **options)
    fed = env.normalize_obs(np.zeros(4, np.float32))
    assert raw_zero.at_baseline == pytest.approx(q_of(model, fed, 0), abs=1e-6)


def test_where_clip_obs_bites_the_features_are_named():
    env = normalised_cartpole(clip_obs=1.0)
    model = dqn(env)
    with pytest.warns(ig.IGWarning, match="cuts off pole angle,? ?"):
        result = ig.attribute(model, np.array([0.1, 0, 1.0, 0.4], np.float32), vecnormalize=env)
    assert result.display["start"]["clipped"] == ["pole angle"]
    assert "clip_obs cuts off pole angle" in result.reason
    with pytest.warns(ig.IGWarning, match="cart position"):
        start = torch.tensor([5.0, 0, 0, 0])
        result = ig.attribute(model, RAW[1], vecnormalize=env, baseline=start)
    assert result.display["start"]["clipped"] == ["cart position"]


def test_statistics_by_key_normalise_these_keys_only():
    observed = spaces.Dict({"a": spaces.Box(-9, 9, (2,)), "b": spaces.Box(-9, 9, (2,))})
    model = dqn(env_of(observed))
    by = ig_rl.Normalisation(mean={"a": np.array([1.0, 2.0])}, var={"a": np.array([4.0, 9.0])})
    raw = {"a": np.array([3.0, 5.0], np.float32), "b": np.array([0.5, -0.5], np.float32)}
    fed = raw | {"a": np.array([1.0, 1.0], np.float32)}
    result = ig.attribute(model, raw, explain="q", target=0, vecnormalize=by)
    assert result.at_input == pytest.approx(q_of(model, fed, 0), abs=1e-6)
    with pytest.raises(ig.InputError, match="key 'c'"):
        AgentDomain(model, vecnormalize=ig_rl.Normalisation({"c": np.zeros(2)}, {"c": np.ones(2)}))


def test_statistics_normalise_as_the_wrapper_does():
    env = normalised_cartpole(clip_obs=1.5)
    own = ig_rl.Normalisation(env.obs_rms.mean, env.obs_rms.var, clip=1.5)
    assert np.array_equal(own.normalize_obs(RAW), env.normalize_obs(RAW))
    by = ig_rl.Normalisation({"a": np.ones(4)}, {"a": np.full(4, 0.25)}, clip=100.0, epsilon=0.0)
    found = by.normalize_obs({"a": RAW, "b": RAW})
    assert np.array_equal(found["a"], (RAW - 1) * 2)
    assert found["b"] is RAW


def test_statistics_of_another_space_are_refused_with_both_shapes():
    with pytest.raises(ig.InputError, match=r"of shape \(4,\); this agent observes \(5,\)"):
        AgentDomain(model_on("vector"), vecnormalize=normalised_cartpole())
    with pytest.raises(ig.InputError, match="under a frame stack"):
        env = VecFrameStack(normalised_cartpole(), 2)
        AgentDomain(dqn(env), vecnormalize=True)
    with pytest.raises(ig.InputError, match="no VecNormalize is in its environment"):
        AgentDomain(model_on("vector"), vecnormalize=True)
    with pytest.raises(ig.InputError, match="must be a VecNormalize"):
        AgentDomain(model_on("vector"), vecnormalize="stats.pkl")
    with pytest.raises(ig.InputError, match="one shape and finite"):
        ig_rl.Normalisation(np.zeros(4), np.ones(3))
    with pytest.raises(ig.InputError, match="none below 0"):
        ig_rl.Normalisation(np.zeros(4), -np.ones(4))


# -- float64 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [DQN, QRDQN, PPO, A2C])
def test_exact_values_of_relu_agents_are_complete_to_rounding_in_float64(family):
    kwargs = {"net_arch": [32, 32], "activation_fn": torch.nn.ReLU}
    options = {"buffer_size": 50} if family in (DQN, QRDQN) else {"n_steps": 64}
    model = family("MlpPolicy", "Acrobot-v1", policy_kwargs=kwargs, seed=0, device="cpu", **options)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    batch = np.random.default_rng(1).normal(size=(8, 6)).astype(np.float32)
    for explain in ("gap", "value"):
        for result in ig.attribute(model, batch, explain=explain, **EXACT):
            assert result.provenance["rule"] == "exact"
            assert abs(result.residual) <= 1e-10
            assert float(result.scores.abs().sum()) > 1e-4
    assert all(v.equal(before[n]) and v.dtype == before[n].dtype
               for n, v in model.policy.state_dict().items())  # fmt: skip


def test_dtypes_that_are_none_are_refused():
    for bad in ("float63", torch.int64, 64):
        with pytest.raises(ig.InputError, match="dtype is one of float32, float64"):
            AgentDomain(model_on("vector"), dtype=bad)


# -- continuous actions -------------------------------------------------------------------------


def sac(env="Pendulum-v1"):
    kwargs = {"net_arch": [16, 16]}
    return SAC("MlpPolicy", env, policy_kwargs=kwargs, buffer_size=50, seed=1, device="cpu")


PENDULUM = np.array([[0.6, 0.8, -1.5], [1.0, 0.0, 0.3], [-0.6, 0.8, 4.0]], np.float32)


def critic_of(model, observation, action):
    """The smallest critic by the agent's own public functions, at an action in its units."""
    tensors, _ = model.policy.obs_to_tensor(observation)
    scaled = torch.tensor(model.policy.scale_action(action)[None], dtype=torch.float32)
    with torch.no_grad():
        return float(torch.cat(model.critic(tensors, scaled), dim=1).min())


def test_the_action_of_a_critic_is_an_input_and_the_policys_own_by_default():
    model = sac()
    for state in PENDULUM:
        result = ig.attribute(model, state, explain="q", tol=1e-3, budget=4096)
        own, _ = model.predict(state, deterministic=True)
        assert result.at_input == pytest.approx(critic_of(model, state, own), abs=1e-5)
        assert set(result.values) == {"observation", "action"}
        assert result.display["names"][-1] == "torque"
        assert result.display["values"][-1] == pytest.approx(float(own[0]), abs=1e-5)
        assert float(result.scores.sum()) == pytest.approx(result.delta, abs=1e-3)


def test_a_given_action_is_in_the_environments_units():
    model = sac()
    result = ig.attribute(model, PENDULUM[0], explain="q", action=np.array([1.5], np.float32))
    expected = critic_of(model, PENDULUM[0], np.array([1.5], np.float32))
    assert result.at_input == pytest.approx(expected, abs=1e-5)
    assert result.units.labels[-1] == "torque = +1.5 N m"
    several = ig.attribute(
        model, PENDULUM, explain="q", action=np.array([[1.0], [0.0], [-2.0]], np.float32)
    )
    assert [one.display["values"][-1] for one in several] == pytest.approx([1.0, 0.0, -2.0])


def test_an_actions_path_starts_at_the_mean_of_the_visited_ones_or_in_the_middle():
    model = sac()
    known = ig.attribute(model, PENDULUM[0], explain="q", states=PENDULUM)
    actions, _ = model.predict(PENDULUM, deterministic=True)
    there = critic_of(model, PENDULUM.mean(0), actions.mean(0))
    assert known.at_baseline == pytest.approx(there, abs=1e-5)
    unknown = ig.attribute(model, PENDULUM[0], explain="q")
    middle = critic_of(model, np.zeros(3, np.float32), np.zeros(1, np.float32))
    assert unknown.at_baseline == pytest.approx(middle, abs=1e-5)


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (np.array([2.5]), "must lie in Box"),
        (np.array([np.nan]), "must lie in Box"),
        (np.zeros(2), r"the shape \(1,\), or \(1, 1\)"),
        ("left", "must be an array"),
    ],
)
def test_actions_outside_of_the_space_are_refused(action, told):
    with pytest.raises(ig.InputError, match=told):
        ig.attribute(sac(), PENDULUM[0], explain="q", action=action)


def test_options_of_other_agents_are_refused():
    with pytest.raises(ig.InputError, match="action= belongs to values of a given action"):
        AgentDomain(model_on("vector"), action=np.zeros(1))
    with pytest.raises(ig.InputError, match="unrolled= belongs to recurrent policies"):
        AgentDomain(model_on("vector"), unrolled=True)
    with pytest.raises(ig.InputError, match="carries no state"):
        ig.attribute(model_on("vector"), np.zeros(5, np.float32), state=np.zeros((1, 1, 8)))


# -- memory -------------------------------------------------------------------------------------


def recurrent():
    kwargs = {"lstm_hidden_size": 8, "net_arch": [8], "enable_critic_lstm": False}
    return RecurrentPPO(
        "MlpLstmPolicy", "CartPole-v1", policy_kwargs=kwargs, n_steps=16, seed=0, device="cpu"
    )


def logits_after(model, episode):
    """The logits at the last step of an episode by the agent's own public functions."""
    state = tuple(torch.zeros(1, 1, 8) for _ in range(2))
    with torch.no_grad():
        for observation in episode:
            tensors, _ = model.policy.obs_to_tensor(observation)
            distribution, state = model.policy.get_distribution(tensors, state, torch.zeros(1))
    return distribution.distribution.logits[0], state


def test_the_carried_state_is_used_and_does_not_move():
    model, episode = recurrent(), np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    carried = None
    for observation in episode[:-1]:
        _, carried = model.predict(observation, state=carried, deterministic=True)
    result = ig.attribute(model, episode[-1], target=(1, 0), state=carried, domain="rl")
    expected, _ = logits_after(model, episode)
    assert result.at_input == pytest.approx(float(expected[1] - expected[0]), abs=1e-6)
    assert list(result.tensors) == ["observation"]
    empty = ig.attribute(model, episode[-1], target=(1, 0), domain="rl")
    assert abs(empty.at_input - result.at_input) > 1e-6


def test_states_of_several_environments_are_cut_apart():
    model, rng = recurrent(), np.random.default_rng(0)
    batch = rng.normal(size=(3, 4)).astype(np.float32)
    state = tuple(rng.normal(size=(1, 3, 8)).astype(np.float32) for _ in range(2))
    together = ig.attribute(model, batch, target=(1, 0), state=state, domain="rl")
    for i, result in enumerate(together):
        own = tuple(part[:, i : i + 1] for part in state)
        alone = ig.attribute(model, batch[i], target=(1, 0), state=own, domain="rl")
        assert alone.at_input == pytest.approx(result.at_input, abs=1e-6)
        torch.testing.assert_close(alone.scores, result.scores, atol=1e-5, rtol=1e-4)
    with pytest.raises(ig.InputError, match="n = 1 or one for each of 2 observations"):
        ig.attribute(model, batch[:2], state=state, domain="rl")


def test_an_unrolled_episode_is_one_example_whose_steps_have_ages():
    model, episode = recurrent(), np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    result = ig.attribute(model, episode, target=(1, 0), unrolled=True, domain="rl", tol=1e-3)
    expected, _ = logits_after(model, episode)
    assert result.at_input == pytest.approx(float(expected[1] - expected[0]), abs=1e-6)
    assert result.values.shape == (5, 4)
    assert result.units.labels[2].startswith("pole angle, 4 steps ago = ")
    assert abs(result.residual) <= 1e-3 * float(result.scores.abs().sum())
    torch.testing.assert_close(result.by("frame").scores, result.values.double().sum(1))
    torch.testing.assert_close(result.by("feature").scores, result.values.double().sum(0))


def test_episodes_of_other_lengths_share_a_batch():
    model, rng = recurrent(), np.random.default_rng(0)
    episodes = [rng.normal(size=(n, 4)).astype(np.float32) for n in (2, 5, 1)]
    visited = rng.normal(size=(9, 4)).astype(np.float32)
    options = {"target": (1, 0), "unrolled": True, "domain": "rl", "states": visited}
    for episode, result in zip(episodes, ig.attribute(model, episodes, **options), strict=True):
        alone = ig.attribute(model, episode, **options)
        torch.testing.assert_close(alone.values, result.values, atol=1e-5, rtol=1e-4)
        mean = [visited.mean(0)] * len(episode)
        expected, _ = logits_after(model, mean)
        assert result.at_baseline == pytest.approx(float(expected[1] - expected[0]), abs=1e-5)
    with pytest.raises(ig.InputError, match="got one observation"):
        ig.attribute(model, episodes[0][0], **options)


# -- what others ask ----------------------------------------------------------------------------


def test_a_policy_alone_is_a_model():
    model = model_on("vector")
    [observation] = sampled(SPACES["vector"])
    whole = ig.attribute(model, observation)
    alone = ig.attribute(model.policy, observation, domain="rl")
    torch.testing.assert_close(whole.scores, alone.scores)


def test_networks_of_plain_pytorch_are_explained_in_any_space():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    functions = ig_rl.Functions(net, observation_space=SPACES["vector"], actions=3)
    [observation] = sampled(SPACES["vector"])
    result = ig.attribute(functions, observation, target=(2, 0), domain="rl", **EXACT)
    with torch.no_grad():
        numbers = net(torch.tensor(observation))
    assert result.at_input == pytest.approx(float(numbers[2] - numbers[0]), abs=1e-6)
    assert abs(result.residual) <= 1e-12
    assert result.display["agent"] == "Functions"

    rooms = torch.nn.Linear(7, 2)
    functions = ig_rl.Functions(rooms, observation_space=spaces.Discrete(7), actions=2)
    result = ig.attribute(functions, 4, explain="q", target=1, domain="rl", **EXACT)
    assert float(result.scores[0]) == pytest.approx(float(rooms.weight[1, 4]), abs=1e-6)


def test_the_domain_tells_z_values_names_and_actions():
    env = normalised_cartpole()
    domain = AgentDomain(dqn(env), vecnormalize=env, states=RAW)
    fed = torch.tensor(env.normalize_obs(RAW))
    torch.testing.assert_close(domain.preprocessed(RAW)["observation"], fed)
    torch.testing.assert_close(domain.states["observation"], fed)
    torch.testing.assert_close(domain.raw_values(RAW), torch.tensor(RAW).double())
    assert domain.feature_names[2] == "pole angle (rad)"
    assert domain.action_names == ("left", "right")
    expected, _ = domain.model.predict(fed.numpy(), deterministic=True)
    assert domain.actions_of(RAW).tolist() == expected.tolist()
    actions = AgentDomain(sac()).actions_of(PENDULUM)
    own, _ = sac().predict(PENDULUM, deterministic=True)
    torch.testing.assert_close(actions, torch.tensor(own), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "count"),
    [("LunarLander-v3", 8), ("BipedalWalker-v3", 24), ("MountainCar-v0", 2)],
)
def test_names_of_known_environments_are_as_many_as_their_features(name, count):
    env = gymnasium.make(name)
    family = DQN if isinstance(env.action_space, spaces.Discrete) else SAC
    model = family("MlpPolicy", env, buffer_size=10, device="cpu")
    domain = AgentDomain(model, explain="value")
    assert len(domain.feature_names) == count == env.observation_space.shape[0]
    assert not any("[" in name for name in (*domain.feature_names, *domain.action_names))


def test_names_by_key_and_of_all_frames():
    observed = spaces.Dict({"a": spaces.Box(-9, 9, (2,)), "b": spaces.Discrete(3)})
    names = {"a": ["x (m)", "y (m)"], "b": ["weather"]}
    domain = AgentDomain(dqn(env_of(observed)), feature_names=names)
    assert domain.feature_names == ("x (m)", "y (m)", "weather")
    with pytest.raises(ig.InputError, match="need the keys"):
        AgentDomain(dqn(env_of(observed)), feature_names={"a": ["x", "y"]})
    model = dqn(stacked_cartpole(2))
    one = AgentDomain(model, feature_names=list("abcd")).feature_names
    assert one == ("a, 1 step ago", "b, 1 step ago", "c, 1 step ago", "d, 1 step ago", *"abcd")
    assert AgentDomain(model, feature_names=list("abcdefgh")).feature_names == tuple("abcdefgh")


# -- where paths start, in the environment's own numbers --------------------------------------


def test_a_result_tells_the_raw_value_of_every_unit_at_the_start():
    model = DQN("MlpPolicy", "CartPole-v1", buffer_size=10, seed=0, device="cpu")
    mean, var = np.arange(4.0), np.arange(1.0, 5.0)
    visited = np.random.default_rng(0).normal(mean, 1, size=(50, 4)).astype(np.float32)
    by = ig_rl.Normalisation(mean, var)
    result = ig.attribute(model, visited[0], states=visited, vecnormalize=by)
    assert result.display["start"]["values"] == pytest.approx(visited.mean(0).tolist(), abs=1e-5)
    plain = ig.attribute(model, visited[0], states=visited)
    assert plain.display["start"]["values"] == pytest.approx(visited.mean(0).tolist(), abs=1e-6)
    several = ig.attribute(model, visited[0], baseline=ig_rl.VisitedStates(visited[:1], count=3))
    assert several.display["start"]["values"] == pytest.approx(visited[0].tolist(), abs=1e-6)


def test_a_start_between_categories_has_no_value():
    model = DQN("MlpPolicy", "FrozenLake-v1", buffer_size=10, seed=0, device="cpu")
    assert ig.attribute(model, np.array(3), domain="rl").display["start"]["values"] == [None]
