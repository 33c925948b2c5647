"""Families of agents: every quantity is the number that the agent's own public functions give."""

import gymnasium
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch
from gymnasium import Env
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

import ig_core as ig
import ig_rl
from ig_rl.agents import Functions, Point, agent_of
from ig_rl.cases import cost_to_go

ROWS = 5
OBSERVATIONS = {
    "box": Box(-2, 2, (4,)),
    "image": Box(0, 255, (1, 36, 36), np.uint8),
    "dict": Dict({"speed": Box(-2, 2, (3,)), "gear": Discrete(3), "view": Box(0, 255, (2, 2))}),
}
ACTIONS = {
    "discrete": Discrete(3),
    "box": Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32)),
    "parts": MultiDiscrete([2, 3]),
    "binary": MultiBinary(3),
}
CRITICS = ["SAC", "TD3", "DDPG", "TQC", "CrossQ"]


class World(Env):
    """An environment of any spaces, in which nothing happens."""

    def __init__(self, observations, actions):
        self.observation_space, self.action_space = OBSERVATIONS[observations], ACTIONS[actions]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


def model_of(algorithm, observations="box", actions=None, *, smooth=False, **options):
    """A small untrained agent in float64, whose heads and targets are not nearly constant."""
    family = getattr(stable_baselines3, algorithm, None) or getattr(sb3_contrib, algorithm)
    actions = actions or ("box" if algorithm in CRITICS else "discrete")
    policy = {"Recurrent": "MlpLstmPolicy"}.get(algorithm[:9], "MlpPolicy")
    prefix = {"dict": "MultiInput", "image": "Cnn"}.get(observations, "Mlp")
    policy = policy.replace("Mlp", prefix)
    kwargs = {"net_arch": [16, 16], "activation_fn": nn.Tanh if smooth else nn.ReLU}
    kwargs |= options.pop("policy_kwargs", {})
    if algorithm in ("PPO", "A2C", "TRPO", "MaskablePPO", "RecurrentPPO"):
        kwargs |= {"ortho_init": False}
    else:
        options |= {"buffer_size": 10}
    world = DummyVecEnv([lambda: World(observations, actions)])
    model = family(policy, world, policy_kwargs=kwargs, seed=3, device="cpu", **options)
    model.policy.set_training_mode(False)
    model.policy.double()
    with torch.no_grad():
        for name, parameter in model.policy.named_parameters():
            if "target" in name:
                parameter.fill_(torch.nan)
    return model


def raw_of(model, rows=ROWS):
    """Observations as the environment gives them, one batch."""
    space = model.observation_space
    space.seed(7)
    samples = [space.sample() for _ in range(rows)]
    if isinstance(samples[0], dict):
        return {key: torch.tensor(np.array([s[key] for s in samples])) for key in samples[0]}
    return torch.tensor(np.array(samples))


def point_of(model, **more):
    return Point(agent_of(model).preprocessed(raw_of(model)), **more)


def actions_of(model, rows=ROWS):
    model.action_space.seed(5)
    return torch.tensor(np.array([model.action_space.sample() for _ in range(rows)])).double()


def same(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found, expected.to(found), atol=tolerance, rtol=tolerance)


@pytest.fixture(autouse=True)
def doubled(monkeypatch):
    """Stable-Baselines3 preprocesses to float32; its networks are in float64 here."""
    from stable_baselines3.common import policies

    original = policies.preprocess_obs

    def double(*args, **kwargs):
        z = original(*args, **kwargs)
        return {k: v.double() for k, v in z.items()} if isinstance(z, dict) else z.double()

    monkeypatch.setattr(policies, "preprocess_obs", double)
    return monkeypatch


both = pytest.mark.parametrize("observations", ["box", "dict"])


# -- values of discrete actions ---------------------------------------------------------------


@both
def test_deep_q_is_that_of_the_online_network(observations):
    model = model_of("DQN", observations)
    agent, point = agent_of(model), point_of(model)
    with torch.no_grad():
        q = model.q_net(raw_of(model))
        same(agent.scores(point), q)
        same(agent.numbers("gap", point), q)
        same(agent.numbers("q", point), q)
        same(agent.numbers("advantage", point), q - q.mean(1, keepdim=True))
        same(agent.numbers("value", point), q.amax(1))
    assert (agent.default, agent.count, agent.size, agent.takes("gap")) == ("gap", 3, 0, 2)


@both
def test_quantile_q_is_the_mean_of_the_quantiles(observations):
    model = model_of("QRDQN", observations, policy_kwargs={"n_quantiles": 10})
    agent, point = agent_of(model), point_of(model)
    with torch.no_grad():
        quantiles = model.policy.quantile_net(raw_of(model))
        same(agent.numbers("q", point), quantiles.mean(1))
        same(agent.numbers("value", point), quantiles.mean(1).amax(1))
        same(agent.numbers("quantile:0.1", point), quantiles[:, 0])
        same(agent.numbers("quantile:0.34", point), quantiles[:, 3])
        same(agent.numbers("quantile:.99", point), quantiles[:, 9])


