"""The rl domain: Q-values, gaps, logits and values of Stable-Baselines3 agents."""

import pickle
import random
from dataclasses import replace

import captum.attr
import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import ig_core as ig
import ig_rl
from ig_core.testing import Subject, checks
from ig_rl.baselines import VisitedMean
from ig_rl.domain import AgentDomain
from ig_rl.episodes import play

STATE = np.array([0.3, -0.8, 0.04, 0.9], dtype=np.float32)
CARTPOLE = (
    "cart position = +0.3 m",
    "cart velocity = -0.8 m/s",
    "pole angle = +0.04 rad",
    "pole angular velocity = +0.9 rad/s",
)
QUANTITIES = [
    ("dqn", "q"),
    ("dqn", "gap"),
    ("ppo", "logit"),
    ("ppo", "gap"),
    ("ppo", "value"),
    ("a2c", "gap"),
]


def agent(kind="dqn", *, env="CartPole-v1", net=(16, 16), smooth=True, **options):
    """A small untrained agent, with an actor that is not nearly constant."""
    kwargs = {"net_arch": list(net)} | ({"activation_fn": torch.nn.Tanh} if smooth else {})
    if kind == "dqn":
        return DQN(
            "MlpPolicy", env, policy_kwargs=kwargs, buffer_size=100, seed=3, device="cpu", **options
        )
    family = {"ppo": PPO, "a2c": A2C}[kind]
    kwargs["ortho_init"] = False
    return family("MlpPolicy", env, policy_kwargs=kwargs, seed=3, device="cpu", **options)


def states(count=64):
    return np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)


def as_agent_says(model, explain, state, actions):
    """The explained number by the agent's own public functions."""
    observation, _ = model.policy.obs_to_tensor(state)
    with torch.no_grad():
        if explain == "value":
            return float(model.policy.predict_values(observation))
        if isinstance(model, DQN):
            numbers = model.q_net(observation)[0]
        else:
            policy = model.policy
            latent = policy.mlp_extractor.forward_actor(policy.features_extractor(observation))
            numbers = policy.action_net(latent)[0]
    first, *others = (float(numbers[a]) for a in actions)
    return first - sum(others)


# -- the contract of a domain -----------------------------------------------------------------


def conformance():
    for kind, explain in (("dqn", "gap"), ("ppo", "logit"), ("ppo", "value")):
        subject = Subject(
            make=lambda kind=kind, explain=explain: AgentDomain(agent(kind), explain=explain),
            examples=list(states(3)),
            targets=None if explain == "value" else 1,
            plugin=ig_rl if kind == "dqn" else None,
        )
        for check in checks(subject):
            yield pytest.param(check, id=f"{kind}-{explain}-{check.name}")


@pytest.mark.parametrize("check", list(conformance()))
def test_the_domain_keeps_its_promises(check):
    check()


# -- what is explained ------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "explain"), QUANTITIES)
def test_values_sum_to_the_difference_of_the_agents_own_numbers(kind, explain):
    model = agent(kind)
    model.policy.double()
    actions = {"gap": (1, 0), "value": ()}.get(explain, (1,))
    target = {"gap": (1, 0), "value": None}.get(explain, 1)
    result = ig.attribute(model, STATE, explain=explain, target=target, tol=1e-6)
    model.policy.float()
    here = as_agent_says(model, explain, STATE, actions)
    there = as_agent_says(model, explain, np.zeros_like(STATE), actions)
    assert result.at_input == pytest.approx(here, abs=1e-6)
    assert result.at_baseline == pytest.approx(there, abs=1e-6)
    assert abs(result.delta) > 1e-3
    assert float(result.scores.sum()) == pytest.approx(here - there, abs=2e-6)
    assert result.status == "converged"


def test_logit_gap_is_the_log_odds_of_the_actions():
    model = agent("ppo")
    observation, _ = model.policy.obs_to_tensor(STATE)
    with torch.no_grad():
        log_p = model.policy.get_distribution(observation).distribution.logits[0]
    result = ig.attribute(model, STATE, target=(0, 1))
    assert result.at_input == pytest.approx(float(log_p[0] - log_p[1]), abs=1e-6)


