"""An agent wrapped with its environment: what is asked, from where, and what stays untouched."""

import json
import random

import gymnasium
import numpy as np
import pytest
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

import ig_core as ig
import ig_rl
from ig_rl.episodes import play, visited

STATES = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
STATE = STATES[0]


def dqn(env="CartPole-v1", **options):
    kwargs = {"net_arch": [16], "activation_fn": torch.nn.Tanh}
    options = {"buffer_size": 100} | options
    return DQN("MlpPolicy", env, policy_kwargs=kwargs, seed=3, device="cpu", **options)


def ppo(env, **options):
    kwargs = {"net_arch": [16], "ortho_init": False}
    return PPO("MlpPolicy", env, policy_kwargs=kwargs, seed=3, device="cpu", n_steps=64, **options)


# -- explain ----------------------------------------------------------------------------------


def test_explain_is_attribute_with_the_visited_states():
    model = dqn()
    own = ig_rl.wrap(model, states=STATES).explain(STATE)
    same = ig.attribute(model, STATE, states=STATES)
    assert own.values.equal(same.values)
    assert own.provenance == same.provenance
    assert own.display == same.display


def test_explain_of_a_batch_is_a_list():
    agent = ig_rl.wrap(dqn(), states=STATES)
    results = agent.explain(STATES[:3], "q", action=[0, 1, 0])
    assert [one.provenance["target"] for one in results] == [0, 1, 0]


def test_quantity_action_and_the_other_action_can_be_named():
    agent = ig_rl.wrap(dqn("Acrobot-v1"), states=np.zeros((2, 6), np.float32))
    state = np.float32([1, 0, 1, 0, 0.5, -0.5])
    assert agent.explain(state, "q", action=2).provenance["target"] == 2
    assert agent.explain(state, action=(2, 0)).provenance["target"] == (2, 0)
    assert agent.explain(state, "gap", action=1, versus=2).provenance["target"] == (1, 2)
    assert agent.explain(state, action=1, versus="runner-up").provenance["target"][0] == 1


def test_options_are_those_of_the_engine_and_of_the_domain():
    agent = ig_rl.wrap(dqn(), states=STATES, feature_names=["a", "b", "c (m)", "d"])
    found = agent.explain(STATE, rule="midpoint", steps=4, tol=0.5, action_names=["l", "r"])
    assert found.provenance["steps"] == 4
    assert found.units.labels[2].startswith("c = ")
    assert set(found.display["actions"]) == {"l", "r"}
    with pytest.raises(ig.InputError, match="no option 'colour'"):
        agent.explain(STATE, colour="red")


def test_an_array_is_a_baseline():
    model = dqn()
    there = np.full(4, 0.25, np.float32)
    own = ig_rl.wrap(model, states=STATES).explain(STATE, baseline=there)
    assert own.values.equal(ig.attribute(model, STATE, baseline=torch.tensor(there)).values)
    assert own.provenance["baseline"] == "given-state"
    mean = ig_rl.wrap(model, states=STATES).explain(STATE, baseline=[there, "zeros"])
    zero = ig_rl.wrap(model).explain(STATE, baseline="zeros")
    torch.testing.assert_close(mean.values, (own.values + zero.values) / 2, atol=1e-6, rtol=0)


def test_faithfulness_is_that_of_the_wrapped_agent():
    model, env = dqn(), gymnasium.make("CartPole-v1")
    own = ig_rl.wrap(model, env, states=STATES).faithfulness(
        seeds=range(3), count=16, checks=["flips", "planted"]
    )
    same = ig_rl.faithfulness(
        model, env, range(3), states=STATES, count=16, checks=["flips", "planted"]
    )
    assert own.to_dict() == same.to_dict()
    with pytest.raises(ig.InputError, match="faithfulness needs an environment"):
        ig_rl.wrap(model).faithfulness()


def test_reset_states_are_those_of_the_wrapped_environment():
    model, env = dqn(), gymnasium.make("CartPole-v1")
    own = ig_rl.wrap(model, env, states=STATES).explain(STATE, baseline="reset-state")
    starts = [torch.tensor(env.reset(seed=seed)[0]) for seed in range(8)]
    same = ig.attribute(model, STATE, baseline=starts)
    torch.testing.assert_close(own.values, same.values, atol=1e-7, rtol=0)
    with pytest.raises(ig.InputError, match="'reset-state' needs an environment: pass env="):
        ig_rl.wrap(model, states=STATES).explain(STATE, baseline="reset-state")