def test_the_quantile_that_is_meant_is_told():
    model = model_of("QRDQN", policy_kwargs={"n_quantiles": 10})
    agent, point = agent_of(model), point_of(model)
    told = agent.told("quantile:0.34", point)
    assert told == "quantile 4 of 10, whose level 0.35 is the nearest to 0.34"
    assert agent.told("gap", point) == ""
    assert agent.called("quantile:0.34") == "quantile 0.34 of Z"


@pytest.mark.parametrize("level", ["0", "1", "1.5", "-0.1", "a", "", "0.1.2", "nan"])
def test_a_level_outside_of_zero_to_one_is_refused(level):
    with pytest.raises(ig.InputError, match="between 0 and 1"):
        agent_of(model_of("QRDQN")).knows(f"quantile:{level}")


def test_only_quantile_agents_have_quantiles():
    assert agent_of(model_of("QRDQN")).knows("quantile:0.5")
    assert not agent_of(model_of("DQN")).knows("quantile:0.5")


# -- values of continuous actions -------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "observations"),
    [
        (one, kind)
        for one in CRITICS
        for kind in ("box", "dict")
        if (one, kind) != ("CrossQ", "dict")
    ],
)
def test_critics_are_the_agent_s_own(algorithm, observations):
    model = model_of(algorithm, observations)
    agent = agent_of(model)
    given = agent.scaled(actions_of(model))
    point = point_of(model, action=given)
    with torch.no_grad():
        said = model.critic(raw_of(model), given)
        each = said.mean(2) if algorithm == "TQC" else torch.cat(said, dim=1)
        q = each.mean(1) if algorithm == "TQC" else each.amin(1)
        same(agent.numbers("q", point), q)
        for i in range(each.shape[1]):
            same(agent.numbers(f"q{i + 1}", point), each[:, i])
        own = (
            model.actor(raw_of(model))
            if algorithm in ("TD3", "DDPG")
            else model.actor(raw_of(model), deterministic=True)
        )
        same(agent.chosen(point), own)
        at_own = model.critic(raw_of(model), own)
        at_own = at_own.mean((1, 2)) if algorithm == "TQC" else torch.cat(at_own, 1).amin(1)
        same(agent.numbers("value", point), at_own)
    assert len(agent.explains) == 3 + each.shape[1]
    assert (agent.count, agent.size, agent.default) == (0, 2, "q")


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [*((one, {}) for one in CRITICS), ("SAC", {"use_sde": True}), ("TQC", {"use_sde": True})],
)
def test_an_element_of_the_action_is_what_predict_gives(algorithm, options):
    model = model_of(algorithm, **options)
    agent, point = agent_of(model), point_of(model)
    with torch.no_grad():
        found = agent.numbers("action", point)
    predicted, _ = model.predict(raw_of(model).numpy(), deterministic=True)
    same(found, torch.tensor(predicted), 1e-6)


def test_actions_are_scaled_as_the_policy_scales_them():
    model = model_of("SAC")
    agent, actions = agent_of(model), actions_of(model)
    same(agent.scaled(actions), torch.tensor(model.policy.scale_action(actions.numpy())))
    same(agent.unscaled(agent.scaled(actions)), actions)


@pytest.mark.parametrize("shared", [False, True])
@both
def test_gradients_of_critics_are_finite_differences(observations, shared):
    model = model_of(
        "SAC", observations, smooth=True, policy_kwargs={"share_features_extractor": shared}
    )
    agent = agent_of(model)
    point = point_of(model, action=agent.scaled(actions_of(model)))
    keys = list(point.observation) if observations == "dict" else []

    def total(action, *parts):
        z = dict(zip(keys, parts, strict=True)) if keys else parts[0]
        return agent.numbers("q", Point(z, action)).sum()

    parts = [point.observation[key] for key in keys] or [point.observation]
    tensors = [t.detach().clone().requires_grad_() for t in (point.action, *parts)]
    gradients = torch.autograd.grad(total(*tensors), tensors)
    assert all(bool((g != 0).all()) for g in gradients)
    assert torch.autograd.gradcheck(total, tensors, atol=1e-8)


def test_stable_baselines_cuts_the_gradient_that_is_needed_here():
    model = model_of("SAC", "dict", policy_kwargs={"share_features_extractor": True})
    raw = {key: value.double().requires_grad_() for key, value in raw_of(model).items()}
    model.critic(raw, actions_of(model))[0].sum().backward()
    assert all(value.grad is None for value in raw.values())


