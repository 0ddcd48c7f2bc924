"""Measure the arms of an experiment side by side, keep what is done, and write its record.

An experiment is one file, data/experiments/NAME.py, that holds only what differs:

    its docstring                  the question, in one line, and what the arms are
    SEEDS                          of every arm, e.g. (0, 1, 2)
    ARMS                           {name: arguments of measure}, or a list of such dicts, later ones
                                   needing what earlier ones have kept; "seeds" overrides SEEDS
    measure(lab, seed, **arm)      the numbers of one arm, a dict
    MINUTES                        that an arm takes, where no record tells yet
    STATISTICS                     {name: function of the Record}, what predictions are judged by
    summary(lab, record)           more entries of the record, where there are any
    LAB                            a class of Lab that holds more, where several need it

`data/measure.py` runs it. Omits queues and several machines. Used by notebook 03 and all after it.
"""

import copy
import importlib.util
import json
import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache, cached_property
from multiprocessing import get_context
from pathlib import Path

from rlhf_lite import models, ppo, records, rewards, rollouts
from rlhf_lite.annotators import Reader, load_annotators
from rlhf_lite.feedback import fingerprint
from rlhf_lite.records import Record
from rlhf_lite.runtime import DATA
from rlhf_lite.sampling import respond
from rlhf_lite.world import World, draw_prompts

import numpy as np
import torch
from tqdm import tqdm

FOLDER = DATA / "experiments"
ASKED, EACH = 84, 200  # training prompts, and base responses to each
HELD_OUT, HELD_EACH = 21, 96  # prompts about people whom training never asks for


class ExperimentError(ValueError):
    """Says in one sentence why an experiment cannot be measured."""


# ---- what all experiments share ----


