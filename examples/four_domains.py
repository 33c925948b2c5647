"""Draw one attribution of a real model in each of the four domains (the picture of the README).

python examples/four_domains.py [FOLDER]

The models are those of the benchmark; the first run trains them once (extra ``bench``).
"""

import sys
import warnings
from pathlib import Path

import networkx
from matplotlib import colormaps
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

import ig_core as ig
from ig_core.bench.folder import case_folder

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")


def explained(case_name, position):
    """IG of one example of a benchmark case, as a user would ask for it."""
    case = ig.plugins().find("case", case_name)
    with case_folder(case.name) as cache:
        loaded = case.load(cache)
    targets = loaded.targets
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ig.IGWarning)  # at tol 1e-3 with a wide budget
        [result] = ig.attribute(
            loaded.model,
            [loaded.inputs[position]],
            domain=case.domain,
            target=[targets[position]] if isinstance(targets, list) else targets,
            baseline=loaded.baseline,
            tol=1e-3,
            budget=4096,
            **loaded.options,
        )
    return result


def signed(scores):
    limit = max(abs(s) for s in scores) or 1.0
    return TwoSlopeNorm(0.0, -limit, limit)


def words(axes, result):
    """Words in reading order on coloured ground."""
    labels, scores = result.units.labels, result.scores.tolist()
    norm, place, line = signed(scores), 0.02, 0.75
    for label, score in zip(labels, scores, strict=True):
        width = 0.026 * len(label) + 0.035
        if place + width > 1:
            place, line = 0.02, line - 0.22
        colour = colormaps["RdBu_r"](0.15 + 0.7 * norm(score))
        ground = {"facecolor": colour, "edgecolor": "none", "pad": 4}
        axes.text(place, line, label, bbox=ground, fontsize=14, family="monospace")
        place += width
    axes.set_axis_off()


def bars(axes, result):
    """Signed bars in the order of the units."""
    labels, scores = list(result.units.labels), result.scores.tolist()
    colours = ["#d6604d" if score > 0 else "#4393c3" for score in scores]
    axes.barh(range(len(labels)), scores, color=colours)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)


def steps(axes, result):
    """Signed bars over time."""
    labels, scores = list(result.units.labels), result.scores.tolist()
    colours = ["#d6604d" if score > 0 else "#4393c3" for score in scores]
    axes.bar(range(len(labels)), scores, color=colours)
    axes.set_xticks(range(len(labels)), labels)
    axes.axhline(0, color="black", linewidth=0.8)


def graph(axes, result):
    """Nodes on coloured ground."""
    display = result.display
    scores = result.scores.tolist()[: len(display["nodes"])]
    drawn = networkx.Graph([tuple(edge) for edge in display["edges"]])
    networkx.draw_networkx(
        drawn,
        networkx.kamada_kawai_layout(drawn),
        ax=axes,
        nodelist=range(len(scores)),
        labels=dict(enumerate(display["nodes"])),
        font_size=9,
        node_size=380,
        node_color=[signed(scores)(score) for score in scores],
        cmap="RdBu_r",
        vmin=-0.2,
        vmax=1.2,
        edgecolors="#555",
        edge_color="#999",
    )
    axes.set_axis_off()


PANELS = (
    ("text: is the review favourable? (MiniLM)", "movie-reviews-minilm", 0, words),
    ("graphs: is there a benzene ring? (GNN)", "nci-benzene", 0, graph),
    ("sequences: first phoneme of a word (GRU)", "g2p-first-phoneme", 0, steps),
    ("rl: why this action? (DQN on CartPole)", "cartpole-dqn", 6, bars),
)

figure = Figure(figsize=(12, 7.5), layout="constrained")
for axes, (title, case_name, position, draw) in zip(
    figure.subplots(2, 2).flat, PANELS, strict=True
):
    result = explained(case_name, position)
    draw(axes, result)
    axes.set_title(
        f"{title}\nF(x) - F(x') {result.delta:.3f}, scores sum to {result.scores.sum():.3f}, "
        f"{result.evaluations} evaluations",
        fontsize=10,
    )
figure.savefig(folder / "four-domains.png", dpi=110)
print(f"wrote {folder / 'four-domains.png'}")
