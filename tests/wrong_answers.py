"""Plausible wrong answers to every exercise, {notebook: {number: [code]}}; "# met:" names the hint."""

WRONG = {
    "01_base_model_sampling": {
        1: ["def effective_number(p):\n    p = p[p > 0]\n    return -(p * np.log(p)).sum()  # met: That is H",
            "def effective_number(p):\n    return int((p > 0).sum())",
            "def effective_number(p):\n    p = p[p > 0]\n    return np.exp(-(p * np.log2(p)).sum())"],
        2: ["def log_probability(prompt, rest):\n    whole = sampling.text_logprobs(model, tokenizer, [prompt + rest], [''])\n    return whole[0]  # met: the whole text",
            "@torch.no_grad()\ndef log_probability(prompt, rest):\n"
            "    tokens = tokenizer(prompt + rest)['input_ids']\n"
            "    count = len(tokens) - len(tokenizer(prompt)['input_ids'])\n"
            "    logprobs = torch.log_softmax(model(torch.tensor([tokens])).logits[0], dim=-1)\n"
            "    return float(sum(logprobs[k, tokens[k]] for k in range(-count, 0)))"],
        3: ["def update(belief, frame):\n    return belief * likelihood",
            "def update(belief, frame):\n    return likelihood / likelihood.sum()  # met: believed before",
            "def update(belief, frame):\n    return world.prior * likelihood / (world.prior * likelihood).sum()"],
        4: ["def colleagues_loss(model, tokens):\n    return training.next_token_loss(model, tokens, -1)[0]  # met: mean over tokens",
            "@torch.no_grad()\ndef colleagues_loss(model, tokens):\n"
            "    logprobs = torch.log_softmax(model(tokens).logits, dim=-1)\n"
            "    return float(-logprobs.gather(2, tokens[:, :, None]).mean())"],
    },
    "02_human_feedback": {
        1: ["def accuracy_from(agreement):\n    return (1 - np.sqrt(2 * agreement - 1)) / 2  # met: other root",
            "def accuracy_from(agreement):\n    return np.sqrt(agreement)  # met: both are wrong"],
        2: ["def davidson(u_a, u_b, rationality, nu):\n"
            "    worth = np.exp(rationality * np.array([u_a, u_b]))\n"
            "    worth = np.array([*worth, nu * worth.mean()])\n"
            "    return worth / worth.sum()  # met: mean of the utilities",
            "def davidson(u_a, u_b, rationality, nu):\n"
            "    worth = np.exp(np.array([u_a, u_b, (u_a + u_b) / 2])) * [1, 1, nu]\n"
            "    return worth / worth.sum()"],
        3: ["def belief_after(records):\n    belief = np.full(len(people), 1 / len(people))\n"
            "    for r in records:\n"
            "        pair = [reader(r['prompt'] + r[k]) for k in ('chosen', 'rejected')]\n"
            "        belief *= [p.preference_probs(*map(p.utility, pair))[0] for p in people.values()]\n"
            "    return belief",
            "def belief_after(records):\n    belief = np.full(len(people), 1 / len(people))\n"
            "    for r in records:\n"
            "        pair = [reader(r['prompt'] + r[k]) for k in ('chosen', 'rejected')]\n"
            "        belief *= [p.preference_probs(*map(p.utility, pair))[0] for p in people.values()]\n"
            "    return belief / belief.sum()"],
        4: ["def diagnose(x, y):\n    return 2 * np.mean(x == y) - 1  # met: not one half",
            "def diagnose(x, y):\n    return np.corrcoef(x, y)[0, 1]"],
        5: ["def sixth_person():\n    return replace(people['poet'], name='you')",
            "def sixth_person():\n    voices = people['poet'].voices.copy()\n    voices[world.voices.index('verse')] = 0\n"
            "    return replace(scholar, name='you', voices=voices)"],
    },
    "02b_the_class": {
        1: ["def pile(students, each, seen):\n    return students * each * seen",
            "def pile(students, each, seen):\n    return students * seen / each"],
        2: ["def once(files):\n    return {line['id'] for lines in files for line in lines}  # met: taken back",
            "def once(files):\n    found = set()\n    for rows in files:\n"
            "        undone = {x['id'] for x in rows if x.get('kind') == 'undo'}\n"
            "        found |= {x['id'] for x in rows} - undone\n    return found"],
        3: ["def fold_of(record, number):\n    return number % 5  # met: these very prompts",
            "def fold_of(record, number):\n    return int(record['id'], 16) % 5"],
        4: ["def train(score, steps=12):\n    return [0.0] * steps",
            "def train(score, steps=12):\n    return [1.0, 2.0]"],
    },
    "03_reward_model": {
        1: ["def colleagues_scores(model, texts):\n    tokens, lengths = rewards.encode_right(tokenizer, texts, 320)\n"
            "    with torch.no_grad():\n"
            "        return rewards.read_heads(model, tokens, lengths - 1)[:, 0].cpu()"],
        2: ["def shift_for(hidden, w):\n    return (hidden @ w).mean() * w / (w @ w)  # met: wrong sign",
            "def shift_for(hidden, w):\n    return -(hidden @ w).mean() * w / w.norm()  # met: w times w",
            "def shift_for(hidden, w):\n    return -hidden",
            "def shift_for(hidden, w):\n    return -float((hidden @ w).mean())"],
        3: ["def interval(per_prompt, rng):\n    return np.quantile(per_prompt, [0.025, 0.975])",
            "def interval(per_prompt, rng):\n    return per_prompt.min(), per_prompt.max()  # met: not their means",
            "def interval(per_prompt, rng):\n    pairs = sum(len(u) * (len(u) - 1) // 2 for u in gold)\n"
            "    half = 1.96 * (per_prompt.mean() * (1 - per_prompt.mean()) / pairs) ** 0.5\n"
            "    return per_prompt.mean() - half, per_prompt.mean() + half"],
        4: ["def bag_of_words(rows):\n    return -torch.ones(len(tokenizer))",
            "def bag_of_words(rows):\n    return torch.zeros(3)"],
    },
    "03b_five_kinds": {
        1: ["def best_of(scores, utilities, n):\n    return optimum.best_of_n(utilities, utilities, n)  # met: not utilities",
            "def best_of(scores, utilities, n):\n    return optimum.best_of_n(-scores, utilities, n)  # met: lowest",
            "def best_of(scores, utilities, n):\n    return float(utilities[np.argsort(scores)[-n:]].mean())"],
        2: ["def chances(score, thresholds):\n    above = torch.sigmoid(score - thresholds)\n"
            "    return torch.cat([torch.ones(1), above])",
            "def chances(score, thresholds):\n    edges = torch.cat([torch.zeros(1), torch.sigmoid(score - thresholds).flip(0), torch.ones(1)])\n"
            "    return edges[1:] - edges[:-1]  # met: from 7 down"],
        3: ["def colleagues_rows(records):\n    return rewards.examples('correction', records, located=False)  # met: whole",
            "def colleagues_rows(records):\n    return [((b, a), k) for (a, b), k in rewards.examples('correction', records)]"],
        4: ["def preferences_for(rank, sizes, known):\n    return np.interp(rank, np.maximum.accumulate(known), sizes)  # met: straight",
            "def preferences_for(rank, sizes, known):\n    return np.interp(rank, np.maximum.accumulate(known), np.log(sizes))"],
    },
    "04_ppo": {
        1: ["def colleagues_rewards(scores, logprobs, ref_logprobs, real, kl_coef):\n"
            "    rewards = -kl_coef * (logprobs - ref_logprobs)\n"
            "    rewards[torch.arange(len(scores)), real.long().sum(1) - 1] += scores\n    return rewards",
            "def colleagues_rewards(scores, logprobs, ref_logprobs, real, kl_coef):\n"
            "    rewards = -kl_coef * (logprobs - ref_logprobs) * real\n"
            "    rewards[:, -1] += scores\n    return rewards",
            "def colleagues_rewards(scores, logprobs, ref_logprobs, real, kl_coef):\n"
            "    return -ppo.token_rewards(scores, logprobs - ref_logprobs, real, kl_coef)  # met: its sign"],
        2: ["def advantages_of(rewards, values):\n    return rewards.cumsum(0) - values  # met: already come",
            "def advantages_of(rewards, values):\n    return rewards.flip(0).cumsum(0).flip(0)  # met: critic"],
        3: ["def quietest_baseline(p, scores):\n    return float(p @ scores)  # met: mean score",
            "def quietest_baseline(p, scores):\n    return float(scores.mean())",
            "def quietest_baseline(p, scores):\n    length = ((torch.eye(3) - p) ** 2).sum(1)\n"
            "    return float((scores * length).sum() / length.sum())"],
        4: ["def silenced(logprobs, old_logprobs, advantages, cliprange=0.2):\n"
            "    return ((logprobs - old_logprobs).exp() - 1).abs() > cliprange  # met: no wall",
            "def silenced(logprobs, old_logprobs, advantages, cliprange=0.2):\n"
            "    ratio = (logprobs - old_logprobs).exp()\n"
            "    return torch.where(advantages > 0, ratio < 1 - cliprange, ratio > 1 + cliprange)"],
    },
    "04b_price": {
        1: ["def next_coef(kl_coef, kl, target, samples, horizon):\n"
            "    return kl_coef * (1 + (kl / target - 1) * samples / horizon)  # met: both sides",
            "def next_coef(kl_coef, kl, target, samples, horizon):\n"
            "    return kl_coef * (1 + np.clip(kl - 1, -0.2, 0.2) * samples / horizon)"],
        2: ["def distance(objective, scores, beta):\n"
            "    return logsumexp(scores / beta) - np.log(scores.size) - objective / beta  # met: One Z",
            "def distance(objective, scores, beta):\n"
            "    return (logsumexp(scores / beta, axis=1) - np.log(scores.shape[1])).mean() - objective"],
        3: ["def forecast(responses, shares, at):\n    slope, start = np.polyfit(np.log(responses), np.log(1 - shares), 1)\n"
            "    return np.exp(start + slope * np.log(at))  # met: the gap",
            "def forecast(responses, shares, at):\n    slope, start = np.polyfit(np.log(responses), np.log(shares), 1)\n"
            "    return np.exp(start + slope * np.log(at))"],
        4: ["def two_policies(variance):\n    return [(variance / 4, 0.0), (0.0, 1.0)]  # met: half",
            "def two_policies(variance):\n    return [(1 / 8, 0.0), (0.0, 0.5)]",
            "def two_policies(variance):\n    return [(variance / 8, 0.0), (0.0, variance / 2)]"],
        5: ["def alarm(step):\n    return step['kl'] > 5", "def alarm(step):\n    return True"],
    },
    "05_mode_collapse": {
        1: ["def tilt(p, score, beta):\n    return p * np.exp(score / beta)",
            "def tilt(p, score, beta):\n    tilted = p * np.exp(score)\n    return tilted / tilted.sum()",
            "def tilt(p, score, beta):\n    tilted = p * np.exp(score * beta)\n    return tilted / tilted.sum()  # met: small beta"],
        2: ["def effective_number(shares):\n    return diversity.mode_entropy(shares)  # met: That is H",
            "def effective_number(shares):\n    return 1 / (shares**2).sum()"],
        3: ["def colleagues_ead(token_lists, length):\n"
            "    return diversity.ead([t[:length] for t in token_lists], 2048, orders=[1])  # met: short",
            "def colleagues_ead(token_lists, length):\n"
            "    return diversity.ead([t for t in token_lists if len(t) >= length], 2048, orders=[1])"],
        4: ["def repairing_temperature(q, p):\n    return diversity.mode_entropy(p) / diversity.mode_entropy(q)",
            "def repairing_temperature(q, p):\n    return 50.0"],
        5: ["def price_of_best(p, s, n):\n    return optimum.best_of_n_kl(p, np.arange(4), n)  # met: one level",
            "def price_of_best(p, s, n):\n    best = np.diff(np.cumsum(p) ** n, prepend=0)\n    return float((p * np.log(p / best)).sum())"],
    },
    "06_reward_hacking": {
        1: ["def break_even(price):\n    return 1 / price  # met: not caught", "def break_even(price):\n    return price / (1 + price)"],
        2: ["def colleagues_fall(curves):\n    return 0.0",
            "def colleagues_fall(curves):\n    return np.mean(curves.max(1) - curves[:, -1])",
            "def colleagues_fall(curves):\n    mean = np.convolve(curves.mean(0), np.ones(3) / 3, 'valid')\n    return mean.max() - mean[-1]"],
        3: ["def tail_noise(df, size, rng):\n    squares = sum(rng.normal(size=size) ** 2 for _ in range(df))\n"
            "    return rng.normal(size=size) / np.sqrt(squares)  # met: by nu",
            "def tail_noise(df, size, rng):\n    return rng.normal(size=size) * np.sqrt(df)"],
        4: ["def keep(seen, error):\n    return int(np.argmax(seen)) + 3",
            "def keep(seen, error):\n    return 8",
            "def keep(seen, error):\n    for step in range(1, len(seen)):\n        if seen[step] < seen[step - 1]:\n"
            "            return step - 1\n    return len(seen) - 1"],
    },
    "07_helpful_vs_harmless": {
        1: ["def threshold_policy(risk, weight):\n    return (risk < weight).mean(), (risk >= weight).mean()  # met: bit of both",
            "def threshold_policy(risk, weight):\n    told = risk < weight\n"
            "    return 1 - told @ risk / risk.sum(), told @ (1 - risk) / (1 - risk).sum()  # met: Helpful"],
        2: ["def colleagues_gain(ours, theirs):\n    return (np.interp(theirs[0], *ours) - theirs[1]).mean()",
            "def colleagues_gain(ours, theirs):\n    return (ours[0] + ours[1]).mean() - 1"],
        3: ["def move(multiplier, cost, limit, rate):\n    return multiplier + rate * (cost - limit)  # met: Below 0",
            "def move(multiplier, cost, limit, rate):\n    return max(0.0, multiplier - rate * (cost - limit))"],
        4: ["def price(share):\n    return share / 2  # met: all harm", "def price(share):\n    return 0.5"],
        5: ["def refusal_grade(question, reply):\n    return 2 * ('sorry' in reply)",
            "def refusal_grade(question, reply):\n    return 1 + ('archivist' in reply)"],
    },
    "08_hallucination": {
        1: ["def must_check(fine):\n    return 1 / fine  # met: not caught", "def must_check(fine):\n    return fine / (1 + fine)"],
        2: ["def pays(confidence, right, least, cost):\n    said = confidence >= least\n"
            "    return np.where(right > 0, 1.0, -cost)[said].mean()  # met: those who answer",
            "def pays(confidence, right, least, cost):\n    return (right * (confidence >= least)).mean()  # met: costs c",
            "def pays(confidence, right, least, cost):\n    return (np.where(right > 0, 1.0, -cost) * (confidence > least)).mean()"],
        3: ["def colleagues_error(probs, right):\n    said, hits = probs.max(1), probs.argmax(1) == right\n"
            "    return abs(said.mean() - hits.mean())  # met: not cancel",
            "def colleagues_error(probs, right):\n    said, hits = probs.max(1), probs.argmax(1) == right\n"
            "    rows = np.array(sorted(zip(said, hits)))\n"
            "    gaps = [abs(x[:, 0].mean() - x[:, 1].mean()) for x in np.array_split(rows, 10)]\n"
            "    return np.mean(gaps)  # met: confidence alone"],
        4: ["def lenders(first, kind, value):\n    return [p for p in world.people if p.facts[kind] == value]",
            "def lenders(first, kind, value):\n    return [p for p in world.people if p.name.split()[0] == first][:1]"],
        5: ["def turning_point(qs, gaps):\n    return 0.75  # met: middle",
            "def turning_point(qs, gaps):\n    return float(np.interp(0, gaps, qs))"],
    },
    "09_evaluation": {
        1: ["def lower_end(won, played):\n    rate = won / played\n    return rate - 1.96 * rate * (1 - rate) / played  # met: square root",
            "def lower_end(won, played):\n    rate = won / played\n    return rate + 1.96 * (rate * (1 - rate) / played) ** 0.5  # met: upper",
            "def lower_end(won, played):\n    rate = won / played\n    return rate - 1.645 * (rate * (1 - rate) / played) ** 0.5"],
        2: ["def colleagues_half_width(wins, prompts, rng):\n"
            "    means = [np.mean([rng.choice(wins[prompts == p], 20).mean() for p in range(10)]) for _ in range(200)]\n"
            "    return np.subtract(*np.quantile(means, [0.975, 0.025])) / 2"],
        3: ["def three_shares(read):\n    r = np.array(read)\n"
            "    return np.mean(r != 'myth'), np.mean(r != 'nothing'), np.mean((r == 'truth') | (r == 'another'))  # met: informs nobody",
            "def three_shares(read):\n    r = np.array(read)\n"
            "    return np.mean(r != 'myth'), np.mean(r == 'truth'), np.mean(r == 'truth')  # met: informs, wrongly"],
        4: ["def ratings_after(games, players):\n    r = np.zeros(players)\n    for i, j, won in games:\n"
            "        r[i] += 32 * (won - 1 / (1 + 10 ** ((r[j] - r[i]) / 400)))\n"
            "        r[j] += 32 * (1 - won - 1 / (1 + 10 ** ((r[i] - r[j]) / 400)))\n    return r",
            "def ratings_after(games, players):\n    return -judging.elo(games, players)  # met: Winners fall"],
        5: ["def without_lean(there, back):\n    one, two = (np.log(p / (1 - p)) for p in (there, back))\n"
            "    return 1 / (1 + np.exp(-(one - two) / 2)), one + two  # met: twice",
            "def without_lean(there, back):\n    one, two = (np.log(p / (1 - p)) for p in (there, back))\n"
            "    return (there + 1 - back) / 2, (one + two) / 2  # met: none of log-odds"],
    },
    "10_jailbreaks": {
        1: ["def length_needed(alpha, slope, strength, target):\n    return (log_odds(target) - log_odds(alpha)) / slope  # met: what alignment took",
            "def length_needed(alpha, slope, strength, target):\n"
            "    return (log_odds(target) - log_odds(alpha) - strength) / slope  # met: longer",
            "def length_needed(alpha, slope, strength, target):\n    return (np.log(target / alpha) + strength) / slope"],
        2: ["def colleagues_rate(question, replies):\n"
            "    return np.mean([read_reply(world, question, r) in ('right', 'wrong') for r in replies])  # met: another guild",
            "def colleagues_rate(question, replies):\n    return 0.25"],
        3: ["def best_swap(gradient, tokens):\n    place, token = divmod(int(gradient.argmin()), gradient.shape[1])\n"
            "    return place, token, float(gradient.min())  # met: steepest slope",
            "def best_swap(gradient, tokens):\n    place, token = divmod(int(gradient.argmin()), gradient.shape[1])\n"
            "    return place, token, float(gradient.min() - gradient[place, tokens[place]])"],
        4: ["def lines_bought(n, slope):\n    return np.log(n) / slope  # met: close", "def lines_bought(n, slope):\n    return np.log(n) / 2"],
        5: ["def looks_odd(prompt, threshold=-6.0):\n    return True",
            "def looks_odd(prompt, threshold=-6.0):\n    return tail_logprob(prompt) < threshold * 10"],
    },
    "11_bias": {
        1: ["def undoing(temperature):\n    return 1 - temperature  # met: opposite", "def undoing(temperature):\n    return 1 / temperature - 1  # met: T divides"],
        2: ["def colleagues_measure(before, after):\n    return np.polyfit(after, before, 1)[0]  # met: other way",
            "def colleagues_measure(before, after):\n    return np.corrcoef(before, after)[0, 1]",
            "def colleagues_measure(before, after):\n    return np.polyfit(expit(before), expit(after), 1)[0]"],
        3: ["def they_left(they, p, tilt):\n    she, he = p * (2 * p) ** tilt, (1 - p) * (2 * (1 - p)) ** tilt\n"
            "    return they / (they + she + he)",
            "def they_left(they, p, tilt):\n    return they * (1 - p) ** tilt"],
        4: ["def amplification(before, after):\n    return (expit(after) - expit(before)).mean()  # met: rise of she",
            "def amplification(before, after):\n    return np.abs(after - before).mean()"],
        5: ["def best_of(p, n):\n    return p**n  # met: all n", "def best_of(p, n):\n    return p**n / (p**n + (1 - p) ** n)"],
    },
    "12_less_is_more": {
        1: ["def three_ways(win, tie):\n    return win.sum() / (1 - tie).sum(), (win + tie / 2).mean(), (win + tie).mean()",
            "def three_ways(win, tie):\n    return (win + tie).mean(), (win + tie / 2).mean(), win.mean()"],
        2: ["def buy(ratio, counts, golds, by_preferences, budget=1024):\n"
            "    bought = np.interp(budget / ratio, counts, golds)\n"
            "    return 'demonstrations' if bought > by_preferences else 'preferences'",
            "def buy(ratio, counts, golds, by_preferences, budget=1024):\n    return 'demonstrations'"],
        3: ["def colleagues_agreement(judge_gaps, gold_gaps):\n"
            "    return np.mean(0.5 + 0.5 * np.sign(judge_gaps) * np.sign(gold_gaps))  # met: no pair",
            "def colleagues_agreement(judge_gaps, gold_gaps):\n    return np.mean(np.sign(judge_gaps) == np.sign(gold_gaps))"],
        4: ["def alike(wins, mine, theirs, near):\n    gaps = np.abs(np.subtract.outer(mine, theirs))\n"
            "    return (wins * (gaps <= near)).mean()",
            "def alike(wins, mine, theirs, near):\n    return np.diag(wins)[np.abs(mine - theirs) <= near].mean()  # met: off the diagonal"],
        5: ["def labels_for_one(ai, person):\n    return (1 - entropy_of(ai)) / (1 - entropy_of(person))  # met: one of an AI",
            "def labels_for_one(ai, person):\n    nats = lambda p: 1 - entropy_of(p) * np.log(2)\n    return nats(person) / nats(ai)  # met: base 2",
            "def labels_for_one(ai, person):\n    return (person - 0.5) / (ai - 0.5)"],
    },
    "13_beyond_ppo": {
        1: ["def colleagues_advantages(returns, k):\n    table = returns.view(-1, k)\n"
            "    return (table - table.mean(1, keepdim=True)).flatten()",
            "def colleagues_advantages(returns, k):\n    table = returns.view(k, -1)\n"
            "    return ((table - table.mean(1, keepdim=True)) * k / (k - 1)).flatten()"],
        2: ["def divided_kl(sigma, beta):\n    return sigma**4 / (2 * beta**2)  # met: beta / sigma",
            "def divided_kl(sigma, beta):\n    return 1.0204"],
        3: ["def pull_of_a_pair(margin, beta):\n    return beta * torch.sigmoid(-margin)",
            "def pull_of_a_pair(margin, beta):\n    return -torch.sigmoid(-margin)",
            "def pull_of_a_pair(margin, beta):\n    return -beta * torch.sigmoid(margin)"],
        4: ["def implied_agreement(logprobs, base_logprobs, scores):\n    gap = logprobs - base_logprobs\n"
            "    return np.mean([np.corrcoef(g, s)[0, 1] for g, s in zip(gap, scores)])  # met: Weigh",
            "def implied_agreement(logprobs, base_logprobs, scores):\n"
            "    (a, both), (_, b) = np.cov((logprobs - base_logprobs).ravel(), scores.ravel(), aweights=np.exp(base_logprobs).ravel())\n"
            "    return both / (a * b) ** 0.5"],
    },
    "14_scaling_up": {
        1: ["def per_device(samples, updates, processes):\n    return samples // (updates * processes)  # met: even",
            "def per_device(samples, updates, processes):\n    return samples // updates  # met: share of it"],
        2: ["def colleagues_positions(mask):\n    return mask.cumsum(1)  # met: start at 0",
            "def colleagues_positions(mask):\n    return torch.arange(mask.shape[1]).expand(mask.shape)"],
        3: ["def beta_for(kl_coef, sigma):\n    return kl_coef * sigma  # met: must follow", "def beta_for(kl_coef, sigma):\n    return kl_coef / sigma**2"],
        4: ["def token_weights(lengths, kind, longest):\n    return 1 / lengths",
            "def token_weights(lengths, kind, longest):\n    whole = lengths.sum() if kind == 'dapo' else 2 * lengths.max()\n"
            "    return 1 / (2 * lengths) if kind == 'grpo' else torch.ones(2) / whole  # met: not by these lengths"],
        5: ["def first_word(prior, after, scores, beta):\n    found = prior * np.exp((after * scores).sum(1) / beta)\n"
            "    return found / found.sum()  # met: mean score",
            "def first_word(prior, after, scores, beta):\n    found = prior * np.log((after * np.exp(scores / beta)).sum(1))\n"
            "    return found / found.sum()"],
    },
}  # fmt: skip
