"""How far can a reward model be pushed before gold falls, and which of its errors make it fall?

"whole 300": from 300 labels of people who check one claim in four, or "one layer", or a "bag" of
words; "member 1": the whole model once more from the same 300 labels, with other luck of training;
"checked 0.5": from 1,000 labels of people who check half; "noise heavy": gold plus noise, which
correlates with gold as "whole 300" does; "ensemble worst": five members joined, "ensemble single":
the mean over the five, each alone. Each is pushed by best of n. Half a minute an arm, more with
10,000 labels.
"""

from functools import partial

from rlhf_lite import hacking, proxies
from rlhf_lite.experiments import load

import numpy as np
from scipy.stats import spearmanr

hasty = load("_hasty")
LAB, FEW, NS = hasty.HastyLab, hasty.FEW, hasty.NS

SEEDS = (0, 1, 2)
SIZES, COUNTS = ("bag", "one layer", "whole"), (100, 300, 1000, 3000, 10_000)
KNOB, KNOB_COUNT, MEMBERS = (0.0, 0.5, 0.75, 1.0), 1000, 5
FITTED = 64  # largest n that the fit may see
PICKED = (0, 7, 14)  # prompts whose best of n the slider shows

ARMS = [
    {
        **{f"{z} {c}": {"size": z, "count": c}
           for c in (FEW, *(c for c in COUNTS if c != FEW)) for z in SIZES[::-1]},
        **{f"member {m}": {"member": m} for m in range(1, MEMBERS)},
        **{f"checked {q}": {"count": KNOB_COUNT, "checked": q} for q in KNOB},
    },
    {
        **{f"noise {kind}": {"noise": kind} for kind in ("light", "heavy")},
        **{f"ensemble {how}": {"ensemble": how} for how in (*proxies.ENSEMBLES, "single")},
    },
]  # fmt: skip


def measure(lab, seed, noise="", ensemble="", **proxy):
    """Push one proxy; return the curve of gold, prompt by prompt, and what else is known of it."""
    if noise:
        few = np.mean([lab.correlation(scored(lab, s)[1]) for s in SEEDS])
        return {"gold": hacking.push(lab.noisy(noise, seed, few), lab.gold, NS)}
    if ensemble:
        tables = [scored(lab, seed, member=m)[1] for m in range(MEMBERS)]
        return {"gold": joined(lab, np.stack(tables), ensemble)}
    labels, table = scored(lab, seed, **proxy)
    found = {"longer preferred": hasty.longer_preferred(labels), **lab.pushed(table)}
    if "size" in proxy:
        found["forms"] = forms(found["gold"].mean(0))
        if seed == SEEDS[0]:
            found["picks"] = picks(lab, table)
    return found


def scored(lab, seed, size="whole", count=FEW, member=0, checked=hasty.CHECKED):
    """Return (labels, table) of a proxy; the table is kept, as later arms join or match it."""
    labels = lab.labels(count, seed, checked)
    lab.folder.mkdir(parents=True, exist_ok=True)
    path = lab.folder / f"{size} {count} {checked} {member} {seed}.npy"
    if not path.exists():
        table = lab.table(lab.train(labels, seed + 100 * member, size))
        np.save(half := path.with_suffix(".half.npy"), table)
        half.rename(path)
    return labels, np.load(path)


def joined(lab, tables, how):
    """Return the curves of gold of proxies (M, P, N) that are joined, or the mean over them."""
    if how == "single":
        return np.mean([hacking.push(t, lab.gold, NS) for t in tables], 0)
    table = proxies.ensemble(tables.reshape(len(tables), -1), how)
    return hacking.push(np.asarray(table).reshape(lab.gold.shape), lab.gold, NS)


def forms(curve):
    """Return the fits of both of Gao's forms up to FITTED, and what they predict for the last n."""
    d, gain = hacking.root_kl(NS), curve - curve[0]
    kept, found = [i for i, n in enumerate(NS) if 1 < n <= FITTED], {"measured": gain[-1]}
    for form in ("best-of-n", "RL"):
        found[form] = hacking.fit_gold(d[kept], gain[kept], form)
        found[f"{form} predicts"] = hacking.predict_gold(d[-1:], *found[form], form)[0]
    return found


def picks(lab, table):
    """Return {prompt: [[text, gold] of the best of its first n for each n]}."""
    found = {}
    for p in PICKED:
        best = [int(table[p, :n].argmax()) for n in NS]
        found[lab.pool.prompts[p]] = [[lab.pool.texts[p][i], lab.gold[p, i]] for i in best]
    return found


# ---- what predictions are judged by ----


def order_of_peak(record, names):
    """Return the rank correlation of the mean curves' peaks with the order of arms, (seeds,)."""
    peaks = [record.arm(name, "gold").mean(1).argmax(1) for name in names]
    places = range(len(names))
    # Peaks that all lie at one n have no order.
    return np.array([spearmanr(places, p)[0] if len(set(p)) > 1 else 0.0 for p in zip(*peaks)])


def prediction_error(record, name):
    """Return |foretold - measured| gain at the last n, (seeds,) [sd of gold]."""
    foretold, measured = (
        record.arm(name, "forms", key) for key in ("best-of-n predicts", "measured")
    )
    return np.abs(foretold - measured) / record["gold sd"]


STATISTICS = {
    **{f"fall, {c} labels": partial(hasty.fall, name=f"whole {c}") for c in (100, 300, 10_000)},
    **{
        f"fall, {kind} noise": partial(hasty.fall, name=f"noise {kind}")
        for kind in ("light", "heavy")
    },
    "order of peak with labels": partial(order_of_peak, names=[f"whole {c}" for c in COUNTS]),
    "order of peak with size": partial(order_of_peak, names=[f"{z} {KNOB_COUNT}" for z in SIZES]),
    "error of the prediction": partial(prediction_error, name=f"whole {FEW}"),
    "fall, single - worst of five": partial(
        hasty.fall_gap, one="ensemble single", other="ensemble worst"
    ),
    "fall, nobody checks - all checked": partial(
        hasty.fall_gap, one="checked 0.0", other="checked 1.0"
    ),
}


def summary(lab, record):
    """Return the sizes and counts that the arms have, and what gold is like."""
    few = record.arm(f"whole {FEW}", "correlation").mean()
    return {
        "sizes": SIZES, "counts": COUNTS, "ns": NS, "gold sd": lab.gold.std(1).mean(),
        "rationality": lab.auditor.rationality, "noise correlation": few,
    }  # fmt: skip