def test_a_start_is_raw_where_observations_are():
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]))
    env.obs_rms.mean, env.obs_rms.var = np.full(4, 0.5), np.full(4, 4.0)
    agent = ig_rl.wrap(ppo(env), env, states=STATES)
    there = agent.explain(STATE, "value", baseline=np.full(4, 0.5, np.float32))
    zero = agent.explain(STATE, "value", baseline="normalised-zero")
    torch.testing.assert_close(there.values, zero.values, atol=1e-6, rtol=0)


def test_a_timeline_may_start_at_each_steps_own_point():
    agent = ig_rl.wrap(dqn(), gymnasium.make("CartPole-v1"), states=STATES, dtype="float64")
    found = agent.explain_episode(baseline=lambda example: example.inputs["observation"] * 0.5)
    assert len(np.unique(found.base)) == len(found)
    np.testing.assert_allclose(found.scores.sum(1), found.outputs - found.base, atol=1e-4)
    assert f"where F is {found.base.min():.4g} to {found.base.max():.4g}" in found.to_text()


# -- where visited states are from ------------------------------------------------------------


def test_states_of_played_episodes_are_where_paths_start():
    model, env = dqn(), gymnasium.make("CartPole-v1")
    agent = ig_rl.wrap(model, env)
    states = play(model, env, visited.VISITED_SEEDS).states
    own = agent.explain(STATE)
    assert own.values.equal(ig.attribute(model, STATE, states=states).values)
    assert own.provenance["baseline"] == "visited-mean"
    assert agent.visited.source == (
        f"visited states: {len(states)} of 5 episodes with the seeds 10000 to 10004"
    )


def test_the_environment_is_played_once_and_only_when_it_is_needed(monkeypatch):
    played = []
    monkeypatch.setattr(visited, "play", lambda *a, **k: played.append(1) or play(*a, **k))
    agent = ig_rl.wrap(dqn(), gymnasium.make("CartPole-v1"))
    assert not played
    agent.explain(STATE), agent.importance(most_states=2)
    assert len(played) == 1
    ig_rl.wrap(dqn(), gymnasium.make("CartPole-v1"), states=STATES).explain(STATE)
    assert len(played) == 1


def test_states_of_the_replay_buffer_stand_in_for_an_environment():
    model = dqn(learning_starts=1000)
    model.learn(40)
    agent = ig_rl.wrap(model)
    stored = model.replay_buffer.observations[:40, 0]
    assert np.array_equal(agent.visited.states, stored)
    assert agent.visited.source == "visited states: 40 of the replay buffer, with exploration"
    assert agent.explain(STATE).values.equal(ig.attribute(model, STATE, states=stored).values)


def test_without_any_states_paths_start_at_zero_and_notes_say_so():
    agent = ig_rl.wrap(dqn())
    assert agent.visited.states is None
    assert "none known" in agent.visited.source
    assert agent.explain(STATE).provenance["baseline"] == "zeros"
    timeline = agent.explain_episode(gymnasium.make("CartPole-v1"), most_steps=2)
    assert "visited states: none known; pass env= or states= for a baseline of them" in (
        timeline.notes
    )


def test_of_many_states_some_are_kept_at_equal_distances(monkeypatch):
    monkeypatch.setattr(visited, "MOST_STATES", 3)
    agent = ig_rl.wrap(dqn(), gymnasium.make("CartPole-v1"))
    states = play(dqn(), gymnasium.make("CartPole-v1"), visited.VISITED_SEEDS).states
    chosen = np.linspace(0, len(states) - 1, 3).round().astype(int)
    assert np.array_equal(agent.visited.states, states[chosen])
    assert agent.visited.source.startswith(f"visited states: 3 of {len(states)} of 5 episodes")


# -- agents of every kind ---------------------------------------------------------------------


def normalising(training=True):
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]), training=training)
    env.obs_rms.mean = np.array([0.1, -0.2, 0.02, 0.1])
    env.obs_rms.var = np.array([0.5, 2.0, 0.03, 4.0])
    return env