def test_which_critic_is_the_smallest_is_told():
    model = model_of("TD3")
    agent = agent_of(model)
    point = point_of(model, action=agent.scaled(actions_of(model)))
    with torch.no_grad():
        one, two = (float(q[0]) for q in model.critic(raw_of(model), point.action))
        told = agent.told("q", point)
    assert told == (
        f"q{1 if one < two else 2} is the smallest critic here (q1 = {one:.6g}, q2 = {two:.6g})"
    )
    assert agent.told("action", point) == ""
    assert agent_of(model_of("DDPG")).told("q", point) == ""


# -- actors -----------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "TRPO", "MaskablePPO"])
@pytest.mark.parametrize("shared", [True, False])
def test_logits_and_values_are_the_actor_critic_s_own(algorithm, observations, shared):
    options = {"policy_kwargs": {"share_features_extractor": shared}}
    model = model_of(algorithm, observations, **options)
    agent, point, policy = agent_of(model), point_of(model), model.policy
    with torch.no_grad():
        own = policy.get_distribution(raw_of(model)).distribution
        found = agent.numbers("log-prob", point)
        same(found, own.logits)
        for action in range(3):
            same(found[:, action], own.log_prob(torch.full((ROWS,), action)))
        logits = agent.numbers("logit", point)
        same(logits - logits.logsumexp(1, keepdim=True), own.logits)
        same(agent.numbers("value", point), policy.predict_values(raw_of(model))[:, 0])
    assert agent.explains == ("gap", "logit", "log-prob", "value")


@pytest.mark.parametrize("noise", ["gaussian", "gsde", "squashed", "expln", "thin"])
def test_continuous_actors_give_their_mean_and_density(noise):
    options = {"use_sde": noise != "gaussian", "policy_kwargs": {}}
    if noise in ("squashed", "expln"):
        options["policy_kwargs"] = {"squash_output": True, "use_expln": noise == "expln"}
    if noise == "thin":
        options["policy_kwargs"] = {"full_std": False}
    model = model_of("PPO", actions="box", **options)
    agent, policy = agent_of(model), model.policy
    given = agent.scaled(actions_of(model))
    point = point_of(model, action=given)
    with torch.no_grad():
        density = agent.numbers("log-prob", point)
        same(density, policy.get_distribution(raw_of(model)).log_prob(given))
        own = policy.get_distribution(raw_of(model)).mode()
        same(agent.chosen(point), own)
        found = agent.numbers("action", point)
        same(found, agent.unscaled(own))
    predicted, _ = model.predict(raw_of(model).numpy(), deterministic=True)
    low, high = torch.tensor(model.action_space.low), torch.tensor(model.action_space.high)
    same(found.clamp(low, high), torch.tensor(predicted), 1e-6)
    assert agent.explains == ("value", "action", "log-prob")
    assert [agent.takes(q) for q in agent.explains] == [0, 1, 0]
    assert [agent.needs_action(q) for q in agent.explains] == [False, False, True]


def test_density_of_gsde_has_the_gradient_that_stable_baselines_cuts():
    model = model_of("PPO", actions="box", use_sde=True, smooth=True)
    agent, actions = agent_of(model), actions_of(model)
    z = agent.preprocessed(raw_of(model)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: agent.numbers("log-prob", Point(z, action=actions)), z, atol=1e-8
    )
    own = model.policy.get_distribution(z).log_prob(actions).sum()
    ours = agent.numbers("log-prob", Point(z, action=actions)).sum()
    assert not torch.autograd.grad(own, z)[0].allclose(torch.autograd.grad(ours, z)[0])


def test_parts_of_an_action_have_their_own_logits():
    model = model_of("PPO", actions="parts")
    agent, point = agent_of(model), point_of(model)
    with torch.no_grad():
        own = model.policy.get_distribution(raw_of(model)).distribution
        for part, distribution in enumerate(own):
            same(agent.numbers(f"log-prob:{part}", point), distribution.logits)
            gap = agent.numbers(f"gap:{part}", point)
            same(gap[:, 0] - gap[:, 1], distribution.logits[:, 0] - distribution.logits[:, 1])
    assert agent.explains[:2] == ("gap:0", "gap:1")
    assert [agent.choices(f"gap:{part}") for part in (0, 1)] == [2, 3]
    assert (agent.takes("gap:1"), agent.called("logit:1")) == (2, "logit")


def test_binary_parts_have_the_logit_as_gap():
    model = model_of("PPO", actions="binary")
    agent, point = agent_of(model), point_of(model)
    with torch.no_grad():
        own = model.policy.get_distribution(raw_of(model)).distribution
        for part in range(3):
            gap = agent.numbers(f"gap:{part}", point)
            same(gap[:, 1] - gap[:, 0], own.logits[:, part])
            same(agent.numbers(f"log-prob:{part}", point)[:, 1].exp(), own.probs[:, part])
    assert agent.parts == (2, 2, 2)


# -- agents with a memory ---------------------------------------------------------------------

