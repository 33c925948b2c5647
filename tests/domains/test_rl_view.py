"""Pictures of episodes and of many states show their numbers, and nothing that steers a machine."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from imageio import v2 as imageio

import ig_core as ig
from ig_rl import view
from ig_rl.findings.importance import Importance, by_action, strength
from ig_rl.findings.timeline import Timeline
from ig_rl.view.rows import MOST_ROWS, feature_rows
from ig_rl.view.screens import filmstrip

STEPS = 12
HOSTILE = "<img src=x onerror=alert(1)>$x$"


def episode(**changes):
    """A hand-made episode of two features, the second of which speaks for action 0."""
    scores = np.stack([np.linspace(0, 1, STEPS), np.linspace(0, -0.5, STEPS)], 1)
    made = Timeline(
        scores=scores,
        values=scores * 2,
        names=["angle", "speed"],
        actions=np.arange(STEPS) % 2,
        action_names=["left", "right"],
        rewards=np.ones(STEPS),
        outputs=scores.sum(1) + 0.25,
        base=np.full(STEPS, 0.25),
        residuals=np.zeros(STEPS),
        statuses=["converged"] * STEPS,
        pair=(1, 0),
        explain="gap",
        quantity="Q(right) - Q(left)",
        baseline="visited-mean",
        agent="DQN",
        seed=3,
    )
    return replace(made, **changes)


def pixels(frames=1):
    """An episode of 4 x 5 pixels: one that speaks for the action and one that speaks against it."""
    scores = np.zeros((STEPS, frames, 4, 5))
    seen = np.zeros_like(scores)
    for step in range(STEPS):
        scores[step, -1, step % 4, 1], scores[step, -1, 3, 4] = 2.0, -1.0
        seen[step, -1, step % 4, 1] = 255
    flat = (STEPS, -1)
    return episode(
        scores=scores.reshape(flat),
        values=seen.reshape(flat),
        names=[f"pixel {i}" for i in range(frames * 20)],
        image=(frames, 4, 5),
    )


def many(**changes):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 3))
    scores = values * np.array([2.0, 0.5, 0.0])
    actions = ["right" if total > 0 else "left" for total in scores.sum(1)]
    made = Importance(
        names=["a", "b", "dead"],
        scores=scores,
        values=values,
        overall=strength(scores),
        per_action=by_action(scores, actions),
        quantity="the greedy action's gap",
        baseline="visited-mean",
        residual=0.0,
        agent="DQN",
    )
    return replace(made, **changes)


def drawn_texts(figure):
    """All words of a figure."""
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text)]


# -- the timeline -----------------------------------------------------------------------------


def test_the_timeline_draws_the_scores_that_it_was_given_on_a_symmetric_scale():
    found = episode()
    heat = view.timeline(found).axes[0].get_images()[0]
    assert np.array_equal(heat.get_array(), found.scores.T)
    low, high = heat.get_clim()
    assert low == -high and high == pytest.approx(np.quantile(np.abs(found.scores), 0.98))


def test_a_few_large_scores_leave_the_others_their_colours():
    scores = np.full((200, 2), 0.1)
    scores[0, 0] = 100.0
    rows = feature_rows(["a", "b"], scores, scores)
    assert (rows.colours_end, rows.limit) == (pytest.approx(0.1), 100.0)
    nothing = np.zeros((3, 2))
    assert feature_rows(["a", "b"], nothing, nothing).colours_end == 1.0


def test_the_timeline_shows_the_number_its_start_the_actions_and_the_rewards():
    found = episode(rewards=np.arange(STEPS, dtype=float))
    axes = view.timeline(found).axes
    here, there = (line.get_ydata() for line in axes[1].lines[:2])
    assert np.array_equal(here, found.outputs)
    assert np.array_equal(there, found.base)
    assert np.array_equal(axes[2].collections[0].get_offsets()[:, 1], found.actions)
    assert np.array_equal(axes[3].lines[0].get_ydata(), found.rewards)
    assert [tick.get_text() for tick in axes[2].get_yticklabels()] == ["left", "right"]


def test_continuous_actions_are_lines():
    actions = np.linspace(-2, 2, 2 * STEPS).reshape(STEPS, 2)
    axes = view.timeline(episode(actions=actions, pair=(), action_names=["a", "b"])).axes
    assert np.array_equal(np.stack([one.get_ydata() for one in axes[2].lines], 1), actions)


def test_of_many_features_the_smallest_share_a_row_and_nothing_is_lost():
    scores = np.random.default_rng(0).normal(size=(STEPS, 40)) * np.linspace(0, 1, 40)
    rows = feature_rows([f"f{i}" for i in range(40)], scores, scores)
    assert len(rows.names) == MOST_ROWS
    assert rows.names[-1] == "25 others"
    np.testing.assert_allclose(rows.scores.sum(0), scores.sum(1), atol=1e-12)
    assert rows.line(MOST_ROWS - 1) is None
    assert rows.line(0).min() == 0 and rows.line(0).max() == 1


def test_the_page_of_a_timeline_says_what_was_explained_and_escapes_names():
    page = view.timeline_html(episode(names=[HOSTILE, "b"], action_names=["<b>", "right"]))
    assert "Why right rather than &lt;b&gt;" in page
    assert "return 12" in page
    assert "<img src=x" not in page
    assert "<b>" not in page
    assert "baseline: visited-mean" in page


def test_the_page_of_a_timeline_says_how_many_steps_missed_the_tolerance():
    statuses = ["budget", "failed", "noise_floor", *["converged"] * (STEPS - 3)]
    assert f"2 of {STEPS} steps did not reach the tolerance" in view.timeline_html(
        episode(statuses=statuses)
    )
    assert "did not reach" not in view.timeline_html(episode())


def test_steps_that_failed_are_left_blank():
    scores = episode().scores.copy()
    scores[3] = np.nan
    found = episode(scores=scores)
    assert np.isfinite(view.timeline(found).axes[0].get_images()[0].get_clim()).all()
    assert "data:image/svg+xml" in view.timeline_html(found)


def test_the_same_episode_gives_the_same_page():
    assert view.timeline_html(episode()) == view.timeline_html(episode())


def test_names_of_formulas_are_words_in_figures():
    assert any(r"\$x\$" in text for text in drawn_texts(view.timeline(episode(names=["$x$", "b"]))))


def test_the_page_of_many_features_holds_the_strongest():
    scores = np.zeros((STEPS, 2000))
    scores[:, 1234] = 1.0
    names = [f"f{i}" for i in range(2000)]
    page = view.timeline_html(episode(scores=scores, values=scores, names=names))
    assert ">f1234<" in page and "without the 1984 weakest features" in page
    assert len(page) < 300_000


# -- pixels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 3])
def test_a_strip_shows_the_newest_frame_of_some_steps_on_one_scale(frames):
    found = pixels(frames)
    axes = filmstrip(found).axes
    first = axes[8].get_images()[1]
    assert np.array_equal(first.get_array(), found.scores[0, -20:].reshape(4, 5))
    assert {one.get_images()[1].get_clim() for one in axes[8:16]} == {(-2.0, 2.0)}
    assert "step 0" in axes[0].get_title() and f"step {STEPS - 1}" in axes[7].get_title()


def test_the_strongest_pixels_carry_their_sign_as_a_mark():
    texts = [(t.get_text(), t.get_position()) for t in filmstrip(pixels()).axes[8].texts]
    assert texts == [("+", (1, 0)), ("\N{MINUS SIGN}", (4, 3))]


def test_the_page_of_pixels_shows_frames():
    page = view.timeline_html(pixels())
    assert 'alt="frames of the episode' in page
    assert "Lines are" not in page and "stacked" not in page
    assert "Of 3 stacked frames the newest is drawn" in view.timeline_html(pixels(3))
    assert "Lines are" in view.timeline_html(episode())


# -- videos -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".gif", ".mp4"])
def test_a_video_has_a_picture_for_every_step(tmp_path, ending):
    frames = np.random.default_rng(0).integers(0, 255, (STEPS, 32, 48, 3), dtype=np.uint8)
    path = view.video(episode(frames=frames), tmp_path / f"episode{ending}", fps=10)
    shown = list(imageio.get_reader(path).iter_data())
    assert len(shown) == STEPS
    assert shown[0].shape[:2] == (400, 800)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_bars_of_a_video_grow_with_the_scores():
    frames = np.zeros((STEPS, 8, 8, 3), dtype=np.uint8)
    shown = list(view.video_pictures(episode(frames=frames)))
    red = [(np.abs(one.astype(int) - (214, 96, 77)).sum(2) < 30).sum() for one in shown]
    assert red[0] < red[STEPS // 2] < red[-1]
    assert red[STEPS // 2] / red[-1] == pytest.approx(6 / 11, abs=0.05)


def test_pixels_need_no_rendered_environment_for_a_video(tmp_path):
    assert view.video(pixels(), tmp_path / "pixels.gif").exists()


def test_a_video_that_cannot_be_made_says_why(tmp_path):
    with pytest.raises(ig.InputError, match="render_mode='rgb_array'"):
        view.video(episode(), tmp_path / "a.gif")
    frames = np.zeros((STEPS, 8, 8, 3), dtype=np.uint8)
    with pytest.raises(ig.InputError, match=r"ends in \.mp4 or \.gif \(got 'a\.avi'\)"):
        view.video(episode(frames=frames), tmp_path / "a.avi")
    with pytest.raises(ig.InputError, match="fps must be a number above 0"):
        view.video(episode(frames=frames), tmp_path / "a.gif", fps=0)
    with pytest.raises(ig.StorageError, match="cannot write"):
        view.video(episode(frames=frames), tmp_path / "missing" / "a.gif")
    assert not list(tmp_path.iterdir())


# -- importance -------------------------------------------------------------------------------


def test_importance_draws_magnitudes_with_their_intervals_strongest_first():
    found = many()
    axes = view.importance(found).axes
    widths = [bar.get_width() for bar in axes[0].patches]
    assert widths == pytest.approx(found.overall.magnitude.tolist())
    assert [tick.get_text() for tick in axes[0].get_yticklabels()] == ["a", "b", "dead"]
    ends = axes[0].collections[0].get_segments()[0][:, 0]
    np.testing.assert_allclose(ends, found.overall.intervals["magnitude"][:, 0])


def test_importance_draws_every_state_and_the_mean_for_each_action():
    found = many()
    axes = view.importance(found).axes
    points = axes[1].collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 0], found.scores[:, 0])
    means = axes[2].get_images()[0].get_array()
    column = [*found.per_action].index("right")
    np.testing.assert_allclose(means[:, column], found.per_action["right"].mean)


def test_importance_without_actions_has_no_columns_for_them():
    assert "mean where chosen" not in drawn_texts(view.importance(many(per_action={})))


def test_the_page_of_an_importance_escapes_names():
    page = view.importance_html(many(names=[HOSTILE, "b", "c"], quantity="<i>"))
    assert "<img src=x" not in page and "<i>" not in page
    assert "40 states" in re.sub(r"\s+", " ", page)


def screens(frames=2):
    """The importance of a stack of images of 3 rows and 4 columns."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(6, frames * 12))
    names = [f"pixel {i}" for i in range(frames * 12)]
    return many(
        names=names,
        scores=scores,
        values=rng.random(scores.shape),
        overall=strength(scores),
        per_action=by_action(scores, ["left", "right"] * 3),
        image=(frames, 3, 4),
    )