@pytest.mark.parametrize("how", ["around the environment", "of the model", "given", "plain"])
def test_observations_are_raw_wherever_their_normalisation_is_from(how):
    env = normalising()
    model = ppo(env)
    model._last_obs = None
    if how != "of the model":
        model.env = None
    plain = gymnasium.make("CartPole-v1")
    by = ig_rl.Normalisation(env.obs_rms.mean.copy(), env.obs_rms.var.copy())
    agent = {
        "around the environment": lambda: ig_rl.wrap(model, env),
        "of the model": lambda: ig_rl.wrap(model, plain),
        "given": lambda: ig_rl.wrap(model, plain, vecnormalize=env),
        "plain": lambda: ig_rl.wrap(model, plain, vecnormalize=by),
    }[how]()
    found = agent.explain_episode(seed=3)
    raw = play(model, plain, [3], vecnormalize=env).episodes[0].states
    np.testing.assert_allclose(found.values, raw, atol=1e-6)
    seen = env.normalize_obs(raw)
    start = env.normalize_obs(agent.visited.states).astype(np.float64).mean(0)
    for t in (0, len(found) - 1):
        same = ig.attribute(
            model, seen[t], target=(1, 0), baseline=torch.tensor(start, dtype=torch.float32),
            vecnormalize=False,
        )  # fmt: skip
        np.testing.assert_allclose(found.scores[t], same.scores.numpy(), atol=2e-6)
    assert env.training
    assert env.obs_rms.mean.tolist() == [0.1, -0.2, 0.02, 0.1]


def test_a_normaliser_beneath_a_frame_stack_is_left_to_the_environment():
    env = VecFrameStack(normalising(), 2)
    model = ppo(env)
    agent = ig_rl.wrap(model, env)
    assert agent.vecnormalize is None
    found = agent.explain_episode(seed=3)
    assert np.array_equal(found.values, play(model, env, [3]).episodes[0].states)


def recurrent():
    return RecurrentPPO(
        "MlpLstmPolicy", "CartPole-v1", n_steps=8, batch_size=8, seed=0, device="cpu",
        policy_kwargs={"lstm_hidden_size": 4, "enable_critic_lstm": False, "shared_lstm": True},
    )  # fmt: skip


def test_a_recurrent_agent_is_explained_with_what_it_carried():
    model, env = recurrent(), gymnasium.make("CartPole-v1")
    found = ig_rl.wrap(model, env, states=STATES).explain_episode(seed=1)
    [episode] = play(model, env, [1]).episodes
    for t in (0, len(episode) - 1):
        state = tuple(part[t][:, None] for part in episode.carried)
        alone = ig.attribute(model, episode.states[t], states=STATES, target=(1, 0), state=state)
        np.testing.assert_allclose(found.scores[t], alone.scores.numpy(), atol=1e-6)
    # The agent does what the explained number says only if that is of the memory it had.
    assert np.array_equal(found.outputs > 0, found.actions == 1)


def test_an_unrolled_episode_ends_in_the_same_numbers():
    model, env = recurrent(), gymnasium.make("CartPole-v1")
    agent = ig_rl.wrap(model, env, states=STATES)
    carried = agent.explain_episode(seed=1, most_steps=6)
    batch = agent.explain(
        [play(model, env, [1]).episodes[0].states[: t + 1] for t in range(6)],
        action=(1, 0), unrolled=True,
    )  # fmt: skip
    np.testing.assert_allclose([one.at_input for one in batch], carried.outputs, atol=1e-6)


def test_an_unrolled_timeline_sums_a_feature_over_all_observations_so_far():
    """The mean of the states is not where an empty memory is left: the sums have parts of it."""
    model, env = recurrent(), gymnasium.make("CartPole-v1")
    agent = ig_rl.wrap(model, env, states=STATES, unrolled=True, dtype="float64")
    found = agent.explain_episode(seed=1, most_steps=5, tol=1e-6)
    states = play(model, env, [1]).episodes[0].states
    assert found.names == ["cart position", "cart velocity", "pole angle", "pole angular velocity"]
    np.testing.assert_array_equal(found.values, states[:5])
    for t in (0, 4):
        alone = agent.explain(states[: t + 1], action=(1, 0), tol=1e-6)
        each = alone.values.reshape(t + 1, 4)
        np.testing.assert_allclose(found.scores[t], each.sum(0), atol=1e-12)
    np.testing.assert_allclose(found.scores.sum(1), found.outputs - found.base, atol=1e-6)
    assert "unrolled: scores are sums over all observations so far" in found.notes
    assert json.loads(json.dumps(found.to_dict()))["names"] == found.names


