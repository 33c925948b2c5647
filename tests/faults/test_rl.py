"""Agents, observations and environments that surprise: a named error or the right numbers."""

import copy
import random
import re
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import SubprocVecEnv
from torch import Tensor, nn

import ig_core as ig
import ig_rl

STATE = np.array([0.1, 0.2, -0.3], dtype=np.float32)
BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)


class World(gymnasium.Env):
    """Five steps through observations that are drawn at random."""

    def __init__(self, observations: Any = BOX, actions: Any = None, **options: Any) -> None:
        self.observation_space = copy.deepcopy(observations)
        self.action_space = spaces.Discrete(2) if actions is None else actions
        self.render_mode = options.get("render_mode")

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        self.t = 0
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        return self.observation_space.sample(), 1.0, self.t >= 5, False, {}


class Extractor(BaseFeaturesExtractor):
    """A linear layer, and what a surprise does with its input."""

    def __init__(self, space: Any) -> None:
        super().__init__(space, 3)
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class InPlace(Extractor):
    """Scales what it is given where it lies, as ``x /= 255`` does."""

    def forward(self, x: Tensor) -> Tensor:
        x *= 2
        return self.layer(x)


class Counting(Extractor):
    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x)


class Normalising(Extractor):
    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.norm(x))


class Lazy(Extractor):
    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.layer = nn.LazyLinear(3)


def agent(family: Any = DQN, env: Any = None, extractor: Any = Extractor, **options: Any) -> Any:
    if family is SAC and env is None:
        env = World(actions=spaces.Box(-1.0, 1.0, (2,), np.float32))
    env = World() if env is None else env
    own = {"n_steps": 8, "batch_size": 8} if family is PPO else {"buffer_size": 20}
    kwargs = {"net_arch": [8], **options}
    if extractor is not None:
        kwargs["features_extractor_class"] = extractor
    return family("MlpPolicy", env, policy_kwargs=kwargs, seed=0, device="cpu", **own)


def states(count: int = 12) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)


def found(model: Any) -> dict[str, Any]:
    """All there is to a model and to the process that a call could change."""
    policy = model.policy
    told: dict[str, Any] = {
        "flags": [module.training for module in policy.modules()],
        "hooks": [dict(module._forward_pre_hooks) for module in policy.modules()],
        "frozen": [p.requires_grad for p in policy.parameters()],
        "grads": [None if p.grad is None else p.grad.tolist() for p in policy.parameters()],
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),
        "python": random.getstate(),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
    }
    return told | {name: value.tolist() for name, value in policy.state_dict().items()}


def refused(told: str, model: Any, raw: Any = STATE, **options: Any) -> None:
    with pytest.raises(ig.InputError, match=re.compile(told, re.DOTALL)):
        ig.attribute(model, raw, **options)


# -- observations -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (torch.ones(3, dtype=torch.cfloat), "complex64"),
        (torch.ones(3).to_sparse(), "layout torch.sparse_coo"),
        (torch.ones(3, device="meta"), "'meta', which holds no numbers"),
        (np.ma.array(STATE, mask=[1, 0, 0]), "MaskedArray"),
        (np.array([1, 2, 3], object), "ndarray of object"),
        (np.array(["a", "b", "c"]), "ndarray of <U1"),
        ([0.1, 0.2, -0.3], "float.*a list is a batch"),
        ((STATE, {}), r"env.reset\(\) gives \(observation, info\)"),
    ],
    ids=["complex", "sparse", "meta", "masked", "object", "words", "list", "tuple"],
)
def test_what_holds_no_plain_numbers_is_refused(raw: Any, told: str) -> None:
    refused(r"a tensor or an array of numbers \(got .*" + told, agent(), raw)


@pytest.mark.parametrize("dtype", [">f4", ">i2", np.longdouble, np.float16])
def test_numbers_of_any_precision_and_byte_order_are_the_same_numbers(dtype: Any) -> None:
    raw = np.array([1, 2, -3])
    model = agent()
    wanted = ig.attribute(model, raw.astype(np.float32)).scores
    assert torch.equal(ig.attribute(model, raw.astype(dtype)).scores, wanted)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_an_empty_dictionary_of_observations_is_refused() -> None:
    env = World(spaces.Dict())
    model = DQN("MultiInputPolicy", env, buffer_size=20, device="cpu")
    refused("no parts: its Dict space is empty", model, {})


