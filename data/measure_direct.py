"""Train and measure every method of notebook 13; record them in data/runs/direct.json.

    python data/measure_direct.py --bed        # about 12 minutes: the testbed, all of it exact
    python data/measure_direct.py              # and the language model: about 4 minutes an arm
    python data/measure_direct.py --seeds 1    # the language model with the first seed alone
    python data/measure_direct.py --only "lm-RLOO, k = 4-0"

Killed? The same command goes on: each finished arm lies in data/runs/my-direct. One process, one
thread. On the testbed each method gets the same four learning rates, tried on seed 10 with half
the steps; the seeds reported are others. On the language model all take the rate of PPO.
"""

import argparse
import copy
import json
import time

from rlhf_lite import direct, optimum, policies, ppo, records, testbed
from rlhf_lite.runtime import DATA

import numpy as np
import torch
from measure_ppo import Bench

SEEDS = (0, 1, 2)
QUICK = (0, 1, 2, 3, 4)  # where a run takes less than a minute and no race is on
TUNED_ON = 10
RATES = (5e-4, 1e-3, 2e-3, 4e-3)
BED_COEF, BED_STEPS, BED_SAMPLES = 0.7, 200, 256
METHODS = {
    "PPO": (ppo.PPORun, {}),
    "REINFORCE": (direct.ReinforceRun, {"group": 1}),
    "RLOO, k = 2": (direct.RLOORun, {"group": 2}),
    "RLOO, k = 4": (direct.RLOORun, {"group": 4}),
    "RLOO, k = 8": (direct.RLOORun, {"group": 8}),
    "GRPO": (direct.GRPORun, {"group": 8}),
    "GRPO, undivided": (direct.GRPORun, {"group": 8, "divide": False}),
    "GRPO, KL in reward": (direct.GRPORun, {"group": 8, "k3_loss": False}),
    "rejection": (direct.RejectionRun, {"group": 4}),
    "BoN distillation": (direct.RejectionRun, {"group": 8, "pool": -1}),
    "DPO offline": (direct.DPORun, {"group": 2, "pool": -1}),
    "DPO online": (direct.DPORun, {"group": 2}),
}
LM_COEF = 0.54
LM_DIALS = {"steps": 30, "samples": 252, "lr": 1e-4, "kl_coef": LM_COEF}
LM_ORDER = {
    "RLOO, k = 4": {}, "DPO online": {}, "DPO offline": {}, "GRPO": {"group": 4},
    "rejection": {}, "PPO": {}, "GRPO, undivided": {"group": 4},
    "BoN distillation": {"group": 16, "samples": 256}, "REINFORCE": {}, "RLOO, k = 2": {},
}  # fmt: skip
FRESH = 12  # samples a prompt that measure a language model
SPREADS = (0.5, 0.8, 1.25, 2.0)  # of the four prompts' scores, to see what division does
THIN, RICH = 1, 40  # batches of pairs for offline DPO
PARTIAL = DATA / "runs" / "my-direct"


def kept(name, make):
    """Return what make() found, from PARTIAL where it lies there already."""
    path = PARTIAL / f"{name}.json"
    if not path.exists():
        PARTIAL.mkdir(exist_ok=True)
        found = make()
        path.write_text(json.dumps(found), encoding="utf-8")
        print(name, "done", time.strftime("%H:%M:%S"), flush=True)
    return json.loads(path.read_text(encoding="utf-8"))


def rounded(value, digits=5):
    """Round the floats of anything nested."""
    if isinstance(value, dict):
        return {k: rounded(v, digits) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v, digits) for v in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


# ---- the testbed ----


BED = testbed.new_testbed(0, words=2)


def bed_run(method, seed, lr, steps=BED_STEPS, **dials):
    """Return an untrained run of a method on the testbed."""
    kind, own = METHODS[method]
    own = own | dials
    own = own | ({"pool": steps} if own.get("pool") == -1 else {})
    config = (ppo.PPOConfig if kind is ppo.PPORun else direct.DirectConfig)(
        kl_coef=BED_COEF, steps=steps, samples=BED_SAMPLES, minibatches=2, max_new_tokens=3,
        bfloat16=False, lr=lr, seed=seed, **own,
    )  # fmt: skip
    return kind(copy.deepcopy(BED.model), None, BED.tokenizer, BED.prompts, BED.score, config)


@torch.no_grad()
def bed_logprobs(model):
    """Return log pi of all answers, (P, S), float64 array."""
    return torch.log_softmax(BED.sequence_logprobs(model), 1).numpy()


def bed_exact(model):
    """Return [KL(pi || pi*), KL(pi* || pi), J, KL(pi || pi0)] of a policy."""
    found = testbed.exact(bed_logprobs(model), BED.base_logprobs, BED.scores, BED_COEF)
    return [found.to_optimum, found.from_optimum, found.objective, found.kl]


