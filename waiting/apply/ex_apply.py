"""Make the exercises check themselves: replace stubs and checks in notebooks and solutions.

    python ex_apply.py ROOT

Each operation of ex/ops.json is keyed on the exact source of a cell, or on an exact piece of it.
What is already done is left alone; what does not match is listed at the end, and nothing else of
that notebook depends on it. New code cells have no outputs: execute the notebooks afterwards.
"""
import hashlib, json, subprocess, sys
from pathlib import Path

root = Path(sys.argv[1])
ops = json.loads((Path(__file__).parent / "ex" / "ops.json").read_text(encoding="utf-8"))
missed = []
for name, todo in ops.items():
    path = root / name
    book = json.loads(path.read_text(encoding="utf-8"))
    cells = book["cells"]
    source = lambda c: "".join(c["source"])
    done = already = 0

    def made(kind, text, old_id, n, salt):
        cell = {"cell_type": kind}
        if kind == "code":
            cell["execution_count"] = None
        cell["id"] = old_id if n == 0 else hashlib.sha1(f"{name}{salt}{n}".encode()).hexdigest()[:8]
        cell["metadata"] = {}
        if kind == "code":
            cell["outputs"] = []
        cell["source"] = text.splitlines(keepends=True)
        return cell

    for op in todo:
        if "old" in op:
            hits = [k for k, c in enumerate(cells) if source(c) == op["old"]]
            present = [c for _, c in op["new"] if any(source(x) == c for x in cells)]
            if len(hits) == 1 and not (len(op["new"]) == 1 and op["new"][0][1] == op["old"]):
                k = hits[0]
                if [source(c) for c in cells[k : k + len(op["new"])]] == [t for _, t in op["new"]]:
                    already += 1  # the first new cell is the old one
                    continue
                cells[k : k + 1] = [made(kind, text, cells[k]["id"], n, op["old"])
                                    for n, (kind, text) in enumerate(op["new"])]
                done += 1
            elif len(present) == len(op["new"]):
                already += 1
            else:
                missed.append(f"{name}: cell {op['old'][:70]!r} ({len(hits)} found)")
        else:
            where = cells[op["cell"] : op["cell"] + 1] if "cell" in op else cells
            if op["by"] and any(op["by"] in source(c) for c in where):
                already += 1
                continue
            hits = [c for c in where if source(c).count(op["sub"]) == 1]
            if op["sub"].startswith("from scipy.stats import spearmanr"):
                hits = [c for c in cells[1:2] if op["sub"] in source(c)]
                if not hits:
                    already += 1
                    continue
            if len(hits) == 1:
                text = source(hits[0]).replace(op["sub"], op["by"])
                hits[0]["source"] = text.splitlines(keepends=True)
                done += 1
            else:
                missed.append(f"{name}: text {op['sub'][:70]!r} ({len(hits)} found)")
    path.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{name}: {done} done, {already} already")
subprocess.run([sys.executable, "-m", "ruff", "format", "-q", *ops], cwd=root, check=True)
print("\n".join(["not matched:", *missed]) if missed else "everything matched")
