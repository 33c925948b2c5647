"""Families of agents, told apart by their policy."""

from __future__ import annotations

from typing import Any

from torch.nn import Module, UninitializedParameter

from ig_core import InputError
from ig_rl.agents.actor_critic import ActorCritic
from ig_rl.agents.agent import Agent, Observation, Point, State
from ig_rl.agents.critic import ContinuousCritic, DeterministicActor, QuantileCritics, SoftActor
from ig_rl.agents.functions import Functions
from ig_rl.agents.q import DeepQ, QuantileQ
from ig_rl.agents.recurrent import RecurrentActorCritic

__all__ = [
    "ActorCritic",
    "Agent",
    "ContinuousCritic",
    "DeepQ",
    "DeterministicActor",
    "Functions",
    "Observation",
    "Point",
    "QuantileCritics",
    "QuantileQ",
    "RecurrentActorCritic",
    "SoftActor",
    "State",
    "agent_of",
    "policy_of",
]

FAMILIES: dict[str, type[Agent]] = {
    "sb3_contrib.common.maskable.policies.MaskableActorCriticPolicy": ActorCritic,
    "sb3_contrib.common.recurrent.policies.RecurrentActorCriticPolicy": RecurrentActorCritic,
    "sb3_contrib.crossq.policies.CrossQPolicy": SoftActor,
    "sb3_contrib.qrdqn.policies.QRDQNPolicy": QuantileQ,
    "sb3_contrib.tqc.policies.TQCPolicy": QuantileCritics,
    "stable_baselines3.common.policies.ActorCriticPolicy": ActorCritic,
    "stable_baselines3.dqn.policies.DQNPolicy": DeepQ,
    "stable_baselines3.sac.policies.SACPolicy": SoftActor,
    "stable_baselines3.td3.policies.TD3Policy": DeterministicActor,
}
"""The family of every policy class; names, as nothing is imported to compare with."""

FRAMEWORKS = ("sb3_contrib", "stable_baselines3")

COVERED = (
    "DQN, PPO, A2C, SAC, TD3 and DDPG of stable_baselines3 and QRDQN, RecurrentPPO, MaskablePPO, "
    "TRPO, TQC and CrossQ of sb3_contrib, or their policies"
)


OTHERWISE = "else explain this agent through two callables, ig_rl.Functions(scores=..., value=...)"


def agent_of(model: Any) -> Agent:
    """The agent of a Stable-Baselines3 model, or of a policy alone.

    Raises:
        InputError: its policy is of none of the families above.
    """
    if isinstance(model, Agent):
        return model
    policy = policy_of(model)
    for base in type(policy).__mro__:
        family = FAMILIES.get(f"{base.__module__}.{base.__qualname__}")
        if family is not None:
            _check_ready(policy)
            agent = family(policy)
            _check_methods(agent)
            return agent
    raise InputError(
        f"the rl domain explains {COVERED} (got {type(model).__module__}."
        f"{type(model).__qualname__}{_with(policy) if policy is not model else ''}); any other "
        "network can be explained through two callables, ig_rl.Functions(scores=..., value=...)"
    )


def policy_of(model: Any) -> Any:
    """The policy of a model; what is no model is a policy, or nothing that is known here."""
    return getattr(model, "__dict__", {}).get("policy", model)


def _check_ready(policy: Any) -> None:
    """Refuse networks that have no numbers yet, or none at all."""
    for name, parameter in policy.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise InputError(
                f"the policy's {name} is a lazy module that has not seen any input yet; call "
                "model.predict(observation) once"
            )
        if parameter.is_meta:
            raise InputError(
                f"the policy's {name} is on the device 'meta', which holds no numbers; load the "
                "weights first"
            )


def _check_methods(agent: Agent) -> None:
    """Refuse policies that compute in their own way what is computed here instead."""
    for part, methods in agent.bypassed.items():
        owner = getattr(agent.policy, part) if part else agent.policy
        kind = type(owner)
        for name in methods:
            method = vars(owner).get(name, getattr(kind, name, None))
            where = getattr(method, "__module__", "") or ""
            if method is not None and where.split(".")[0] not in FRAMEWORKS:
                raise InputError(
                    f"{kind.__qualname__}.{name} is written in {where} and may compute "
                    f"something else than Stable-Baselines3's; {OTHERWISE}"
                )
        if (
            part
            and isinstance(owner, Module)
            and (owner._forward_hooks or owner._forward_pre_hooks)
        ):
            raise InputError(
                f"the policy's {part} has forward hooks, which would not run here: what they "
                f"change would be left out; remove them, or hook a module inside; {OTHERWISE}"
            )


def _with(policy: Any) -> str:
    return f" with {type(policy).__module__}.{type(policy).__qualname__}"