def test_features_of_one_name_stay_apart():
    agent = ig_rl.wrap(dqn(), feature_names=["a", "a", "b", "b"], states=STATES)
    found = agent.explain(STATES[0])
    assert found.by("feature").units.labels == ("a", "a", "b", "b")
    torch.testing.assert_close(found.by("feature").scores, found.scores)


def test_states_without_a_memory_are_said_to_be():
    found = ig_rl.wrap(recurrent(), states=STATES).importance(most_states=4)
    assert "an empty memory is assumed in every state" in found.notes


def test_a_continuous_agent_has_its_action_explained_too():
    kwargs = {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 10, "seed": 0, "device": "cpu"}
    model = SAC("MlpPolicy", "Pendulum-v1", **kwargs)
    agent = ig_rl.wrap(model, gymnasium.make("Pendulum-v1"))
    found = agent.explain_episode(target="q", most_steps=5)
    assert len(found.names) == 4
    np.testing.assert_allclose(found.values[:, 3], found.actions[:, 0], atol=1e-5)
    np.testing.assert_allclose(found.scores.sum(1), found.outputs - found.base, atol=1e-4)
    given = agent.explain(agent.visited.states[:2], "q", action=np.float32([0.5]))
    assert [one.display["values"][3] for one in given] == [0.5, 0.5]
    assert agent.importance(target="q", most_states=8).per_action == {}


def test_a_function_of_plain_torch_plays_its_greedy_action():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    env = gymnasium.make("CartPole-v1")
    model = ig_rl.Functions(net, observation_space=env.observation_space, actions=2)
    agent = ig_rl.wrap(model, env)
    found = agent.explain_episode()
    best = net(torch.tensor(found.values, dtype=torch.float32)).argmax(1)
    assert found.actions.tolist() == best.tolist()
    assert found.baseline == "visited-mean"
    assert sum(part.count for part in agent.importance().per_action.values()) == len(
        agent.visited.states
    )
    vector = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")])
    again = agent.explain_episode(vector)
    assert again.actions.tolist() == found.actions.tolist()


def test_in_double_precision_episodes_are_complete_to_the_last_digits():
    model = dqn()
    agent = ig_rl.wrap(model, gymnasium.make("CartPole-v1"), states=STATES, dtype="float64")
    found = agent.explain_episode(tol=1e-9)
    np.testing.assert_allclose(found.scores.sum(1), found.outputs - found.base, atol=1e-10)
    assert next(model.policy.parameters()).dtype == torch.float32


# -- what stays as it was ---------------------------------------------------------------------


def test_agent_environment_and_random_states_stay_as_they_were():
    model, env = dqn(), gymnasium.make("CartPole-v1")
    env.reset(seed=1)
    model.policy.set_training_mode(True)
    flags = [module.training for module in model.policy.modules()]
    torch.manual_seed(11), np.random.seed(12), random.seed(13)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    state, weights = env.unwrapped.state.copy(), [p.clone() for p in model.policy.parameters()]
    agent = ig_rl.wrap(model, env)
    agent.explain_episode(), agent.importance(), agent.baseline_agreement()
    assert np.array_equal(env.unwrapped.state, state)
    assert [module.training for module in model.policy.modules()] == flags
    assert all(a.equal(b) for a, b in zip(model.policy.parameters(), weights, strict=True))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2]


def test_the_target_network_is_never_run():
    model = dqn()

    def refuse(*_):
        raise AssertionError("the target network was run")

    for module in model.q_net_target.modules():
        module.register_forward_pre_hook(refuse)
    agent = ig_rl.wrap(model, gymnasium.make("CartPole-v1"))
    agent.explain_episode(), agent.importance()


# -- what the environment tells --------------------------------------------------------------


def loaded(model, path):
    """The agent as it comes from a file: without an environment of its own."""
    model.save(path / "agent.zip")
    found = type(model).load(path / "agent.zip", device="cpu")
    assert found.get_env() is None
    return found


@pytest.mark.parametrize("vectorised", [False, True])
def test_a_loaded_agent_has_the_names_of_the_environment_that_is_given(tmp_path, vectorised):
    env = gymnasium.make("CartPole-v1")
    model = loaded(dqn(), tmp_path)
    agent = ig_rl.wrap(model, DummyVecEnv([lambda: env]) if vectorised else env, states=STATES)
    found = agent.explain(STATE, action=1, versus=0)
    assert found.display["names"][2] == "pole angle"
    assert found.units.labels[2].endswith(" rad")
    assert found.display["actions"] == ["right", "left"]
    checked = ig_rl.faithfulness(model, env, [0], states=STATES, count=2, checks=["frozen"])
    assert checked.frozen.names[2].startswith("pole angle")