# -- networks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [STATE, torch.tensor(STATE)], ids=["array", "tensor"])
def test_networks_that_write_into_their_input_are_explained_at_the_users_numbers(
    given: Any,
) -> None:
    model = agent(extractor=InPlace)
    with torch.no_grad():
        own = model.q_net(torch.tensor(STATE)[None]).flatten()
    result = ig.attribute(model, given, explain="q", target=1)
    assert result.at_input == pytest.approx(float(own[1]), abs=1e-6)
    assert result.display["values"] == pytest.approx(STATE.tolist())
    assert np.asarray(given).tolist() == STATE.tolist()
    assert ig.attribute(model, given).display["pair"][0] == int(own.argmax())


def test_actors_and_critics_that_write_into_their_input_see_the_same_observation() -> None:
    model = agent(SAC, extractor=InPlace)
    with torch.no_grad():
        action = model.actor(torch.tensor(STATE)[None], deterministic=True)
        own = min(float(q) for q in model.critic(torch.tensor(STATE)[None], action))
    visited = torch.tensor(states())
    before = visited.clone()
    for explain in ("q", "value"):
        result = ig.attribute(model, STATE, explain=explain, states=visited)
        assert result.at_input == pytest.approx(own, abs=1e-6)
    assert torch.equal(visited, before)


def test_networks_without_numbers_are_refused() -> None:
    refused("lazy module.*model.predict", agent(extractor=Lazy))
    model = agent()
    model.policy.to("meta")
    refused("device 'meta'", model)


def test_hooks_that_would_not_run_are_refused() -> None:
    model = agent()
    handle = model.policy.q_net.register_forward_hook(lambda module, args, out: 2 * out)
    refused("q_net has forward hooks.*ig_rl.Functions", model)
    handle.remove()
    inside = model.policy.q_net.q_net.register_forward_hook(lambda module, args, out: 2 * out)
    with torch.no_grad():
        own = float(model.q_net(torch.tensor(STATE)[None])[0, 1])
    result = ig.attribute(model, STATE, explain="q", target=1)
    assert result.at_input == pytest.approx(own, abs=1e-6)
    inside.remove()
    model.policy.q_net.forward = lambda x: torch.zeros(len(x), 2)
    refused("QNetwork.forward is written in", model)


@pytest.mark.parametrize("extractor", [Extractor, Counting, Normalising])
@pytest.mark.parametrize("family", [DQN, PPO, SAC])
def test_every_question_leaves_the_agent_and_the_process_as_they_were(
    family: Any, extractor: Any
) -> None:
    model = agent(family, extractor=extractor)
    env = World(actions=model.action_space)
    for parameter in model.policy.parameters():
        parameter.grad = torch.ones_like(parameter)
    model.policy.train()
    before, wrapped = found(model), ig_rl.wrap(model, env)
    wrapped.explain(STATE)
    wrapped.explain_episode(seed=1)
    wrapped.importance()
    ig_rl.frozen(model, env, [0], states=states())
    ig_rl.faithfulness(model, env, [0], checks=("randomised", "frozen"))
    assert found(model) == before


# -- environments -------------------------------------------------------------------------------


class Rude(World):
    """An environment that changes the process, or shows and paints what it should not."""

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__(**options)
        self.kind = kind

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        seen, *rest = super().step(action)
        if self.kind == "process":
            np.random.seed(0)
            random.seed(0)
            torch.manual_seed(0)
            torch.set_grad_enabled(False)
            torch.set_default_dtype(torch.float64)
        if self.kind == "nan" and self.t == 3:
            seen[1] = np.nan
        if self.kind == "interrupt" and self.t == 3:
            raise KeyboardInterrupt
        return seen, *rest

    def render(self) -> np.ndarray:
        size = {"growing": 8 + self.t, "nothing": 0}.get(self.kind, 8)
        return np.zeros((size, 8, 3), np.uint8)