MEMORIES = {
    "own": {},
    "shared": {"shared_lstm": True, "enable_critic_lstm": False},
    "none": {"enable_critic_lstm": False},
    "deep": {"n_lstm_layers": 2, "share_features_extractor": False},
}
memories = pytest.mark.parametrize("memory", MEMORIES)


def recurrent(memory, observations="box", **options):
    kwargs = {"lstm_hidden_size": 6, **MEMORIES[memory]}
    return model_of("RecurrentPPO", observations, policy_kwargs=kwargs, **options)


def remembered(model, seed=0):
    """States of actor and critic as Stable-Baselines3 holds them, (layers, rows, hidden)."""
    layers, _, hidden = model.policy.lstm_hidden_state_shape
    drawn = torch.Generator().manual_seed(seed)
    shape = (4, layers, ROWS, hidden)
    a, b, c, d = torch.randn(shape, generator=drawn, dtype=torch.float64)
    return (a, b), (c, d)


def by_rows(*states):
    return tuple(one.transpose(0, 1) for pair in states for one in pair)


@both
@memories
def test_recurrent_agents_go_on_from_the_state_they_carry(memory, observations):
    model = recurrent(memory, observations)
    agent, policy, going = agent_of(model), model.policy, torch.zeros(ROWS)
    pi, vf = remembered(model)
    point = point_of(model, state=by_rows(pi, vf))
    with torch.no_grad():
        own, after = policy.get_distribution(raw_of(model), pi, going)
        same(agent.numbers("log-prob", point), own.distribution.logits)
        same(agent.after(point)[0].transpose(0, 1), after[0])
        same(agent.after(point)[1].transpose(0, 1), after[1])
        own_vf = pi if memory == "shared" else vf
        value = policy.predict_values(raw_of(model), own_vf, going)[:, 0]
        same(agent.numbers("value", point), value)
    assert agent.recurrent
    assert agent.explains == ("gap", "logit", "log-prob", "value")


@both
@memories
def test_an_unrolled_episode_ends_where_its_steps_lead(memory, observations):
    model = recurrent(memory, observations)
    agent, lengths = agent_of(model), [1, 4, 2, 5, 3]
    z = agent.preprocessed(raw_of(model, ROWS * 5))
    flat = z if isinstance(z, dict) else {"": z}
    episodes = {key: one.unflatten(0, (ROWS, 5)) for key, one in flat.items()}
    whole = episodes if isinstance(z, dict) else episodes[""]
    together = Point(whole, lengths=torch.tensor(lengths))
    with torch.no_grad():
        for row, length in enumerate(lengths):
            state = None
            for step in range(length):
                now = {key: one[row, step][None] for key, one in episodes.items()}
                point = Point(now if isinstance(z, dict) else now[""], state=state)
                state = agent.after(point)
            for explain in ("logit", "value"):
                alone = agent.numbers(explain, point)[0]
                same(agent.numbers(explain, together)[row], alone)


@both
@memories
def test_what_is_carried_along_an_episode_is_what_each_step_leaves(memory, observations):
    model = recurrent(memory, observations)
    agent, z = agent_of(model), point_of(model).observation
    with torch.no_grad():
        along = agent.along(z)
        state = agent.carried(None)
        assert all(part[0].equal(start.to(part)) for part, start in zip(along, state, strict=True))
        after = agent.after(Point(z, state=along))
    for part, left in zip(along, after, strict=True):
        same(part[1:], left[:-1])


@pytest.mark.parametrize("explain", ["logit", "value"])
@memories
def test_gradients_through_a_memory_are_finite_differences(memory, explain):
    model = recurrent(memory, smooth=True)
    agent = agent_of(model)
    state, lengths = by_rows(*remembered(model)), torch.tensor([2, 3, 3, 1, 2])
    z = agent.preprocessed(raw_of(model)).requires_grad_()
    episodes = agent.preprocessed(raw_of(model, 15)).unflatten(0, (ROWS, 3)).requires_grad_()

    def step(z):
        return agent.numbers(explain, Point(z, state=state))

    def unrolled(z):
        return agent.numbers(explain, Point(z, lengths=lengths))

    assert torch.autograd.gradcheck(step, z, atol=1e-8)
    assert torch.autograd.gradcheck(unrolled, episodes, atol=1e-8)


def test_what_predict_gives_is_carried(doubled):
    doubled.undo()
    model = recurrent("deep")
    model.policy.float()
    agent = agent_of(model)
    one = raw_of(model)[:1]
    start = agent.carried(None)
    assert [tuple(s.shape) for s in start] == [(2, 6)] * 4
    assert all(bool((s == 0).all()) for s in start)
    _, state = model.predict(one[0].numpy(), deterministic=True)
    hidden, cell = agent.carried(state)[:2]
    after = agent.after(Point(agent.preprocessed(one)))
    same(after[0][0], hidden, 1e-6)
    same(after[1][0], cell, 1e-6)
    point = Point(agent.preprocessed(one), state=(hidden[None], cell[None]))
    with pytest.raises(ig.InputError, match="critic has an LSTM of its own"):
        agent.numbers("value", point)


