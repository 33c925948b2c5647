"""What well-known environments of Gymnasium call the elements of observations and actions."""

from __future__ import annotations


def _leg(number: int) -> tuple[str, ...]:
    """One leg of the walker of Box2D."""
    return (
        f"hip {number} angle (rad)", f"hip {number} speed", f"knee {number} angle (rad)",
        f"knee {number} speed", f"leg {number} contact",
    )  # fmt: skip


LANDER = (
    "x position", "height", "horizontal velocity", "vertical velocity", "angle (rad)",
    "angular velocity", "leg 1 contact", "leg 2 contact",
)  # fmt: skip

FEATURES: dict[str, tuple[str, ...]] = {
    "Acrobot": (
        "cos of angle 1", "sin of angle 1", "cos of angle 2", "sin of angle 2",
        "angular velocity 1 (rad/s)", "angular velocity 2 (rad/s)",
    ),
    "BipedalWalker": (
        "hull angle (rad)", "hull angular velocity", "horizontal velocity", "vertical velocity",
        *_leg(1), *_leg(2), *(f"lidar {i}" for i in range(1, 11)),
    ),
    "CartPole": (
        "cart position (m)", "cart velocity (m/s)", "pole angle (rad)",
        "pole angular velocity (rad/s)",
    ),
    "HalfCheetah": (
        "height of front tip (m)", "angle of front tip (rad)", "back thigh angle (rad)",
        "back shin angle (rad)", "back foot angle (rad)", "front thigh angle (rad)",
        "front shin angle (rad)", "front foot angle (rad)", "x velocity of front tip (m/s)",
        "z velocity of front tip (m/s)", "angular velocity of front tip (rad/s)",
        "back thigh angular velocity (rad/s)", "back shin angular velocity (rad/s)",
        "back foot angular velocity (rad/s)", "front thigh angular velocity (rad/s)",
        "front shin angular velocity (rad/s)", "front foot angular velocity (rad/s)",
    ),
    "Hopper": (
        "height of torso (m)", "torso angle (rad)", "thigh angle (rad)", "leg angle (rad)",
        "foot angle (rad)", "x velocity of torso (m/s)", "z velocity of torso (m/s)",
        "torso angular velocity (rad/s)", "thigh angular velocity (rad/s)",
        "leg angular velocity (rad/s)", "foot angular velocity (rad/s)",
    ),
    "InvertedPendulum": (
        "cart position (m)", "pole angle (rad)", "cart velocity (m/s)",
        "pole angular velocity (rad/s)",
    ),
    "LunarLander": LANDER,
    "LunarLanderContinuous": LANDER,
    "MountainCar": ("position", "velocity"),
    "MountainCarContinuous": ("position", "velocity"),
    "Pendulum": ("cos of angle", "sin of angle", "angular velocity (rad/s)"),
    "Swimmer": (
        "angle of front tip (rad)", "angle of rotor 1 (rad)", "angle of rotor 2 (rad)",
        "x velocity of tip (m/s)", "y velocity of tip (m/s)",
        "angular velocity of front tip (rad/s)", "angular velocity of rotor 1 (rad/s)",
        "angular velocity of rotor 2 (rad/s)",
    ),
    "Walker2d": (
        "height of torso (m)", "torso angle (rad)", "thigh angle (rad)", "leg angle (rad)",
        "foot angle (rad)", "left thigh angle (rad)", "left leg angle (rad)",
        "left foot angle (rad)", "x velocity of torso (m/s)", "z velocity of torso (m/s)",
        "torso angular velocity (rad/s)", "thigh angular velocity (rad/s)",
        "leg angular velocity (rad/s)", "foot angular velocity (rad/s)",
        "left thigh angular velocity (rad/s)", "left leg angular velocity (rad/s)",
        "left foot angular velocity (rad/s)",
    ),
}  # fmt: skip
"""Observations as Gymnasium documents them, by environment without its version; a unit of
measurement is what stands in brackets at the end.

They are for the default options: another number of elements gets no names from here."""

FEATURES["BipedalWalkerHardcore"] = FEATURES["BipedalWalker"]

ACTIONS: dict[str, tuple[str, ...]] = {
    "Acrobot": ("torque -1", "no torque", "torque +1"),
    "CartPole": ("left", "right"),
    "FrozenLake": ("left", "down", "right", "up"),
    "LunarLander": ("no engine", "left engine", "main engine", "right engine"),
    "MountainCar": ("left", "coast", "right"),
    "Taxi": ("south", "north", "east", "west", "pick up", "drop off"),
}
"""Discrete actions of the same environments."""

ELEMENTS: dict[str, tuple[str, ...]] = {
    "BipedalWalker": ("hip 1", "knee 1", "hip 2", "knee 2"),
    "BipedalWalkerHardcore": ("hip 1", "knee 1", "hip 2", "knee 2"),
    "LunarLander": ("main engine", "side engines"),
    "LunarLanderContinuous": ("main engine", "side engines"),
    "MountainCarContinuous": ("force",),
    "Pendulum": ("torque (N m)",),
}
"""Elements of continuous actions."""