def test_an_environment_that_changes_the_process_leaves_it_as_it_was() -> None:
    model = agent()
    before = found(model)
    ig_rl.wrap(model, Rude("process")).explain_episode()
    assert found(model) == before


def test_an_interrupted_episode_leaves_everything_as_it_was() -> None:
    model = agent(extractor=Normalising)
    model.policy.train()
    before = found(model)
    with pytest.raises(KeyboardInterrupt):
        ig_rl.wrap(model, Rude("interrupt")).explain_episode()
    assert found(model) == before


def test_an_observation_of_nan_is_told_with_its_step() -> None:
    with pytest.raises(ig.InputError, match="showed NaN or infinity before step 3 in the episode"):
        ig_rl.wrap(agent(), Rude("nan"), states=states()).explain_episode(seed=4)


@pytest.mark.parametrize(
    ("kind", "told"), [("growing", r"one size \(got \(9, 8, 3\) at step 1"), ("nothing", "uint8")]
)
def test_pictures_are_of_one_size(kind: str, told: str) -> None:
    env = Rude(kind, render_mode="rgb_array")
    with pytest.raises(ig.InputError, match=told):
        ig_rl.wrap(agent(), env, states=states()).explain_episode(render=True)


def test_environments_in_other_processes_stay_connected() -> None:
    env = SubprocVecEnv([World, World], start_method="fork")
    try:
        timeline = ig_rl.wrap(agent(env=env), env, states=states()).explain_episode()
        assert any("in another process" in note for note in timeline.notes)
        assert env.reset().shape == (2, 3)
    finally:
        env.close()


def test_a_monitor_writes_nothing_of_what_copies_play(tmp_path: Any) -> None:
    env = Monitor(World(), str(tmp_path / "training"))
    timeline = ig_rl.wrap(agent(), env, states=states()).explain_episode()
    assert timeline.notes == ["visited states: those given"]
    assert len((tmp_path / "training.monitor.csv").read_text().splitlines()) == 2
    env.close()


@pytest.mark.parametrize("family", [PPO, SAC])
def test_actions_in_several_dimensions_are_written_in_a_row(family: Any) -> None:
    env = World(actions=spaces.Box(-1.0, 1.0, (2, 2), np.float32))
    options = {"target": "value"}
    timeline = ig_rl.wrap(agent(family, env), env, states=states()).explain_episode(**options)
    flat = ", ".join(f"{part:+.3g}" for part in timeline.actions[0].flatten())
    assert timeline.action(0) == f"[{flat}]"
    assert "[" in timeline.to_text()


# -- findings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [5, iter(states()), {}], ids=["number", "iterator", "empty"])
def test_states_of_a_finding_are_a_batch(given: Any) -> None:
    with pytest.raises(ig.InputError, match=r"states must be a batch|at least one state"):
        ig_rl.wrap(agent()).importance(given)


@pytest.mark.parametrize("resamples", [0, -1, 1.5, "many", True])
def test_resamples_are_a_whole_number(resamples: Any) -> None:
    with pytest.raises(ig.InputError, match="resamples must be a whole number of at least 1"):
        ig_rl.wrap(agent(), states=states()).importance(resamples=resamples)


def test_seeds_are_a_collection() -> None:
    with pytest.raises(ig.InputError, match=r"such as range\(20\) \(got 3\)"):
        ig_rl.faithfulness(agent(), World(), 3)
    with pytest.raises(ig.InputError, match=r"such as range\(20\) \(got 3\)"):
        ig_rl.frozen(agent(), World(), 3, states=states())


@pytest.mark.parametrize(
    ("mean", "var"),
    [("a", "b"), ([[0.0], [1.0, 2.0]], [1.0]), ([0.0], [np.inf])],
    ids=["words", "ragged", "infinite"],
)
def test_statistics_of_a_normalisation_are_finite_numbers(mean: Any, var: Any) -> None:
    with pytest.raises(ig.InputError, match="mean and var of a Normalisation"):
        ig_rl.Normalisation(mean, var)