@pytest.mark.parametrize(("kind", "single"), [("dqn", "q"), ("ppo", "logit")])
def test_gap_is_the_difference_of_two_attributions(kind, single):
    model = agent(kind)
    fixed = {"rule": "gauss-legendre", "steps": 32}
    gap = ig.attribute(model, STATE, explain="gap", target=(0, 1), **fixed)
    first = ig.attribute(model, STATE, explain=single, target=0, **fixed)
    other = ig.attribute(model, STATE, explain=single, target=1, **fixed)
    torch.testing.assert_close(gap.scores, first.scores - other.scores, atol=1e-6, rtol=0)


def test_default_is_the_gap_of_the_greedy_action_to_the_runner_up():
    model = agent(env="Acrobot-v1")
    batch = np.random.default_rng(1).normal(size=(12, 6)).astype(np.float32)
    for state, result in zip(batch, ig.attribute(model, batch), strict=True):
        with torch.no_grad():
            order = model.q_net(torch.tensor(state[None]))[0].argsort(descending=True)
        assert result.provenance["target"] == (int(order[0]), int(order[1]))
        assert int(model.predict(state, deterministic=True)[0]) == int(order[0])
        assert result.at_input >= 0


def test_actions_stay_fixed_along_the_path():
    model = agent()
    for state, result in zip(states(), ig.attribute(model, states()), strict=True):
        pair = result.provenance["target"]
        there = as_agent_says(model, "gap", np.zeros_like(state), pair)
        assert result.at_baseline == pytest.approx(there, abs=1e-6)


def test_runner_up_of_a_chosen_action_is_the_best_of_the_others():
    model = agent()
    greedy = int(model.predict(STATE, deterministic=True)[0])
    result = ig.attribute(model, STATE, target=1 - greedy)
    assert result.provenance["target"] == (1 - greedy, greedy)
    assert result.at_input <= 0


def test_versus_fixes_the_other_action():
    model = agent(env="Acrobot-v1")
    batch = np.random.default_rng(1).normal(size=(6, 6)).astype(np.float32)
    results = ig.attribute(model, batch, target=2, versus=0)
    assert {r.provenance["target"] for r in results} == {(2, 0)}


def test_numpy_actions_are_actions():
    model = agent()
    action, _ = model.predict(STATE, deterministic=True)
    result = ig.attribute(model, STATE, explain="q", target=action)
    assert result.provenance["target"] == int(action)


def test_images_are_divided_by_255_before_the_path():
    class Screen(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 255, (1, 36, 36), np.uint8)
        action_space = gymnasium.spaces.Discrete(2)

    model = PPO("CnnPolicy", DummyVecEnv([Screen]), seed=0, device="cpu", n_steps=64)
    screen = np.random.default_rng(0).integers(0, 256, (1, 36, 36), dtype=np.uint8)
    result = ig.attribute(model, screen, explain="value", rule="midpoint", steps=4)
    assert result.at_input == pytest.approx(as_agent_says(model, "value", screen, ()), abs=1e-6)
    assert result.values.shape == (1, 36, 36)
    assert len(result.units) == 36 * 36


def test_continuous_actions_leave_the_value_to_explain():
    model = agent("ppo", env="Pendulum-v1")
    state = np.array([0.6, 0.8, -1.5], dtype=np.float32)
    result = ig.attribute(model, state, explain="value", tol=1e-3)
    assert result.at_input == pytest.approx(as_agent_says(model, "value", state, ()), abs=1e-6)
    assert abs(result.residual) <= 1e-3 * float(result.scores.abs().sum())
    with pytest.raises(ig.UnknownNameError, match="Known: action, log-prob, value"):
        ig.attribute(model, state, explain="logit")


# -- numbers against others and closed forms --------------------------------------------------