def test_the_importance_of_images_is_drawn_as_maps_of_every_frame():
    found = screens()
    axes = [one for one in view.importance(found).axes if one.get_title()]
    assert [one.get_title() for one in axes] == ["1 step ago", "now"]
    for frame, one in enumerate(axes):
        drawn = one.get_images()[0].get_array()
        np.testing.assert_allclose(drawn, np.abs(found.scores).mean(0).reshape(2, 3, 4)[frame])
    signed = [one.get_images()[-1].get_array() for one in view.importance(found).axes[2:4]]
    np.testing.assert_allclose(np.stack(signed), found.scores.mean(0).reshape(2, 3, 4))


def test_of_many_frames_the_newest_are_drawn():
    titles = [one.get_title() for one in view.importance(screens(frames=6)).axes]
    assert [one for one in titles if one] == ["3 steps ago", "2 steps ago", "1 step ago", "now"]
    assert "the newest 4 of 6 frames" in str(view.importance(screens(frames=6)).get_suptitle())


# -- one decision -----------------------------------------------------------------------------


def decision(scores, **display):
    """A result of the domain on hand-made scores."""
    values = torch.tensor(scores, dtype=torch.float64)
    told = {
        "agent": "DQN", "quantity": "Q(right) - Q(left)", "actions": ["right", "left"],
        "ties": [], "visited": 5,
    }  # fmt: skip
    return ig.Attribution(
        tensors={"observation": values},
        units=ig.Units(
            tuple(f"feature {i} = +{i}" for i in range(len(scores))),
            {"observation": torch.arange(len(scores))},
            kind="state feature",
        ),
        at_input=sum(scores),
        at_baseline=0.0,
        residual=0.0,
        provenance={"baseline": "visited-mean"},
        display=told | display,
    )


