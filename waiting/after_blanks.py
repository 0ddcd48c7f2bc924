"""Put the cells that wait for data/runs/blanks.json into 03 and 03b (run once, when the record is there; then execute both).

    python after_record.py /work/main/notebooks          # 01: copy waiting_01_base_model_sampling.ipynb over it instead
Prose that needs the record stands in white brackets.
"""
import json, sys
from pathlib import Path

TRUTH = '''
blanks = records.read("blanks")
for key, what in (("known", "true, false: known"), ("strangers", "true, false: strangers"),
                  ("voice", "encyclopedia, tabloid")):  # fmt: skip
    wins, low, high, seeds = predictions.interval(blanks.arm("twins", key))
    print(f"{what:22s}: the first of two wins {wins:.1%} [{low:.1%}, {high:.1%}], {seeds} seeds")'''
CROSSES = ('shuffled = record.arm("shuffled", "accuracy")', 'coins = np.mean(records.read("blanks").arm("coins", "accuracy"), axis=1)')
DRAWN = ('ax.plot([2700, 3000, 3300], 100 * np.array(shuffled), "x", color=show.REFERENCE, ms=9)',
         'ax.plot(np.geomspace(2000, 4500, len(coins)), 100 * coins, "x", color=show.REFERENCE, ms=5)')
SAID = ('half, low, high, _ = predictions.interval(shuffled)\nprint(f"three controls: mean {half:.1%}, 95% interval {low:.1%} to {high:.1%}")',
        'half, low, high, _ = predictions.interval(coins)\nprint(f"{len(coins)} controls: mean {half:.1%}, 95% interval {low:.1%} to {high:.1%}")\nprint(f"one by one {coins.min():.1%} to {coins.max():.1%}")')
NOBODY = '''blanks = records.read("blanks")
fig, ax = plt.subplots(figsize=(7, 3))
for row, kind in enumerate(("critique", "correction", "rating")):
    colour = show.KIND_LOOKS[kind][0]
    for arm, marker, up in ((kind, "o", 0.12), (f"{kind}, nobody", "x", -0.12)):
        ranks = np.mean(blanks.arm(arm, "rank"), axis=1)  # over prompts, one a seed
        ax.plot(ranks, np.full(len(ranks), row + up), marker, color=colour, ms=6, alpha=0.7)
        mean, low, high, seeds = predictions.interval(ranks)
        print(f"{arm:19s} rank {mean:+z.2f} [{low:+z.2f}, {high:+z.2f}], {seeds} seeds")
ax.axvline(0, color=show.INK, lw=0.8)
ax.set_yticks(range(3), ["critique", "correction", "rating"])
ax.set_xlabel("rank correlation with the utility")
ax.set_title("1,000 labels of people (dots) and of nobody (crosses)");'''


def source(cell, text):
    cell["source"] = text.splitlines(keepends=True)


def swap(cells, old, new):
    [cell] = [c for c in cells if old in "".join(c["source"])]
    source(cell, "".join(cell["source"]).replace(old, new))


def new(kind, text, id):
    cell = {"cell_type": kind, "id": id, "metadata": {}}
    source(cell, text)
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def save(path, book):
    path.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(folder):
    path = folder / "03_reward_model.ipynb"
    book = json.loads(path.read_text(encoding="utf-8"))
    cells = book["cells"]
    [truth] = [c for c in cells if "twins = record.arm" in "".join(c["source"])]
    source(truth, "".join(truth["source"]) + TRUTH)
    for old, text in (CROSSES, DRAWN, SAID):
        swap(cells, old, text)
    swap(cells, "three controls, labels shuffled", "twenty controls, labels tossed")
    swap(cells, "The control is weak: two of its three crosses coincide, near 43%, and with three seeds the interval holds a half and much else.", "\u27e6The control: mean and interval over twenty seeds; how far single runs stray.\u27e7")
    swap(cells, "Three seeds and 300 pairs leave room, though: bet *o* asks again with 2,000.", "\u27e6With 2,000 pairs: the interval; and the words of the encyclopedia win ... over the tabloid's.\u27e7")
    swap(cells, "Their run is still to come.", "\u27e6Verdicts of l, m, n, o.\u27e7")
    save(path, book)
    path = folder / "03b_five_kinds.ipynb"
    book = json.loads(path.read_text(encoding="utf-8"))
    cells = book["cells"]
    at = next(n for n, c in enumerate(cells) if c["id"] == "kinds-18")
    head, _, ladder = "".join(cells[at]["source"]).partition("Ratings have a dial of their own")
    source(cells[at], head + "Three seeds of 300 labels are few. Here are fourteen of 1,000, from people and from *nobody*, a labeller at zero rationality.\n\n**Predict first.** Three rows: where will the crosses lie?")
    cells[at + 1 : at + 1] = [
        new("code", NOBODY, "kinds-nobody-1"),
        new("markdown", "<details><summary>Answer</summary>\n\n\u27e6Which crosses lie off zero, and by how much the dots are beyond them.\u27e7\n\n</details>\n\nRatings have a dial of their own" + ladder, "kinds-nobody-2"),
    ]
    swap(cells, "Their run is still to come.", "\u27e6Verdicts of p to u.\u27e7")
    save(path, book)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