def test_what_forward_gives_is_carried_for_both():
    model = recurrent("own")
    agent = agent_of(model)
    layers = model.policy.lstm_hidden_state_shape
    zeros = (torch.zeros(layers).double(),) * 2
    states = RNNStates(zeros, zeros)
    with torch.no_grad():
        *_, states = model.policy.forward(raw_of(model)[:1], states, torch.zeros(1))
        after = agent.after(Point(agent.preprocessed(raw_of(model)[:1])))
    for found, own in zip(agent.carried(states), after, strict=True):
        same(found, own[0])


@pytest.mark.parametrize(
    ("state", "got"),
    [
        (np.zeros((1, 1, 6)), r"shapes \[\(1, 6\)\]"),
        ((np.zeros((1, 1, 7)),) * 2, r"shapes \[\(1, 7\), \(1, 7\)\]"),
        ((np.zeros((1, 2, 6)),) * 2, r"shapes \[\(1, 2, 6\)"),
        ("state", "got str"),
    ],
)
def test_a_state_of_another_shape_is_refused(state, got):
    with pytest.raises(ig.InputError, match=r"pair \(hidden, cell\).*" + got):
        agent_of(recurrent("own")).carried(state)


def test_an_agent_without_memory_carries_nothing():
    agent = agent_of(model_of("PPO"))
    assert agent.along(torch.zeros(3, 4)) == ()
    assert agent.carried(None) == ()
    assert not agent.recurrent
    with pytest.raises(ig.InputError, match="carries no state"):
        agent.carried((np.zeros((1, 1, 6)),) * 2)


def test_the_value_along_an_episode_goes_on_from_the_critic_s_own_memory(doubled):
    doubled.undo()
    kwargs = {"lstm_hidden_size": 8, "net_arch": [8]}
    model = sb3_contrib.RecurrentPPO(
        "MlpLstmPolicy", "CartPole-v1", policy_kwargs=kwargs, seed=1, device="cpu"
    )
    wrapped = ig_rl.wrap(model, gymnasium.make("CartPole-v1"))
    line = wrapped.explain_episode(seed=0, target="value")
    so_far = [np.array(line.values[: t + 1], np.float32) for t in range(len(line.values))]
    unrolled = ig.attribute(model, so_far, explain="value", unrolled=True)
    np.testing.assert_allclose(line.outputs, [one.at_input for one in unrolled], atol=1e-6)
    assert np.ptp(line.outputs) > 1e-3


# -- plain PyTorch ----------------------------------------------------------------------------


def plain(*, inputs=4, outputs=3):
    torch.manual_seed(0)
    layers = [nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs)]
    return nn.Sequential(*layers).double()


def test_a_plain_q_network_is_an_agent():
    net, z = plain(), torch.randn(ROWS, 4).double()
    agent, q = Functions(net, observation_space=(4,), actions=3), net(z)
    assert agent_of(agent) is agent
    assert agent.explains == ("gap", "q", "advantage", "value")
    assert agent.modules() == [net]
    assert (agent.dtype, agent.device, agent.count) == (torch.float64, net[0].weight.device, 3)
    same(agent.numbers("q", Point(z)), q)
    same(agent.numbers("advantage", Point(z)), q - q.mean(1, keepdim=True))
    same(agent.numbers("value", Point(z)), q.amax(1))


def test_a_plain_policy_has_logits_and_a_value_of_its_own():
    actor, critic, z = plain(), plain(outputs=1), torch.randn(ROWS, 4).double()
    agent = Functions(actor, critic, observation_space=4, actions=3, symbol="logit")
    assert agent.explains == ("gap", "logit", "log-prob", "value")
    same(agent.numbers("log-prob", Point(z)), actor(z).log_softmax(1))
    same(agent.numbers("value", Point(z)), critic(z)[:, 0])
    assert agent.modules() == [actor, critic]


def test_a_value_alone_is_an_agent():
    agent = Functions(value=lambda z: (z**2).sum(1), observation_space=(2,))
    assert (agent.explains, agent.count, agent.modules()) == (("value",), 0, [])
    z = torch.tensor([[1.0, 2.0]])
    assert agent.numbers("value", Point(z)).tolist() == [5.0]
    assert agent.converted(torch.float64).dtype == torch.float64


