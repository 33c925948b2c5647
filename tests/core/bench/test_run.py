"""`ig bench`: each cell gets a status, none is lost or run twice, exit codes keep their word."""

import fcntl
import json
import os
import platform
import pty
import re
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ig_core as ig
from ig_core import cli
from ig_core.attribution import Attribution
from ig_core.bench import runner
from ig_core.bench.folder import RunFolder
from ig_core.bench.plan import Selection, Settings, plan
from ig_core.bench.runner import finished
from ig_core.tensors import TensorDomain

SCRIPT = Path(__file__).with_name("planted.py")
SOUND = ("--methods", "ig,gradient-x-input,random,negated")
PLAIN = ("--metrics", "completeness,removal-area,evaluations")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def rows(out):
    return {(r.case, r.method): r for r in finished(RunFolder(out)).values()}


def lines(out):
    return (out / "cells.jsonl").read_text().splitlines()


def test_a_sound_run_ends_with_zero_and_holds_every_cell(bench, out):
    done = bench("--cases", "planted/polynomial,planted/second", *SOUND, *PLAIN, "--out", out)
    assert done.exit_code == 0, done.output
    found = rows(out)
    assert len(found) == 8 and {r.status for r in found.values()} == {"ok"}
    assert str(out / "report.html") in done.output


def test_the_numbers_are_those_of_the_closed_form(bench, out):
    """x0^3 + x0 x1 - x2 from zero has the attributions x0^3 + x0 x1 / 2, x0 x1 / 2, -x2."""
    bench("--cases", "planted/polynomial", *SOUND, *PLAIN, "--tol", "1e-6", "--out", out)
    found = rows(out)
    ig = found["planted/polynomial", "ig"]
    assert ig.metrics["completeness"].median < 1e-6
    assert found["planted/polynomial", "negated"].metrics["completeness"].median == pytest.approx(2)
    kept = Attribution.load(out / "attr" / f"{ig.key}-0.safetensors")
    x = torch.rand(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)[0]
    expected = torch.stack([x[0] ** 3 + x[0] * x[1] / 2, x[0] * x[1] / 2, -x[2]])
    assert torch.allclose(kept.scores, expected, atol=1e-6)


def test_the_median_is_that_of_the_values_beside_it(bench, out):
    bench("--cases", "planted/polynomial", "--methods", "random", *PLAIN, "--out", out)
    [row] = rows(out).values()
    measure = row.metrics["removal-area"]
    assert measure.n == len(measure.values) == row.examples == 5
    assert measure.median == statistics.median(measure.values)


def test_the_controls_rank_below_ig(bench, out):
    bench("--cases", "planted/polynomial", *SOUND, *PLAIN, "--out", out)
    area = {m: r.metrics["removal-area"].median for (_, m), r in rows(out).items()}
    assert area["ig"] > area["random"] > area["negated"] == -area["ig"]


def test_two_runs_with_one_seed_give_equal_numbers(bench, tmp_path):
    args = ("--cases", "planted/polynomial", *SOUND, "--metrics", "removal-area,noise")
    outs = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    for out, seed in zip(outs, (3, 3, 4), strict=True):
        assert bench(*args, "--seed", seed, "--out", out).exit_code == 0
    first, same, other = ({k: r.metrics for k, r in rows(out).items()} for out in outs)
    assert first == same
    assert first["planted/polynomial", "random"] != other["planted/polynomial", "random"]


def test_limit_bounds_the_examples(bench, out):
    bench("--cases", "planted/polynomial", "--methods", "ig", *PLAIN, "--limit", 2, "--out", out)
    [row] = rows(out).values()
    assert row.examples == 2 and row.statuses == {"converged": 2}


def test_what_fails_is_a_row_with_its_cause_and_the_run_goes_on(bench, out):
    done = bench(
        "--cases", "planted/*", "--methods", "ig,raising", *PLAIN, "--out", out
    )  # fmt: skip
    assert done.exit_code == 3
    found = rows(out)
    assert found["planted/polynomial", "ig"].status == "ok"
    raising = found["planted/polynomial", "raising"]
    assert raising.status == "failed" and raising.error.startswith("ZeroDivisionError")
    broken = found["planted/broken", "ig"]
    assert broken.status == "failed" and "does not load: RuntimeError" in broken.error


def test_a_missing_package_is_no_failure_and_says_what_to_install(bench, out):
    done = bench("--cases", "planted/absent", "--methods", "ig", *PLAIN, "--out", out)
    assert done.exit_code == 0
    [row] = rows(out).values()
    assert row.status == "unavailable"
    assert "needs no_such_package: pip install 'ig-core[moon]'" in row.error
    assert row.error in done.output


