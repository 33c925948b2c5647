"""Agents of the benchmark: what they learned, and what is known of their attributions."""

import pickle
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import ig_core as ig
from ig_core.bench.folder import case_folder
from ig_rl.agents import Point
from ig_rl.cases import (
    CASES,
    acrobot,
    board,
    cartpole,
    catch,
    cost_to_go,
    inert,
    lqr_critic,
    pendulum,
    slime,
)
from ig_rl.cases.training import Recipe


def case_of(name):
    return next(case for case in CASES if case.name == name)


def loaded(name):
    """A case, made in its own folder of the cache."""
    with case_folder(name) as folder:
        return case_of(name).load(folder)


def trained(name):
    """A case whose training takes longer than tests may, where its suite has trained it."""
    with case_folder(name) as folder:
        if not (folder / f"{name}.safetensors").exists():
            suite = next(iter(case_of(name).tags))
            pytest.skip(f"not trained on this machine: ig bench --suite {suite} does it")
    return loaded(name)


def explained(name, case, **options):
    """The attributions of a case that was loaded, as ``ig bench`` asks for them."""
    given = {"target": case.targets, "baseline": case.baseline, **case.options, **options}
    return ig.attribute(case.model, case.inputs, domain=case_of(name).domain, **given)


# -- what all have in common ----------------------------------------------------------------------


def test_the_cases_are_registered():
    found = {case.name: case for case in ig.plugins().all("case")}
    assert all(found[case.name] is case for case in CASES)


def test_every_real_case_has_a_licence_and_a_source():
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.licence and case.source for case in CASES if case.real)


def test_the_smoke_suite_has_only_what_is_fast():
    assert {case.name: case.tags for case in CASES} == {
        "cartpole-dqn": ("smoke",),
        "cartpole-ppo": ("smoke",),
        "acrobot-dqn": ("default",),
        "lunarlander-dqn": ("full",),
        "pendulum-sac": ("default",),
        "catch-dqn": ("default",),
        "reversi": ("default",),
        "slime-volleyball": ("default",),
        "lqr-critic": ("smoke",),
    }


@pytest.mark.parametrize("name", ["reversi", "slime-volleyball"])
def test_what_cannot_be_fetched_says_what_to_do(name, tmp_path, monkeypatch):
    """pip fails as without an index."""
    command = [sys.executable, "-c", "raise SystemExit('no index here')"]
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda asked, **told: run(command, **told))
    with pytest.raises(ig.StorageError, match=r"no index here.*get .*whl .*put it into"):
        case_of(name).load(tmp_path)
    assert not list(tmp_path.iterdir())


# -- training -------------------------------------------------------------------------------------

SHORT = replace(
    cartpole.RECIPE_PPO,
    steps=512,
    check_every=256,
    least=0.0,
    checks=range(500, 501),
    tests=range(1000, 1001),
)


def test_an_agent_that_did_not_learn_is_refused(tmp_path):
    short = replace(cartpole.RECIPE_DQN, steps=1200, check_every=1200)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with pytest.raises(ig.ModelError, match=r"DQN trained on CartPole .*at least 150"):
        short.trained(tmp_path / "agent.safetensors")
    assert not (tmp_path / "agent.safetensors").exists()
    assert torch.get_num_threads() == threads
    assert torch.get_rng_state().equal(state)