@pytest.mark.parametrize("smooth", [True, False])
def test_q_agrees_with_captum_in_float64(smooth):
    model = agent(smooth=smooth)
    model.policy.double()
    batch = torch.tensor(states(8))
    results = ig.attribute(
        model, batch, explain="q", target=[0, 1] * 4, rule="gauss-legendre", steps=100, tol=0.1
    )
    reference = captum.attr.IntegratedGradients(model.q_net.q_net).attribute(
        batch.double(), target=[0, 1] * 4, n_steps=100, method="gausslegendre"
    )
    for result, expected in zip(results, reference, strict=True):
        torch.testing.assert_close(result.values, expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize(("kind", "explain"), QUANTITIES)
def test_a_batch_of_64_states_equals_one_by_one(kind, explain):
    model, batch = agent(kind), states(64)
    together = ig.attribute(model, batch, explain=explain)
    for state, result in list(zip(batch, together, strict=True))[::8]:
        alone = ig.attribute(model, state, explain=explain)
        torch.testing.assert_close(result.values, alone.values, atol=2e-5, rtol=2e-5)
        assert result.provenance["target"] == alone.provenance["target"]


@pytest.mark.parametrize(("kind", "explain"), QUANTITIES)
def test_a_dead_feature_gets_exactly_zero(kind, explain):
    model = agent(kind)
    with torch.no_grad():
        for name, weight in model.policy.named_parameters():
            if name.endswith("net.0.weight"):
                weight[:, 2] = 0
    results = ig.attribute(model, states(8), explain=explain)
    assert all(result.values[2] == 0 for result in results)
    assert all((result.values[[0, 1, 3]] != 0).all() for result in results)


def test_linear_q_network_gets_weight_times_difference():
    model = agent(net=())
    model.policy.double()
    weight = model.q_net.q_net[0].weight.detach()
    start = torch.tensor([0.1, 0.2, -0.3, 0.4], dtype=torch.float64)
    result = ig.attribute(model, STATE, explain="q", target=1, baseline=start)
    expected = weight[1] * (torch.tensor(STATE).double() - start)
    torch.testing.assert_close(result.values, expected, atol=1e-14, rtol=0)


# -- the agent is left as it was --------------------------------------------------------------


def test_the_target_network_is_never_run_nor_changed():
    model = agent()

    def refuse(*_):
        raise AssertionError("the target network was run")

    for module in model.q_net_target.modules():
        module.register_forward_pre_hook(refuse)
    before = [(p, p._version, p.detach().clone()) for p in model.q_net_target.parameters()]
    assert ig.attribute(model, STATE).converged
    assert [p for p, *_ in before] == list(model.q_net_target.parameters())
    assert all(p._version == version and p.equal(copy) for p, version, copy in before)


def test_the_q_network_that_is_explained_is_the_online_one():
    model = agent()
    before = ig.attribute(model, STATE, explain="q", target=0)
    with torch.no_grad():
        for parameter in model.q_net_target.parameters():
            parameter.fill_(torch.nan)
    after = ig.attribute(model, STATE, explain="q", target=0)
    assert after.values.equal(before.values)


def everything(model):
    """All state of an agent that a call could change, as bytes."""
    inner = model.get_env().envs[0].unwrapped
    policy = model.policy
    optimizer = {k: v for k, v in policy.optimizer.state_dict().items() if k == "state"}
    buffer = model.replay_buffer if isinstance(model, DQN) else model.rollout_buffer
    arrays = {k: v for k, v in vars(buffer).items() if isinstance(v, (np.ndarray, int, bool))}
    return {
        "weights": pickle.dumps({k: v.tolist() for k, v in policy.state_dict().items()}),
        "optimizer": pickle.dumps(
            {k: {n: t.tolist() for n, t in v.items()} for k, v in optimizer["state"].items()}
        ),
        "flags": [m.training for m in policy.modules()],
        "frozen": [p.requires_grad for p in policy.parameters()],
        "gradients": [None if p.grad is None else p.grad.tolist() for p in policy.parameters()],
        "hooks": [len(m._forward_hooks) for m in policy.modules()],
        "buffer": pickle.dumps(arrays),
        "environment": (tuple(inner.state), str(inner.np_random.bit_generator.state)),
        "steps": (model.num_timesteps, model._n_updates, np.array(model._last_obs).tolist()),
        "random": (
            torch.get_rng_state().tolist(),
            pickle.dumps(np.random.get_state()),
            random.getstate(),
        ),
    }


@pytest.mark.parametrize("kind", ["dqn", "ppo"])
def test_the_agent_is_left_as_it_was_found(kind):
    options = {"learning_starts": 8, "batch_size": 8} if kind == "dqn" else {"n_steps": 64}
    model = agent(kind, **options)
    model.learn(64)
    model.policy.set_training_mode(True)
    next(model.policy.parameters()).requires_grad_(False)
    before = everything(model)
    ig.attribute(model, states(4), states=states(), baseline="visited-mean")
    with pytest.raises(ig.NonFiniteError):
        ig.attribute(model, np.full(4, np.nan, dtype=np.float32))
    assert everything(model) == before


# -- where the path starts --------------------------------------------------------------------


def test_paths_start_at_the_mean_of_the_visited_states():
    model = agent()
    given = ig.attribute(model, STATE, states=states())
    mean = torch.tensor(states()).double().mean(0).float()
    same = ig.attribute(model, STATE, baseline=mean)
    assert given.values.equal(same.values)
    assert given.provenance["baseline"] == "visited-mean"
    assert "baseline (the mean of visited states)" in given.to_text()


def test_paths_start_at_zero_without_visited_states_and_the_view_says_so():
    result = ig.attribute(agent(), STATE)
    assert result.values.equal(ig.attribute(agent(), STATE, baseline="zeros").values)
    assert "no visited states were given" in result.to_text()
    assert result.provenance["baseline"] == "zeros"
    assert "no visited states" not in ig.attribute(agent(), STATE, baseline=0.5).to_text()


def test_visited_mean_by_name_and_with_its_own_states():
    model = agent()
    by_default = ig.attribute(model, STATE, states=states())
    by_name = ig.attribute(model, STATE, states=list(states()), baseline="visited-mean")
    own = ig.attribute(model, STATE, baseline=VisitedMean(states()))
    assert by_default.values.equal(by_name.values)
    assert by_default.values.equal(own.values)
    assert by_name.provenance["baseline"] == "visited-mean"
    assert "baseline (the mean of visited states)" in own.to_text()
    assert "baseline (0.5)" in ig.attribute(model, STATE, baseline=0.5).to_text()


def test_visited_mean_without_states_says_what_to_pass():
    with pytest.raises(ig.BaselineError, match="pass states="):
        ig.attribute(agent(), STATE, baseline="visited-mean")


@pytest.mark.parametrize("bad", [states()[:, :3], states()[:0], STATE, [], np.float32(1.0)])
def test_states_that_do_not_fit_are_refused(bad):
    with pytest.raises(ig.InputError, match=r"states must|tensor or an array"):
        ig.attribute(agent(), STATE, states=bad)


def test_states_with_nan_are_refused():
    with pytest.raises(ig.BaselineError, match="NaN"):
        ig.attribute(agent(), STATE, states=np.full((3, 4), np.nan, dtype=np.float32))


def test_play_visits_states_and_counts_returns():
    model, env = agent(), gymnasium.make("CartPole-v1")
    episodes = play(model, env, seeds=range(3))
    assert episodes.returns.sum() == len(episodes.states)  # CartPole pays 1 per step
    assert np.array_equal(episodes.states[0], env.reset(seed=0)[0])
    with pytest.raises(ig.InputError, match="at least one seed"):
        play(model, env, seeds=[])


# -- names and views --------------------------------------------------------------------------


def test_features_of_a_known_environment_have_names_values_and_units():
    result = ig.attribute(agent(), STATE)
    assert tuple(result.units.labels) == CARTPOLE
    assert result.display["actions"] in (["left", "right"], ["right", "left"])


def test_results_hold_names_raw_values_and_the_pair_for_views():
    result = ig.attribute(agent(), STATE, target=(1, 0))
    assert result.display["names"][2:] == ["pole angle", "pole angular velocity"]
    assert result.display["values"] == STATE.astype(float).tolist()
    assert result.display["pair"] == [1, 0]


def test_actions_of_states_are_those_that_the_agent_predicts():
    model = agent(env="Acrobot-v1")
    batch = np.random.default_rng(1).normal(size=(64, 6)).astype(np.float32)
    expected, _ = model.predict(batch, deterministic=True)
    model.policy.train()
    assert AgentDomain(model).actions_of(batch).tolist() == expected.tolist()
    assert model.policy.training


def test_features_behind_a_normalising_wrapper_have_no_unit():
    def unit(env):
        return ig.attribute(agent(env=env), STATE).units.labels[0]

    raw = gymnasium.make("CartPole-v1")
    assert unit(DummyVecEnv([lambda: raw])) == "cart position = +0.3 m"
    assert unit(VecNormalize(DummyVecEnv([lambda: raw]))) == "observation[0] = +0.3"
    assert unit(gymnasium.wrappers.NormalizeObservation(raw)) == "observation[0] = +0.3"


def test_given_feature_names_are_used():
    result = ig.attribute(agent(), STATE, feature_names=["a (V)", "b", "c", "d"])
    assert tuple(result.units.labels)[:2] == ("a = +0.3 V", "b = -0.8")


def test_the_text_says_where_every_feature_pushes():
    result = ig.attribute(agent(), STATE, target=(1, 0))
    text = result.to_text()
    assert text.startswith("Why right rather than left?\nQ(right) - Q(left) of this DQN is ")
    for label, score in zip(CARTPOLE, result.scores.tolist(), strict=True):
        side = "right" if score > 0 else "left"
        assert f"{label} pushes towards {side}" in text


def test_the_text_says_what_a_feature_does_to_a_value():
    result = ig.attribute(agent("ppo"), STATE, explain="value")
    for label, score in zip(CARTPOLE, result.scores.tolist(), strict=True):
        assert f"{label} {'raises' if score > 0 else 'lowers'} V(s)" in result.to_text()


def test_a_feature_without_part_is_said_to_have_none():
    state = STATE.copy()
    state[2] = 0
    text = ig.attribute(agent(), state).to_text()
    assert "pole angle = +0 rad has no part in it" in text


def test_a_part_below_its_own_error_is_said_to_be_none():
    result = ig.attribute(agent(), STATE)
    doubtful = replace(result, uncertainty=result.scores.abs() * 2)
    assert doubtful.to_text().count("has no part that can be told from zero") == 4
    assert "pushes towards" not in doubtful.to_text()


def test_html_escapes_every_name():
    attack = "<img src=x onerror=alert(1)>"
    names = {"feature_names": [attack, "b", "c", "d"], "action_names": [attack, "<b>"]}
    html = ig.attribute(agent(), STATE, **names).to_html()
    assert "<img" not in html
    assert "<b>" not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") >= 3


@pytest.mark.parametrize("option", ["feature_names", "action_names"])
@pytest.mark.parametrize("bad", [["a"], "abcd", [1, 2, 3, 4], ["\x1b[31m", "b", "c", "d"]])
def test_names_that_do_not_fit_are_refused(option, bad):
    with pytest.raises(ig.InputError, match=option):
        ig.attribute(agent(), STATE, **{option: bad})


def test_ties_are_noted():
    model = agent()
    with torch.no_grad():
        head = model.q_net.q_net[-1]
        head.weight[1] = head.weight[0]
        head.bias[1] = head.bias[0]
    result = ig.attribute(model, STATE)
    assert result.display["ties"] == ["the greedy action is left, tied with right"]
    assert "Tie: the greedy action is left, tied with right." in result.to_text()
    assert ig.attribute(agent(), STATE).display["ties"] == []


# -- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [STATE[:3], np.zeros((2, 3), np.float32), np.ones((1, 1, 4)), [STATE[:3]]],
)
def test_an_observation_of_the_wrong_shape_is_refused(raw):
    with pytest.raises(ig.InputError, match=r"has the shape \(4,\) \(got"):
        ig.attribute(agent(), raw)