def test_an_undefined_metric_is_null_and_no_failure(bench, out):
    metrics = ("--metrics", "completeness,undefined")
    done = bench("--cases", "planted/flat", "--methods", "ig", *metrics, "--out", out)
    assert done.exit_code == 0, done.output
    metrics = json.loads(lines(out)[0])["metrics"]
    assert metrics["undefined"] == {"median": None, "n": 0, "values": [None] * 5}
    assert metrics["completeness"]["median"] is None


def test_a_metric_that_raises_fails_its_cell_and_spares_the_others(bench, out):
    done = bench("--cases", "planted/second", "--methods", "ig", "--metrics", "fragile,evaluations",
                 "--out", out)  # fmt: skip
    assert done.exit_code == 3
    [row] = rows(out).values()
    assert "metric 'fragile' raised KeyError: 'lost'" in row.error
    assert row.metrics["evaluations"].n == 5


def test_resuming_runs_only_what_is_missing(bench, out):
    args = ("--cases", "planted/polynomial,planted/second", *PLAIN, "--out", out)
    bench(*args, "--methods", "ig")
    before = lines(out)
    done = bench(*args, "--methods", "ig,random")
    assert "2 of 4 cells are kept" in done.output
    assert lines(out)[:2] == before and len(lines(out)) == 4
    bench(*args, "--methods", "ig,random")
    assert len(lines(out)) == 4


def test_another_setting_is_another_cell(bench, out):
    args = ("--cases", "planted/polynomial", "--methods", "ig", *PLAIN, "--out", out)
    for setting in ((), ("--seed", 1), ("--tol", 0.1), ("--limit", 2), ("--budget", 64), ()):
        bench(*args, *setting)
    assert len(lines(out)) == 5


def test_a_failed_cell_is_kept_until_it_is_retried(bench, out, monkeypatch, planted):
    args = ("--cases", "planted/polynomial", "--methods", "raising", *PLAIN, "--out", out)
    assert bench(*args).exit_code == 3
    monkeypatch.setattr(planted.Raising, "attribute", planted.Killed.__mro__[1].attribute)
    assert bench(*args).exit_code == 3
    assert bench(*args, "--retry-failed").exit_code == 0
    assert len(lines(out)) == 2 and len(rows(out)) == 1


def test_fresh_forgets(bench, out):
    args = ("--cases", "planted/polynomial", "--methods", "ig", *PLAIN, "--out", out)
    bench(*args)
    assert "kept" not in bench(*args, "--fresh").output
    assert len(lines(out)) == 1


