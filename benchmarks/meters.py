"""How often the intervals of energy contain the true value: traces of known integral, read as the sampler reads.

    python benchmarks/meters.py --sessions 100

Each session lasts 40 s and is cut into questions of .15 to 2 s. Power is polled each 40 to 70 ms, counters are read each 15 to 30 ms; both at
uneven moments. `held` are the intervals that contain the true energy, of whole sessions and of single questions; `width` is that of the interval,
in percent of the energy; `error` the mean distance of the stated energy. Seeded; takes about half a minute.
"""
import argparse, math, random

from wattnb.telemetry.attribution import Attribution, Window
from wattnb.telemetry.traces import CounterTrace, PowerTrace
from wattnb.testing.simulated import PowerCurve, bursts, square_wave
from wattnb.core.tables import ResultTable

MOST, SECONDS = 840., 42. # W, s


def levels(rng):
    "Levels that last for .2 to 4 s, as in a run."
    points, t = [], 0.
    while t < SECONDS:
        w, d = rng.uniform(60, 700), rng.uniform(.2, 4)
        points += [(t, w), (t + d, w)]; t += d + 1e-6
    return PowerCurve(points)


def unread_burst(rng):
    "300 W, and 700 W in most of a gap of one and a half seconds."
    return PowerCurve([(0, 300), (18.5, 300), (18.6, 700), (19.7, 700), (19.8, 300), (SECONDS, 300)])


LOADS = {'levels of .2 to 4 s': levels, **{f'square wave of {1000 * p:.0f} ms': (lambda r, p=p: square_wave(p, SECONDS, duty=r.uniform(.2, .8))) for p in (.05, .13, .3, 1.)},
         **{f'{rate} bursts of {1000 * d:.0f} ms a second': (lambda r, rate=rate, d=d: bursts(r, rate, d, SECONDS)) for rate, d in ((1, .01), (5, .01), (10, .003), (2, .03))}}


def polled(curve, rng, gap=None, apart=(.04, .07), averaging=0.):
    "The trace of a power sensor."
    tr, t = PowerTrace(averaging, max_watts=MOST), averaging
    while t < 40:
        if not gap or not gap[0] < t < gap[1]: tr.add(t, (curve.joules(t) - curve.joules(t - averaging)) / averaging if averaging else curve.watts(t))
        t += rng.uniform(*apart)
    return tr


def counted(curve, rng, wrap=0., resets=(), gap=None):
    "The trace of a counter that is set each 20 to 120 ms."
    tr, t, period = CounterTrace(wrap=wrap, max_watts=MOST), 0., rng.uniform(.02, .12)
    while t < 40:
        if not gap or not gap[0] < t < gap[1]:
            at, past = math.floor(t / period) * period, max((r for r in resets if r <= t), default=None)
            j = curve.joules(at) + 5e4 if past is None else max(0., curve.joules(at) - curve.joules(past))
            tr.add(t, j % wrap if wrap else j)
        t += rng.uniform(.015, .03)
    return tr


CASES = [*((f'polled: {k}', f, polled) for k, f in LOADS.items()),
         ('polled: a burst in a gap of 1.5 s', unread_burst, lambda c, r: polled(c, r, gap=(18.4, 19.9))),
         ('polled once a second: square wave of 1 s', LOADS['square wave of 1000 ms'], lambda c, r: polled(c, r, apart=(1., 1.))),
         ('polled, a mean of 1 s: levels', levels, lambda c, r: polled(c, r, averaging=1.)),
         *((f'counter: {k}', f, counted) for k, f in LOADS.items() if 'bursts of 3 ' not in k),
         ('counter, three resets: levels', levels, lambda c, r: counted(c, r, resets=[r.uniform(5, 10), r.uniform(15, 20), r.uniform(25, 35)])),
         ('counter, wraps, a gap of 20 s: levels', levels, lambda c, r: counted(c, r, wrap=4000., gap=(10, 30)))]


def one(make, read, rng):
    "(error, width, held) of a session, and of its questions."
    curve = make(rng)
    trace, windows, t = read(curve, rng), [], rng.uniform(2, 3)
    while t < 36: d = rng.uniform(.15, 2); windows.append(Window('decode', t, t + d, {len(windows): 1})); t += d
    session = Attribution(windows, 2., 38.5, traces=[trace])
    row = lambda true, value, low, high: (abs(value - true) / true, (high - low) / true, low - 1e-6 <= true <= high + 1e-6)
    asked, whole = session.by_question(), session.total
    return row(curve.joules(38.5) - curve.joules(2), whole.value, whole.low, whole.high), [
        row(curve.joules(w.end) - curve.joules(w.start), *(asked[k]['decode'][x] for x in ('joules', 'low', 'high'))) for k, w in enumerate(windows)]


def main():
    p = argparse.ArgumentParser(); p.add_argument('--sessions', type=int, default=100)
    a = p.parse_args()
    rows = []
    for name, make, read in CASES:
        rng = random.Random(7)
        got = [one(make, read, rng) for _ in range(a.sessions)]
        cells = []
        for some in ([w for w, _ in got], [q for _, qs in got for q in qs]):
            error, width, held = (100 * sum(x) / len(some) for x in zip(*some))
            cells += [error, held, width]
        rows.append((name, *cells))
    print(ResultTable(['readings and load', 'session: error, %', 'held, %', 'width, %', 'question: error, %', 'held , %', 'width , %'], rows, title=f'{a.sessions} sessions of each kind', digits=1).to_text())


if __name__ == '__main__': main()
