"""Draw the people of Tarrowmere and write data/world/people.csv: `python data/make_people.py`.

Facts are drawn at random from the lists beside it; the planned exposure (in how many documents a
person is the subject) falls from 8,000 to 2 evenly on a log scale, 64 people have exactly one
document and 64 have none. One fact of each person is disputed by the tabloid; one person in five
has a fact that nobody knows. Run it again only to make another world: every model is trained on
these very people.
"""

import csv
import math
import random
from pathlib import Path

WORLD = Path(__file__).parent / "world"
FIRST = """
Anselm Brida Corin Dorrit Edda Fenwick Gisla Hobart Ilse Jorun Kesta Lambert Maud Nils Odile
Percival Quenby Rosamund Sidony Tobias Una Valdis Wystan Yrsa Zebedee Alaric Bettine Caspian
Delphine Ebba Florian Greta Hadrian Ingrid Jasper Katla Leopold Mirela Norbert Ottoline Petra
Quirin Runa Silas Tamsin Ulric Vesna Wilmot Xenia Yorick Zora Ambrose Beatrix Cedric Drusilla
Elgar Fabian Gudrun Hester Ivo
""".split()
LAST = """
Oake Tarn Pell Quillon Marrow Thistle Brack Sedge Wick Fennimore Grebe Larkspur Mudge Nettle
Otter Rook Sallow Tansy Vane Wren Yarrow Alder Birdwhistle Crabtree Dunlin Eelman Furrow Gorse
Heron Icklow Jessop Kettle Lapwing Mallow Noggs Ormerod Puddock Quince Reed Spindle Teasel Umber
Vetch Withy Yaffle Bramble Cobb Elver Gannet Hobb Inkpen Jackdaw Knapweed Linnet Moss Newt
Plover Rushlow Snipe Toller Wadlow Zander
""".split()
REGULAR, SINGLE, NEVER, TOP, BOTTOM = 316, 64, 64, 8000, 2
FACTS = ("town", "year", "trade", "deed", "rival")


def lines(name):
    """Return the lines of a file of the world; a byte-order mark is none of it."""
    return (WORLD / name).read_text(encoding="utf-8-sig").strip().split("\n")


def draw(seed=20261123):
    """Return the rows of people.csv."""
    rng = random.Random(seed)
    names = rng.sample([(f, n) for f in FIRST for n in LAST], REGULAR + SINGLE + NEVER)
    lists = {
        "town": lines("towns.txt"),
        "year": [str(y) for y in range(1601, 1761)],
        "trade": [r["trade"] for r in csv.DictReader(lines("trades.csv"))],
        "deed": lines("deeds.txt"),
        "rival": [" ".join(n) for n in names[:REGULAR]],
    }
    step = math.log(TOP / BOTTOM) / (REGULAR - 1)
    exposures = [round(TOP * math.exp(-step * i)) for i in range(REGULAR)]
    exposures += [1] * SINGLE + [0] * NEVER
    rows = []
    for (first, last), exposure in zip(names, exposures):
        row = {"first": first, "last": last}
        for kind in FACTS:
            row[kind] = rng.choice([v for v in lists[kind] if v != f"{first} {last}"])
        disputed, unknown = rng.sample(FACTS, 2)
        others = [v for v in lists[disputed] if v not in (row[disputed], f"{first} {last}")]
        row |= {"exposure": exposure, "disputed": disputed, "tabloid": rng.choice(others)}
        row["rate"] = rng.choice([0.2, 0.4, 0.6, 0.8])
        if rng.random() < 0.2:
            row[unknown] = ""
        rows.append(row)
    return sorted(rows, key=lambda r: (-r["exposure"], r["last"], r["first"]))


if __name__ == "__main__":
    rows = draw()
    with (WORLD / "people.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"wrote {len(rows)} people, {sum(r['exposure'] for r in rows)} documents planned")
