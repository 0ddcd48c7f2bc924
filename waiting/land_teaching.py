"""Run in a clone after 03b / 04b (or others) have landed: turns their "(in preparation)" in TEACHING.md into links."""
import re
from pathlib import Path
p = Path("notebooks/TEACHING.md"); t = p.read_text(encoding="utf-8")
for f in sorted(Path("notebooks").glob("[0-9][0-9]b_*.ipynb")):
    n = f.name[:3]
    t = re.sub(rf"^### ({n} · .+) \(in preparation\)$", rf"### [\1]({f.name})", t, flags=re.M)
    t = t.replace(f"| {n} |", f"| [{n}]({f.name}) |")
p.write_text(t, encoding="utf-8", newline="\n")