class Lab:
    """What every arm starts from, each part made when it is first asked for.

    folder: where an experiment keeps pieces of its own; base, tokenizer: the shipped base model;
    reward: the shipped reward model, a function of texts; prompts: the 84 that training asks;
    responses, held_out: {prompt: base responses}, about people of training and others; read: a
    Reader; people: {name: Annotator}.
    """

    def __init__(self, folder):
        self.folder = folder

    @cached_property
    def world(self):
        """Return the World."""
        return World()

    @cached_property
    def _loaded(self):
        return models.load(DATA / "models" / "base")

    @property
    def base(self):
        """Return the base model, which no arm may train: see `policy`."""
        return self._loaded[0]

    @property
    def tokenizer(self):
        """Return the tokenizer of all models."""
        return self._loaded[1]

    @cached_property
    def reward(self):
        """Return the shipped reward model."""
        # The size of a batch moves the last digits, and so would whole runs of training.
        return replace(rewards.load(DATA / "models" / "reward"), batch=64)

    @cached_property
    def prompts(self):
        """List the prompts that policies are trained and measured on."""
        return sorted(set(draw_prompts(self.world, ASKED)))

    @cached_property
    def read(self):
        """Return the eyes of all annotators."""
        return Reader(self.world)

    @cached_property
    def people(self):
        """Return the annotators by name."""
        return load_annotators(self.world)

    @cached_property
    def responses(self):
        """Return {prompt: base responses} about the people of training."""
        return base_responses(self.world)

    @cached_property
    def held_out(self):
        """Return {prompt: base responses} about people whom no label is about."""
        return base_responses(self.world, held_out=True)

    def utilities(self, person, responses):
        """Return an Annotator's utility of {prompt: responses}, one array a prompt [points]."""
        return [
            np.array([person.utility(self.read(p + r)) for r in said])
            for p, said in responses.items()
        ]

    def policy(self):
        """Return a copy of the base model to train."""
        return copy.deepcopy(self.base)

    def draw(self, policy, score, count, seed):
        """Draw `count` fresh responses to every prompt; return Draws."""
        return rollouts.draw(policy, self.base, self.tokenizer, self.prompts, score, count, seed)

    def ppo(self, score, kind=ppo.PPORun, **dials):
        """Return a run of PPO on a copy of the base model, untrained; dials as in PPOConfig."""
        config = ppo.PPOConfig(**dials)
        return kind(self.policy(), self.base, self.tokenizer, self.prompts, score, config)

    def gold(self, name):
        """Return an annotator's own utility as a score of texts, in sd of base samples."""
        person = self.people[name]

        def utility(texts):
            return torch.tensor([person.utility(self.read(t)) for t in texts])

        sample = self.draw(self.base, utility, 6, 8).scores
        return lambda texts: (utility(texts) - sample.mean()) / sample.std()

    def train_reward(self, rows, seed, kind="preference", base=None):
        """Train a reward model on `rewards.examples`; return it.

        About 3,000 labels are read in all; base: the model to start from, the base model if None.
        """
        config = rewards.RewardConfig(
            passes=rewards.passes_for(len(rows)), batch=min(32, max(8, len(rows) // 10)), seed=seed
        )
        run = rewards.RewardRun(base or self.base, self.tokenizer, kind, rows, config)
        for _ in run:
            pass
        return run.reward_model()

    def arm(self, name, seed):
        """Return the numbers of an arm of an earlier stage, of the record where none are kept."""
        path = self.folder / f"{name} {seed}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        return records.read(self.folder.name.removeprefix("my-"))["arms"][name][str(seed)]

    def kept(self, name, make):
        """Return what make() found, from this experiment's folder where it was made before."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            _keep(path, make())
        return json.loads(path.read_text(encoding="utf-8"))


def base_responses(world, held_out=False):
    """Return {prompt: base responses}, from data/feedback where they were drawn before."""
    name = "held_out.json" if held_out else "my-responses.json"
    path, stamp = DATA / "feedback" / name, fingerprint()
    if path.exists():
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["world"] == stamp:
            return record["responses"]
    count, each = (HELD_OUT, HELD_EACH) if held_out else (ASKED, EACH)
    model, tokenizer = models.load(DATA / "models" / "base")
    prompts = [q for q in draw_prompts(world, count, 0, held_out) for _ in range(each)]
    said = []
    for start in tqdm(range(0, len(prompts), 480), desc=name, unit=" batches"):
        part = prompts[start : start + 480]
        said += respond(model, tokenizer, part, seed=1000 * held_out + start, batch=240)
    responses = by_prompt(prompts, said)
    _keep(path, {"world": stamp, "seed": 0, "responses": responses}, indent=0)
    return responses


def by_prompt(prompts, said):
    """Return {prompt: its responses}, those left out that say nothing."""
    responses = {}
    for prompt, text in zip(prompts, said):
        if text.strip():
            responses.setdefault(prompt, []).append(text)
    return responses


def _keep(path, found, indent=None):
    """Write a piece down, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(rounded(found), indent=indent) + "\n"
    half.write_text(text, encoding="utf-8", newline="\n")
    os.replace(half, path)


def rounded(value, digits=6):
    """Round the floats of anything nested to significant digits; arrays become lists."""
    if isinstance(value, dict):
        return {k: rounded(v, digits) for k, v in value.items()}
    if isinstance(value, (np.ndarray, torch.Tensor, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [rounded(v, digits) for v in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


# ---- one experiment ----


@cache
def load(name, folder=FOLDER):
    """Return the experiment NAME, a module; raise ExperimentError where there is none."""
    path = folder / f"{name}.py"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in folder.glob("[a-z]*.py")))
        raise ExperimentError(f"no experiment {name!r} in {folder.name}; expected one of {known}")
    spec = importlib.util.spec_from_file_location(f"experiment_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arms_of(module):
    """Return {name: arguments} of the arms of all stages."""
    return {n: {k: v for k, v in a.items() if k != "seeds"}
            for stage in _stages(module) for n, a in stage.items()}  # fmt: skip


def _stages(module):
    return [module.ARMS] if isinstance(module.ARMS, dict) else module.ARMS


def statistics(module, record):
    """Return {name: table} that predictions are judged by: (seeds,), or (seeds, clusters)."""
    return {name: rounded(np.asarray(f(record))) for name, f in module.STATISTICS.items()}


@dataclass(frozen=True)
class Experiment:
    """One experiment and where its record goes: `Experiment("ppo").measure()`.

    name: a file in folder, without .py; runs: where records lie, and finished arms until all are
    done.
    """

    name: str
    folder: Path = FOLDER
    runs: Path = DATA / "runs"

    def jobs(self, seeds=None):
        """List (arm, seed), stage by stage; seeds: how many of each arm, all if None."""
        module = load(self.name, self.folder)
        if seeds is not None and seeds < 1:
            raise ExperimentError(f"seeds is {seeds}; expected a number of seeds, 1 or more")
        return [
            [(arm, s) for arm, own in stage.items() for s in own.get("seeds", module.SEEDS)[:seeds]]
            for stage in _stages(module)
        ]

    def measure_one(self, arm, seed):
        """Measure one arm with one seed, on one thread; return its numbers with its seconds."""
        torch.set_num_threads(1)
        self._kept.mkdir(parents=True, exist_ok=True)
        start, module = time.perf_counter(), load(self.name, self.folder)
        found = module.measure(self._lab, seed, **arms_of(module)[arm])
        return {"seconds": round(time.perf_counter() - start, 1), **found}

    def finish(self, arm, seed):
        """Measure one arm and keep it."""
        _keep(self._path(arm, seed), self.measure_one(arm, seed))

    def _path(self, arm, seed):
        return self._kept / f"{arm} {seed}.json"

    @property
    def _kept(self):
        return self.runs / f"my-{self.name}"

    @property
    def _lab(self):
        return _lab(self._kept, getattr(load(self.name, self.folder), "LAB", Lab))

    def _arms(self, jobs):
        """Return the kept arms by name and seed."""
        arms = {}
        for arm, seed in (job for stage in jobs for job in stage):
            text = self._path(arm, seed).read_text(encoding="utf-8")
            arms.setdefault(arm, {})[str(seed)] = json.loads(text)
        return arms

    def forecast(self, seeds=None, workers=None):
        """Say how many arms are left and how long they take, as those of the record did.

        Without a record the experiment's MINUTES an arm are believed, if it has any.
        """
        module, workers = load(self.name, self.folder), workers or os.cpu_count()
        todo = [job for stage in self.jobs(seeds) for job in stage if not self._path(*job).exists()]
        try:
            arms = records.read(self.name, self.runs)["arms"]
        except records.RecordError:
            arms = {}
        usual = 60 * getattr(module, "MINUTES", np.nan)
        minutes = sum(_seconds(arms.get(arm, {}), usual) for arm, _ in todo) / 60 / workers
        length = "for how long nobody knows yet" if np.isnan(minutes) else f"{minutes:.0f} minutes"
        return f"{self.name}: {len(todo)} arms left, {workers} at a time, {length}"

    def measure_arm(self, arm, seeds=None):
        """Return {seed: numbers} of one arm, measured again and not kept."""
        found = [s for stage in self.jobs(seeds) for name, s in stage if name == arm]
        if not found:
            known = ", ".join(arms_of(load(self.name, self.folder)))
            raise ExperimentError(f"{self.name} has no arm {arm!r}; expected one of {known}")
        return {str(seed): rounded(self.measure_one(arm, seed)) for seed in found}

    def measure(self, seeds=None, workers=None):
        """Measure all arms that are not kept yet, and write the record; return its path.

        With fewer seeds the record is my-NAME.json, without statistics, so that the whole one
        stays. workers: arms side by side, as many as cores if None; 1 stays in this process.
        """
        module, jobs = load(self.name, self.folder), self.jobs(seeds)
        for number, stage in enumerate(jobs, 1):
            todo = [job for job in stage if not self._path(*job).exists()]
            title = f"{self.name}, stage {number} of {len(jobs)}"
            for _ in tqdm(self._finish(todo, workers or os.cpu_count()), title, len(todo)):
                pass
        results, whole = {"arms": self._arms(jobs)}, jobs == self.jobs()
        if hasattr(module, "summary"):
            more = module.summary(self._lab, Record(self.name, results, {}))
            results |= rounded(more)
        command = f"python data/measure.py {self.name}"
        if not whole:
            results, command = {**results, "statistics": {}}, f"{command} --seeds {seeds}"
            return records.write(f"my-{self.name}", results, command, seeds, self.runs)
        results["statistics"] = statistics(module, Record(self.name, results, {}))
        path = records.write(self.name, results, command, list(module.SEEDS), self.runs)
        shutil.rmtree(self._kept)  # so that the next measurement is one, and not this one again
        return path

    def _finish(self, todo, workers):
        """Finish jobs, one after another or side by side; yield after each."""
        if workers == 1:
            yield from (self.finish(*job) for job in todo)
            return
        with ProcessPoolExecutor(workers, get_context("spawn")) as crew:
            try:
                for future in as_completed([crew.submit(self.finish, *job) for job in todo]):
                    yield future.result()
            except BaseException:
                crew.shutdown(cancel_futures=True)
                raise

    def judge_again(self):
        """Compute the statistics of the record again, from its own arms; return its path."""
        record = records.read(self.name, self.runs)
        found = statistics(load(self.name, self.folder), record)
        results = record.results | {"statistics": found}
        return records.rewrite(self.name, results, record.made, self.runs)


def _seconds(runs, usual):
    """Return how long the recorded runs of an arm took on average, or what is usual."""
    found = [run["seconds"] for run in runs.values() if "seconds" in run]
    return np.mean(found) if found else usual


def overview(folder=FOLDER, runs=DATA / "runs"):
    """List the experiments: name, minutes that its recorded arms took on one thread, question."""
    rows = []
    for path in sorted(folder.glob("[a-z]*.py")):
        question = load(path.stem, folder).__doc__.split("\n")[0]
        try:
            arms = records.read(path.stem, runs)["arms"].values()
            minutes = sum(run.get("seconds", 0) for arm in arms for run in arm.values()) / 60
            rows.append(f"{path.stem:12} {minutes:5.0f} min  {question}")
        except records.RecordError:
            rows.append(f"{path.stem:12}   not yet  {question}")
    return rows


@cache
def _lab(folder, kind):
    """Return this process's Lab for an experiment."""
    return kind(folder)
