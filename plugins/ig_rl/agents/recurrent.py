"""Agents with a memory: RecurrentPPO, whose LSTM carries a state from step to step."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ig_core import InputError
from ig_rl.agents.actor_critic import StochasticActor
from ig_rl.agents.agent import Observation, Point, State


class RecurrentActorCritic(StochasticActor):
    """RecurrentPPO: actor and critic of one observation and of the state carried so far.

    The state is the context of an observation and stays where it is. Where all observations of
    the episode so far move together (``Point.lengths``), the memory starts empty and is unrolled
    over them. A critic with an LSTM of its own carries its own state, which ``predict`` does not
    give; a shared LSTM is differentiated here, which Stable-Baselines3 does not.
    """

    recurrent = True

    def carried(self, state: Any) -> State:
        """The actor's hidden and cell states, then the critic's if it has its own.

        ``state`` is what ``predict`` gives (the actor's), what ``policy.forward`` gives (both),
        or None at the start of an episode.
        """
        layers, _, hidden = self.policy.lstm_hidden_state_shape
        both = self.policy.lstm_critic is not None
        if state is None:
            return tuple(torch.zeros(layers, hidden) for _ in range(4 if both else 2))
        try:
            flat = [torch.as_tensor(one) for one in _flat(state)]
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(_unlike(layers, hidden, type(state).__name__)) from error
        flat = [one[:, 0] if one.dim() == 3 and one.shape[1] == 1 else one for one in flat]
        if len(flat) not in (2, 4) or any(tuple(one.shape) != (layers, hidden) for one in flat):
            raise InputError(_unlike(layers, hidden, f"shapes {[tuple(s.shape) for s in flat]}"))
        return tuple(flat if both else flat[:2])

    def after(self, point: Point) -> tuple[Float[Tensor, "rows layers hidden"], ...]:
        policy, state = self.policy, self._given(point)
        _, carried = _step(policy.lstm_actor, policy.pi_features_extractor(point.seen), state[:2])
        if policy.lstm_critic is not None and len(state) == 4:
            features = policy.vf_features_extractor(point.seen)
            carried += _step(policy.lstm_critic, features, state[2:])[1]
        return carried

    def along(self, episode: Observation) -> tuple[Float[Tensor, "steps layers hidden"], ...]:
        steps = []
        state = self._given(Point(_step_of(episode, 0)))
        for step in range(Point(episode).rows):
            steps.append(state)
            state = self.after(Point(_step_of(episode, step), state=state))
        return tuple(torch.cat(part) for part in zip(*steps, strict=True))

    def for_actor(self, point: Point) -> Float[Tensor, "rows features"]:
        return self._remembered(self.policy.lstm_actor, self.policy.pi_features_extractor, point, 0)

    def for_critic(self, point: Point) -> Float[Tensor, "rows features"]:
        policy = self.policy
        extractor = policy.vf_features_extractor
        if policy.lstm_critic is not None:
            return self._remembered(policy.lstm_critic, extractor, point, 2)
        if policy.shared_lstm:
            return self._remembered(policy.lstm_actor, extractor, point, 0)
        now = point.seen if point.lengths is None else _last(point.seen, point)
        features: Tensor = policy.critic(extractor(now))
        return features

    def _remembered(
        self, lstm: Any, extractor: Any, point: Point, first: int
    ) -> Float[Tensor, "rows hidden"]:
        """The output of an LSTM whose state is at that place of the point's."""
        if point.lengths is None:
            state = self._given(point)[first : first + 2]
            if not state:
                raise InputError(
                    "this policy's critic has an LSTM of its own, and predict() gives only the "
                    "actor's state; pass the RNNStates that policy.forward gives, or unroll the "
                    "episode so far"
                )
            return _step(lstm, extractor(point.seen), state)[0]
        flat, rows, steps = _together(point.seen)
        features = extractor(flat).view(rows, steps, -1).transpose(0, 1)
        with _differentiable(features):
            output: Tensor = lstm(features)[0]
        return output[point.lengths.to(output.device) - 1, torch.arange(rows, device=output.device)]

    def _given(self, point: Point) -> tuple[Tensor, ...]:
        if point.state is not None:
            return point.state
        return tuple(
            s.to(self.device, self.dtype).expand(point.rows, *s.shape) for s in self.carried(None)
        )


def _step(
    lstm: Any, features: Float[Tensor, "rows features"], state: tuple[Tensor, ...]
) -> tuple[Float[Tensor, "rows hidden"], tuple[Tensor, ...]]:
    """One step of an LSTM: its output, and what it carries on."""
    hidden, cell = (one.to(features).transpose(0, 1).contiguous() for one in state)
    with _differentiable(features):
        output, carried = lstm(features[None], (hidden, cell))
    return output[0], tuple(one.transpose(0, 1) for one in carried)


def _differentiable(features: Tensor) -> AbstractContextManager[Any]:
    """cuDNN refuses the backward pass of an LSTM in evaluation mode; torch's own kernels do not."""
    return torch.backends.cudnn.flags(enabled=False) if features.is_cuda else nullcontext()


def _step_of(episode: Observation, step: int) -> Observation:
    """One observation of an episode, as one row."""
    if isinstance(episode, dict):
        return {key: value[step : step + 1] for key, value in episode.items()}
    return episode[step : step + 1]


def _together(observation: Observation) -> tuple[Observation, int, int]:
    """Rows of episodes as rows of observations; how many of either there are."""
    if isinstance(observation, dict):
        rows, steps = next(iter(observation.values())).shape[:2]
        return {key: value.flatten(0, 1) for key, value in observation.items()}, rows, steps
    return observation.flatten(0, 1), *observation.shape[:2]


def _last(observation: Observation, point: Point) -> Observation:
    """The last observation of every row's episode."""
    if isinstance(observation, dict):
        return {key: _last(value, point) for key, value in observation.items()}  # type: ignore[misc]
    assert point.lengths is not None
    rows = torch.arange(len(observation), device=observation.device)
    return observation[rows, point.lengths.to(observation.device) - 1]


def _flat(state: Any) -> list[Any]:
    """Nested pairs of states as one list."""
    if not isinstance(state, (tuple, list)):
        return [state]
    return [one for part in state for one in _flat(part)]


def _unlike(layers: int, hidden: int, got: str) -> str:
    return (
        "the state of this agent is the pair (hidden, cell) that predict() gives, or RNNStates of "
        f"actor and critic, of arrays ({layers}, 1, {hidden}) (got {got})"
    )
