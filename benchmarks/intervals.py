"""Do the intervals cover, and does `compare` keep its false alarms? Speed of all-pairs comparison. Prints Markdown.

    python benchmarks/intervals.py [--sets 2000] [--only coverage|few|null|speed]

Simulated question sets have the composite's real structure: right/wrong values with correlated citation overlap (1, 1/2, 1/3, 0),
a fixed number of unanswerable questions (2 of 41 as in the train file, 16 of 282 as in the test file) with their own recall.
"""
import argparse, itertools, os, platform, random, time

os.environ.setdefault('OMP_NUM_THREADS', '2')
import numpy as np
from scipy.special import ndtr

from wattnb.compare.paired import ScoredRun, compare_scores
from wattnb.core.questions import Question
from wattnb.scoring.answers import Prediction
from wattnb.scoring.scores import score
from wattnb.scoring.statistics import (bootstrap_ci, clopper_pearson, holm, mean_ci, mcnemar_exact, paired_ci, permutation_test,
                                       strata_ci, wilson)

SIZES = ((41, 2), (282, 16))
MODELS = ((.80, .85), (.55, .50), (.35, .95), (.90, .90)) # value accuracy on answerable questions, refusal recall
REF = {True: ((1, .85), (.5, .10), (1 / 3, .05)), False: ((1, .55), (.5, .15), (0, .30))}


def draw(rng, n, n_na, pv, pna, hard=None):
    "Contributions, value bits and citation scores of one run over one simulated set; answerable questions first."
    a = n - n_na
    v = rng.random(a) < pv if hard is None else hard < pv
    u = rng.random(a)
    pick = lambda table: np.select([u < c for c in np.cumsum([p for _, p in table])], [x for x, _ in table], table[-1][0])
    r = np.where(v, pick(REF[True]), pick(REF[False]))
    z = rng.random(n_na) < pna
    rz = z * (rng.random(n_na) < .8)
    return np.r_[.75 * v + .15 * r, .75 + .15 * rz + .1 * n / n_na * z], np.r_[v, np.ones(n_na, bool)], np.r_[r, rz], z


def truths(n, n_na, pv, pna):
    er = {k: sum(x * p for x, p in t) for k, t in REF.items()}
    ref = ((n - n_na) * (pv * er[True] + (1 - pv) * er[False]) + n_na * pna * .8) / n
    value = ((n - n_na) * pv + n_na) / n
    return dict(value=value, ref=ref, na=pna, overall=.75 * value + .15 * ref + .1 * pna)


def coverage(sets, reps=2000, seed=1, sizes=SIZES, models=MODELS):
    "Share of simulated sets whose 95 % interval holds the truth: rows of (n, model, statistic, coverage, mean width)."
    rng, out = np.random.default_rng(seed), []
    for (n, n_na), (pv, pna) in itertools.product(sizes, models):
        t, hit, width = truths(n, n_na, pv, pna), {}, {}
        a, strata = n - n_na, [0] * (n - n_na) + [1] * n_na
        other = truths(n, n_na, pv - .1, pna)
        for _ in range(sets):
            hard = rng.random(a)
            c, v, r, z = draw(rng, n, n_na, pv, pna, hard)
            c2, *_ = draw(rng, n, n_na, pv - .1, pna, np.where(rng.random(a) < .7, hard, rng.random(a))) # a worse run that finds mostly the same questions hard
            ci = {'overall': (t['overall'], strata_ci([(a / n, c[:a], 0, .9), (n_na / n, c[a:], .75, .9 + .1 * n / n_na)])), 'value': (pv, wilson(v[:a].sum(), a)),
                  'ref': (t['ref'], mean_ci(r)), 'na': (pna, clopper_pearson(z.sum(), n_na)), 'difference': (t['overall'] - other['overall'], paired_ci(np.stack([c, c2]), [(0, 1)], strata, .75, .9 + .1 * n / n_na, reps=reps)[0])}
            for name, (true, (lo, hi)) in ci.items():
                hit[name] = hit.get(name, 0) + (lo - 1e-12 <= true <= hi + 1e-12)
                width[name] = width.get(name, 0) + hi - lo
        out += [(n, f'{pv:.2f}/{pna:.2f}', name, hit[name] / sets, width[name] / sets) for name in hit]
    return out


TIED = np.array([0, .15, .25, .9, 1.]) # scores of a question, with the shares below


def few_differ(sets, n, psi, lost, papers=False, reps=4000, seed=4):
    """Two runs that differ on a share `psi` of the questions, of which the first has lost the share `lost`, each a whole question. (coverage of `paired_ci`, of the bootstrap alone, share of sets in which no
    question differs). With papers, 32 of them, the difference comes by paper (latent ICC .2)."""
    rng, out, true = np.random.default_rng(seed), np.zeros(3), -.9 * psi * (2 * lost - 1)
    for _ in range(sets):
        paper = rng.integers(0, 32, n) if papers else None
        u = ndtr(rng.normal(size=n) if paper is None else np.sqrt(.2) * rng.normal(size=32)[paper] + np.sqrt(.8) * rng.normal(size=n))
        base = rng.choice(TIED, n, p=[.25, .1, .05, .45, .15])
        x = np.stack([np.where(u < psi * lost, 0, np.where(u < psi, .9, base)), np.where(u < psi * lost, .9, np.where(u < psi, 0, base))])
        (ci,), plain = paired_ci(x, [(0, 1)], [False] * n, clusters=paper, reps=reps), bootstrap_ci(x[0] - x[1], reps=reps)
        out += [a - 1e-9 <= true <= b + 1e-9 for a, b in (ci, plain)] + [not (x[0] - x[1]).any()]
    return out / sets