def test_what_reset_returns_is_refused_with_a_hint():
    with pytest.raises(ig.InputError, match="pass the first"):
        ig.attribute(agent(), gymnasium.make("CartPole-v1").reset())


@pytest.mark.parametrize("raw", [[0.1, 0.2, 0.3, 0.4], "state", np.array(["a"] * 4), None])
def test_what_is_no_array_of_numbers_is_refused(raw):
    with pytest.raises(ig.InputError, match="tensor or an array of numbers"):
        ig.attribute(agent(), raw, domain="rl")


def test_nan_in_an_observation_is_named():
    state = STATE.copy()
    state[1] = np.nan
    with pytest.raises(ig.NonFiniteError, match=r"'observation' of example 0 .* at \[1\]"):
        ig.attribute(agent(), state)


def test_nan_in_the_weights_is_named():
    model = agent()
    with torch.no_grad():
        model.q_net.q_net[0].weight[0, 0] = torch.nan
    with pytest.raises(ig.NonFiniteError, match="the model's output"):
        ig.attribute(model, STATE)


def test_an_empty_batch_gives_an_empty_list():
    assert ig.attribute(agent(), states()[:0]) == []
    assert ig.attribute(agent(), [], domain="rl") == []


@pytest.mark.parametrize("target", [2, -1, True, 0.5, (0, 5)])
def test_an_action_that_does_not_exist_is_refused(target):
    with pytest.raises(ig.TargetError, match="whole number from 0 to 1"):
        ig.attribute(agent(), STATE, target=target)
    with pytest.raises(ig.TargetError, match="no action is called 'upwards'"):
        ig.attribute(agent(), STATE, target="upwards")


