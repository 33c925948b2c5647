"""The recurrent policy of slime volleyball, which carries its last outputs from frame to frame."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ig_core import Archive, BenchmarkCase, Loaded, StorageError, Units, made_once

WHEEL = Archive(
    requirement="slimevolleygym==0.1.0",
    file="slimevolleygym-0.1.0-py3-none-any.whl",
    sha256="ef80b86a785ceb5e4f0649ab75f39cc54a3134c96a15e40da858383e56eb6582",
    content="weights of slimevolleygym",
)
SOURCE = "slimevolleygym/slimevolley.py"

FEATURES = tuple(
    f"{whose} {what}"
    for whose in ("own", "ball", "opponent's")
    for what in ("x", "y", "x velocity", "y velocity")
)
"""What a frame tells, in tens of the game's lengths and of lengths per second."""

SEEN = 8
"""The policy reads the first eight of them: nothing of its opponent."""

BUTTONS = ("forward", "backward", "jump")
PRESSED = math.atanh(0.75)
"""The number above which a button is pressed: of its tanh the game wants more than .75."""

FRAMES, SERVES = 30, 8
RATE, GRAVITY, RUN, JUMP = 30, -29.4, 17.5, 13.5
"""Frames per second, and what the game says of bodies, in its lengths."""


class SlimePolicy(nn.Module):
    """Twelve observations a frame to three buttons after the last, before their tanh.

    Ha (2015), Neural Slime Volleyball: seven outputs, three of them buttons, of eight observations
    and the seven outputs of the frame before.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Float[Tensor, "7 15"], bias: Float[Tensor, " 7"]) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Float[Tensor, "rows time 12"]) -> Float[Tensor, "rows 3"]:
        said = x.new_zeros(len(x), len(self.bias))
        outputs = said
        for frame in x[..., :SEEN].unbind(1):
            said = torch.cat([frame, outputs], dim=1) @ self.weight.T + self.bias
            outputs = said.tanh()
        return said[:, : len(BUTTONS)]


def slime_volleyball(folder: Path) -> Loaded:
    """What the policy is about to press while a serve flies, by every frame that it saw of it.

    Raises:
        StorageError: the weights are not in ``folder`` and could not be fetched.
    """
    stored = load_file(made_once(folder / "slime-volleyball.safetensors", convert))
    model = SlimePolicy(stored["weight"], stored["bias"]).eval()
    flights = serves(model)
    with torch.no_grad():
        said = model(flights)
    buttons = said.argmax(1).tolist()
    labels = [f"{name}, frame {t + 1}" for t in range(FRAMES) for name in FEATURES]
    index = torch.arange(len(labels)).view(FRAMES, len(FEATURES))
    return Loaded(
        model,
        list(flights),
        targets=buttons,
        baseline=flights[:, 0].mean(0).expand(FRAMES, -1).contiguous(),
        options={"units": Units(labels, {"x": index}, "feature of a frame")},
        facts={
            "agent": "recurrent policy of slimevolleygym 0.1.0, 7 x 15 weights, read from its text",
            "inputs": f"{SERVES} serves of {FRAMES} frames, computed here as the game moves "
            "bodies that meet nothing",
            "baseline": "the first frame, all the time",
            "explained": ", ".join(BUTTONS[button] for button in buttons),
            "pressed": int((said.max(1).values > PRESSED).sum()),
        },
    )


def serves(model: SlimePolicy) -> Float[Tensor, "serves frames 12"]:
    """Observations of a policy that plays while balls fly towards it and meet nothing yet.

    The opponent walks to and fro at random.
    """
    generator = torch.Generator().manual_seed(0)
    speed = torch.rand(2, SERVES, generator=generator, dtype=torch.float64)
    turns = torch.randint(-1, 2, (FRAMES, SERVES), generator=generator)
    ball = torch.zeros(SERVES, 4, dtype=torch.float64)
    ball[:, 1], ball[:, 2], ball[:, 3] = 12.0, 6 + 10 * speed[0], 12 + 10 * speed[1]
    own = torch.tensor([12.0, 1.5, 0.0, 0.0], dtype=torch.float64).repeat(SERVES, 1)
    other = own.clone()
    frames: list[Tensor] = []
    for turn in turns:
        frames.append(torch.cat([own, ball, other], dim=1) / 10)
        with torch.no_grad():
            forward, backward, jump = (model(torch.stack(frames, 1)) > PRESSED).double().unbind(1)
        ball[:, 3] += GRAVITY / RATE
        grounded = own[:, 1] <= 1.5
        own[:, 2], other[:, 2] = RUN * (backward - forward), RUN * turn
        own[:, 3] = torch.where(grounded, JUMP * jump, own[:, 3] + GRAVITY / RATE)
        for body in (ball, own, other):
            body[:, :2] += body[:, 2:] / RATE
        own[:, 1].clamp_(min=1.5)
    return torch.stack(frames, 1)


def convert(partial: Path) -> None:
    """Keep the weights that stand as literals in the source, of which nothing is run."""
    [source] = WHEEL.members([SOURCE], partial.parent)
    weight, bias = (
        torch.tensor(literal(source.decode(), "BaselinePolicy", name), dtype=torch.float64)
        for name in ("weight", "bias")
    )
    save_file({"weight": weight.view(7, 15), "bias": bias}, partial)


def literal(source: str, owner: str, name: str) -> list[float]:
    """The list in ``self.<name> = np.array([...])`` of a class.

    Raises:
        StorageError: there is none.
    """
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.ClassDef) and node.name == owner):
            continue
        for line in ast.walk(node):
            match line:
                case ast.Assign(
                    targets=[ast.Attribute(attr=found)],
                    value=ast.Call(func=ast.Attribute(attr="array"), args=[ast.List() as numbers]),
                ) if found == name:
                    return [float(number) for number in ast.literal_eval(numbers)]
    raise StorageError(f"the source has no class {owner} whose {name} is an array of numbers")


CASE = BenchmarkCase(
    name="slime-volleyball",
    domain="tensor",
    load=slime_volleyball,
    tags=("default",),
    licence="Apache-2.0",
    source="package slimevolleygym 0.1.0 (Ha)",
    real=True,
)
