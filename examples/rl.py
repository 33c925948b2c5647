"""Why does an agent push the cart to one side? Train a DQN, ask it about an episode and a state.

python examples/rl.py [FOLDER]
"""

import sys
from pathlib import Path

import gymnasium
import torch
from stable_baselines3 import DQN

import ig_rl

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
torch.set_num_threads(1)  # two layers of 64 are slower on more
env = gymnasium.make("CartPole-v1")
model = DQN(
    "MlpPolicy",
    env,
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

agent = ig_rl.wrap(model, gymnasium.make("CartPole-v1"))
timeline = agent.explain_episode(seed=0, dtype="float64")
print(timeline.to_text())
timeline.to_html(folder / "episode.html")
timeline.plot().savefig(folder / "episode.png", dpi=120)

# The state of that episode in which the pole turns fastest to the right.
state = timeline.values[timeline.values[:, 3].argmax()]
result = agent.explain(state, dtype="float64")
print(result.to_text())
result.to_html(folder / "rl.html")
result.plot().savefig(folder / "rl.png", dpi=120)
