"""Agents of the benchmark: what they learned, and that their attributions are complete."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import ig_core as ig
from ig_rl.cases import CASES, cartpole, cartpole_dqn, cost_to_go, lqr_critic

# -- what all have in common ----------------------------------------------------------------------


def test_the_cases_are_registered():
    found = {case.name: case for case in ig.plugins().all("case")}
    assert all(found[case.name] is case for case in CASES)


def test_every_real_case_has_a_licence_and_a_source():
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.licence and case.source for case in CASES if case.real)


# -- training -------------------------------------------------------------------------------------


def test_an_agent_that_did_not_learn_is_refused(tmp_path):
    short = replace(cartpole.RECIPE_DQN, steps=1200, check_every=1200)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with pytest.raises(ig.ModelError, match=r"DQN trained on CartPole .*at least 150"):
        short.trained(tmp_path / "agent.safetensors")
    assert not (tmp_path / "agent.safetensors").exists()
    assert torch.get_num_threads() == threads
    assert torch.get_rng_state().equal(state)


# -- agents ---------------------------------------------------------------------------------------


@pytest.mark.real
def test_cartpole_dqn_is_good_and_its_gaps_are_complete(request):
    loaded = cartpole_dqn(request.config.cache.mkdir("ig_rl"))
    assert loaded.facts["mean return of 10 episodes"] >= 150
    assert len(loaded.inputs) == 16
    options = {**loaded.options, "budget": 16_384}
    results = ig.attribute(loaded.model, loaded.inputs, **options)
    fine = ig.attribute(loaded.model, loaded.inputs, rule="midpoint", steps=20_000, **options)
    for result, exact in zip(results, fine, strict=True):
        size = float(exact.scores.abs().sum())
        assert result.converged
        assert abs(result.residual) <= 1e-2 * size
        assert float((result.scores - exact.scores).abs().sum()) <= 1e-2 * size


# -- a critic in closed form ----------------------------------------------------------------------


def test_lqr_critic_gets_its_closed_form(tmp_path):
    loaded = lqr_critic(tmp_path)
    H = cost_to_go()
    for state, result in zip(loaded.inputs, ig.attribute(loaded.model, loaded.inputs), strict=True):
        torch.testing.assert_close(result.values, -state * (H @ state), atol=1e-12, rtol=1e-12)


def test_lqr_critic_from_another_start_gets_its_closed_form(tmp_path):
    loaded = lqr_critic(tmp_path)
    H, state = cost_to_go(), loaded.inputs[0]
    start = torch.tensor([0.5, -1.0], dtype=torch.float64)
    [result] = ig.attribute(loaded.model, state[None], baseline=start)
    expected = -(state - start) * (H @ (state + start))
    torch.testing.assert_close(result.values, expected, atol=1e-12, rtol=1e-12)


def test_lqr_cost_is_what_its_controller_pays():
    H = cost_to_go().numpy()
    A, B = np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([[0.0], [0.1]])
    gain = np.linalg.solve(0.1 + B.T @ H @ B, B.T @ H @ A)
    state, paid = np.array([1.0, -0.5]), 0.0
    expected = state @ H @ state
    for _ in range(1000):
        force = -gain @ state
        paid += state @ state + 0.1 * force @ force
        state = A @ state + B @ force
    assert paid == pytest.approx(expected, rel=1e-9)