def test_training_gives_the_same_file_every_time(tmp_path):
    SHORT.trained(tmp_path / "one")
    SHORT.trained(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_an_agent_is_trained_once(tmp_path, monkeypatch):
    before = SHORT.trained(tmp_path / "agent")
    monkeypatch.setattr(Recipe, "_train", None)
    after = SHORT.trained(tmp_path / "agent")
    assert torch.equal(before.visited, after.visited)
    assert torch.equal(before.returns, after.returns)
    weights = before.model.policy.state_dict()
    for name, value in after.model.policy.state_dict().items():
        assert value.equal(weights[name])


def test_the_weights_of_the_best_check_are_kept(tmp_path, monkeypatch):
    """Checks that return 1, 3 and 2 by turns: what is played last is the second's weights."""
    means, seen = iter([1.0, 3.0, 2.0, 0.0]), []

    def play(model, env, seeds):
        seen.append({name: v.clone() for name, v in model.policy.state_dict().items()})
        return SimpleNamespace(states=np.zeros((1, 4)), returns=np.array([next(means)]))

    monkeypatch.setattr("ig_rl.cases.training.play", play)
    replace(SHORT, steps=768, least=-1.0).trained(tmp_path / "agent")
    assert len(seen) == 4
    different = [name for name in seen[0] if not seen[1][name].equal(seen[2][name])]
    assert different
    assert all(seen[3][name].equal(seen[1][name]) for name in different)


# -- agents that are trained here -----------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "least", "ready"),
    [
        ("cartpole-dqn", 150, loaded),
        ("cartpole-ppo", 150, loaded),
        ("catch-dqn", 9, loaded),
        ("acrobot-dqn", -120, trained),
        ("pendulum-sac", -250, trained),
        ("lunarlander-dqn", 150, trained),
    ],
)
def test_a_trained_agent_is_good_and_its_attributions_are_complete(name, least, ready):
    case = ready(name)
    assert case.facts["mean return of 10 episodes"] >= least
    assert len(case.inputs) == 16
    for result in explained(name, case, budget=16_384):
        size = float(result.scores.abs().sum())
        assert result.converged
        assert abs(result.residual) <= 1e-2 * size
        assert abs(float(result.scores.sum()) - result.delta) <= 1e-2 * size


@pytest.mark.real
@pytest.mark.parametrize(("name", "ready"), [("cartpole-dqn", loaded), ("acrobot-dqn", trained)])
def test_gaps_of_a_trained_dqn_agree_with_a_very_fine_sum(name, ready):
    case = ready(name)
    results = explained(name, case, budget=16_384)
    fine = explained(name, case, budget=16_384, rule="midpoint", steps=20_000)
    for result, exact in zip(results, fine, strict=True):
        gap = float((result.scores - exact.scores).abs().sum())
        assert gap <= 1e-2 * float(exact.scores.abs().sum())


@cache
def hardly_trained(name, own, steps):
    """A case like those of the suites, all but the length of its training."""
    few = {"checks": range(500, 501), "tests": range(1000, 1002), "least": -np.inf}
    short = replace(own.RECIPE, steps=steps, check_every=steps, **few)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(own, "RECIPE", short)
        return case_of(name).load(Path(folder))


HARDLY = [("acrobot-dqn", acrobot, 1100), ("pendulum-sac", pendulum, 300)]


@pytest.mark.parametrize(("name", "own", "steps"), HARDLY, ids=["acrobot", "pendulum"])
def test_an_agent_that_has_hardly_learned_is_explained_all_the_same(name, own, steps):
    case = hardly_trained(name, own, steps)
    assert len(case.inputs) == 16
    for result in explained(name, case, tol=1e-3, budget=16_384):
        assert abs(result.residual) <= 1e-3 * float(result.scores.abs().sum())


def test_pendulum_explains_the_smaller_critic_at_the_actor_s_action():
    case = hardly_trained(*HARDLY[1])
    for state, result in zip(case.inputs, explained("pendulum-sac", case), strict=True):
        action = case.model.predict(state.numpy(), deterministic=True)[0]
        scaled = torch.from_numpy(case.model.policy.scale_action(action))[None]
        with torch.no_grad():
            both = case.model.critic(state[None], scaled)
        assert result.at_input == pytest.approx(min(float(q) for q in both), rel=1e-6)
        assert f"torque = {float(action[0]):+.3g} N m" in result.units.labels
        assert float(state[0]) < pendulum.UPRIGHT


# -- Catch ----------------------------------------------------------------------------------------


def test_catch_keeps_the_contract_of_an_environment():
    check_env(catch.environment(), skip_render_check=True)


