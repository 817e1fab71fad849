"""Is a run that is called the best with 80 % the best in 80 % of the cases? The same for "at least as good for no more energy". Prints Markdown.

    python benchmarks/ranks.py [--sets 1000]

Two, four or eleven runs answer the same questions; `resampled` is the bare share of resamples, without shrinking. Brier: mean squared distance of the stated chances of a set from the truth, summed over
its runs; the first run: the one with the highest chance of its set. Scores are 0, .15, .25, .9 or 1, so that many are tied. The true skills are drawn anew for each set, normal on the probit scale; `spread` is their standard deviation
in points of the score (a tenth of the runs' skill where runs are close, half of it where they are not). Two runs of a set are judged for dominance: their energy differs by a factor (lognormal, .1), and
the meter of each is off by up to 7 %, which its interval says. By paper: 32 papers, latent ICC .2.
"""
import argparse, itertools, os, platform

os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np
from scipy.special import ndtr, ndtri

from wattnb.scoring.ranks import dominance, rank_distribution

VALUES, UP_TO = np.array([0, .15, .25, .9, 1.]), np.cumsum([.25, .1, .05, .45, .15])
BINS, METER = (0, .05, .3, .7, .95, 1.01), (.93, 1.07)


def scores(latent): return VALUES[np.minimum(4, np.searchsorted(UP_TO, ndtr(latent)))]


def points(spread):
    "Standard deviation of the true scores, in points, of skills with that spread on the probit scale."
    ends = np.r_[-np.inf, ndtri(UP_TO[:-1]), np.inf]
    return 100 * np.std([np.diff(ndtr(ends - s)) @ VALUES for s in np.linspace(-2, 2, 41) * spread]) / np.std(np.linspace(-2, 2, 41))


def draw(rng, n, runs, spread, paper=None):
    "(true skills, runs x questions scores): a part of each answer is common to the runs."
    def latent():
        own = rng.normal(size=n)
        return own if paper is None else np.sqrt(.2) * rng.normal(size=paper.max() + 1)[paper] + np.sqrt(.8) * own
    skills, common = rng.normal(0, spread, runs), latent()
    return skills, np.stack([scores(np.sqrt(.8) * common + np.sqrt(.2) * latent() + s) for s in skills])


def study(sets, n, spread, papers=False, reps=1000, seed=1, runs=4):
    "(P(best), whether it is, the bare share of resamples), (share of true ranks inside the range), (P(dominates), whether it does) over many sets."
    rng, best, inside, better = np.random.default_rng(seed), [], [], []
    for k in range(sets):
        paper = np.sort(rng.integers(0, 32, n)) if papers else None
        skills, x = draw(rng, n, runs, spread, paper)
        by = None if paper is None else paper.tolist()
        found = rank_distribution(x, clusters=by, reps=reps, seed=k)
        best += [(r.p_best, s == skills.max(), r.resampled) for r, s in zip(found, skills)]
        inside += [r.low <= 1 + (skills > s).sum() <= r.high for r, s in zip(found, skills)]
        energy, off = np.exp(rng.normal(0, .1, 2)), rng.uniform(*METER, 2)
        joules = rng.lognormal(0, .4, n) * rng.lognormal(0, .3, (2, n)) * (energy / off)[:, None]
        p = dominance(x[:2], joules, [METER] * 2, clusters=by, reps=reps, seed=k)
        better += [(p[i], skills[i] > skills[1 - i] and energy[i] < energy[1 - i]) for i in (0, 1)]
    return np.array(best, float), float(np.mean(inside)), np.array(better, float)


def by_bin(pairs):
    "Of each bin of the stated chance: 'mean stated -> share that is true (cases)'."
    parts = [pairs[(pairs[:, 0] >= a) & (pairs[:, 0] < b)] for a, b in zip(BINS, BINS[1:])]
    return [f'{p[:, 0].mean():.2f} → {p[:, 1].mean():.2f} ({len(p)})' if len(p) >= 20 else '–' for p in parts]


def of_first(pairs, runs):
    "'mean stated -> share that is true' of the run with the highest chance of each set."
    sets = pairs.reshape(-1, runs, 2)
    p, true = sets[np.arange(len(sets)), sets[:, :, 0].argmax(1)].mean(0)
    return f'{p:.2f} → {true:.2f}'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sets', type=int, default=1000)
    sets = parser.parse_args().sets
    print(f'{platform.processor() or platform.machine()}, Python {platform.python_version()}; {sets} sets each\n')
    heads = ['under 5 %', '5 to 30 %', '30 to 70 %', '70 to 95 %', 'over 95 %']
    print('| questions | runs | spread, points | P of | ' + ' | '.join(heads) + ' | the first run | Brier | true rank in its range |\n' + '|---' * 12 + '|')
    for n, papers, runs, spread in itertools.product((41, 282), (False, True), (2, 4, 11), (.05, .2, .5)):
        if papers and runs != 4: continue
        best, inside, better = study(sets, n, spread, papers, runs=runs)
        brier = lambda pairs: f'{np.mean((pairs[:, 0] - pairs[:, 1]) ** 2) * runs:.3f}'
        found = {'best': (best[:, :2], inside), 'best, resampled': (best[:, [2, 1]], None), **({'dominates': (better, None)} if runs == 4 else {})}
        for what, (pairs, last) in found.items():
            cells = [f'{n}{", by paper" * papers}', runs, f'{points(spread):.1f}', what, *by_bin(pairs), *((of_first(pairs, runs), brier(pairs)) if 'best' in what else ('', '')), '' if last is None else f'{last:.2f}']
            print(f'| {" | ".join(map(str, cells))} |', flush=True)


if __name__ == '__main__': main()
