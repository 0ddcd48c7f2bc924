"""Plant faults in the formulas of the package, one at a time, and say which of them no test sees.

    python tests/bench/mutants.py --count 120 --seed 0 [--only ppo] [--list]

A fault is one small change of the syntax tree: a sign, a bound, a constant, a mean for a sum, a call left out. Each is
put into a copy of the tree, in a child of a process that has torch loaded already, and the tests of its module run
until the first one fails. Faults in what a test cannot and need not see (messages, pictures, docstrings) are not
planted; some of the others change nothing that anybody could measure, and a reader must judge the survivors.
"""

import argparse
import ast
import contextlib
import copy
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = {
    "world/asking": "asking worldfiles",
    "truth": "truth",
    "attacks": "attacks",
    "models": "models foreign checkpoints",
    "sampling": "sampling foreign",
    "training": "training checkpoints policies",
    "checks": "checks doors",
    "feedback": "feedback",
    "edits": "edits",
    "annotators": "annotators",
    "labellers": "labellers",
    "pools": "pools",
    "rewards": "rewards checkpoints",
    "proxies": "proxies",
    "judging": "judging",
    "knowledge": "knowledge bias",
    "diversity": "diversity",
    "optimum": "optimum",
    "testbed": "testbed",
    "scores": "scores",
    "rollouts": "policies ppo direct checkpoints",
    "steps": "policies checkpoints scores",
    "policies": "policies ppo checkpoints",
    "ppo": "ppo policies checkpoints",
    "direct": "direct policies",
    "supervised": "supervised",
    "hacking": "hacking",
    "records": "records",
    "rulers": "rulers",
    "experiments": "experiments",
    "predictions": "predictions",
}
SWAPS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
NAMES = {"mean": "sum", "sum": "mean", "max": "min", "min": "max", "argmax": "argmin", "maximum": "minimum",
         "minimum": "maximum", "log1p": "exp", "expm1": "exp", "cumsum": "clone", "exp": "expm1"}  # fmt: skip


def places(node, found=None):
    """List the nodes that can be changed; messages, annotations, decorators and defaults of fields are left alone."""
    found = [] if found is None else found
    for name, value in ast.iter_fields(node):
        skip = name in ("annotation", "returns", "decorator_list")
        if skip or isinstance(node, ast.JoinedStr | ast.Raise):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                if changed(child) is not None:
                    found.append(child)
                places(child, found)
    return found


def changed(node):
    """Return a changed copy of a node, or None where nothing is to be changed."""
    new = copy.deepcopy(node)
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
        new.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        new.ops = [SWAPS[type(node.ops[0])](), *node.ops[1:]]
    elif isinstance(node, ast.BoolOp):
        new.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        return new.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        new.value = not node.value
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        new.value = node.value + 1 if isinstance(node.value, int) else node.value * 1.5 + 0.1
    elif isinstance(node, ast.Attribute) and node.attr in NAMES and isinstance(node.ctx, ast.Load):
        new.attr = NAMES[node.attr]
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return ast.copy_location(ast.Pass(), node)
    else:
        return None
    return new


def plant(path, number):
    """Return (source with fault `number` in it, its description); number None returns how many there are."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    nodes = [n for f in functions for n in places(f)]
    if number is None:
        return len(nodes)
    old = nodes[number]
    new = ast.copy_location(changed(old), old)
    text = f"{path.stem}:{old.lineno}: {ast.unparse(old)}  ->  {ast.unparse(new)}"

    class Put(ast.NodeTransformer):
        def visit(self, node):
            return new if node is old else super().generic_visit(node)

    return ast.unparse(ast.fix_missing_locations(Put().visit(tree))), text


def seen(tree, tests, limit):
    """Run tests on a changed tree in a child process; return whether one of them fails or the time runs out."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        import pytest

        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])
        os._exit(int(code))
    end = time.time() + limit
    while time.time() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status != 0
        time.sleep(0.1)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def files(module):
    """List the test files of a module."""
    return [f"tests/test_{name}.py" for name in TESTS[module].split()]


def main():
    """Plant, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one module")
    parser.add_argument(
        "--list", action="store_true", help="name the faults without running anything"
    )
    args = parser.parse_args()
    modules = [args.only] if args.only else list(TESTS)
    every = [(m, n) for m in modules for n in range(plant(ROOT / "rlhf_lite" / f"{m}.py", None))]
    picked = sorted(random.Random(args.seed).sample(every, min(args.count, len(every))))
    os.environ |= {"OMP_NUM_THREADS": "1"}
    import matplotlib.pyplot  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch
    import transformers  # noqa: F401

    torch.set_num_threads(1)
    survived = []
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(
            ROOT, tree, ignore=shutil.ignore_patterns(".git", "notebooks", "__pycache__")
        )
        for module in sorted({m for m, _ in picked} if not args.list else ()):
            if seen(tree, files(module), 600):
                sys.exit(f"the tests of {module} fail without any fault")
        for count, (module, number) in enumerate(picked, 1):
            path = tree / "rlhf_lite" / f"{module}.py"
            whole = path.read_text(encoding="utf-8")
            source, text = plant(path, number)
            if not args.list:
                path.write_text(source, encoding="utf-8")
                found = seen(tree, files(module), 300)
                path.write_text(whole, encoding="utf-8")
                survived += [] if found else [text]
                text = f"{'seen    ' if found else 'SURVIVED'} {text}"
            print(f"{count}/{len(picked)} {text}", flush=True)
    if not args.list:
        print(f"{len(picked)} faults planted, {len(picked) - len(survived)} seen by a test")


if __name__ == "__main__":
    main()
