"""Is a verdict that stops a comparison early wrong in at most 5 % of the studies, and how many questions does it save? Prints Markdown.

    python benchmarks/sequential.py [--sets 1000]

Paired differences of the composite (three-valued, .9 each way) over 282 questions, ten looks; independent, or by paper (32 papers, latent ICC .2 of the difference). `wrong`: better or worse where the true
difference is zero, equivalent where it is the margin of five points or more, or the wrong sign. `full`: what the whole comparison finds at 5 % (better, worse or, where they are equal, equivalent).
`p values`: a permutation test at every look that stops at the first p <= .05. `e-values`: betting on paired differences (Waudby-Smith and Ramdas 2023), a mixture of sixteen fractions, by paper on the
sums of papers.
"""
import argparse, math, os, platform

os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np
from scipy.special import ndtri

from wattnb.scoring.equivalence import margin_test
from wattnb.scoring.sequential import look_points, sequential_verdict
from wattnb.scoring.statistics import permutation_test

MARGIN, N, BOUNDS = .05, 282, ((0, .9), (0, 1))


def sample(rng, psi, diff, papers):
    "(2 x questions: contributions, paper of each or None), papers together."
    icc, paper = (.2, np.sort(rng.integers(0, 32, N))) if papers else (0., None)
    latent = np.sqrt(1 - icc) * rng.normal(size=N) + (np.sqrt(icc) * rng.normal(size=32)[paper] if papers else 0.)
    won, lost = (psi + diff / .9) / 2, (psi - diff / .9) / 2
    up, down = latent > ndtri(1 - won), latent < (ndtri(lost) if lost > 0 else -np.inf)
    both = rng.random(N) < .6
    return .9 * np.stack([np.where(up, 1, np.where(down, 0, both)), np.where(up, 0, np.where(down, 1, both))]), paper


def capital(d, null, reach):
    "Log of the e-value after each difference, against 'the mean is at most `null`'; no difference is larger than `reach`."
    fractions = .9 * np.geomspace(1 / 64, 1, 16) / (reach + null)
    return np.logaddexp.reduce(np.cumsum(np.log1p(np.multiply.outer(fractions, d - null)), axis=1), axis=0) - math.log(16)


def by_e_value(d, paper):
    "'better', 'worse', 'equivalent' or '' and the share of questions asked."
    at = np.arange(N) if paper is None else np.unique(paper, return_inverse=True)[1]
    sums, sizes = np.bincount(at, d), np.bincount(at)
    reach = .9 * sizes.max()
    more, wide = MARGIN * sizes, reach + MARGIN * sizes.max()
    found = dict(better=capital(sums, 0., reach), worse=capital(-sums, 0., reach), equivalent=np.minimum(capital(sums + more, 0., wide), capital(more - sums, 0., wide)))
    first = {k: int(np.argmax(v >= math.log(40))) for k, v in found.items() if (v >= math.log(40)).any()}
    word = min(first, key=first.get) if first else ''
    return word, sizes[:first[word] + 1].sum() / N if word else 1.


def study(sets, psi, diff, papers=False, seed=1):
    "Shares of sets: wrong, right, questions asked; right of the full test; wrong by p values; wrong, right, questions asked of e-values."
    rng, out = np.random.default_rng(seed), np.zeros(8)
    right = lambda word: {'better': diff > 0, 'worse': diff < 0, 'equivalent': abs(diff) < MARGIN}.get(word)
    for _ in range(sets):
        x, paper = sample(rng, psi, diff, papers)
        looks = look_points(range(N) if paper is None else paper)
        v = sequential_verdict(x, looks, MARGIN, bounds=BOUNDS, clusters=paper)
        full = permutation_test(x[0] - x[1], 2000, clusters=paper) <= .05 if diff else margin_test(x, MARGIN, bounds=BOUNDS, clusters=paper).p_equivalent <= .05
        peek = not diff and any(permutation_test(x[0, :k] - x[1, :k], 1000, clusters=None if paper is None else paper[:k]) <= .05 for k in looks)
        word, asked = by_e_value(x[0] - x[1], paper)
        out += right(v.word) is False, right(v.word) is True, v.asked / N, full, peek, right(word) is False, right(word) is True, asked
    return out / sets


if __name__ == '__main__':
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument('--sets', type=int, default=1000)
    sets = args.parse_args().sets
    print(f'{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}; {sets} sets each\n')
    print('| by paper | true difference | discordant | wrong | right | share asked | right, full | wrong, p values | e-values: wrong | right | share asked |\n|---|---|---|---|---|---|---|---|---|---|---|')
    for papers in (False, True):
        for diff, psi in ((0., .02), (0., .1), (0., .3), (.05, .1), (.05, .3), (.1, .2), (.2, .3), (.3, .4)):
            r = study(sets, psi, diff, papers)
            print(f'| {"yes" if papers else "no"} | {diff * 100:g} | {psi} | ' + ' | '.join('–' if k == 4 and diff else f'{v:.3f}' for k, v in enumerate(r)) + ' |', flush=True)
