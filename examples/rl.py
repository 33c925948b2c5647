"""Why does an agent push the cart to one side? Train a small DQN, ask it about one state.

python examples/rl.py [FOLDER]
"""

import sys
from pathlib import Path

import gymnasium
import torch
from stable_baselines3 import DQN

import ig_core as ig
from ig_rl.episodes import play

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
torch.set_num_threads(1)  # two layers of 64 are slower on more
model = DQN(
    "MlpPolicy",
    gymnasium.make("CartPole-v1"),
    learning_rate=1e-3,
    learning_starts=1_000,
    batch_size=64,
    train_freq=8,
    gradient_steps=4,
    target_update_interval=250,
    exploration_fraction=0.3,
    seed=0,
    device="cpu",
)
model.learn(15_000)

episodes = play(model, gymnasium.make("CartPole-v1"), seeds=range(5))
print(f"mean return after 15,000 steps: {episodes.returns.mean():.0f}")

# The state of the first episode in which the pole turns fastest to the right.
first = episodes.states[: int(episodes.returns[0])]
state = first[first[:, 3].argmax()]
result = ig.attribute(model, state, states=episodes.states, budget=4096)
print(result.to_text())
result.to_html(folder / "rl.html")
result.plot().savefig(folder / "rl.png", dpi=120)
