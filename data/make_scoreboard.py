"""Write the scoreboard of all registered predictions: the counts into README.md, each verdict here.

    python data/make_scoreboard.py

The predictions stand in data/predictions.toml, the numbers in data/runs. In README.md what stands
between the two marks is replaced; data/scoreboard.md is written anew.
"""

from rlhf_lite.predictions import scoreboard
from rlhf_lite.runtime import ROOT

MARKS = "<!-- scoreboard -->", "<!-- end of the scoreboard -->"
INTRO = (
    "Written by `python data/make_scoreboard.py` from [predictions.toml](predictions.toml) and\n"
    "[runs](runs); how to read it stands in the [README](../README.md#the-scoreboard)."
)


def parts():
    """Return the counts, the title of the list and its rows, each as Markdown."""
    counts, _, folded = scoreboard().partition("<details><summary>")
    title, _, rows = folded.partition("</summary>")
    return counts.strip(), title, rows.removesuffix("</details>").strip()


def main():
    counts, title, rows = parts()
    readme = ROOT / "README.md"
    head, _, rest = readme.read_text(encoding="utf-8-sig").partition(MARKS[0])
    tail = rest.partition(MARKS[1])[2]
    readme.write_text(
        f"{head}{MARKS[0]}\n{counts}\n{MARKS[1]}{tail}", encoding="utf-8", newline="\n"
    )
    text = f"# {title}\n\n{INTRO}\n\n{rows}\n"
    (ROOT / "data" / "scoreboard.md").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
