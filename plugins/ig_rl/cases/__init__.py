"""Benchmark cases: trained agents, and a critic whose attributions are known in closed form."""

from ig_rl.cases import acrobot, cartpole, catch, lqr, lunarlander, pendulum, reversi, slime
from ig_rl.cases.cartpole import cartpole_dqn, cartpole_ppo
from ig_rl.cases.lqr import cost_to_go, lqr_critic

__all__ = ["CASES", "cartpole_dqn", "cartpole_ppo", "cost_to_go", "lqr_critic"]

CASES = [
    *cartpole.CASES,
    acrobot.CASE,
    lunarlander.CASE,
    pendulum.CASE,
    catch.CASE,
    reversi.CASE,
    slime.CASE,
    lqr.CASE,
]