def test_functions_receive_dictionaries():
    net, space = plain(inputs=10), OBSERVATIONS["dict"]

    def scores(z):
        return net(torch.cat([z["speed"], z["gear"], z["view"].flatten(1)], dim=1))

    agent = Functions(scores, observation_space=space, actions=3)
    assert agent.modules() == [net]
    model = model_of("DQN", "dict")
    raw = raw_of(model)
    z = agent.preprocessed(raw)
    assert {key: tuple(one.shape[1:]) for key, one in z.items()} == {
        "speed": (3,),
        "gear": (3,),
        "view": (2, 2),
    }
    alone = {key: one[0].numpy() for key, one in raw.items()}
    best = int(agent.scores(Point(z))[0].argmax())
    assert int(agent.predict(alone)[0]) == best
    assert agent.predict(raw)[0].shape == (ROWS,)


def test_predict_is_greedy_and_leaves_the_flags():
    net = nn.Sequential(plain(), nn.Dropout(0.9)).double().train()
    agent = Functions(net, observation_space=(4,), actions=3)
    state = np.ones(4, np.float32)
    with torch.no_grad():
        best = int(net[0](torch.ones(1, 4).double()).argmax())
    assert all(int(agent.predict(state)[0]) == best for _ in range(20))
    assert all(module.training for module in net.modules())


def test_what_networks_are_given_can_be_said():
    space = Box(0, 255, (1, 2, 2), np.uint8)
    raw = torch.full((1, 1, 2, 2), 51, dtype=torch.uint8)
    plainly = Functions(value=torch.sum, observation_space=space)
    divided = Functions(value=torch.sum, observation_space=space, preprocess=lambda x: x / 255)
    assert plainly.preprocessed(raw).unique().tolist() == [51.0]
    assert divided.preprocessed(raw).unique().tolist() == pytest.approx([0.2])


@pytest.mark.parametrize("wrap", [lambda net: net, lambda net: net.forward])
def test_converted_functions_leave_the_network_alone(wrap):
    net, z = plain().float(), torch.randn(ROWS, 4)
    agent = Functions(wrap(net), observation_space=(4,), actions=3)
    wide = agent.converted(torch.float64)
    assert (wide.dtype, net[0].weight.dtype) == (torch.float64, torch.float32)
    assert wide.modules()[0] is not net
    same(wide.scores(Point(z.double())), agent.scores(Point(z)).double(), 1e-6)


def test_networks_that_cannot_be_copied_are_refused():
    net = plain()
    agent = Functions(lambda z: net(z) + 0, observation_space=(4,), actions=3)
    with pytest.raises(ig.InputError, match=r"cannot be copied.*give the network itself"):
        agent.converted(torch.float32)


@pytest.mark.parametrize(
    ("scores", "value", "told"),
    [
        (lambda z: z, None, r"scores= must .*expected shape \(5, 3\) \(got \(5, 4\)\)"),
        (lambda z: z[0, :3], None, r"scores= must .*\(5, 3\) \(got \(3,\)\)"),
        (lambda z: z.tolist(), None, r"scores= must give a tensor \(got list\)"),
        (None, lambda z: z, r"value= must .*shape \(5,\) or \(5, 1\) \(got \(5, 4\)\)"),
        (None, lambda z: 1.0, r"value= must give a tensor \(got float\)"),
    ],
)
def test_functions_of_the_wrong_shape_are_named(scores, value, told):
    agent = Functions(scores, value, observation_space=(4,), actions=3)
    with pytest.raises(ig.OutputError, match=told):
        agent.numbers(agent.default, Point(torch.zeros(ROWS, 4)))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "needs scores= or value="),
        ({"scores": 3, "observation_space": (4,)}, r"a callable \(got int"),
        ({"scores": torch.sum, "actions": 2}, r"env.observation_space.*\(got None\)"),
        ({"scores": torch.sum, "observation_space": (4, -1), "actions": 2}, "the shape of one"),
        ({"scores": torch.sum, "observation_space": (4,)}, r"as in actions=2 \(got None\)"),
        ({"scores": torch.sum, "observation_space": (4,), "actions": 0}, r"\(got 0\)"),
    ],
)
def test_what_functions_cannot_do_without_is_asked_for(options, told):
    with pytest.raises(ig.InputError, match=told):
        Functions(**options)


def lqr():
    return Functions(value=lambda z: -((z @ cost_to_go()) * z).sum(1), observation_space=(2,))


def test_a_critic_in_closed_form_gets_it_through_functions():
    H = cost_to_go()
    state = torch.tensor([0.7, -0.4], dtype=torch.float64)
    result = ig.attribute(lqr(), state, dtype="float64")
    torch.testing.assert_close(result.values, -state * (H @ state), atol=1e-12, rtol=1e-12)
    assert result.display["quantity"] == "V(s)"


def test_functions_play_and_are_explained_like_any_agent():
    net = plain(outputs=2).float()
    agent = Functions(net, observation_space=(4,), actions=2)
    line = ig_rl.wrap(agent, gymnasium.make("CartPole-v1")).explain_episode(seed=0)
    with torch.no_grad():
        q = net(torch.tensor(np.array(line.values), dtype=torch.float32)).double().numpy()
    np.testing.assert_array_equal(line.actions, q.argmax(1))
    np.testing.assert_allclose(line.outputs, q[:, 1] - q[:, 0], atol=1e-5)