def family_wise(sets, n=282, n_na=16, runs=6, reps=2000, seed=2):
    "Share of simulated sets of equally good runs in which Holm over all pairs raises any alarm: (permutation on the composite, McNemar on values)."
    rng, alarms = np.random.default_rng(seed), np.zeros(2)
    for _ in range(sets):
        hard = rng.random(n - n_na)
        xs = [draw(rng, n, n_na, .75, .85, np.where(rng.random(n - n_na) < .6, hard, rng.random(n - n_na)))[:2] for _ in range(runs)]
        pairs = list(itertools.combinations(range(runs), 2))
        d = np.stack([xs[i][0] - xs[j][0] for i, j in pairs], 1)
        d[np.abs(d) < 1e-12] = 0
        mc = [mcnemar_exact(int((xs[i][1] & ~xs[j][1]).sum()), int((xs[j][1] & ~xs[i][1]).sum())) for i, j in pairs]
        alarms += [min(holm(permutation_test(d, reps))) <= .05, min(holm(mc)) <= .05]
    return alarms / sets


def twenty(n=282, runs=20, seed=3):
    rng = np.random.default_rng(seed)
    qs = [Question(f'q{i}', '?', answer_value='is_blank' if i % 18 == 0 else str(i), ref_id='is_blank' if i % 18 == 0 else "['a']", flags=dict(Quote=i % 3 > 0, Table=i % 3 == 0)) for i in range(n)]
    hard = rng.random(n)
    es = []
    for k in range(runs):
        ok = hard + rng.normal(0, .2, n) < .5 + k / 60
        es.append(ScoredRun(f'run{k}', score(qs, [Prediction(q.id, 'is_blank' if q.is_na else q.answer_value if o else '-1', '["is_blank"]' if q.is_na else '["a"]' if o else '["b"]') for q, o in zip(qs, ok)])))
    return es


def one_score(n=282, tries=20, seed=1):
    "Seconds to score one submission, answers and citations never seen before, imports done: the median of some."
    rng, out = random.Random(seed), []
    qs = [Question(f'q{i}', f'Question {i}?', answer_value='is_blank' if i % 18 == 0 else str(rng.random() * 1000), answer_unit='MWh', ref_id="['a', 'b']", flags=dict(Quote=True, Table=i % 3 == 0)) for i in range(n)]
    for k in range(tries):
        ps = [Prediction(q.id, f'about {float(q.answer_value) + k * 1e-9:,.6f}' if not q.is_na else 'is_blank', f'["a", "p{k}"]') for q in qs]
        t = time.perf_counter(); _ = score(qs, ps).overall; out.append(time.perf_counter() - t)
    return sorted(out)[len(out) // 2]


def speed():
    es = twenty()
    t = time.perf_counter(); compare_scores(es); ours = time.perf_counter() - t
    x = [e.scores.contributions() for e in es]
    d, rng, reps = [a - b for a, b in zip(x[0], x[1])], random.Random(0), 300
    t = time.perf_counter()
    obs, hits = abs(sum(d)), 0
    for _ in range(reps): hits += abs(sum(v if rng.random() < .5 else -v for v in d)) >= obs
    loop = (time.perf_counter() - t) / reps * 10_000 * 190
    return ours, loop


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--sets', type=int, default=2000); p.add_argument('--only', choices=('coverage', 'few', 'null', 'speed'))
    a = p.parse_args()
    print(f'{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}\n')
    if a.only in (None, 'coverage'):
        print(f'Coverage of 95 % intervals, {a.sets} simulated sets each\n\n| n | value / refusal rate | interval of | covers | mean width |\n|---|---|---|---:|---:|')
        for n, m, name, cov, w in coverage(a.sets): print(f'| {n} | {m} | {name} | {cov:.3f} | {w:.3f} |')
    if a.only in (None, 'few'):
        print('\nRuns that differ on few questions\n\n| n | differ | of these lost | no question differs | interval covers | bootstrap alone |\n|---|---:|---:|---:|---:|---:|')
        for n, papers in ((41, False), (282, False), (282, True)):
            for psi, lost in ((.01, 1.), (.02, 1.), (.05, .75), (.1, .75), (.2, .6)):
                cover, plain, none = few_differ(a.sets, n, psi, lost, papers)
                print(f'| {n}{", by paper" * papers} | {psi:.0%} | {lost:.0%} | {none:.2f} | {cover:.3f} | {plain:.3f} |', flush=True)
    if a.only in (None, 'null'):
        print('\nFamily-wise false alarms at 5 %, six equally good runs (15 pairs)\n\n| n | permutation, composite | McNemar, value |\n|---|---:|---:|')
        for n, na in SIZES: print(f'| {n} | ' + ' | '.join(f'{x:.3f}' for x in family_wise(a.sets, n, na)) + ' |')
    if a.only in (None, 'speed'):
        print(f'\nScoring 282 answers: {one_score() * 1000:.1f} ms')
        ours, loop = speed()
        print(f'\nAll pairs of 20 runs × 282 questions, 10,000 permutations and 10,000 resamples: {ours:.2f} s; the permutation test alone as a Python loop: {loop:.0f} s ({loop / ours:.0f} ×)')