def test_a_torn_journal_is_completed(bench, out):
    args = ("--cases", "planted/polynomial", *SOUND, *PLAIN, "--out", out)
    bench(*args)
    whole = (out / "cells.jsonl").read_bytes()
    (out / "cells.jsonl").write_bytes(whole[: len(whole) * 5 // 8])
    assert bench(*args).exit_code == 0
    keys = [json.loads(line)["key"] for line in lines(out)]
    assert len(keys) == len(set(keys)) == 4


def test_a_damaged_journal_ends_with_five(bench, out):
    args = ("--cases", "planted/polynomial", *SOUND, *PLAIN, "--out", out)
    bench(*args)
    (out / "cells.jsonl").write_text("nonsense\n" + (out / "cells.jsonl").read_text())
    done = bench(*args)
    assert done.exit_code == 5 and "line 1" in done.output and "Traceback" not in done.output


def test_kills_lose_and_double_no_cell(own_process, environment, out):
    Path(environment["LIVES"]).write_text("3")
    args = ("--cases", "planted/polynomial,planted/second", "--methods", "ig,killed,random", *PLAIN,
            "--out", out)  # fmt: skip
    codes = []
    before = []
    while not codes or codes[-1] == -9:
        codes.append(own_process(*args).returncode)
        assert lines(out)[: len(before)] == before
        before = lines(out)
    assert codes == [-9, -9, -9, 0]
    keys = [json.loads(line)["key"] for line in lines(out)]
    assert len(keys) == len(set(keys)) == 6


def test_an_interrupt_keeps_what_is_finished(bench, out, planted, monkeypatch):
    def interrupted(self, task):
        raise KeyboardInterrupt

    monkeypatch.setattr(planted.Raising, "attribute", interrupted)
    done = bench("--cases", "planted/second", "--methods", "ig,raising", *PLAIN, "--out", out)
    assert done.exit_code == 130 and "interrupted" in done.output
    assert len(rows(out)) == 1
    assert "1 not run yet" in (out / "report.html").read_text()


def test_a_folder_that_is_a_file_ends_with_five(bench, out):
    out.write_text("")
    done = bench("--cases", "planted/polynomial", "--out", out)
    assert done.exit_code == 5 and "cannot write into" in done.output
    done = bench("--cases", "planted/polynomial", "--out", out / "below")
    assert done.exit_code == 5 and "choose another --out" in done.output


def test_a_locked_folder_ends_with_five(bench, own_process, out):
    with RunFolder(out).locked():
        done = own_process("--cases", "planted/polynomial", "--out", out)
    assert done.returncode == 5
    assert "another run works in" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "args", [("--cases", "nothing*"), ("--methods", "igg"), ("--metrics", "x"), ("--domains", "y")]
)
def test_no_match_ends_with_four_and_names_the_pattern(bench, out, args):
    done = bench(*args, "--out", out)
    assert done.exit_code == 4 and repr(args[1]) in done.output
    assert not out.exists()


@pytest.mark.parametrize(
    "args", [("--suite", "huge"), ("--limit", "0"), ("--seed", "x"), ("what",)]
)
def test_a_wrong_call_ends_with_two(bench, args):
    assert bench(*args).exit_code == 2


def test_a_dry_run_writes_nothing(bench, tmp_path, out):
    before = sorted(tmp_path.rglob("*"))
    done = bench("--cases", "planted/*", "--dry-run", "--out", out)
    assert done.exit_code == 0 and "to run" in done.output and "unavailable" in done.output
    assert sorted(tmp_path.rglob("*")) == before


def test_smoke_is_the_default_suite_and_named_cases_are_of_any(bench):
    listed = bench("list").output
    assert "planted/polynomial" in listed and "planted/second" not in listed
    assert "planted/second" in bench("list", "--suite", "full").output
    assert "planted/second" in bench("list", "--cases", "planted/*").output


def test_a_costly_method_runs_in_larger_suites_and_where_it_is_named():
    def methods(**selected):
        chosen = Selection(domains=("text",), **selected)
        return {cell.method.name for cell in plan(ig.plugins(), chosen, Settings()).cells}

    assert {"ig", "loo"} <= methods() and "sig" not in methods()
    assert "sig" in methods(suite="default")
    assert methods(methods=("sig",)) == {"sig"}


def test_a_case_is_loaded_once(bench, out, planted, monkeypatch):
    loads = []
    original = planted.closed_form
    case = planted.CASES[0]
    monkeypatch.setitem(case.__dict__, "load", lambda folder: loads.append(1) or original(folder))
    bench("--cases", "planted/polynomial", *SOUND, *PLAIN, "--out", out)
    assert loads == [1]
    bench("--cases", "planted/polynomial", *SOUND, *PLAIN, "--out", out)
    assert loads == [1]


def test_the_run_names_no_host_user_or_folder(bench, out, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "somebody"))
    bench("--cases", "planted/broken", "--methods", "ig", *PLAIN, "--out", out)
    text = (out / "run.json").read_text() + (out / "cells.jsonl").read_text()
    assert "no such weights in ~/secret" in text
    for private in (str(tmp_path), str(Path.cwd())):
        assert private not in text
    assert not re.search(rf"\b{re.escape(platform.node())}\b", text)


