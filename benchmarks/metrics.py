"""Families of tests (value, citations, refusals, overall; all pairs) and the calibration error: false alarms and coverage. Prints Markdown.

    python benchmarks/metrics.py [--sets 1000]

Four runs. `nothing differs`: all are equally good; `one part differs`: the first run is far better in value, and no two differ in citations or refusals, whose false alarms are counted. Citations depend on the
value (0, 1/2, 1), a tenth of the questions is unanswerable. By paper: 32 papers, latent ICC .2 of each run's own. Calibration: confidences of which half are .9, .95 or 1, calibrated or 15 points too high. Risk and coverage: 30 % of the answers are wrong, the confidence tells some of them (correlation .5 with what decides
the value), and the truth is the risk of answers above a confidence.
"""
import argparse, itertools, os, platform
from types import SimpleNamespace

os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np
from scipy.special import ndtri

from wattnb.scoring.calibration import measure_calibration
from wattnb.scoring.metric_tests import paired_metrics
from wattnb.scoring.scores import contribution_bounds, risk_intervals
from wattnb.scoring.statistics import paired_ci, permutation_test

PAIRS = list(itertools.combinations(range(4), 2))


def draw(rng, n, papers, better):
    "(rows of four runs, paper of each row or None); the first run answers `better` as likely right, on the probit scale."
    na, paper = np.arange(n) < max(2, n // 10), rng.integers(0, 32, n) if papers else None
    own = lambda: rng.normal(size=n) if paper is None else np.sqrt(.2) * rng.normal(size=32)[paper] + np.sqrt(.8) * rng.normal(size=n)
    common, out = rng.normal(size=n), []
    for k in range(4):
        value = np.sqrt(.5) * common + np.sqrt(.5) * own() < ndtri(.7) + better * (k == 0)
        cited = np.where(own() < ndtri(.6), 1., np.where(rng.random(n) < .5, .5, 0.))
        refused = na & (rng.random(n) < .7)
        out.append([dict(is_na=bool(u), value_correct=bool(v or u), ref_score=float(r if u else c), na_correct=bool(r))
                    for u, v, c, r in zip(na, value, cited, refused)])
    labels = None if paper is None else [f'n{i}' if u else int(p) for i, (u, p) in enumerate(zip(na, paper))]
    return out, labels


def overall(rows, labels):
    "(n, diff, low, high, p) of the composite of each pair."
    n, n_na = len(rows[0]), sum(r['is_na'] for r in rows[0])
    x = np.array([[.75 * r['value_correct'] + .15 * r['ref_score'] + .1 * n / n_na * r['na_correct'] * r['is_na'] for r in run] for run in rows])
    cis = paired_ci(x, PAIRS, [r['is_na'] for r in rows[0]], *contribution_bounds(n, n_na)[1], labels, reps=300)
    ps = permutation_test(np.stack([x[a] - x[b] for a, b in PAIRS], 1), reps=1000, clusters=labels)
    return [(n, float((x[a] - x[b]).mean()), *ci, float(p)) for (a, b), ci, p in zip(PAIRS, cis, ps)]


def family(sets, n, papers=False, better=0., seed=1):
    "(any false alarm corrected, any uncorrected, differences found in value): shares of the sets; the last is None where nothing differs."
    rng, out = np.random.default_rng(seed), np.zeros(3)
    for _ in range(sets):
        rows, labels = draw(rng, n, papers, better)
        found = paired_metrics([SimpleNamespace(rows=r) for r in rows], PAIRS, overall(rows, labels), papers=labels)
        differs = lambda k, pair: better and 0 in pair and k in ('value', 'overall')
        false = [t for pair, tests in zip(PAIRS, found) for k, t in tests.items() if not differs(k, pair)]
        true = [t for pair, tests in zip(PAIRS, found) for k, t in tests.items() if k == 'value' and 0 in pair]
        out += [any(t.p_holm <= .05 for t in false), any(t.p <= .05 for t in false), np.mean([t.p_holm <= .05 for t in true])]
    return *(out / sets)[:2], out[2] / sets if better else None


def calibration(sets, n, off, papers=False, seed=1):
    "Shares of the sets: the interval of the ECE holds the truth, that of the Brier score does, calibration is rejected; and the mean ECE."
    rng, out = np.random.default_rng(seed), np.zeros(4)
    confidences = lambda k: np.where(rng.random(k) < .5, rng.choice([.9, .95, 1.], k), rng.uniform(.5, .9, k))
    c = confidences(400_000)
    brier = float(np.mean((c - off) * (1 - c) ** 2 + (1 - c + off) * c ** 2))
    for k in range(sets):
        c = confidences(n)
        paper = rng.integers(0, 32, n) if papers else None
        luck = rng.normal(size=n) if paper is None else np.sqrt(.2) * rng.normal(size=32)[paper] + np.sqrt(.8) * rng.normal(size=n)
        r = measure_calibration(c, luck < ndtri(c - off), paper, reps=500, seed=k)
        out += [r.ece_ci[0] <= off <= r.ece_ci[1], r.brier_ci[0] <= brier <= r.brier_ci[1], r.p <= .05, r.ece]
    return out / sets


def band(sets, n, papers=False, seed=1):
    "Of the most confident half and of all answers: shares of the sets whose interval of the risk holds the truth, by question and by paper."
    rng, out = np.random.default_rng(seed), []
    def answers(n, paper):
        own = lambda: rng.normal(size=n) if paper is None else np.sqrt(.2) * rng.normal(size=32)[paper] + np.sqrt(.8) * rng.normal(size=n)
        value = own()
        return value > ndtri(.7), .5 * -value + np.sqrt(.75) * own() # wrong, confidence
    wrong, sure = answers(400_000, None)
    truth = wrong[sure > 0].mean(), wrong.mean()
    for _ in range(sets):
        paper = rng.integers(0, 32, n) if papers else None
        wrong, sure = answers(n, paper)
        rows = [dict(status='answered', confidence=float(c), strict_value=not w) for w, c in zip(wrong, sure)]
        ends = [risk_intervals(rows, [(sure > 0).mean(), 1.], by) for by in (None, paper)]
        out.append([[e['risk_low'] <= t <= e['risk_high'] for e, t in zip(by, truth)] for by in ends])
    return np.mean(out, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sets', type=int, default=1000)
    sets = parser.parse_args().sets
    print(f'{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}; {sets} sets each\n')
    print('| questions | what differs | any false alarm, corrected | uncorrected | difference in value found |\n|---|---|---|---|---|')
    for n, papers, better in itertools.product((41, 282), (False, True), (0., .8)):
        corrected, raw, found = family(sets, n, papers, better)
        print(f'| {n}{", by paper" * papers} | {"value" if better else "nothing"} | {corrected:.3f} | {raw:.3f} | {"" if found is None else f"{found:.2f}"} |', flush=True)
    print('\n| answers | too sure by | ECE interval covers | Brier interval covers | called wrong (p ≤ .05) | mean ECE |\n|---|---|---|---|---|---|')
    for n, papers, off in itertools.product((41, 282), (False, True), (0., .15)):
        print(f'| {n}{", by paper" * papers} | {100 * off:.0f} points | ' + ' | '.join(f'{v:.3f}' for v in calibration(sets, n, off, papers)) + ' |', flush=True)
    print('\n| answers | most confident half, by question | by paper | all, by question | by paper |\n|---|---|---|---|---|')
    for n, papers in itertools.product((41, 282), (False, True)):
        (half, all_), (half_by, all_by) = band(sets, n, papers)
        print(f'| {n}{", by paper" * papers} | {half:.3f} | {half_by:.3f} | {all_:.3f} | {all_by:.3f} |', flush=True)


if __name__ == '__main__': main()