def train_bed(method, seed, lr, steps=BED_STEPS, every=10, look=bed_exact, **dials):
    """Train on the testbed; return {"curve": a row every few steps, "stopped": why or ""}.

    A row: samples, seconds of training, and what `look` says of the policy.
    """
    run, seconds, stopped = bed_run(method, seed, lr, steps, **dials), 0.0, ""
    rows = [[0, 0.0, *look(run.policy)]]
    try:
        for step in run:
            seconds += step.seconds
            if step.step % every == 0:
                rows.append([step.step * BED_SAMPLES, seconds, *look(run.policy)])
    except (policies.PolicyError, optimum.OptimumError) as error:
        stopped = str(error)[:120]
    found = {"lr": lr, "seed": seed, "curve": rows, "stopped": stopped}
    if method.startswith("GRPO"):
        found["to_rest"] = to_rest(run)
    return rounded(found)


def to_rest(run):
    """Return KL(pi || the rest of large groups) of a GRPO policy."""
    config, ours = run.config, bed_logprobs(run.policy)
    # With the KL in the reward it is divided as well, and pi*, where all returns are equal, rests.
    looks = (config.divide, 3) if config.k3_loss else (False, 0)
    rest = direct.fixed_point(BED.base_logprobs, BED.scores, BED_COEF, *looks)[0]
    return kl(ours, rest)


def kl(left, right):
    """Return KL(left || right) [nats], the mean over prompts."""
    return float((np.exp(left) * (left - right)).sum(1).mean())