def test_a_terminal_gets_names_as_text(environment, out):
    """On a real terminal: the bar and the tables, with no escape sequence but our own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, 0x5414, b"\x32\x00\xff\x00\0\0\0\0")  # TIOCSWINSZ: 50 rows of 255 columns.
    process = subprocess.Popen(
        [sys.executable, SCRIPT, "bench", "--cases", "planted/<*", "--methods", "ig,raising",
         "--metrics", "completeness", "--out", out],
        env={**environment, "TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            got = os.read(ours, 65536)
        except OSError:
            break
        if not got:
            break
        shown += got
    os.close(ours)
    assert process.wait() == 3
    assert b"[red]x[/red]" in shown
    assert b"[/red]\x1b[31m" not in shown and b"\x07" not in shown


def test_a_median_ignores_what_is_undefined():
    measure = runner.Measure.of([1.0, float("nan"), float("inf"), 3.0])
    assert measure == runner.Measure(2.0, 2, (1.0, None, None, 3.0))


def test_exit_codes_are_told_apart():
    assert len({cli.SOME_FAILED, cli.NOTHING, cli.STORAGE, cli.INTERRUPTED}) == 4


@pytest.mark.parametrize(
    "fault", [SystemExit(0), GeneratorExit(), type("Odd", (BaseException,), {})()]
)
@pytest.mark.parametrize("where", ["method", "case", "metric", "finish", "view"])
def test_nothing_that_is_raised_ends_a_run_but_an_interrupt(
    bench, out, planted, monkeypatch, fault, where
):
    def raised(*args, **more):
        raise fault

    if where == "method":
        monkeypatch.setattr(planted.Raising, "attribute", raised)
    elif where == "case":
        monkeypatch.setitem(planted.CASES[1].__dict__, "load", raised)
    elif where == "metric":
        monkeypatch.setattr(planted.Fragile, "measure", raised)
    elif where == "finish":
        monkeypatch.setattr(TensorDomain, "finish", raised)
    else:
        monkeypatch.setattr(Attribution, "_repr_html_", raised)
    metrics = ("--metrics", "fragile" if where == "metric" else "completeness")
    cases = "planted/second,planted/polynomial"
    done = bench("--cases", cases, "--methods", "ig,raising", *metrics, "--out", out)
    assert done.exit_code == 3, done.output
    found = rows(out)
    assert len(found) == 4
    method = "raising" if where == "method" else "ig"
    assert type(fault).__name__ in found["planted/second", method].error


def test_kept_results_are_those_that_the_domain_completed(bench, out, monkeypatch):
    def finish(self, task, results):
        return [replace(r, display={**r.display, "facts": {"F(half)": "0.5"}}) for r in results]

    monkeypatch.setattr(TensorDomain, "finish", finish)
    done = bench("--cases", "planted/polynomial", "--methods", "ig", *PLAIN, "--out", out)
    assert done.exit_code == 0, done.output
    assert "F(half)" in (out / "report.html").read_text("utf-8")


def test_a_case_that_changes_the_working_folder_moves_nothing(
    bench, planted, monkeypatch, tmp_path
):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()

    def wandering(folder):
        os.chdir(tmp_path / "there")
        return planted.closed_form(folder)

    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setitem(planted.CASES[0].__dict__, "load", wandering)
    done = bench("--cases", "planted/polynomial", "--methods", "ig", *PLAIN, "--out", "run")
    assert done.exit_code == 0 and "\nrun/report.html\n" in done.output
    assert (tmp_path / "here" / "run" / "report.html").exists()
    assert not any((tmp_path / "there").iterdir()) and Path.cwd() == tmp_path / "here"


def test_a_case_is_announced_before_it_loads(bench, out):
    args = ("--cases", "planted/polynomial", "--methods", "ig,random", *PLAIN, "--out", out)
    told = bench(*args).output.splitlines()
    assert told[0].startswith("preparing planted/polynomial (the first time it may train")
    assert sum(line.startswith("preparing") for line in told) == 1
    assert "preparing" not in bench(*args, "--fresh", "--progress", "none").output


def test_a_case_loads_without_the_bars_of_its_framework(bench, out, planted, monkeypatch):
    name = "HF_HUB_DISABLE_PROGRESS_BARS"
    monkeypatch.delenv(name, raising=False)
    seen = []
    original = planted.closed_form
    monkeypatch.setitem(
        planted.CASES[0].__dict__,
        "load",
        lambda f: seen.append(os.environ.get(name)) or original(f),
    )
    bench("--cases", "planted/polynomial", "--methods", "ig", *PLAIN, "--out", out)
    assert seen == ["1"] and name not in os.environ


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--tol", "-1"), "tol must lie between 0 and 1"),
        (("--tol", "nan"), "tol must lie between 0 and 1"),
        (("--budget", "0"), "budget must be at least 11 (got 0)"),
        (("--device", "moon"), "device 'moon' cannot be used"),
        (("--device", "cuda:99"), "device 'cuda:99' cannot be used"),
    ],
)
def test_a_setting_that_cannot_be_used_ends_with_two_at_once(bench, out, args, told, dry):
    done = bench("--cases", "planted/polynomial", *args, *dry, "--out", out)
    assert done.exit_code == 2 and told in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not out.exists()


def test_the_folder_is_that_of_the_suite_and_a_dry_run_names_it(bench, out):
    assert bench("--dry-run").output.startswith("would write into runs/smoke\n")
    assert bench("--dry-run", "--suite", "default").output.startswith("would write into runs/def")
    assert f"would write into {out}" in bench("--dry-run", "--out", out).output
