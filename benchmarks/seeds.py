"""Does the interval of a pooled score hold its truth over new questions and new seeds, and does the test of two pooled models keep 5 %? Prints Markdown.

    python benchmarks/seeds.py [--sets 2000]

Right and wrong answers with a question effect, a redraw per seed, and (second half) a seed effect that moves all questions of a seed. Both models have the same true accuracy.
"""
import argparse, os, platform

os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np
from scipy.special import ndtr

from wattnb.scoring.seeds import pooled_p, seed_variance, widened
from wattnb.scoring.statistics import bootstrap_ci, mean_ci


def draw(rng, seeds, n, ease, effect):
    "seeds x n right answers (0, 1); `effect`: standard deviation of the seed effect on the probit scale."
    return (rng.normal(size=(seeds, n)) < ease + effect * rng.normal(size=(seeds, 1))).astype(float)


def study(sets, seeds, n, effect, seed=1, reps=500):
    "(coverage of the pooled interval, of the interval over questions alone, false alarms of the pooled test, of a test over questions alone)."
    rng, out = np.random.default_rng(seed), np.zeros(4)
    true = float(np.mean(ndtr(rng.normal(.6, 1, 200_000) / np.sqrt(1 + effect ** 2))))
    for _ in range(sets):
        ease = rng.normal(.6, 1, n) # the difficulty of questions is shared by the models
        a, b = (draw(rng, seeds, n, ease, effect) for _ in range(2))
        va, vb = seed_variance(a), seed_variance(b)
        ci = mean_ci(a.mean(0))
        wide = widened(a.mean(), ci, [va])
        d = a.mean(0) - b.mean(0)
        plain = bootstrap_ci(d, reps=reps)
        both = widened(float(d.mean()), plain, [va, vb])
        out += [wide[0] <= true <= wide[1], ci[0] <= true <= ci[1], pooled_p(float(d.mean()), both) <= .05, plain[0] > 0 or plain[1] < 0]
    return out / sets


if __name__ == '__main__':
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument('--sets', type=int, default=2000)
    sets = args.parse_args().sets
    print(f'{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}; {sets} sets each\n')
    print('| seed effect | seeds | questions | pooled interval covers | over questions alone | false alarms, pooled | over questions alone |\n|---|---|---|---|---|---|---|')
    for effect in (0., .1, .2):
        for seeds in (2, 3, 5):
            for n in (41, 282): print(f'| {effect} | {seeds} | {n} | ' + ' | '.join(f'{v:.3f}' for v in study(sets, seeds, n, effect)) + ' |', flush=True)