def test_elements_of_a_loaded_agents_action_have_their_names(tmp_path):
    options = {"net_arch": [8]}
    model = SAC("MlpPolicy", "Pendulum-v1", policy_kwargs=options, buffer_size=10, device="cpu")
    agent = ig_rl.wrap(loaded(model, tmp_path), gymnasium.make("Pendulum-v1"), states=np.eye(3))
    names = agent.explain(np.eye(3, dtype=np.float32)[0]).display["names"]
    assert names == ["cos of angle", "sin of angle", "angular velocity", "torque"]


def test_frames_of_a_loaded_agent_are_those_of_the_environment_that_is_given(tmp_path):
    env = VecFrameStack(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]), 2)
    agent = ig_rl.wrap(loaded(ppo(env), tmp_path), env, states=np.zeros((2, 8)))
    names = agent.explain(np.zeros(8, np.float32)).display["names"]
    assert [names[2], names[6]] == ["pole angle, 1 step ago", "pole angle"]


class Screens(gymnasium.Env):
    """Pictures of one grey value."""

    observation_space = gymnasium.spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full((36, 36, 1), 100, np.uint8), {}

    def step(self, action):
        return np.full((36, 36, 1), 100, np.uint8), 0.0, False, True, {}


def test_frames_of_images_stay_apart_for_a_loaded_agent(tmp_path):
    env = VecFrameStack(DummyVecEnv([Screens]), 3)
    model = DQN("CnnPolicy", env, buffer_size=1, device="cpu", seed=0)
    screen = np.zeros((3, 36, 36), np.uint8)
    found = ig_rl.wrap(loaded(model, tmp_path), env, states=screen[None]).explain(screen)
    assert found.display["image"]["frames"] == 3
    assert len(found.units) == 3 * 36 * 36


# -- what cannot be asked ---------------------------------------------------------------------


def test_an_episode_needs_an_environment():
    with pytest.raises(ig.InputError, match="explain_episode needs an environment: pass env="):
        ig_rl.wrap(dqn(), states=STATES).explain_episode()


def test_an_environment_of_another_agent_is_refused():
    with pytest.raises(ig.InputError, match="play the environment that it was trained in"):
        ig_rl.wrap(dqn(), gymnasium.make("Acrobot-v1"))
    with pytest.raises(ig.InputError, match="play the environment that it was trained in"):
        ig_rl.wrap(dqn()).explain_episode(gymnasium.make("Acrobot-v1"))


def test_options_that_no_agent_has_are_refused_with_the_ones_it_has():
    with pytest.raises(ig.UnknownNameError, match="colour"):
        ig_rl.wrap(dqn(), colour="red")
    with pytest.raises(ig.UnknownNameError, match="explain"):
        ig_rl.wrap(dqn(), explain="q")


def test_a_pair_of_actions_of_a_continuous_agent_is_refused():
    agent = ig_rl.wrap(ppo("Pendulum-v1"), gymnasium.make("Pendulum-v1"))
    with pytest.raises(ig.TargetError, match="no target"):
        agent.explain_episode(action=(1, 0), most_steps=2)
    with pytest.raises(ig.InputError, match="versus= belongs to target='gap'"):
        agent.explain_episode(versus=0, most_steps=2)


@pytest.mark.parametrize("bad", [7, -1, 0.5, "up"])
def test_an_action_that_the_agent_does_not_have_is_refused(bad):
    agent = ig_rl.wrap(dqn(), gymnasium.make("CartPole-v1"), states=STATES)
    with pytest.raises(ig.InputError):
        agent.explain_episode(action=(bad, 0), most_steps=2)
    with pytest.raises(ig.InputError):
        agent.explain_episode(versus=bad, most_steps=2)


def test_an_endless_environment_is_not_waited_for_to_know_what_is_visited(monkeypatch):
    from ig_rl.episodes import visited

    monkeypatch.setattr(visited, "MOST_VISITED", 7)
    env = gymnasium.make("Pendulum-v1", max_episode_steps=10**9)
    model = PPO("MlpPolicy", env, device="cpu", seed=0)
    agent = ig_rl.wrap(model, env)
    assert len(agent.visited.states) == 5 * 7
    assert "5 of 5 episodes were cut after 7 steps" in agent.visited.source