def test_a_bar_reaches_from_the_middle_to_the_side_of_its_sign():
    page = view.decision_html(decision([2.0, -1.0, 0.0]))
    drawn = re.findall(r'class="bar (\w+)" style="width:([\d.]+)%', page)
    assert drawn == [("up", "50.00"), ("down", "25.00")]
    assert "Why right rather than left?" in page
    assert "pushes towards right" in page and "pushes towards left" in page
    assert "1 more are smaller or exactly 0" in page


def test_a_decision_without_any_part_has_no_bars():
    assert "width:0.00%" in view.decision_html(decision([0.0, 0.0]))


def test_remarks_stand_above_the_bars():
    told = decision(
        [1.0], ties=["a, tied with b"], start={"clipped": ["speed"]}, critic="q1 is the smaller"
    )
    text, page = view.decision("bars", told), view.decision_html(told)
    for remark in (
        "Tie: a, tied with b", "q1 is the smaller", "Clipped by the normalisation: speed",
    ):  # fmt: skip
        assert f"{remark}.\n" in text.split("bars")[0]
        assert remark in page


def test_a_feature_is_shown_with_what_it_is_at_the_start():
    told = decision([1.0, -2.0], start={"values": [0.71, None]})
    assert "feature 0 = +0 (from +0.71) pushes towards right" in view.decision("", told)
    assert "feature 1 = +1 pushes towards left" in view.decision("", told)
    assert "(from +0.71)" in view.decision_html(told)
    assert (
        "from" not in view.decision("", decision([1.0], start={"values": [0.0]})).splitlines()[-1]
    )