def test_who_follows_the_ball_catches_every_one():
    env = catch.environment()
    for seed in range(5):
        screen, _ = env.reset(seed=seed)
        caught, over = 0.0, False
        while not over:
            places = catch.things(torch.tensor(screen))
            step = np.sign(places["ball"][1] - places["paddle"][1])
            screen, reward, over, _, _ = env.step(int(step) + 1)
            caught += reward
        assert caught == catch.ROUNDS


def test_the_distractor_is_all_that_is_dim_and_it_is_somewhere_else_in_the_next_screen():
    env = catch.environment()
    screen, _ = env.reset(seed=0)
    seen = set()
    for _ in range(60):
        places = catch.things(torch.tensor(screen))
        assert set(places) >= {"ball", "paddle"}
        assert int((screen == catch.DIM).sum()) == ("distractor" in places)
        assert places["paddle"][0] == catch.SIDE - 1
        seen.add(places.get("distractor"))
        screen, *_ = env.step(1)
    assert len(seen) > 30


def test_masses_are_shares_of_the_absolute_attribution():
    screen = torch.zeros(1, 10, 10, dtype=torch.uint8)
    screen[0, 2, 3] = screen[0, 9, 5] = catch.BRIGHT
    screen[0, 4, 4] = catch.DIM
    value = torch.zeros(1, 10, 10)
    value[0, 2, 3], value[0, 9, 5], value[0, 4, 4], value[0, 0, 0] = 4, -3, 1, -2
    assert catch.masses([screen], [value]) == pytest.approx(
        {"ball": 0.4, "paddle": 0.3, "distractor": 0.1}
    )


@pytest.mark.real
@pytest.mark.parametrize("baseline", ["zeros", "visited-mean"])
def test_catch_looks_at_ball_and_paddle_rather_than_at_the_distractor(baseline):
    case = loaded("catch-dqn")
    visited = case.options["states"]
    screens = list(visited[torch.linspace(0, len(visited) - 1, 100).long()])
    results = ig.attribute(case.model, screens, baseline=baseline, budget=8192, **case.options)
    mass = catch.masses(screens, [result.values for result in results])
    assert min(mass["ball"], mass["paddle"]) > 3 * mass["distractor"]
    if baseline == "zeros":
        assert sum(mass.values()) == pytest.approx(1)  # what is black from end to end gets nothing


# -- Reversi --------------------------------------------------------------------------------------


class Payload:
    """Unpickled, it writes a file: what a hostile download would do."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (exec, (f"open({self.path!r}, 'w').close()",))


def test_a_hostile_pickle_is_read_and_not_run(tmp_path):
    content = pickle.dumps({"weights": Payload(tmp_path / "ran"), "seed": 3})
    found = inert.read(content)
    assert not (tmp_path / "ran").exists()
    assert found["seed"] == 3
    assert found["weights"].origin == "builtins.exec"
    assert found["weights"].arguments[0].startswith("open(")
    pickle.loads(content)  # on purpose: shows what a careless reader would run
    assert (tmp_path / "ran").exists(), "the payload is live"


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i4", "|u1", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_as_numpy_wrote_them(dtype, order):
    array = np.arange(6).reshape(2, 3).astype(dtype, order=order)
    read = inert.array(inert.read(pickle.dumps(array)))
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    "value", [np.array([{}, Payload("x")], dtype=object), {"no": "array"}, 3, Payload("x")]
)
def test_what_is_no_array_of_numbers_is_refused(value):
    with pytest.raises(ig.StorageError, match="no array of numbers"):
        inert.array(inert.read(pickle.dumps(value)))


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1, 2, 3])[:-3]])
def test_a_damaged_pickle_is_refused(content):
    with pytest.raises(ig.StorageError, match="the pickle is damaged"):
        inert.read(content)


def test_reversi_has_as_many_lines_of_play_as_are_known():
    """Numbers of games of so many moves: https://oeis.org/A124004."""
    mine, theirs = board.opening(1)
    counts = []
    for _ in range(5):
        game, move = board.legal(mine, theirs).nonzero().unbind(1)
        counts.append(len(game))
        theirs, mine = board.moved(mine[game], theirs[game], move)
    assert counts == [4, 12, 56, 244, 1396]


