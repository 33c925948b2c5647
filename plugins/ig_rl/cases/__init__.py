"""Benchmark cases: trained agents, and a critic whose attributions are known in closed form."""

from ig_rl.cases import cartpole, lqr
from ig_rl.cases.cartpole import cartpole_dqn
from ig_rl.cases.lqr import cost_to_go, lqr_critic

__all__ = ["CASES", "cartpole_dqn", "cost_to_go", "lqr_critic"]

CASES = [*cartpole.CASES, lqr.CASE]
