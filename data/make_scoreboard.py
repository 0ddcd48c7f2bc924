"""Write the scoreboard of all registered predictions into README.md.

    python data/make_scoreboard.py

The predictions stand in data/predictions.toml, the numbers in data/runs; what stands between the
two marks in README.md is replaced.
"""

from rlhf_lite.predictions import scoreboard
from rlhf_lite.runtime import ROOT

MARKS = "<!-- scoreboard -->", "<!-- end of the scoreboard -->"


def main():
    readme = ROOT / "README.md"
    head, _, rest = readme.read_text(encoding="utf-8-sig").partition(MARKS[0])
    tail = rest.partition(MARKS[1])[2]
    text = f"{head}{MARKS[0]}\n{scoreboard()}\n{MARKS[1]}{tail}"
    readme.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