def refused(call, *told):
    with pytest.raises(ig.InputError) as caught:
        call()
    for part in told:
        assert part in str(caught.value)


def test_what_is_no_agent_with_its_environment_is_refused_when_it_is_wrapped():
    model, env = dqn(), gymnasium.make("CartPole-v1")
    refused(lambda: ig_rl.wrap("w/dqn.zip", env), "DQN.load(path)", "ig_rl.load")
    refused(lambda: ig_rl.wrap(torch.nn.Linear(4, 2), env), "ig_rl.Functions")
    refused(lambda: ig_rl.wrap(env, model), "the agent comes first: wrap(model, env)")
    refused(lambda: ig_rl.wrap(model, "CartPole-v1"), "gymnasium.make('CartPole-v1')")
    refused(lambda: ig_rl.wrap(model, STATES), "observations go to states=")
    refused(lambda: ig_rl.wrap(model, states=env), "say env= instead")
    refused(lambda: ig_rl.wrap(model, env, vecnormalize=True), "no VecNormalize")


def test_actions_are_accepted_by_name():
    agent = ig_rl.wrap(dqn(), gymnasium.make("CartPole-v1"), states=STATES)
    for options in ({"action": ("right", "left")}, {"action": "right", "versus": "left"}):
        assert agent.explain(STATE, **options).provenance["target"] == (1, 0)
        episode = agent.explain_episode(most_steps=2, **options)
        assert list(episode.pair) == [1, 0]
    assert agent.explain(STATE, "q", action=np.array([1])).provenance["target"] == 1
    assert ig.attribute(dqn(), STATE, explain="q", target="left").provenance["target"] == 0
    refused(lambda: agent.explain(STATE, action="lft"), "no action is called 'lft'", "'left'?")
    refused(lambda: agent.explain(STATE, versus="lft"), "called 'lft'; did you mean 'left'?")


def test_elements_of_actions_are_accepted_by_name():
    agent = ig_rl.wrap(ppo("Pendulum-v1"), states=np.eye(3), action_names=["torque (N m)"])
    state = np.eye(3, dtype=np.float32)[0]
    assert agent.explain(state, "action", action="torque").provenance["target"] == 0


def test_errors_say_what_the_arguments_are_called_here():
    agent = ig_rl.wrap(dqn(), states=STATES)
    refused(lambda: agent.explain(STATE, target=0), "say action=0")
    refused(lambda: agent.explain(STATE, action=(1, 1)), "as in action=(1, 0)")
    refused(lambda: agent.explain(STATE, action="q"), "say target='q'")
    refused(lambda: ig.attribute(agent.model, STATE, target="q"), "say explain='q'")
    refused(lambda: ig.attribute(agent.model, STATE, target=(1, 1)), "as in target=(1, 0)")


def test_visited_states_can_be_given_as_they_are():
    agent = ig_rl.wrap(dqn(), states=STATES)
    own = agent.explain(STATE)
    assert ig.attribute(agent.model, STATE, states=agent.visited).values.equal(own.values)
    again = ig_rl.wrap(agent.model, states=agent.visited)
    assert again.explain(STATE).values.equal(own.values)
    assert np.array_equal(agent.importance(agent.visited).scores, agent.importance().scores)


def test_misspelt_options_are_refused_with_those_that_there_are():
    agent = ig_rl.wrap(dqn(), gymnasium.make("CartPole-v1"), states=STATES)
    refused(lambda: agent.explain_episode(max_steps=3), "did you mean 'most_steps'?")
    refused(lambda: agent.importance(n=3), "most_states")
    refused(lambda: agent.faithfulness(n=3), "checks")


def test_one_number_is_the_action_of_one_element():
    model = SAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, buffer_size=10)
    state = np.eye(3, dtype=np.float32)[0]
    agent = ig_rl.wrap(model, states=np.eye(3))
    one, same = (agent.explain(state, action=given) for given in (1.5, [1.5]))
    assert one.scores.equal(same.scores)


def test_a_wrapped_agent_is_written_shortly():
    assert repr(ig_rl.wrap(dqn(), gymnasium.make("CartPole-v1"))) == "ig_rl.wrap(DQN, CartPole-v1)"
