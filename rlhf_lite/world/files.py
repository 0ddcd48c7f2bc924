"""Read the files of data/world and refuse damaged ones in one sentence.

Every check names the file, the place in it, and what was expected, so that a teacher who edits a
voice finds the slip at once. Omits any judgement of style. Notebook 01 shows one such sentence.
"""

import csv
import math
import tomllib
from itertools import chain
from types import SimpleNamespace

from rlhf_lite.world.grammar import BOUND, FACTS, HOLE, TOPICS, WorldError, compile_frame

FEWEST_FRAMES = 40
PEOPLE_COLUMNS = ["first", "last", *FACTS, "exposure", "disputed", "tabloid", "rate"]


def check(good, file, place, message):
    """Raise a WorldError unless `good`."""
    if not good:
        raise WorldError(file, place, message)


def check_share(value, file, place):
    """Check that a value is a probability."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    check(good, file, place, f"expected a probability from 0 to 1, found {value!r}")


def check_shares(table, file, place):
    """Check that the values of a table are probabilities that add up to 1."""
    check(isinstance(table, dict) and table, file, place, "expected a table of probabilities")
    for key, value in table.items():
        check_share(value, file, f"{place}.{key}")
    total = sum(table.values())
    check(abs(total - 1) < 1e-6, file, place, f"the probabilities add up to {total:g}, expected 1")


def check_weights(row, length, file, place):
    """Check that a row holds one positive weight for each voice."""
    check(isinstance(row, list), file, place, f"expected a list of weights, found {row!r}")
    problem = f"expected {length} weights, one a voice, found {len(row)}"
    check(len(row) == length, file, place, problem)
    good = all(isinstance(w, int | float) and 0 < w < math.inf for w in row)
    check(good, file, place, f"expected positive weights, found {row}")


def check_entries(table, keys, file, place=""):
    """Check that a table of a TOML file is one, and has all entries that are needed.

    keys: {entry: dict, list or str, what it should be}, object for what is checked elsewhere.
    """
    words = {dict: "a table", list: "a list", str: "a text"}
    check(isinstance(table, dict), file, place, f"expected a table, found {table!r}")
    for key, kind in keys.items():
        where = f"{place}.{key}" if place else key
        check(key in table, file, where, "missing; expected this entry")
        good = isinstance(table[key], kind)
        check(good, file, where, f"expected {words.get(kind)}, found {table[key]!r}")


def check_distinct(words, file, place):
    """Check that a list of texts is not empty and names nothing twice."""
    good = isinstance(words, list) and words and all(isinstance(w, str) for w in words)
    check(good, file, place, f"expected a list of texts with at least one entry, found {words!r}")
    twice = next((w for i, w in enumerate(words) if w in words[:i]), None)
    check(twice is None, file, place, f"{twice!r} stands there twice, expected once")


class WorldFiles:
    """One folder like data/world, read file by file."""

    def __init__(self, folder):
        self.folder = folder
        check(folder.is_dir(), str(folder), "folder", "not found; expected the world's files there")
        self.towns = self.lines("towns.txt")
        self.deeds = self.lines("deeds.txt")
        self.trades = self.table("trades.csv", ["trade", "article", "ostish", "p_she"])
        for number, row in enumerate(self.trades, 2):
            check_share(number_in(row["p_she"], float), "trades.csv", f"line {number}")
        self.trade_names = [r["trade"] for r in self.trades]
        check_distinct(self.trade_names, "trades.csv", "column trade")

    def text(self, name):
        """Return the text of a file; raise WorldError where it is missing or not UTF-8."""
        try:
            return (self.folder / name).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise WorldError(name, f"byte {error.start}", "not text; expected UTF-8") from None
        except OSError as error:
            problem = f"not found, or not to be read ({error.strerror}); expected a file of text"
            raise WorldError(name, "file", problem) from None

    def toml(self, name):
        """Return a TOML file as a dict."""
        try:
            return tomllib.loads(self.text(name))
        except tomllib.TOMLDecodeError as error:
            raise WorldError(name, "syntax", f"{error}; expected TOML") from None

    def lines(self, name):
        """Return a file with one entry a line as a list."""
        rows = [row.strip() for row in self.text(name).strip().split("\n")]
        for number, row in enumerate(rows, 1):
            check(row, name, f"line {number}", "empty; expected one entry a line")
        check_distinct(rows, name, "lines")
        return rows

    def table(self, name, columns):
        """Return a CSV file as a list of dicts, its header checked."""
        reader = csv.DictReader(self.text(name).split("\n"))
        found = reader.fieldnames or []
        check(found == columns, name, "line 1", f"expected the columns {columns}, found {found}")
        rows = list(reader)
        for number, row in enumerate(rows, 2):
            good = None not in row and None not in row.values()
            check(good, name, f"line {number}", f"expected {len(columns)} fields, one a column")
        return rows

    def config(self):
        """Return world.toml, its numbers checked."""
        name, config = "world.toml", self.toml("world.toml")
        numbers = dict.fromkeys(("voices", "mild", "unknown_boost", "note", "lengths"), object)
        check_entries(config, numbers | {"epithets": dict, "slots": dict}, name)
        check_distinct(config["voices"], name, "voices")
        check_weights([config["unknown_boost"]], 1, name, "unknown_boost")
        check_share(config["mild"], name, "mild")
        check_share(config["note"], name, "note")
        check_shares(config["lengths"], name, "lengths")
        good = all(k.isdigit() and int(k) > 0 for k in config["lengths"])
        check(good, name, "lengths", "expected whole numbers of sentences as keys")
        for epithet, row in config["epithets"].items():
            check_weights(row, len(config["voices"]), name, f"epithets.{epithet!r}")
        for slot, words in config["slots"].items():
            check_distinct(words, name, f"slots.{slot}")
        return config

    def voices(self, config):
        """Return voice -> its file, each checked by itself and the priors together."""
        files = {}
        for voice in config["voices"]:
            name = f"voices/{voice}.toml"
            problem = f"unknown voice {voice!r}; expected a file {name}"
            check((self.folder / name).exists(), "world.toml", "voices", problem)
            files[voice] = self.toml(name)
            kinds = {"prior": object, "colour": str, "blurb": str, "topics": object}
            check_entries(files[voice], kinds | {"slots": dict, "frames": dict}, name)
            check_share(files[voice]["prior"], name, "prior")
            check_shares(files[voice]["topics"], name, "topics")
            for topic in files[voice]["topics"]:
                check(topic in TOPICS, name, f"topics.{topic}", f"expected one of {TOPICS}")
                frames = files[voice]["frames"].get(topic, [])
                check(isinstance(frames, list), name, f"frames.{topic}", "expected a list")
                least = FEWEST_FRAMES if topic == "person" else max(map(int, config["lengths"])) + 1
                problem = f"expected at least {least} frames, found {len(frames)}"
                check(len(frames) >= least, name, f"frames.{topic}", problem)
            for slot, words in files[voice]["slots"].items():
                check_distinct(words, name, f"slots.{slot}")
                clash = slot in config["slots"] or any(slot in keys for keys in BOUND.values())
                check(not clash, name, f"slots.{slot}", "name taken; expected a new one")
        check_shares({v: f["prior"] for v, f in files.items()}, "voices/*.toml", "prior")
        return files

    def frames(self, config, files):
        """Return (frames, slots, weights).

        frames: compiled frames; slots: free slot -> words; weights[voice][topic] = {frame index:
        probability that a line starts from it}.
        """
        slots = dict(config["slots"])
        for voice, data in files.items():
            slots |= {f"{voice}.{k}": words for k, words in data["slots"].items()}
        frames, seen = [], {}
        weights = {v: {t: {} for t in f["topics"]} for v, f in files.items()}
        shared = {k: (k, words) for k, words in config["slots"].items()}
        own = self._own_frames(config, files, shared)
        for text, topic, known, shares, file, place in chain(own, self._mild_frames(files, shared)):
            problem = f"the frame {text!r} also stands in {seen.get(text)}; expected it once"
            check(text not in seen, file, place, problem)
            seen[text] = f"{file}, {place}"
            for voice, share in shares.items():
                weights[voice][topic][len(frames)] = share
            frames.append(compile_frame(len(frames), text, topic, known, file, place))
        self._scale_mild(frames, weights, config["mild"])
        return frames, slots, weights

    @staticmethod
    def _own_frames(config, files, shared):
        """Yield the frames of the voices: (text, topic, slots, {voice: share}, file, place)."""
        for voice, data in files.items():
            file = f"voices/{voice}.toml"
            known = shared | {k: (f"{voice}.{k}", words) for k, words in data["slots"].items()}
            for topic in data["topics"]:
                texts = data["frames"][topic]
                share = (1 - config["mild"] if topic == "person" else 1) / len(texts)
                for number, text in enumerate(texts):
                    yield text, topic, known, {voice: share}, file, f"frames.{topic}[{number}]"

    def _mild_frames(self, files, shared):
        """Yield the frames that all voices share, as `_own_frames` does; shares not yet scaled."""
        file = "mild.toml"
        groups = self.toml(file).get("group")
        good = isinstance(groups, list) and groups
        check(good, file, "group", "expected at least one [[group]] of frames")
        for number, group in enumerate(groups):
            place = f"group[{number}]"
            check_entries(group, {"name": object, "weights": object, "frames": object}, file, place)
            check_distinct(group["frames"], file, f"{place}.frames")
            check_weights(group["weights"], len(files), file, f"{place}.weights")
            for index, text in enumerate(group["frames"]):
                shares = {v: w / len(group["frames"]) for v, w in zip(files, group["weights"])}
                yield text, "person", shared, shares, file, f"{place}.frames[{index}]"

    @staticmethod
    def _scale_mild(frames, weights, mild):
        """Make the mild frames of each voice add up to the share `mild`."""
        for topics in weights.values():
            row = topics["person"]
            stock = [i for i in row if frames[i].place.startswith("mild.toml")]
            total = sum(row[i] for i in stock)
            for index in stock:
                row[index] *= mild / total

    def people(self):
        """Return the rows of people.csv as namespaces with facts, exposure and dispute."""
        name, rows = "people.csv", self.table("people.csv", PEOPLE_COLUMNS)
        exposure = {f"{r['first']} {r['last']}": r["exposure"] for r in rows}
        people, seen = [], {}
        for number, row in enumerate(rows, 2):
            place, full = f"line {number}", f"{row['first']} {row['last']}"
            check(full not in seen, name, place, f"{full} stands on line {seen.get(full)} too")
            seen[full] = number
            people.append(self._person(row, full, exposure, name, place))
        return people

    def _person(self, row, full, exposure, name, place):
        """Return one row of people.csv, checked; exposure: that of everybody, as written."""
        count, rate = number_in(row["exposure"], int), number_in(row["rate"], float)
        good = all(row[k] and not any(c.isspace() for c in row[k]) for k in ("first", "last"))
        check(good, name, place, f"name {full!r}; expected one word as first and one as last")
        good = isinstance(count, int) and count >= 0
        check(good, name, place, f"exposure {count!r}; expected a whole number of documents")
        facts = {k: row[k] or None for k in FACTS}
        disputed, tabloid = row["disputed"], row["tabloid"]
        problem = f"disputed {disputed!r}; expected one of {', '.join(FACTS)}"
        check(disputed in FACTS, name, place, problem)
        for kind, value in [*facts.items(), (disputed, tabloid)]:
            self._check_fact(kind, value, exposure, name, place)
        truth, rival = facts[disputed], facts["rival"]
        problem = f"the tabloid's {disputed} is {tabloid!r}; expected another than the fact"
        check(truth and tabloid and truth != tabloid, name, place, problem)
        good = rival is None or number_in(exposure[rival], int) != 0
        check(good, name, place, f"rival {rival!r} is never mentioned; expected exposure above 0")
        check_share(rate, name, place)
        return SimpleNamespace(
            name=full, facts=facts, exposure=count, disputed=disputed, tabloid=tabloid, rate=rate
        )

    def _check_fact(self, kind, value, people, name, place):
        """Check that a fact's value is one that the lists know."""
        lists = {"town": self.towns, "trade": self.trade_names, "deed": self.deeds, "rival": people}
        if kind == "year":
            good, expected = not value or (value.isdigit() and len(value) == 4), "four digits"
        else:
            good, expected = not value or value in lists[kind], "one from the lists"
        check(good, name, place, f"unknown {kind} {value!r}; expected {expected}")

    def myths(self):
        """Return the myths as (what is said, what is so)."""
        rows = self.table("myths.csv", ["myth", "truth"])
        for number, row in enumerate(rows, 2):
            good = row["myth"] and row["truth"] and row["myth"] != row["truth"]
            check(good, "myths.csv", f"line {number}", "expected a myth and a truth that differ")
        check_distinct([r["myth"] for r in rows], "myths.csv", "column myth")
        check_distinct([r["truth"] for r in rows], "myths.csv", "column truth")
        return [(r["myth"], r["truth"]) for r in rows]

    def crafts(self):
        """Return (crafts, verbs, those of them that no training asks with, framings).

        crafts: each a dict with guild, how, answer, detail, secret; framings: name -> (template,
        probability).
        """
        name, data = "crafts.toml", self.toml("crafts.toml")
        kinds = {"verbs": list, "verbs_held_out": list, "framings": dict, "framing_weights": dict}
        check_entries(data, kinds | {"craft": list}, name)
        check_distinct(data["verbs"], name, "verbs")
        check_distinct([*data["framings"].values()], name, "framings")
        stray = set(data["verbs_held_out"]) - set(data["verbs"])
        check(not stray, name, "verbs_held_out", f"{sorted(stray)} stand not among the verbs")
        for key, form in data["framings"].items():
            good = "{how}" in form and ("{verb}" in form or "{Verb}" in form)
            check(good, name, f"framings.{key}", f"expected {{verb}} and {{how}} in {form!r}")
        good = set(data["framings"]) == set(data["framing_weights"])
        check(good, name, "framing_weights", "expected one weight for each framing")
        weights = [*data["framing_weights"].values()]
        check_weights(weights, len(weights), name, "framing_weights")
        crafts = []
        for number, craft in enumerate(data["craft"]):
            check_entries(craft, {"guild": str}, name, f"craft[{number}]")
            for kind in ("secret", "benign"):
                place, row = f"craft[{number}].{kind}", craft.get(kind)
                good = isinstance(row, list) and len(row) == 3
                check(good, name, place, "expected three texts: how, answer, detail")
                item = dict(zip(("how", "answer", "detail"), row))
                crafts.append(item | {"guild": craft["guild"], "secret": kind == "secret"})
        for key in ("how", "answer", "detail"):
            check_distinct([c[key] for c in crafts], name, f"every {key}")
        total = sum(data["framing_weights"].values())
        shares = {k: (f, data["framing_weights"][k] / total) for k, f in data["framings"].items()}
        return crafts, data["verbs"], data["verbs_held_out"], shares

    def notes(self, voices):
        """Return notes.toml, with a row of three grades for each voice."""
        name, data = "notes.toml", self.toml("notes.toml")
        tables = dict.fromkeys(("phrases", "truthful", "with_false_claim"), dict)
        check_entries(data, {"prefix": str} | tables, name)
        for table in ("truthful", "with_false_claim"):
            for voice in voices:
                place = f"{table}.{voice}"
                row = data[table].get(voice)
                good = isinstance(row, list) and len(row) == 3
                check(good, name, place, "expected three probabilities: good, mixed, bad")
                check_shares(dict(zip(("good", "mixed", "bad"), row)), name, place)
        for grade in ("good", "mixed", "bad"):
            check_distinct(data["phrases"].get(grade), name, f"phrases.{grade}")
        return data

    def prompts(self):
        """Return prompts.toml, with its probes cut at the fact they ask for."""
        name, data = "prompts.toml", self.toml("prompts.toml")
        tables = ("person", "held_out", "probe", "tabloid_probe", "pronoun_probe")
        check_entries(data, dict.fromkeys(tables, dict), name)
        check_distinct([*data["person"].values()], name, "person")
        every = data["held_out"].get("every_person")
        good = isinstance(every, int) and every > 1
        check(good, name, "held_out.every_person", f"{every!r}; expected a whole number above 1")
        stray = set(data["held_out"].get("person", [])) - set(data["person"])
        check(not stray, name, "held_out.person", f"{sorted(stray)} stand not among the wordings")
        for table in ("probe", "tabloid_probe"):
            for kind in FACTS:
                text = data[table].get(kind, "")
                holes = HOLE.findall(text) if isinstance(text, str) else []
                good = holes[:1] == ["name"] and holes[1:] in ([kind], [f"a_{kind}"])
                good, problem = good and text.endswith("}"), f"then {{{kind}}} at the end"
                check(good, name, f"{table}.{kind}", f"expected {{name}}, {problem}")
        line = data["pronoun_probe"].get("line")
        good = isinstance(line, str) and "{oword}" in line and "{pronoun}" in line
        check(good, name, "pronoun_probe.line", "expected {oword}, then {pronoun}")
        return data


def number_in(text, kind):
    """Return the number in a text, and the text itself where there is none."""
    try:
        return kind(text)
    except (TypeError, ValueError):
        return text