# -- what networks are given ------------------------------------------------------------------


@pytest.mark.parametrize("space", ["image", "dict", "box", "several"])
def test_observations_are_received_as_stable_baselines_gives_them(space, doubled):
    doubled.undo()
    spaces = OBSERVATIONS | {
        "several": Dict({"a": MultiDiscrete([2, 3]), "b": MultiBinary(2), "c": Discrete(4)}),
    }
    where = spaces[space]
    where.seed(0)
    samples = [where.sample() for _ in range(ROWS)]
    raw = (
        {key: torch.tensor(np.array([s[key] for s in samples])) for key in samples[0]}
        if isinstance(where, Dict)
        else torch.tensor(np.array(samples))
    )
    agent = agent_of(model_of("DQN")).converted(torch.float32)
    agent.policy.observation_space = where
    own = preprocess_obs(raw, where)
    found = agent.preprocessed(raw)
    for key in own if isinstance(own, dict) else [...]:
        assert found[key].equal(own[key])


def test_observations_keep_the_precision_of_the_agent():
    agent = agent_of(model_of("DQN"))
    raw = torch.full((1, 4), 0.1, dtype=torch.float64)
    assert agent.preprocessed(raw).equal(raw)


# -- any agent --------------------------------------------------------------------------------

EVERY = ["DQN", "QRDQN", "PPO", "A2C", "TRPO", "MaskablePPO", "RecurrentPPO", *CRITICS]


def refuse_targets(model):
    """Target networks that raise when they are run; they hold NaN already."""

    def refuse(*_):
        raise AssertionError("a target network was run")

    found = [m for name, m in model.policy.named_modules() if "target" in name]
    for module in found:
        module.register_forward_pre_hook(refuse)
    return [(p, p._version) for module in found for p in module.parameters()]


@pytest.mark.parametrize("algorithm", EVERY)
def test_every_quantity_is_complete_along_a_path(algorithm):
    """Exact for piecewise linear networks in float64, to the tolerance where a curve is inside."""
    model = recurrent("own") if algorithm == "RecurrentPPO" else model_of(algorithm)
    agent, targets = agent_of(model), refuse_targets(model)
    z = agent.preprocessed(raw_of(model))
    action = agent.scaled(actions_of(model)) if agent.size else None
    for explain in agent.explains:
        quantity = explain.replace("LEVEL", "0.1")
        inputs = (z, action) if "action" in agent.moves(quantity) else (z,)

        def number(*x, quantity=quantity):
            found = agent.numbers(quantity, Point(*x))
            return found[:, 1] if found.dim() == 2 else found

        curved = agent.recurrent or (algorithm in CRITICS and quantity in ("value", "action"))
        curved |= quantity == "log-prob"
        tol = 1e-2 if quantity == "value" else 1e-6
        results = ig.attribute(number, inputs if len(inputs) == 2 else z, tol=tol)
        with torch.no_grad():
            ends = number(*inputs) - number(*(torch.zeros_like(x) for x in inputs))
        for result, delta in zip(results, ends.tolist(), strict=True):
            assert result.status == "converged"
            total = float(result.scores.sum())
            size = float(result.scores.abs().sum())
            assert total == pytest.approx(delta, abs=tol * size if curved else 1e-12)
    assert all(p._version == version for p, version in targets)
    assert bool(targets) == (algorithm in ("DQN", "QRDQN", "SAC", "TD3", "DDPG", "TQC"))


PIECEWISE_LINEAR = {"gap", "q", "advantage", "quantile:0.1", "logit", "q1", "q2"}