@pytest.mark.parametrize(("explain", "target"), [("q", (0, 1)), ("gap", ()), ("gap", (0, 1, 0))])
def test_a_target_of_the_wrong_length_is_refused(explain, target):
    with pytest.raises(ig.TargetError, match="as target"):
        ig.attribute(agent(), STATE, explain=explain, target=target)


def test_a_gap_to_itself_is_refused():
    with pytest.raises(ig.TargetError, match="zero everywhere"):
        ig.attribute(agent(), STATE, target=(1, 1))


def test_a_value_has_no_target():
    with pytest.raises(ig.TargetError, match="no target"):
        ig.attribute(agent("ppo"), STATE, explain="value", target=0)


@pytest.mark.parametrize(
    ("kind", "explain", "hint"),
    [
        ("dqn", "gapp", "did you mean 'gap'"),
        ("dqn", "logit", "Known: advantage, gap, q, value"),
        ("ppo", "logits", "did you mean 'logit'"),
        ("ppo", "q", "Known: gap, log-prob, logit, value"),
    ],
)
def test_an_unknown_quantity_is_refused_with_what_there_is(kind, explain, hint):
    with pytest.raises(ig.UnknownNameError, match=hint):
        ig.attribute(agent(kind), STATE, explain=explain)


def test_versus_is_checked():
    with pytest.raises(ig.UnknownNameError, match="did you mean 'runner-up'"):
        ig.attribute(agent(), STATE, versus="runnerup")
    with pytest.raises(ig.TargetError, match="whole number"):
        ig.attribute(agent(), STATE, versus=7)
    with pytest.raises(ig.InputError, match="belongs to explain='gap'"):
        ig.attribute(agent(), STATE, explain="q", versus=0)


def test_the_domain_is_guessed_for_agents_only():
    assert isinstance(ig.plugins().guess(agent(), STATE)(agent()), AgentDomain)
    assert AgentDomain.accepts(agent().policy, STATE)
    assert not AgentDomain.accepts(agent().policy.q_net.q_net, STATE)
