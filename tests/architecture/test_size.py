"""The core stays small enough to be read in an evening."""

import ast
import io
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUDGET = 5_542
LAYOUT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
}  # fmt: skip


def code_lines(source):
    """Lines that hold code: neither blank, nor comment, nor docstring."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def test_blank_lines_comments_and_docstrings_do_not_count():
    source = '"""Doc.\n\nMore."""\n\n# why\nx = (1,\n     2)\n"""About x."""\n'
    assert code_lines(source) == 2


def test_the_small_core_keeps_its_line_budget():
    """Without bench and its cases, report, testing and the command line."""
    sizes = {
        path.name: code_lines(path.read_text())
        for path in sorted((ROOT / "ig_core").glob("*.py"))
        if path.name not in ("cli.py", "cases.py")
    }
    assert sum(sizes.values()) <= BUDGET, sizes


def test_lines_and_modules_are_short():
    long = {
        str(path.relative_to(ROOT)): code_lines(path.read_text())
        for folder in ("ig_core", "plugins")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if code_lines(path.read_text()) > 450
    }
    assert long == {}


def test_the_core_prints_only_from_the_command_line():
    for path in sorted((ROOT / "ig_core").rglob("*.py")):
        if path.name == "cli.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            assert not (called and node.func.id == "print"), f"{path.name}:{node.lineno}"