@pytest.mark.parametrize(
    ("algorithm", "observations"),
    [(one, kind) for one in EVERY for kind in ("box", "dict") if (one, kind) != ("CrossQ", "dict")],
)
def test_the_domain_explains_every_quantity_in_float64(algorithm, observations, doubled):
    doubled.undo()
    model = model_of(algorithm, observations)
    model.policy.float()
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    agent, raw = agent_of(model).converted(torch.float64), raw_of(model)
    z = agent.preprocessed(raw)
    for explain in agent.explains:
        quantity = explain.replace("LEVEL", "0.1")
        element = 1 if quantity == "action" else None
        results = ig.attribute(model, raw, explain=quantity, target=element, dtype="float64")
        with torch.no_grad():
            action = agent.chosen(Point(z)) if agent.size else None
            numbers = agent.numbers(quantity, Point(z, action))
        for row, result in enumerate(results):
            named = result.provenance["target"]
            if isinstance(named, tuple):
                expected = numbers[row, named[0]] - numbers[row, named[1]]
            else:
                expected = numbers[row] if named is None else numbers[row, named]
            assert result.at_input == pytest.approx(float(expected), abs=1e-9, rel=1e-9)
            assert result.status == "converged"
            size = float(result.scores.abs().sum())
            exact = quantity in PIECEWISE_LINEAR and not agent.recurrent
            assert abs(result.residual) <= (1e-10 if exact else 1e-2 * size)
    after = model.policy.state_dict()
    for name, value in before.items():
        assert after[name].dtype == value.dtype
        assert after[name].nan_to_num().equal(value.nan_to_num())


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("algorithm", ["DQN", "QRDQN", "PPO", "SAC", "TD3", "RecurrentPPO"])
def test_images_go_through_the_agent_s_own_networks(algorithm, normalised):
    kwargs = {"normalize_images": normalised}
    model = model_of(algorithm, "image", policy_kwargs=kwargs)
    agent, raw = agent_of(model), raw_of(model)
    rounded = preprocess_obs(raw, model.observation_space, normalize_images=normalised).double()
    point = Point(rounded)
    same(agent.preprocessed(raw), rounded, 1e-7)
    with torch.no_grad():
        if algorithm == "PPO":
            own = model.policy.predict_values(raw)[:, 0]
        elif algorithm == "RecurrentPPO":
            zeros = torch.zeros(1, ROWS, 256).double()
            own = model.policy.predict_values(raw, (zeros, zeros), torch.zeros(ROWS))[:, 0]
        elif agent.size:
            own = torch.cat(model.critic(raw, agent.chosen(point)), dim=1).amin(1)
        else:
            network = model.q_net if algorithm == "DQN" else model.policy.quantile_net
            own = network(raw).reshape(ROWS, -1, 3).mean(1).amax(1)
        same(agent.numbers("value", point), own)


@pytest.mark.parametrize("algorithm", EVERY)
def test_a_policy_alone_is_an_agent(algorithm):
    model = model_of(algorithm)
    assert type(agent_of(model.policy)) is type(agent_of(model))


@pytest.mark.parametrize("algorithm", EVERY)
def test_a_subclass_of_a_policy_is_of_its_family(algorithm):
    model = model_of(algorithm)
    model.policy.__class__ = type("Own", (type(model.policy),), {})
    assert agent_of(model.policy).explains


@pytest.mark.parametrize(
    ("algorithm", "part", "method"),
    [
        ("DQN", "q_net", "forward"),
        ("QRDQN", "quantile_net", "extract_features"),
        ("SAC", "critic", "forward"),
        ("TD3", "actor", "forward"),
        ("PPO", "", "get_distribution"),
        ("RecurrentPPO", "", "_process_sequence"),
        ("PPO", "action_dist", "mode"),
    ],
)
def test_a_policy_that_computes_in_its_own_way_is_refused(algorithm, part, method):
    model = model_of(algorithm)
    owner = getattr(model.policy, part) if part else model.policy
    owner.__class__ = type("Mine", (type(owner),), {method: lambda self, *_: 0})
    with pytest.raises(ig.InputError, match=rf"Mine\.{method} is written in .*ig_rl\.Functions"):
        agent_of(model)


def test_a_policy_that_builds_other_networks_is_of_its_family():
    class Mine(ActorCriticPolicy):
        def _build_mlp_extractor(self):
            self.mlp_extractor = MlpExtractor(self.features_dim, {"pi": [5], "vf": [4]}, nn.Tanh)

    world = DummyVecEnv([lambda: World("box", "discrete")])
    model = stable_baselines3.PPO(Mine, world, device="cpu")
    model.policy.double()
    with torch.no_grad():
        found = agent_of(model).numbers("value", point_of(model))
        same(found, model.policy.predict_values(raw_of(model))[:, 0])


@pytest.mark.parametrize("options", [{}, {"use_sde": True}])
@pytest.mark.parametrize("algorithm", ["PPO", "SAC"])
def test_a_converted_agent_is_a_copy(algorithm, options):
    model = model_of(algorithm, actions="box", **options)
    if options:
        model.policy.reset_noise()
    agent = agent_of(model)
    narrow = agent.converted(torch.float32)
    assert narrow.dtype == torch.float32
    assert agent.dtype == torch.float64
    with torch.no_grad():
        z = narrow.preprocessed(raw_of(model))
        assert z.dtype == torch.float32
        same(narrow.chosen(Point(z)).double(), agent.chosen(point_of(model)), 1e-5)


def test_what_is_not_covered_is_refused_with_what_is():
    model = sb3_contrib.ARS("LinearPolicy", "Pendulum-v1", device="cpu")
    told = r"explains DQN, .*TQC and CrossQ .*\(got sb3_contrib.ars.ars.ARS with .*ARSLinearPolicy"
    with pytest.raises(ig.InputError, match=told):
        agent_of(model)
    with pytest.raises(ig.InputError, match=r"Linear\); any other network .*Functions"):
        agent_of(nn.Linear(2, 2))