def test_passing_leaves_the_board_and_is_legal_only_without_another_move():
    mine, theirs = board.opening(1)
    assert not board.legal(mine, theirs)[0, board.PASS]
    empty = torch.zeros_like(mine)
    assert board.legal(mine, empty)[0].nonzero().tolist() == [[board.PASS]]
    after = board.moved(mine, theirs, torch.tensor([board.PASS]))
    assert torch.equal(after[0], mine)
    assert torch.equal(after[1], theirs)


def test_squares_have_the_names_that_players_use():
    names = [board.square(number) for number in (0, 7, 27, 56, 63)]
    assert names == ["a1", "h1", "d4", "a8", "h8"]


@pytest.mark.real
def test_reversi_is_the_network_of_its_package():
    """Its value of the start and its games as the original in JAX had them."""
    facts = loaded("reversi").facts
    assert facts["value of the start"] == pytest.approx(0.046, abs=5e-4)
    assert facts["games of 30 won against random moves"] == 29


@pytest.mark.real
def test_an_empty_square_of_reversi_gets_exactly_zero():
    case = loaded("reversi")
    few = replace(case, inputs=case.inputs[-2:], targets=case.targets[-2:])
    results = explained("reversi", few, tol=0.1, budget=4096)
    for position, result in zip(few.inputs, results, strict=True):
        assert result.converged
        assert (result.values[position == 0] == 0).all()
        assert (result.values[position == 1] != 0).all()


@pytest.mark.real
def test_reversi_explains_its_best_legal_move_against_the_next():
    case = loaded("reversi")
    for position, (best, other) in zip(case.inputs, case.targets, strict=True):
        can = board.legal(*position[None].bool().unbind(-1))[0]
        with torch.no_grad():
            logits = case.model.scores(Point(position[None]))[0]
        assert can[best] and can[other]
        assert logits[best] >= logits[other] >= logits[can].topk(2).values[1]


# -- slime volleyball -----------------------------------------------------------------------------


def test_weights_are_read_from_the_text_of_a_class():
    source = """
import nothing.that.exists
class Other:
    def __init__(self): self.bias = np.array([9.0])
class Policy:
    def __init__(self):
        self.state = np.zeros(3)
        self.bias = np.array([1.5, -2, 0.25])
"""
    assert slime.literal(source, "Policy", "bias") == [1.5, -2.0, 0.25]
    for name in ("state", "weight"):
        with pytest.raises(ig.StorageError, match=f"no class Policy whose {name}"):
            slime.literal(source, "Policy", name)


@pytest.mark.real
def test_what_slime_never_reads_gets_exactly_zero():
    case = loaded("slime-volleyball")
    assert case.model.weight.shape == (7, 15)
    dead = slice(slime.SEEN, None)
    assert (torch.stack(case.inputs) - case.baseline)[..., dead].abs().max() > 0.1
    for result in explained("slime-volleyball", case, tol=0.1, budget=4096):
        assert result.converged
        assert (result.values[:, dead] == 0).all()
        assert (result.values[:, : slime.SEEN].abs().sum(0) > 0).any()


@pytest.mark.real
def test_the_slime_policy_answers_as_its_formula_in_numpy():
    case = loaded("slime-volleyball")
    weight, bias = case.model.weight.numpy(), case.model.bias.numpy()
    for flight in case.inputs:
        outputs = np.zeros(7)
        for frame in flight.numpy():
            said = weight @ np.concatenate([frame[:8], outputs]) + bias
            outputs = np.tanh(said)
        np.testing.assert_allclose(case.model(flight[None])[0].numpy(), said[:3], atol=1e-12)


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