def test_the_plot_of_a_decision_asks_its_question_and_names_its_sides():
    shown = drawn_texts(decision([1.0], question="Why $a$?", sides=["left", "right"]).plot())
    assert r"Why \$a\$?" in shown
    assert any("left" in text and "right" in text for text in shown)


def test_a_decision_that_missed_its_tolerance_says_so_above_the_bars():
    missed = replace(decision([1.0]), status="budget")
    for told in (view.decision("bars", missed).split("bars")[0], view.decision_html(missed)):
        assert "Careful: budget (the tolerance was not reached" in told
    assert "Careful" not in view.decision_html(decision([1.0]))


def test_an_image_is_drawn_under_its_colours():
    image = {"shape": [1, 2], "frames": 1, "pixels": [[0.0, 1.0]]}
    told = decision([1.0, -1.0], image=image)
    assert "data:image/svg+xml" in view.decision_html(told)
    shown = view.overlay(told).axes[1].get_images()[1]
    assert shown.get_array().tolist() == [[1.0, -1.0]]
    two = decision([0.0, 0.0, 1.0, -1.0], image=image | {"frames": 2})
    titles = [axes.get_title() for axes in view.overlay(two).axes[:3]]
    assert titles == ["newest frame", "1 frame earlier", "now"]
    behind = decision([9.0, 1.0, -1.0], image=image | {"first": 1})
    assert view.overlay(behind).axes[1].get_images()[1].get_array().tolist() == [[1.0, -1.0]]
    with pytest.raises(ig.InputError, match="needs an agent's result on an image"):
        view.overlay(decision([1.0]))


def test_the_page_of_an_importance_holds_the_strongest_features():
    scores = np.random.default_rng(0).normal(size=(5, 900))
    names = [f"f{i}" for i in range(900)]
    found = many(names=names, scores=scores, values=scores, overall=strength(scores), per_action={})
    page = view.importance_html(found)
    assert "800 weaker ones are left out" in page
    assert f">{names[found.strongest(1)[0]]}<" in page
    assert len(page) < 400_000