def tune(method):
    """Return {rate: KL(pi || pi*) at the end} on the seed for tuning, 99 for a stopped run."""
    found = {}
    for lr in RATES:
        run = train_bed(method, TUNED_ON, lr, BED_STEPS // 2, every=BED_STEPS // 2)
        found[f"{lr:g}"] = 99.0 if run["stopped"] else run["curve"][-1][2]
    return found


def gradients(run, count=40):
    """Return the mean squared length of batch gradients about their mean, and of that mean."""
    found = []
    for run.step in range(1000, 1000 + count):
        batch = run.rollout()
        parts, lesson, _ = run.plan(batch)
        loss = sum(run.loss(batch, part, lesson)[0] for part in parts) / len(parts)
        pulls = torch.autograd.grad(loss, list(run.policy.parameters()))
        found.append(torch.cat([p.flatten() for p in pulls]))
    table = torch.stack(found).double()
    return float(table.var(0).sum()), float(table.mean(0).pow(2).sum())


def noise(seed):
    """Return {method: [[variance, signal] at the base, after 40 steps of RLOO]} at 256 samples."""
    start = bed_run("RLOO, k = 4", seed, 1e-3)
    found = {}
    for place in (0, 40):
        while start.step < place:
            start.advance()
        for name in ("REINFORCE", "RLOO, k = 2", "RLOO, k = 4", "RLOO, k = 8", "no baseline"):
            run = bed_run("REINFORCE" if name == "no baseline" else name, 100 + seed, 1e-3)
            run.policy.load_state_dict(start.policy.state_dict())
            if name == "no baseline":
                run.advantages = run.returns
            found.setdefault(name, []).append(gradients(run))
    return rounded(found)


def coverage(seed, pool, lr):
    """Train DPO offline on few or many pairs; follow chosen, rejected and what was never seen."""
    run = bed_run("DPO offline", seed, lr, pool=pool)
    pairs = []
    for run.step in range(pool):
        batch = run.rollout()
        places = [BED._place(n, t) for n, t in enumerate(batch.texts)]
        pairs += [(places[c], places[r]) for c, r in zip(*run.pairs(batch))]
    run.step = 0
    chosen, rejected = (np.array(side).T for side in zip(*pairs))
    seen = np.zeros(BED.scores.shape, bool)
    seen[tuple(chosen)] = seen[tuple(rejected)] = True

    def look(model):
        ours = bed_logprobs(model)
        unseen = float((np.exp(ours) * ~seen).sum(1).mean())
        told = [float(ours[tuple(side)].mean()) for side in (chosen, rejected)]
        return [*bed_exact(model), *told, unseen]

    best = testbed.optimal_logprobs(BED.base_logprobs, BED.scores, BED_COEF)
    rows = [[0, *look(run.policy)]]
    for step in run:
        if step.step % 10 == 0:
            rows.append([step.step, *look(run.policy)])
    ideal = [float(best[tuple(side)].mean()) for side in (chosen, rejected)]
    ideal.append(float((np.exp(best) * ~seen).sum(1).mean()))
    return rounded({"pairs": len(pairs), "curve": rows, "best": ideal})


def rests():
    """Return where GRPO rests with prompts of unlike spread: KL to the base and to pi*."""
    scores = BED.scores * np.array(SPREADS)[:, None]
    best = testbed.optimal_logprobs(BED.base_logprobs, scores, BED_COEF)

    def rows(table):
        probs = np.exp(table)
        return {
            "to base": (probs * (table - BED.base_logprobs)).sum(1).tolist(),
            "to best": (probs * (table - best)).sum(1).tolist(),
            "score": (probs * scores).sum(1).tolist(),
        }

    found = {"pi*": rows(best)}
    for name, divide, forward in (
        ("undivided", False, False), ("divided", True, False),
        ("undivided, k3", False, 3), ("divided, k3", True, 3),
    ):  # fmt: skip
        table, coefs = direct.fixed_point(BED.base_logprobs, scores, BED_COEF, divide, forward)
        found[name] = rows(table) | {"coef": coefs.tolist()}
    return rounded(found)


def pulls_of_k3(seed):
    """Compare the expected gradient of k3 as a loss with those of both KLs, by enumeration."""
    run = bed_run("RLOO, k = 4", seed, 1e-3)
    for _ in range(20):
        run.advance()
    model, base = run.policy, torch.tensor(BED.base_logprobs)

    def pull(value):
        grads = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
        return torch.cat([g.flatten() for g in grads if g is not None]).double()

    ours = BED.sequence_logprobs(model)
    k3 = pull((ours.detach().exp() * policies.kl_estimates(ours, base)[2]).sum(1).mean())
    ours = BED.sequence_logprobs(model)
    forward = pull((base.exp() * (base - ours)).sum(1).mean())
    ours = BED.sequence_logprobs(model)
    backward = pull((ours.exp() * (ours - base)).sum(1).mean())

    def cosine(a, b):
        return float(a @ b / (a.norm() * b.norm()))

    return {
        "error to KL(ref || pi)": float((k3 - forward).norm() / forward.norm()),
        "error to KL(pi || ref)": float((k3 - backward).norm() / backward.norm()),
        "cosine to KL(pi || ref)": cosine(k3, backward),
        "lengths": float(k3.norm() / backward.norm()),
    }  # fmt: skip


def bed_results():
    """Return everything that is measured on the testbed."""
    torch.set_num_threads(1)
    tuning = {m: kept(f"tune-{m}", lambda m=m: tune(m)) for m in METHODS}
    rates = {m: float(min(t, key=t.get)) for m, t in tuning.items()}
    arms = {
        m: [kept(f"bed-{m}-{s}", lambda m=m, s=s: train_bed(m, s, rates[m])) for s in SEEDS]
        for m in METHODS
    }
    lr = rates["DPO offline"]
    return {
        "coef": BED_COEF, "steps": BED_STEPS, "samples": BED_SAMPLES, "tuning": tuning,
        "tuned on": TUNED_ON, "rates": rates, "arms": arms, "spreads": SPREADS, "rests": rests(),
        "noise": [kept(f"noise-{s}", lambda s=s: noise(s)) for s in QUICK],
        "k3": [kept(f"k3-{s}", lambda s=s: pulls_of_k3(s)) for s in QUICK],
        "coverage": {
            name: [kept(f"pairs-{name}-{s}", lambda s=s, p=p: coverage(s, p, lr)) for s in QUICK]
            for name, p in (("thin", THIN), ("rich", RICH))
        },
    }  # fmt: skip


# ---- the language model ----


class Told(direct.DPORun):
    """Be a run of DPO that writes down what it thinks of each pair before it learns from it."""

    def plan(self, rollout):
        """Note log pi - log ref of chosen and rejected, means over the batch."""
        gap = ((rollout.logprobs - rollout.ref_logprobs) * rollout.real).sum(1)
        rows = self.pairs(rollout)
        self.told = [*getattr(self, "told", []), [float(gap[side].mean()) for side in rows]]
        return super().plan(rollout)


def train_lm(bench, gold, method, seed):
    """Train and measure one method on the language model."""
    kind, own = METHODS[method]
    dials = LM_DIALS | own | LM_ORDER[method] | {"seed": seed}
    if dials.get("pool") == -1:
        dials["pool"] = dials["steps"]
    config = ppo.PPOConfig if kind is ppo.PPORun else direct.DirectConfig
    kind = Told if kind is direct.DPORun else kind
    run = kind(
        copy.deepcopy(bench.base), bench.base, bench.tokenizer, bench.prompts, bench.score,
        config(**dials),
    )  # fmt: skip
    steps, stopped = [], ""
    try:
        for s in run:
            judged = float(gold(s.texts).mean()) if s.step % 3 == 1 or s.step == s.of else None
            steps.append([s.step, s.score, s.kl, judged, s.seconds])
    except policies.PolicyError as error:
        stopped = str(error)[:200]
    drawn = bench.draw(run.policy, bench.score, FRESH, 1000 + seed)
    objective, error = drawn.objective(LM_COEF)
    judged = gold([t for row in drawn.texts for t in row])
    return rounded({
        "dials": dials, "objective": objective, "objective_se": error,
        "score": float(drawn.scores.mean()), "kl": drawn.kl(), "gold": float(judged.mean()),
        "gold_se": float(judged.std() / len(judged) ** 0.5), "n": len(judged),
        "seconds": float(np.median([row[-1] for row in steps])) * len(steps),
        "history": steps, "stopped": stopped,
        "told": getattr(run, "told", None), "text": drawn.texts[5][0],
    })  # fmt: skip


def lm_results(seeds, train=True):
    """Return the arms on the language model, those that are done, as {name: [a seed each]}."""
    parts = []
    found = {}
    for seed in seeds:
        for method in LM_ORDER:
            name = f"lm-{method}-{seed}"
            if not (PARTIAL / f"{name}.json").exists():
                if not train:
                    continue
                if not parts:
                    bench = Bench()
                    parts += [bench, bench.gold("scholar")]
            found.setdefault(method, []).append(
                kept(name, lambda p=parts, m=method, s=seed: train_lm(*p, m, s))
            )
    return found


# ---- the record ----


def claims_of(bed, lm):
    """Return the statistics that data/claims.toml asks for, one value a seed."""
    arms = bed["arms"]

    def end(method):
        return [99.0 if a["stopped"] else a["curve"][-1][2] for a in arms[method]]

    def worst(*methods):
        return [max(v) for v in zip(*map(end, methods))]

    def less(left, right):
        return [a - b for a, b in zip(left, right)]

    def lost(arms):
        return [a["curve"][-1][1] for a in arms]

    thin, rich = (bed["coverage"][kind] for kind in ("thin", "rich"))
    further = [
        a - b for a, b in zip(bed["rests"]["divided"]["to base"], bed["rests"]["pi*"]["to base"])
    ]
    found = {
        "KL to pi*, worse of PPO and RLOO": worst("PPO", "RLOO, k = 4"),
        "KL to pi*, GRPO as published": end("GRPO"),
        "KL to pi*, thin - rich pairs": less(lost(thin), lost(rich)),
        "KL to pi*, thin pairs": lost(thin),
        "gradient variance, k = 2 / k = 8": [
            n["RLOO, k = 2"][1][0] / n["RLOO, k = 8"][1][0] for n in bed["noise"]
        ],
        "KL to base beyond pi*, narrow prompt": further[:1],
        "KL to base beyond pi*, wide prompt": further[3:],
        "log pi of chosen gained, thin pairs": [c["curve"][-1][5] - c["curve"][0][5] for c in thin],
        "unseen mass gained, thin pairs": [c["curve"][-1][7] - c["curve"][0][7] for c in thin],
        "k3 error to KL(ref || pi)": [k["error to KL(ref || pi)"] for k in bed["k3"]],
    }  # fmt: skip
    if {"RLOO, k = 4", "DPO online", "DPO offline"} <= set(lm):
        best = optimum.Pool.read(DATA / "runs" / "pool.npz").at(LM_COEF, 10)
        share = {m: [optimum.share(a["objective"], best) for a in lm[m]] for m in lm}
        theirs = records.read_record("ppo")["results"]["claims"]["share of the gain at 0.54"]
        found |= {
            "share of the gain, RLOO - PPO": less(share["RLOO, k = 4"], theirs),
            "share of the gain, DPO online - offline": less(
                share["DPO online"], share["DPO offline"]
            ),
        }  # fmt: skip
    return rounded(found)


def main():
    records.plain_output()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bed", action="store_true", help="the testbed alone")
    parser.add_argument("--seeds", type=int, default=3, help="seeds on the language model")
    parser.add_argument("--record", action="store_true", help="write what is done, train nothing")
    parser.add_argument("--only", help="train one arm of the language model and print it")
    args = parser.parse_args()
    if args.only:
        method, _, seed = args.only.removeprefix("lm-").rpartition("-")
        bench = Bench()
        return print(
            json.dumps(train_lm(bench, bench.gold("scholar"), method, int(seed)), indent=1)
        )
    bed = bed_results()
    lm = lm_results(SEEDS[: args.seeds], train=not (args.bed or args.record))
    results = {"bed": bed, "lm": lm, "lm coef": LM_COEF, "claims": claims_of(bed, lm)}
    records.write_record("direct", results, "python data/measure_direct.py", list(SEEDS))
    print("wrote data/runs/direct.json")


if __name__ == "__main__":
    main()
