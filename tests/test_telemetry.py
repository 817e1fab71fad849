"Energy, power, memory, time: simulated drivers with every fault, traces of known integral, parts that sum to the total, runs that resume."
import csv, itertools, json, math, os, random, signal, subprocess, sys, time
from pathlib import Path

import pytest
from hypothesis import assume, given, settings as hypothesis_settings, strategies as st

from conftest import words_workspace
from wattnb.compare.auditing import audit
from wattnb.telemetry.metering import doctor
from wattnb.experiment.stages import Run
from wattnb.experiment.settings import RunSettings
from wattnb.experiment.plan import plan_run
from wattnb.experiment.stored import replay, stored_run
from wattnb.experiment.execute import run_all
from wattnb.experiment.journal import read_journal
from wattnb.telemetry.attribution import Attribution, Window
from wattnb.core.hardware import machine, visible_gpus
from wattnb.telemetry.energy import machine_key, merge_segments
from wattnb.telemetry.metering import meter_command
from wattnb.telemetry.power_meters import RAPL_HELP, CpuTime, Rapl, meters
from wattnb.telemetry.traces import CounterTrace, PowerTrace
from wattnb.scoring.run_folders import find_runs
from wattnb.scoring.numbers import run_cost
from wattnb.core.records import fields_of, undocumented
from wattnb.testing.simulated import (PowerCurve, SimulatedClock, SimulatedGpu, SimulatedRapl, bursts, simulated_nvml,
                                      square_wave)
from wattnb.telemetry.session import Session
from wattnb.core.workspace import UserError, Workspace


def play(gpus, work, tmp, zones=None, shown=None, tdp=None, step=.05, **kw):
    "The segment of a session on a simulated machine whose clock runs as fast as it can."
    clock = SimulatedClock(step)
    with simulated_nvml(gpus, clock), pytest.MonkeyPatch.context() as patch:
        if shown is not None: patch.setenv('CUDA_VISIBLE_DEVICES', shown)
        folder = Path(tmp) / f'rapl{next(play.n)}'
        folder.mkdir()
        rapl = SimulatedRapl(folder, zones or {}, clock)
        s = Session(using=meters(visible_gpus(), rapl=folder, tdp=tdp), clock=clock, sleep=clock.sleep, watch=False, **kw)
        clock.tick = lambda: (rapl.move(), s.sampler.sample())
        with s:
            work(s, clock)
            return s.segment()
play.n = itertools.count()


def load_and_answer(s, clock, seconds=30):
    with s.stage('load'): clock.sleep(5)
    s.loaded()
    with s.stage('decode', ids=['q1', 'q2'], weights=[1, 3]): clock.sleep(seconds)
    clock.sleep(5)


def sums_up(segment):
    "Questions' stages + what belongs to no question = the session, to 1e-9."
    e = segment['report']['energy']
    mine = math.fsum(x['joules'] for q in segment['per_question'].values() for x in q.values())
    phases = {k: v['wh'] * 3600 for k, v in e['by_phase'].items()}
    shared = math.fsum(v for k, v in phases.items() if k not in ('idle', 'load', 'warmup'))
    total = e['total_wh'] * 3600
    assert mine == pytest.approx(e['questions_wh'] * 3600, rel=1e-9, abs=1e-9 * total)
    assert math.fsum(phases.values()) == pytest.approx(total, rel=1e-9)
    assert mine + total - e['questions_wh'] * 3600 == pytest.approx(total, rel=1e-9)
    if 'load' in phases or shared: assert mine + phases.get('load', 0) + phases.get('idle', 0) == pytest.approx(total, rel=1e-9)


# ---- traces of known integral

def random_curve(rng, seconds):
    "Steps and ramps between 50 and 700 W, three in two seconds."
    t, w, points = 0., rng.uniform(50, 700), []
    while t < seconds:
        points.append((t, w))
        d = rng.expovariate(1.5)
        if rng.random() < .5: points.append((t + d, w))
        w, t = rng.uniform(50, 700), t + d + 1e-6
    return PowerCurve(points + [(seconds + 1, w)])


def one_trace(rng, kind):
    "(covered, relative error, relative width) of a window of 5 to 9 s."
    c, t, period, phase = random_curve(rng, 14), 0., rng.uniform(.02, .12), rng.uniform(0, .1)
    trace = CounterTrace(max_watts=840) if kind == 'counter' else PowerTrace(max_watts=840)
    while t < 14:
        if kind == 'counter': trace.add(t, round(c.joules(max(0, math.floor((t - phase) / period) * period + phase)), 3))
        else: trace.add(t, c.watts(t))
        t += rng.uniform(.018, .026) if kind == 'counter' else rng.uniform(.045, .06)
    a = rng.uniform(.3, 4)
    b = a + rng.uniform(5, 9)
    truth, e = c.joules(b) - c.joules(a), trace.energy(a, b)
    return e.low <= truth <= e.high, abs(e.value - truth) / truth, (e.high - e.low) / truth


@pytest.mark.parametrize('kind', ['counter', 'power'])
def test_a_thousand_random_traces(kind):
    rng = random.Random(11)
    got = [one_trace(rng, kind) for _ in range(1000)]
    assert sum(c for c, _, _ in got) >= 950, 'the stated interval holds the truth'
    errors = sorted(e for _, e, _ in got)
    if kind == 'counter': assert errors[989] <= .005 and errors[500] < .002, errors[-20:]
    else: assert errors[500] <= .005, 'polling sees no step between two readings'
    assert sum(w for _, _, w in got) / 1000 < .12, 'and is not idly wide'


def test_smooth_power_is_exact_to_half_a_percent():
    "Windows of at least 5 s of what a GPU does in a run: levels that last for seconds."
    rng = random.Random(5)
    for _ in range(60):
        levels = [(t, w) for k in range(8) for w in [rng.uniform(60, 700)] for t in (4 * k, 4 * k + 3.8)]
        for kind in ('counter', 'power'):
            c, trace, t = PowerCurve(levels), CounterTrace(max_watts=840) if kind == 'counter' else PowerTrace(max_watts=840), 0.
            while t < 31:
                trace.add(t, c.joules(math.floor(t / .1) * .1) if kind == 'counter' else c.watts(t)); t += rng.uniform(.018, .026)
            a = rng.uniform(1, 10); b = a + rng.uniform(5, 19)
            truth, e = c.joules(b) - c.joules(a), trace.energy(a, b)
            assert abs(e.value / truth - 1) <= .005 and e.low <= truth <= e.high, (kind, a, b)


# ---- whatever happens between the readings, the truth is in the interval

MOST = 800. # W that the device can draw

def held(trace, truth, a, b):
    "The interval of a window, alone and as a question of a session, contains the true energy, or the window is unmeasured with a reason."
    e, true = trace.energy(a, b), truth(b) - truth(a)
    if e.value is None: assert e.reason; return None
    q = Attribution([Window('decode', a, b, {'q': 1})], a, b, traces=[trace]).by_question()['q']['decode']
    tiny = 1e-9 * max(1., truth(b))
    for low, value, high in ((e.low, e.value, e.high), (q['low'], q['joules'], q['high'])):
        assert low - tiny <= true <= high + tiny and low <= value <= high, (low, value, true, high)
    return e.high - e.low

watts = st.floats(0, MOST).map(lambda w: round(w, 1))

@st.composite
def gappy_power(draw):
    "(curve, readings): stretches with a level read each 50 ms or so, and stretches of any power up to the limit without a reading."
    t, points, read, rng = 0., [], [], random.Random(draw(st.integers(0, 10**6)))
    for _ in range(draw(st.integers(2, 6))):
        w, end = draw(watts), t + draw(st.floats(.5, 4))
        points += [(t, w), (end, w)]
        while t < end: read.append(t); t += rng.uniform(.03, .09)
        t = end + 1e-9
        for w in draw(st.lists(watts, max_size=6)): # .3 s each: up to 1.8 s unseen
            points += [(t, w), (t + .3 - 1e-9, w)]; t += .3
    w = draw(watts)
    points += [(t, w), (t + 5, w)]
    while t < points[-1][0] - 1: read.append(t); t += rng.uniform(.03, .09)
    return PowerCurve(points), read

@hypothesis_settings(max_examples=150)
@given(gappy_power(), st.floats(0, 1), st.floats(0, 1))
def test_a_gap_in_polled_power_may_hide_anything_the_device_can_do(trace, x, y):
    curve, read = trace
    tr = PowerTrace(max_watts=MOST)
    for t in read: tr.add(t, curve.watts(t))
    a, b = sorted(read[0] + z * (read[-1] - read[0]) for z in (x, y))
    if b - a > .01: held(tr, curve.joules, a, b)

def test_a_burst_within_a_second_and_a_half_without_readings():
    curve = PowerCurve([(0, 300), (10, 300), (10.1, 620), (11, 620), (11.2, 300), (30, 300)])
    tr = PowerTrace(max_watts=MOST)
    for k in range(401):
        if not 10 < (t := k * .05) < 11.5: tr.add(t, curve.watts(t))
    width = held(tr, curve.joules, 0, 20)
    assert 2 * 1.4 * 500 < width < 2 * 1.6 * 510, 'up to the limit, and not far beyond'

@pytest.mark.parametrize('limit', [MOST, 0.])
def test_a_poll_that_is_too_slow_for_the_signal_is_never_certain(limit):
    "Once a second on a load that changes every half second: all readings are alike."
    curve, tr = square_wave(1., 40, 160., 460.), PowerTrace(max_watts=limit)
    for k in range(40): tr.add(k + .7, curve.watts(k + .7))
    width = held(tr, curve.joules, 2., 32.)
    assert width is None if not limit else width > 30 * 300
    averaged = PowerTrace(averaging=1., max_watts=limit) # a sensor that shows the mean of the second is seen whole
    for k in range(1, 40): averaged.add(k + .7, curve.joules(k + .7) - curve.joules(k - .3))
    assert held(averaged, curve.joules, 2., 32.) < .05 * curve.joules(30)

@pytest.mark.parametrize('kind', ['50 ms', '130 ms', '300 ms', '1 s', 'spikes of 10 ms', 'spikes of 30 ms', 'many spikes of 3 ms'])
def test_loads_that_are_faster_than_the_poll(kind):
    "Polled each 50 ms at uneven moments, as the sampler does: sessions and single questions."
    make = dict(zip(['50 ms', '130 ms', '300 ms', '1 s'], (lambda r, p=p: square_wave(p, 42, duty=r.uniform(.2, .8)) for p in (.05, .13, .3, 1.)))) | {
        'spikes of 10 ms': lambda r: bursts(r, 2, .01, 42), 'spikes of 30 ms': lambda r: bursts(r, 2, .03, 42), 'many spikes of 3 ms': lambda r: bursts(r, 10, .003, 42)}
    rng, whole, single = random.Random(4), [], []
    for _ in range(25):
        c, tr, t = make[kind](rng), PowerTrace(max_watts=MOST), 0.
        while t < 40: tr.add(t, c.watts(t)); t += rng.uniform(.04, .07)
        windows, t = [], rng.uniform(1, 2)
        while t < 37: d = rng.uniform(.15, 2); windows.append(Window('decode', t, t + d, {len(windows): 1})); t += d
        session = Attribution(windows, 0., 39., traces=[tr])
        holds = lambda w, e: e['low'] - 1e-6 <= c.joules(w.end) - c.joules(w.start) <= e['high'] + 1e-6
        single += [holds(w, session.by_question()[k]['decode']) for k, w in enumerate(windows)]
        whole.append(session.total.low <= c.joules(39) <= session.total.high)
    assert sum(whole) >= 24 and sum(single) >= .95 * len(single), (sum(whole), sum(single) / len(single))

@st.composite
def counted(draw, gaps):
    "(curve, readings) of a counter that is read each 20 ms or so, with gaps of the given lengths."
    t, points, read, rng = 0., [], [], random.Random(draw(st.integers(0, 10**6)))
    for _ in range(draw(st.integers(2, 5))):
        w, end = draw(watts), t + draw(st.floats(.5, 3))
        points += [(t, w), (end, w)]
        while t < end: read.append(t); t += rng.uniform(.015, .03)
        if draw(st.booleans()):
            gap, w = draw(gaps), draw(watts)
            points += [(end + 1e-9, w), (end + gap, w)]; t = end = end + gap
        t = end + 1e-9
    points += [(t, 100.), (t + 9, 100.)]
    while t < points[-1][0] - 5: read.append(t); t += rng.uniform(.015, .03)
    return PowerCurve(points), read

@hypothesis_settings(max_examples=150)
@given(counted(st.floats(.5, 60)), st.sampled_from([500., 4000., 65532.6, 262143.3]), st.floats(0, 1), st.floats(0, 1))
def test_a_counter_that_may_have_started_over_more_than_once(trace, wrap, x, y):
    "A processor's counter wraps; within a long gap it may do so twice, which no reading shows."
    curve, read = trace
    tr = CounterTrace(wrap=wrap, max_watts=MOST, resolution=1e-4)
    for t in read: tr.add(t, (17. + curve.joules(math.floor(t / .001) * .001)) % wrap)
    a, b = sorted(read[0] + .1 + z * (read[-1] - read[0] - .2) for z in (x, y))
    if b - a > .01: held(tr, curve.joules, a, b)

@pytest.mark.parametrize('power, gap, wrap, wide', [(180., 40., 4000., True), (80., 40., 262143.3, False), (1575., 80., 65532.6, True), (100., 30., 4000., True), (100., 3., 4000., False)])
def test_two_wraps_in_one_gap(power, gap, wrap, wide):
    tr = CounterTrace(wrap=wrap, max_watts=max(MOST, 2 * power), resolution=1e-4)
    for t in [k * .05 for k in range(200)] + [10 + gap + k * .05 for k in range(200)]: tr.add(t, (5. + power * t) % wrap)
    width, true = held(tr, lambda t: power * t, 1., 15 + gap), power * (14 + gap)
    assert (width > wrap if wide else width < .01 * true + 100) and any('started over' in f for f in tr.flags) == wide
    assert not wide or abs(tr.energy(1., 15 + gap).value - true) < .1 * true, 'the power before shows which number of wraps is likely'

@hypothesis_settings(max_examples=100)
@given(counted(st.floats(.1, 1.)), st.lists(st.floats(.2, .9), min_size=1, max_size=5, unique=True), st.floats(.02, .12), st.floats(0, 1), st.floats(0, 1))
def test_a_counter_that_is_reset_several_times(trace, resets, period, x, y):
    "What was used since the counter last moved is lost with each reset."
    curve, read = trace
    resets = sorted(read[-1] * z for z in resets)
    resets = [r for k, r in enumerate(resets) if not k or r - resets[k - 1] > .3] # a driver is not loaded twice between two refreshes
    tr, seen = CounterTrace(max_watts=MOST), 0
    for t in read:
        at = math.floor(t / period) * period
        value = curve.joules(at) + 5e4 if not (past := [r for r in resets if r <= t]) else max(0., curve.joules(at) - curve.joules(past[-1]))
        if len(past) > seen: assume(value < tr.raw); seen = len(past) # a reset that no reading shows as a fall cannot be detected
        tr.add(t, value)
    a, b = sorted(read[0] + .3 + z * (read[-1] - read[0] - .6) for z in (x, y))
    if b - a > .01: held(tr, curve.joules, a, b)

def test_three_resets_of_a_counter_under_a_steady_load():
    "Each falls just before the counter would have moved: a tenth of a second is lost three times."
    tr = CounterTrace(max_watts=700.)
    for k in range(2100):
        t = k * .02
        at, since = math.floor(t / .1) * .1, max([r for r in (10.095, 20.095, 30.095) if r <= t], default=None)
        tr.add(t, 300 * at + 5e4 if since is None else max(0., 300 * (at - since)))
    e = tr.energy(.5, 40.5)
    assert e.low <= 12000 <= e.high and abs(e.value - 12000) < 40 and e.high - e.low < 600 and len(tr.flags) == 3

def test_a_gain_is_recorded(tmp_path, monkeypatch):
    "A board that reads 4 % too little: outside of the interval, unless the gain is carried; then it is within, for questions, too."
    run = lambda **kw: play([SimulatedGpu(300., gain=.96, power=False)], load_and_answer, tmp_path, **kw)
    plain, wide = run()['report']['energy'], run(gain=.05)
    assert plain['total_wh_high'] < 300 * 40 / 3600 and (plain['gain_uncertainty'], plain['gain_in_intervals']) == (.05, None)
    e = wide['report']['energy']
    assert e['total_wh_low'] < 300 * 40 / 3600 < e['total_wh_high'] and e['gain_in_intervals'] == .05 and e['total_wh'] == plain['total_wh']
    for q, share in (('q1', .25), ('q2', .75)): assert wide['per_question'][q]['decode']['low'] < 300 * 30 * share < wide['per_question'][q]['decode']['high']
    monkeypatch.setenv('WATTNB_SENSOR_GAIN', '0.05')
    assert run()['report']['energy']['total_wh_high'] == e['total_wh_high']
    monkeypatch.setenv('WATTNB_SENSOR_GAIN', '5 %')
    with pytest.raises(UserError, match='WATTNB_SENSOR_GAIN is a relative error'): run()
    assert play([], load_and_answer, tmp_path, zones={'package-0': 9.}, gain=0.)['report']['energy']['gain_uncertainty'] is None

AVERAGING = ['NVIDIA A10G', 'NVIDIA A10', 'NVIDIA H20', 'NVIDIA H800', 'NVIDIA H100 80GB HBM3', 'NVIDIA H200', 'NVIDIA GH200 480GB', 'NVIDIA RTX PRO 6000 Blackwell Server Edition', 'NVIDIA RTX 6000 Ada Generation',
             'NVIDIA RTX A6000', 'NVIDIA GeForce RTX 4090', 'NVIDIA GeForce RTX 3060', 'NVIDIA GeForce RTX 5090', 'NVIDIA L40S', 'NVIDIA L4', 'NVIDIA GB10', 'NVIDIA B200', 'NVIDIA GB200', 'NVIDIA A40', 'NVIDIA A16', 'NVIDIA A2']
INSTANT_ONES = ['Quadro RTX 6000', 'Quadro RTX 8000', 'Quadro RTX 4000', 'Tesla T4', 'NVIDIA A100-SXM4-80GB', 'NVIDIA A100 80GB PCIe', 'NVIDIA A30', 'Tesla V100-SXM2-16GB', 'NVIDIA GeForce RTX 2080 Ti', 'NVIDIA TITAN RTX']

@pytest.mark.parametrize('name', AVERAGING + INSTANT_ONES)
def test_whose_older_power_field_is_a_mean_of_a_second(name):
    with simulated_nvml([SimulatedGpu(name=name, instant=False)]):
        meter = next(m for m in meters() if m.kind == 'power')
        assert meter.trace('gpu0').averaging == (1. if name in AVERAGING else 0.)

def test_a_long_gap_is_a_warning(tmp_path):
    "The sampler did not run for three seconds: recorded, and in the interval of polled power."
    def work(s, clock):
        with s.stage('decode', ids=['q']):
            clock.sleep(40)
            tick, clock.tick = clock.tick, None
            clock.sleep(1.5); clock.tick = tick
            clock.sleep(1)
    for counter in (True, False):
        e = play([SimulatedGpu([(100, 200), (140.1, 200), (140.2, 330), (141.3, 330), (141.4, 200), (200, 200)], counter=counter)], work, tmp_path)['report']['energy']
        assert e['sampler']['longest_gap_s'] == pytest.approx(1.55, abs=.06) and any('no meter was read for 1.5 s' in w or 'no meter was read for 1.6 s' in w for w in e['warnings'])
        assert e['total_wh_low'] <= (200 * 42.5 + 130 * 1.2) / 3600 <= e['total_wh_high']
        assert (e['total_wh_high'] - e['total_wh_low']) * 3600 < (60 if counter else 2 * 1.6 * 220 + 60)


# ---- attribution

@st.composite
def sessions(draw):
    "Windows of a run in a plausible disorder: batches, overlaps, retries, pauses; durations from ms to seconds."
    n = draw(st.integers(1, 12))
    out, t = [], 0.
    for _ in range(n):
        t += draw(st.floats(-.3, 2.)); t = max(t, 0.)
        d = draw(st.floats(.001, 4.))
        ids = draw(st.lists(st.sampled_from('abcdefgh'), max_size=5, unique=True))
        weights = {i: draw(st.integers(0, 500)) for i in ids}
        stage = draw(st.sampled_from(['embed', 'plan', 'retrieve', 'prefill', 'decode', 'retry'])) if ids else 'load'
        out.append(Window(stage, t, t + d, weights or None)); t += d
    pauses = draw(st.lists(st.tuples(st.floats(0, 20), st.floats(.01, 3)), max_size=2))
    return out, [(a, a + d) for a, d in pauses], max(t, .5) + draw(st.floats(0, 2.))

@hypothesis_settings(max_examples=60)
@given(sessions(), st.integers(0, 10**6))
def test_parts_sum_to_the_session(session, seed):
    windows, pauses, end = session
    rng = random.Random(seed)
    trace, j = CounterTrace(max_watts=900), 0.
    for k in range(int(end / .05) + 5):
        trace.add(k * .05, j); j += rng.uniform(0, 45)
    power = PowerTrace()
    for k in range(int(end / .1) + 5): power.add(k * .1, rng.uniform(20, 300))
    l = Attribution(windows, 0., end, pauses, [trace, power])
    total, questions = l.total, l.by_question(10.)
    scale = max(total.value, 1.)
    asked = math.fsum(e['joules'] for q in questions.values() for e in q.values())
    alone = math.fsum(l.energy(a).value for a in l.unassigned.values())
    assert abs(asked + alone - total.value) <= 1e-9 * scale
    assert abs(math.fsum(e.value for _, e in l.by_stage().values()) - total.value) <= 1e-9 * scale
    assert abs(sum(s for s, _ in l.by_stage().values()) - l.whole.seconds) < 1e-9 * max(1, end)
    for q in questions.values():
        for e in q.values():
            assert e['low'] <= e['joules'] <= e['high'] and e['low'] >= 0
            assert e['net'] == pytest.approx(e['joules'] - 10 * e['seconds'])
    assert total.low <= total.value <= total.high


def test_a_batch_is_shared_by_tokens_and_marked(tmp_path):
    def work(s, clock):
        with s.stage('prefill', ids=['alone']): clock.sleep(4)
        with s.stage('decode', ids=['a', 'b', 'c'], weights=[10, 30, 60]): clock.sleep(10)
        with s.stage('decode', ids=['zero', 'also'], weights=[0, 0]): clock.sleep(2)
    got = play([SimulatedGpu(200.)], work, tmp_path)
    q = got['per_question']
    assert q['alone']['prefill']['method'] == 'measured' and q['a']['decode']['method'] == 'attributed'
    assert [q[k]['decode']['joules'] for k in 'abc'] == pytest.approx([200, 600, 1200], rel=.02)
    assert q['zero']['decode']['joules'] == pytest.approx(q['also']['decode']['joules'])
    sums_up(got)


# ---- drivers with faults

H100 = dict(name='NVIDIA H100 80GB HBM3', memory_gb=80., limit_w=700.)
FAULTS = {
    'none': (dict(), 'nvml', None),
    'no counter': (dict(counter=False), 'power_sampling', None),
    'no instant field': (dict(counter=False, instant=False), 'power_sampling', None),
    'counter stalls': (dict(stall_at=110.), 'power_sampling', None),
    'counter wraps': (dict(wrap_j=2000.), 'nvml', 'the counter was reset'),
    'counter reset': (dict(reset_at=120.03), 'nvml', 'the counter was reset'),
}

@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_never_makes_a_wrong_number(fault, tmp_path):
    kw, method, flag = FAULTS[fault]
    steps = [(100, 100), (112, 100), (112, 400), (125, 400), (125, 150), (200, 150)]
    got = play([SimulatedGpu(steps, **H100 | kw)], load_and_answer, tmp_path)
    e, truth = got['report']['energy'], PowerCurve(steps)
    whole = (truth.joules(140) - truth.joules(100)) / 3600
    assert e['method'] == got['report']['hardware']['gpu_energy_method'] == method
    assert e['total_wh_low'] <= whole <= e['total_wh_high'], (e['total_wh_low'], whole, e['total_wh_high'])
    assert e['total_wh'] == pytest.approx(whole, rel=.05 if flag or fault == 'no instant field' else .01)
    assert any(flag in w for w in e['warnings']) if flag else not e['warnings']
    sums_up(got)


@pytest.mark.parametrize('kw,why', [(dict(counter=False, power=False), 'Not Supported'), (dict(lost_at=120.), 'GPU is lost')])
def test_what_cannot_be_measured_is_null_with_the_reason(kw, why, tmp_path):
    got = play([SimulatedGpu(200.), SimulatedGpu(200., **kw)], load_and_answer, tmp_path, zones={'package-0': 50.})
    r = got['report']
    assert r['energy']['total_wh'] is None and r['hardware']['gpu_energy_wh'] is None and r['hardware']['gpu_energy_method'] == 'none'
    assert why in r['energy']['reasons']['energy'] and why in r['hardware']['reasons']['gpu'] and 'gpu1' in r['energy']['reasons']['gpu']
    assert r['energy']['by_device']['gpu0']['wh'] == pytest.approx(200 * 40 / 3600, rel=.01), 'what was measured is still reported'
    assert r['energy']['cpu']['wh'] == pytest.approx(50 * 40 / 3600, rel=.01)
    assert all(e['joules'] is None and e['method'] == 'none' for q in got['per_question'].values() for e in q.values())
    assert not any(v == 0 for k, v in r['hardware'].items() if k.startswith('gpu_e') or k.startswith('gpu_avg'))


def test_the_two_gpu_run_has_both(tmp_path):
    got = play([SimulatedGpu(300.), SimulatedGpu(211.)], load_and_answer, tmp_path)
    e = got['report']['energy']
    assert e['gpu_wh'] == pytest.approx(511 * 40 / 3600, rel=.01)
    assert {d: round(v['wh'] * 3600 / 40) for d, v in e['by_device'].items()} == {'gpu0': 300, 'gpu1': 211}
    assert got['report']['hardware']['gpu_peak_power_watts'] == pytest.approx(511, abs=1)


@pytest.mark.parametrize('n', range(2, 9))
def test_the_right_gpus_in_any_order(n, tmp_path):
    "Each of n GPUs draws its own power; whatever CUDA_VISIBLE_DEVICES leaves, in whatever order, is what is read."
    rng = random.Random(n)
    gpus = [SimulatedGpu(100. + 10 * i) for i in range(n)]
    order = rng.sample(range(n), rng.randint(1, n))
    with simulated_nvml(gpus): uuids = [g.uuid for g in gpus]
    for shown in (','.join(map(str, order)), ','.join(uuids[i][:14] if i % 2 else uuids[i] for i in order)):
        if len({uuids[i][:14] for i in range(n)}) < n: continue
        got = play(gpus, lambda s, c: c.sleep(10), tmp_path, shown=shown)['report']
        assert [round(v['wh'] * 360) for v in got['energy']['by_device'].values()] == [100 + 10 * i for i in order]
        assert [v['uuid'] for v in got['energy']['by_device'].values()] == [uuids[i] for i in order]


def test_flags_of_doubtful_readings(tmp_path):
    at = lambda **kw: play([SimulatedGpu(100., **kw)], load_and_answer, tmp_path, shown=kw.pop('shown', None))['report']
    assert 'MIG slice' in ' '.join(play([SimulatedGpu(100., mig=2)], load_and_answer, tmp_path, shown='MIG-00000001')['report']['energy']['warnings'])
    assert 'virtual GPU' in ' '.join(at(vgpu=True)['energy']['warnings'])
    assert 'module' in ' '.join(at(name='NVIDIA GH200 480GB')['energy']['warnings'])
    assert 'other programs' in ' '.join(at(processes=(999999998,))['energy']['warnings'])
    assert not at(processes=(os.getpid(),))['energy']['warnings']


def test_two_mig_slices_of_one_gpu_are_read_once(tmp_path):
    got = play([SimulatedGpu(100., mig=2)], load_and_answer, tmp_path, shown='MIG-00000000,MIG-00000001')['report']
    assert got['energy']['total_wh'] == pytest.approx(100 * 40 / 3600, rel=.01) and got['machine']['gpu_count'] == 2


def test_counter_against_polling(tmp_path):
    good, bad = (play([SimulatedGpu(300., gain=g)], load_and_answer, tmp_path)['report']['energy'] for g in (1., .8))
    assert abs(good['by_device']['gpu0']['difference']) < .01 and not good['warnings']
    assert bad['by_device']['gpu0']['difference'] == pytest.approx(.25, abs=.02) and '+25' in bad['warnings'][0].replace('+24.9', '+25').replace('+25.1', '+25')
    short = play([SimulatedGpu(300., gain=.8)], lambda s, c: load_and_answer(s, c, 2), tmp_path)['report']['energy']
    assert not short['warnings'], 'two seconds are all edges'


def test_unified_memory(tmp_path):
    got = play([SimulatedGpu(60., name='NVIDIA GB10', memory_gb=None)], load_and_answer, tmp_path)['report']
    assert got['memory']['unified'] and got['hardware']['gpu_vram_total_bytes'] > 2**30
    assert got['memory']['steady']['by_device']['gpu0']['used_gb'] > 0 and got['memory']['steady']['by_device']['gpu0']['allocated_gb'] is None


@pytest.mark.parametrize('why', ['Insufficient Permissions', 'GPU is lost', 'Unknown Error'])
def test_only_a_card_without_memory_of_its_own_is_unified(why, tmp_path):
    "Not to be allowed to ask is not to have none: the memory of such a card is unknown, with the reason."
    from wattnb.core.hardware import free_memory, memory_here
    with simulated_nvml([SimulatedGpu(memory_refused=why), SimulatedGpu(memory_gb=None), SimulatedGpu(memory_gb=16., used_gb=6.)]):
        a, b, c = visible_gpus()
        assert (a.unified, a.memory_total_bytes, a.memory_reason, free_memory(a)) == (False, None, why, None)
        assert b.unified and b.memory_reason == '' and free_memory(b) > 2**28 and free_memory(c) == 10 * 2**30
        here = memory_here()
        assert here['gpu_gb'][0] == 0 and here['gpu_gb'][1] == here['ram_gb'] and here['gpu_unknown'] == {'gpu0': why}
    got = play([SimulatedGpu(60., memory_refused=why)], load_and_answer, tmp_path)['report']
    assert not got['memory']['unified'] and got['hardware']['gpu_vram_total_bytes'] is None and why in got['hardware']['reasons']['gpu_vram_total']
    assert got['energy']['total_wh'] == pytest.approx(60 * 40 / 3600, rel=.01)


JETSON = dict(name='Orin (nvgpu)', memory_gb=None, counter=False, power=False)
ZEUS = """
class Soc:
    def __init__(self, mj): self.total_energy_mj = mj
class Measured:
    def __init__(self, joules): self.gpu_energy, self.soc_energy = {}, Soc(joules * 1e3)
class ZeusMonitor:
    "A board of 30 W on the clock that the test sets."
    clock = None
    def __init__(self, gpu_indices=None):
        if gpu_indices != []: raise RuntimeError('Not Supported')
    def begin_window(self, key, sync_execution=True): self.since = self.clock()
    def end_window(self, key, sync_execution=True): return Measured(30. * (self.clock() - self.since))
"""

@pytest.mark.parametrize('device, counted', [('cuda:0', ['soc']), ('cpu', ['soc']), (None, ['soc'])])
def test_a_board_that_nvml_lists_and_cannot_read(device, counted, tmp_path, monkeypatch):
    "A Jetson: NVML refuses energy, power and memory. The next meter reads the whole chip; without one the reasons of both are recorded."
    def work(s, clock): s.uses(device); load_and_answer(s, clock)
    got = play([SimulatedGpu(**JETSON)], work, tmp_path)['report']
    assert got['energy']['total_wh'] is None and all(w in got['energy']['reasons']['energy'] for w in (['Not Supported', 'zeus is not installed'] if device != 'cpu' else ['no GPU was used']))
    (tmp_path / 'zeus').mkdir()
    (tmp_path / 'zeus/__init__.py').write_text(''); (tmp_path / 'zeus/monitor.py').write_text(ZEUS)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ('zeus', 'zeus.monitor'): monkeypatch.delitem(sys.modules, name, raising=False)
    import zeus.monitor
    clock = SimulatedClock()
    zeus.monitor.ZeusMonitor.clock = staticmethod(clock)
    with simulated_nvml([SimulatedGpu(**JETSON)], clock):
        s = Session(using=meters(visible_gpus(), rapl=tmp_path), clock=clock, sleep=clock.sleep, watch=False)
        clock.tick = lambda: s.sampler.sample()
        with s: work(s, clock); r = s.report()
    e = r['energy']
    assert e['total_wh'] == pytest.approx(30 * 40 / 3600, rel=.01) and e['counted'] == counted and e['method'] == 'zeus' and r['memory']['unified']
    assert not e['by_device']['gpu0']['counted'] and 'Not Supported' in e['by_device']['gpu0']['reason']
    for name in ('zeus', 'zeus.monitor'): sys.modules.pop(name, None)


def test_memory_of_load_and_work_apart(tmp_path):
    gpu = SimulatedGpu(100., used_gb=20.)
    def work(s, clock):
        with s.stage('load'): clock.sleep(3)
        s.loaded()
        gpu.used_gb = 5.
        with s.stage('decode', ids=['q']): clock.sleep(3)
    m = play([gpu], work, tmp_path)['report']['memory']
    assert m['load']['by_device']['gpu0']['used_gb'] == 20 and m['steady']['by_device']['gpu0']['used_gb'] == 5
    assert m['host_rss_peak_gb'] > 0


def test_power_csv_and_conditions(tmp_path):
    path = tmp_path / 'power.csv'
    got = play([SimulatedGpu(250., throttle=0x4 | 0x40)], load_and_answer, tmp_path, zones={'package-0': 70.}, trace_path=path)
    rows = list(csv.DictReader(open(path)))
    assert not undocumented('power.csv', rows[0]) and {r['device'] for r in rows} == {'gpu0', 'package-0', 'host'}
    gpu = [r for r in rows if r['device'] == 'gpu0']
    assert len(gpu) > 150 and all(float(r['watts']) == 250 for r in gpu if r['watts'])
    full = [r for r in gpu if r['temperature_c']]
    assert 35 < len(full) < 50 and full[0]['sm_mhz'] == '1980' and full[0]['throttle'] == 'power cap+hardware thermal' and full[0]['utilisation_pct'] == '71'
    assert [float(r['watts']) for r in rows if r['device'] == 'package-0' and r['watts']][-1] == pytest.approx(70, rel=.05)
    c = got['report']['conditions']['gpu0']
    assert c['temperature_max_c'] == 55 and c['throttled']['power cap'] == pytest.approx(40, abs=2)


def test_idle_baselines_gross_and_net(tmp_path):
    steps = [(100, 50), (110, 50), (110, 200), (115, 200), (115, 80), (125, 80), (125, 300), (300, 300)]
    r = play([SimulatedGpu(steps)], load_and_answer, tmp_path, idle_seconds=10)['report']
    e = r['energy']
    assert e['idle_w'] == pytest.approx(50, rel=.03) and e['idle_loaded_w'] == pytest.approx(80, rel=.03)
    assert e['window_s'] == pytest.approx(40) and e['excluded_s'] == {'idle baseline': pytest.approx(20)}
    assert e['total_wh'] == pytest.approx((5 * 200 + 35 * 300) / 3600, rel=.005)
    assert e['net_wh'] == pytest.approx(e['total_wh'] - 40 * e['idle_w'] / 3600) and e['net_wh_low'] < e['net_wh'] < e['net_wh_high']
    assert e['by_phase']['load']['wh'] == pytest.approx(1000 / 3600, rel=.02)


@hypothesis_settings(max_examples=40)
@given(st.floats(20, 120), st.floats(20, 120), st.floats(150, 600), st.floats(0, 1))
def test_idle_power_that_drifts_is_within_the_net_interval(before, after, work, when):
    "Net of what the machine really drew besides: anything between its idle power before and after the work."
    import tempfile
    steps = [(100, before), (110, before), (110, work), (145, work), (145, after), (200, after)]
    def all_of_it(s, clock):
        with s.stage('decode', ids=['a', 'b'], weights=[2, 1]): clock.sleep(30)
        clock.sleep(5)
        s.ended(); s.ended()
    with tempfile.TemporaryDirectory() as d: got = play([SimulatedGpu(steps, limit_w=700.)], all_of_it, d, idle_seconds=10)
    e, idle = got['report']['energy'], before + when * (after - before)
    assert e['net_wh_low'] <= (work - idle) * 35 / 3600 <= e['net_wh_high'] and e['net_wh_low'] < e['net_wh'] < e['net_wh_high']
    assert e['idle_before_w'] == pytest.approx(before, rel=.03) and e['idle_after_w'] == pytest.approx(after, rel=.06) and e['idle_w'] == pytest.approx((e['idle_before_w'] + e['idle_after_w']) / 2)
    assert e['window_s'] == pytest.approx(35) and e['excluded_s']['idle baseline'] == pytest.approx(16) and 'idle_after' not in e['reasons']
    for q, share in (('a', 2 / 3), ('b', 1 / 3)):
        x = got['per_question'][q]['decode']
        assert x['net_low'] <= (work - idle) * 30 * share <= x['net_high'] and x['net'] == pytest.approx(x['joules'] - e['idle_w'] * x['seconds'])


def test_a_warm_machine_after_the_work(tmp_path):
    "45 W before, 62 W after: what the work took net of the warm machine is in the interval."
    steps = [(100, 45), (110, 45), (110, 250), (170, 250), (170, 62), (300, 62)]
    def work(s, clock):
        with s.stage('decode', ids=['q']): clock.sleep(60)
        s.ended()
    e = play([SimulatedGpu(steps)], work, tmp_path, idle_seconds=10)['report']['energy']
    assert e['net_wh_low'] < (250 - 62) * 60 / 3600 < e['net_wh'] < (250 - 45) * 60 / 3600 < e['net_wh_high']
    cut = play([SimulatedGpu(steps)], lambda s, c: c.sleep(60), tmp_path, idle_seconds=10)['report']['energy']
    assert cut['idle_after_w'] is None and 'interrupted' in cut['reasons']['idle_after'] and cut['net_wh'] == pytest.approx((250 - 45) * 60 / 3600, rel=.01)
    none = play([SimulatedGpu(steps)], work, tmp_path)['report']['energy']
    assert none['idle_w'] is None and none['net_wh'] is None and none['reasons']['idle'] and 'idle_after' not in none['reasons'] and none['excluded_s'] == {}


def test_a_run_measures_idle_before_and_after(ws):
    with simulated_nvml([SimulatedGpu(100., period=.02)]):
        plan = plan_run(asked(name='idle', idle_seconds=.4), ws); run_all(plan, Cuda())
        stopped = plan_run(asked(name='idle-cut', idle_seconds=.4), ws)
        with pytest.raises(KeyboardInterrupt):
            with Run(stopped, Cuda()) as run:
                try: run.load(); run.answer(lambda done, n: (_ for _ in ()).throw(KeyboardInterrupt()))
                except KeyboardInterrupt: run.stop(); raise
    s = metered_run(plan.run_dir)
    e = s.summary['energy']
    assert None not in (e['idle_before_w'], e['idle_loaded_w'], e['idle_after_w']) and e['excluded_s']['idle baseline'] >= 1.2
    assert all(x['net_low'] <= x['net'] <= x['net_high'] for r in s.results for x in r['energy'].values())
    cut = stored_run(stopped.run_dir).summary['energy']
    assert cut['idle_after_w'] is None and 'interrupted' in cut['reasons']['idle_after']


def test_what_a_budget_asks_is_the_total_of_the_report(tmp_path):
    "`so_far` leaves out what the report leaves out (baselines, pauses), at any moment of the run."
    seen = []
    def work(s, clock):
        for seconds in (3, 7, 2):
            load_and_answer(s, clock, seconds)
            with s.pause('board'): clock.sleep(4)
            seen.append((s.so_far().wh, s.report()['energy']['total_wh']))
    play([SimulatedGpu([(100, 60), (118, 320), (140, 90), (300, 90)]), SimulatedGpu(200.)], work, tmp_path, idle_seconds=5)
    assert len(seen) == 3 and all(a == pytest.approx(b, rel=1e-9) for a, b in seen) and seen[0][0] < seen[1][0] < seen[2][0]
    assert play([], lambda s, c: seen.append(s.so_far()), tmp_path) and seen[-1].wh is None and seen[-1].reason


def test_rapl_wraps(tmp_path):
    r = play([], load_and_answer, tmp_path, zones={'package-0': 200., 'dram': 20.})
    assert r['report']['energy']['total_wh'] == pytest.approx(220 * 40 / 3600, rel=.005) and r['report']['energy']['method'] == 'none'
    assert r['report']['hardware']['gpu_energy_wh'] is None and r['report']['energy']['cpu']['scope'] == 'dram-0, package-0'
    sums_up(r)
    clock = SimulatedClock()
    rapl = SimulatedRapl(tmp_path / 'w', {'package-0': 100.}, clock, wrap_j=1000., start_j=900.)
    s = Session(using=[Rapl(tmp_path / 'w'), CpuTime(None)], clock=clock, sleep=clock.sleep, watch=False)
    clock.tick = lambda: (rapl.move(), s.sampler.sample())
    with s:
        clock.sleep(40) # four times round
        assert s.report()['energy']['total_wh'] == pytest.approx(4000 / 3600, rel=.005)


def test_rapl_that_may_not_be_read(tmp_path, monkeypatch):
    SimulatedRapl(tmp_path / 'r', {'package-0': 100.})
    real = Path.read_text
    def denied(self, *a, **k):
        if self.name == 'energy_uj': raise PermissionError(13, 'Permission denied')
        return real(self, *a, **k)
    monkeypatch.setattr(Path, 'read_text', denied)
    assert Rapl(tmp_path / 'r').reason == RAPL_HELP
    with Session(using=meters([], rapl=tmp_path / 'r'), watch=False) as s: r = s.report()
    assert r['energy']['total_wh'] is None and RAPL_HELP in r['energy']['reasons']['cpu_energy'] and RAPL_HELP in r['energy']['reasons']['energy']


@pytest.mark.parametrize('name', ['max_energy_range_uj', 'energy_uj'])
def test_rapl_that_lacks_a_file_names_it(tmp_path, name):
    SimulatedRapl(tmp_path / 'r', {'package-0': 100.})
    [f.unlink() for f in (tmp_path / 'r').rglob(name)]
    assert name in Rapl(tmp_path / 'r').reason and 'No such file' in Rapl(tmp_path / 'r').reason


def test_the_estimate_is_labelled_and_never_in_the_total(tmp_path):
    def work(s, clock):
        end = time.process_time() + .1
        while time.process_time() < end: sum(range(1000))
        clock.sleep(10)
    e = play([], work, tmp_path, tdp=100.)['report']['energy']
    assert e['total_wh'] is None and e['estimate']['what'].startswith('estimate:') and 'not in the total' in e['estimate']['what']
    assert 0 < e['estimate']['wh'] < e['estimate']['wh_high'] and e['estimate']['wh_low'] == 0


# ---- sessions of a run

def test_segments_add_up_and_mixed_machines_are_labelled(tmp_path):
    a = play([SimulatedGpu(300.)], load_and_answer, tmp_path, idle_seconds=5)['report']
    b = play([SimulatedGpu(100.)], load_and_answer, tmp_path, idle_seconds=5)['report']
    m = merge_segments([a, b])
    for k in ('total_wh', 'total_wh_low', 'total_wh_high', 'gpu_wh', 'net_wh', 'questions_wh', 'window_s'): assert m['energy'][k] == pytest.approx(a['energy'][k] + b['energy'][k], rel=1e-12), k
    assert math.fsum(p['wh'] for p in m['energy']['by_phase'].values()) == pytest.approx(m['energy']['total_wh'], rel=1e-9)
    assert m['energy']['excluded_s'] == {'idle baseline': pytest.approx(20)} and 'mixed' not in m['machine']
    assert m['hardware']['gpu_avg_power_watts'] == pytest.approx(200, rel=.01) and m['hardware']['gpu_peak_power_watts'] == pytest.approx(300, abs=1)
    other = dict(b, machine=dict(b['machine'], hostname='elsewhere', cpu_model='another', container=False))
    assert len(merge_segments([a, other])['machine']['mixed']) == 2
    lost = play([SimulatedGpu(100., lost_at=120)], load_and_answer, tmp_path)['report']
    partly = merge_segments([a, lost])
    assert partly['energy']['total_wh'] is None and partly['energy']['measured_wh'] == a['energy']['total_wh'] and partly['hardware']['gpu_energy_method'] == 'none'
    assert partly['energy']['reasons']['energy'].startswith('session 2: ')


@pytest.fixture(scope='module')
def ws(tmp_path_factory):
    folder = tmp_path_factory.mktemp('energy')
    w = words_workspace(folder)
    (folder / 'wattnb.toml').write_text('[footprint]\ngrid = "FR"\npue = 1.2\n')
    return w


def asked(**kw): return RunSettings(**{'model': 'extractive', 'env': 't', 'preset': 'words', 'limit': 3, 'max_retries': 1, 'idle_seconds': 0, **kw})


class Cuda:
    "The extractive baseline that pretends to be on a GPU: the real one needs a card."
    def __init__(self, device='cuda:0', **info):
        from wattnb.llm.registry import load_registry
        from wattnb.llm.protocol import open_model
        self.inner = open_model(load_registry().find('extractive'))
        self.entry, self.info, self.on_phase, self.seen = self.inner.entry, dict(self.inner.info, device=device, **info), None, []
    def count_tokens(self, t): return self.inner.count_tokens(t)
    def stream(self, rs):
        self.seen += [r.id for r in rs]
        if rs[0].id == 'warm-up': return
        for r in self.inner.stream(rs):
            t = time.monotonic(); time.sleep(.02)
            self.on_phase('prefill', t, t + .01, [r.id], [5]); self.on_phase('decode', t + .01, t + .02, [r.id], [2])
            yield r
    def close(self): pass

def metered_run(folder):
    "The sum rule in the files of a run."
    s = stored_run(folder)
    e = s.summary['energy']
    mine = math.fsum(x['joules'] for r in s.results for x in r['energy'].values()) / 3600
    assert math.fsum(p['wh'] for p in e['by_phase'].values()) == pytest.approx(e['total_wh'], rel=1e-9)
    assert mine + e['by_phase'].get('load', {'wh': 0})['wh'] + e['by_phase']['idle']['wh'] == pytest.approx(e['total_wh'], rel=1e-9)
    return s


def test_a_real_run_with_two_gpus_and_a_resume(ws):
    "The real thread, the real clock: a run that is stopped and resumed, on two simulated GPUs of 120 and 80 W."
    with simulated_nvml([SimulatedGpu(120., period=.02), SimulatedGpu(80., period=.02)]):
        plan = plan_run(asked(name='metered', limit=4), ws)
        with pytest.raises(KeyboardInterrupt):
            with Run(plan, Cuda('cuda:0, cuda:1')) as run:
                try:
                    run.load()
                    run.answer(lambda done, n: (_ for _ in ()).throw(KeyboardInterrupt()) if done >= 2 else None)
                except KeyboardInterrupt:
                    run.stop(); raise
        first = metered_run(plan.run_dir).summary
        assert first['status'] == 'interrupted' and first['energy']['total_wh'] > 0
        run_all(plan_run(asked(name='metered', limit=4), ws), Cuda(devices=['0', '1']))
    s = metered_run(plan.run_dir).summary
    e, h = s['energy'], s['hardware']
    assert len(s['segments']) == 2 and e['total_wh'] == pytest.approx(math.fsum(x['energy']['total_wh'] for x in s['segments']), rel=1e-12)
    assert s['segments'][0]['energy']['total_wh'] == first['energy']['total_wh'] and s['segments'][1]['tokens']['prompt'] is not None and s['segments'][1]['machine']['hostname']
    assert h['gpu_energy_method'] == 'nvml' and h['gpu_count'] == 2 and h['gpu_power_samples'] >= 4 # each GPU in each session; how many more depends on the machine
    assert e['total_wh_low'] <= 200 * e['window_s'] / 3600 <= e['total_wh_high'] # however seldom a busy machine let the sampler look
    assert e['total_wh_low'] <= 200 * s['total_time_seconds'] / 3600 * 1.05 and s['total_time_seconds'] == pytest.approx(e['window_s'], abs=5)
    assert e['co2_g'] == pytest.approx(e['total_wh'] / 1000 * 1.2 * s['footprint']['grid']['g_per_kwh']) and s['footprint']['grid']['code'] == 'FR'
    assert e['per_question_wh'] == pytest.approx(e['total_wh'] / 4) and not undocumented('summary.json', s) and not undocumented('hardware', h)
    for name in ('power.csv', 'power-2.csv'):
        rows = list(csv.DictReader(open(plan.run_dir / name)))
        assert any(r['device'] == 'gpu1' and r['watts'] for r in rows)
    before = (plan.run_dir / 'summary.json').read_bytes()
    replay(plan.run_dir)
    assert (plan.run_dir / 'summary.json').read_bytes() == before, 'energy follows from the journal alone'


KILLED = """
import os, signal, sys
from wattnb.experiment.stages import Run
from wattnb.experiment.settings import RunSettings
from wattnb.experiment.plan import plan_run
from wattnb.testing.simulated import SimulatedGpu, simulated_nvml
with simulated_nvml([SimulatedGpu(100., period=.02)]), Run(plan_run(RunSettings(**eval(sys.argv[2])), sys.argv[1])) as run:
    run.load(); run.telemetry.uses('cuda:0'); run.telemetry.sleep(.4); run._snapshot()
    run.answer(lambda done, n: os.kill(os.getpid(), signal.SIGKILL))
"""

def test_a_killed_run_keeps_its_energy(ws):
    how = {k: v for k, v in asked(name='killed').__dict__.items()}
    p = subprocess.run([sys.executable, '-c', KILLED, str(ws.root), repr(how)], capture_output=True, text=True)
    assert p.returncode == -signal.SIGKILL, p.stderr[-500:]
    with simulated_nvml([SimulatedGpu(100., period=.02)]):
        plan = plan_run(asked(name='killed'), ws)
        content = read_journal(plan.run_dir / 'journal.jsonl', plan.run)
        assert not content.of('end') and content.of('segment')[-1]['report']['energy']['total_wh'] > 0
        run_all(plan, Cuda())
    s = stored_run(plan.run_dir).summary
    assert len(s['segments']) == 2 and s['total_time_seconds'] >= sum(x['seconds'] for x in s['segments']) - 1e-6
    assert s['energy']['total_wh'] == pytest.approx(sum(x['energy']['total_wh'] for x in s['segments'])) if s['energy']['total_wh'] else 'killed' in s['energy']['reasons']['energy']


def test_another_machine_is_refused_unless_allowed(ws):
    with simulated_nvml([SimulatedGpu(100., period=.02)]):
        plan = plan_run(asked(name='moved'), ws)
        with pytest.raises(KeyboardInterrupt):
            with Run(plan) as run:
                try: run.load(); run.answer(lambda done, n: (_ for _ in ()).throw(KeyboardInterrupt()))
                except KeyboardInterrupt: run.stop(); raise
    with simulated_nvml([SimulatedGpu(100., period=.02, name='NVIDIA GB10', memory_gb=None)]):
        with pytest.raises(UserError, match='was begun on .*NVIDIA L40S.*this is .*GB10.*--allow-mixed') as e: plan_run(asked(name='moved'), ws)
        assert '\n' not in str(e.value)
        run_all(plan_run(asked(name='moved', allow_mixed=True), ws))
    s = stored_run(plan.run_dir).summary
    assert len(s['machine']['mixed']) == 2 and 'allow_mixed' not in s['config_snapshot']


@pytest.mark.parametrize('line, version', [("cuda: Optional[str] = '12.6'", '12.6'), ("cuda = '11.8'", '11.8'), ('cuda: Optional[str] = None', None), ('', None)])
def test_the_cuda_version_is_known_before_torch_is_imported(tmp_path, monkeypatch, line, version):
    (tmp_path / 'torch').mkdir()
    (tmp_path / 'torch/__init__.py').write_text('raise RuntimeError("must not be imported")')
    (tmp_path / 'torch/version.py').write_text(f"from typing import Optional\n__version__ = '2.9.0'\ndebug = False\n{line}\nhip: Optional[str] = None\n")
    monkeypatch.syspath_prepend(tmp_path); monkeypatch.delitem(sys.modules, 'torch', raising=False)
    assert machine()['cuda_version'] == version and 'torch' not in sys.modules


def test_machines_are_distinguished():
    a = machine('x')
    assert machine_key(a) == machine_key(dict(json.loads(json.dumps(a)), versions={}, run_environment='y'))
    assert machine_key(dict(a, container=True)) == machine_key(dict(a, container=True, hostname='another-pod'))
    assert machine_key(dict(a, container=False)) != machine_key(dict(a, container=False, hostname='another'))


def test_without_a_meter_nothing_reads_zero(ws):
    with simulated_nvml([], driver=None):
        plan = plan_run(asked(name='unmetered'), ws); run_all(plan)
    s = stored_run(plan.run_dir)
    e, h = s.summary['energy'], s.summary['hardware']
    assert h['gpu_energy_wh'] is None and h['gpu_energy_method'] == 'none' and h['gpu_power_samples'] is None and 'Driver Not Loaded' in h['reasons']['gpu']
    assert e['total_wh'] is None and e['co2_g'] is None and e['reasons']['energy'] and s.summary['footprint']['gco2e'] is None
    assert not [k for k, v in h.items() if v == 0 and not isinstance(v, bool) and k not in ('gpu_count', 'embedder_load_time_seconds')]
    assert all(x['joules'] is None for r in s.results for x in r['energy'].values())
    assert set(h) >= {f['field'] for f in fields_of('hardware') if f['inherited'] == 'yes'}, 'all 26 inherited fields'


def test_a_hosted_model_is_unknown_and_compatible(ws, monkeypatch):
    from wattnb.testing.server import FakeServer, environment
    with FakeServer() as server, environment(**server.env(), OPENAI_API_KEY='k' * 20), simulated_nvml([SimulatedGpu(100., period=.02)]):
        plan = plan_run(asked(name='hosted', model='openai:gpt-4.1-mini'), ws); run_all(plan)
    s = stored_run(plan.run_dir)
    e, h = s.summary['energy'], s.summary['hardware']
    assert (h['gpu_energy_method'], h['gpu_energy_wh'], h['gpu_vram_allocated_bytes']) == ('none', 0, 0) and e['total_wh'] is None and 'provider' in e['reasons']['energy']
    assert e['client']['wh'] is None or e['client']['wh'] >= 0
    assert all(r['energy']['generate']['joules'] is None for r in s.results), 'the search alone is not what the question took'


def test_warm_up_is_excluded_and_recorded(ws):
    model = Cuda()
    with simulated_nvml([SimulatedGpu(100., period=.01)]):
        plan = plan_run(asked(name='warm'), ws); run_all(plan, model)
    s = metered_run(plan.run_dir)
    assert model.seen[0] == 'warm-up' and 'warm-up' in s.summary['energy']['excluded_s'] and all(r['id'] != 'warm-up' for r in s.results)
    assert {'prefill', 'decode', 'retrieve'} <= set(s.results[0]['energy']) and s.results[0]['energy']['decode']['method'] == 'measured'


# ---- only the devices that the work used

TWO_H100 = dict(name='NVIDIA H100 80GB HBM3', memory_gb=80., limit_w=700.)

def ours_and_another_job(**kw): return [SimulatedGpu(300., **TWO_H100 | kw), SimulatedGpu(650., **TWO_H100 | kw)]

@pytest.mark.parametrize('shown, names', [(None, 'cuda:0'), (None, ['0']), ('1,0', 'cuda:1'), ('1,0', ['1']), (None, ['GPU-00000000']), ('GPU-00000001,GPU-00000000', 'cuda:1'), ('0', 'cuda')])
def test_another_job_on_another_card_is_not_charged(shown, names, tmp_path):
    "Two H100s, ours draws 300 W, another job 650 W on the other: all figures are of ours, the loading before the choice included."
    def work(s, clock):
        with s.stage('load'): clock.sleep(5)
        s.uses(names)
        s.loaded()
        with s.stage('decode', ids=['q1', 'q2'], weights=[1, 3]): clock.sleep(30)
        clock.sleep(5)
    with simulated_nvml(ours_and_another_job()) as driver: uuids = [g.uuid for g in driver.gpus]
    got = play(ours_and_another_job(processes=(999999998,)), work, tmp_path, shown=shown, idle_seconds=5)
    r = got['report']
    e, h = r['energy'], r['hardware']
    assert h['gpu_avg_power_watts'] == pytest.approx(300, rel=.002) and h['gpu_peak_power_watts'] == pytest.approx(300, abs=.1)
    assert e['gpu_wh'] == e['total_wh'] == h['gpu_energy_wh'] == pytest.approx(300 * 40 / 3600, rel=.002) and e['by_phase']['load']['wh'] == pytest.approx(1500 / 3600, rel=.02)
    assert e['idle_w'] == pytest.approx(300, rel=.03) and abs(e['net_wh']) < .05 * e['total_wh']
    assert math.fsum(x['joules'] for q in got['per_question'].values() for x in q.values()) == pytest.approx(300 * 30, rel=.02)
    assert (h['gpu_name'], h['gpu_device_id']) == (TWO_H100['name'], uuids[0]) and h['gpu_vram_total_gb'] == 80 and h['gpu_power_samples'] <= 50 / .05 + 5
    mine = next(d for d, v in e['by_device'].items() if v['uuid'] == uuids[0])
    assert e['counted'] == [mine] and e['by_device'][mine]['counted'] and not e['by_device'][mine]['reason']
    for d, v in e['by_device'].items():
        if d != mine: assert not v['counted'] and v['reason'] == 'not used by this work' and v['wh'] == pytest.approx(650 * 40 / 3600, rel=.002)
    assert all(w.startswith(mine) for w in e['warnings'])
    sums_up(got)

def test_whose_other_card_fails_is_measured_all_the_same(tmp_path):
    "A card that the work does not use may fall off the bus, or have no meter."
    for kw in (dict(lost_at=120.), dict(counter=False, power=False)):
        got = play([SimulatedGpu(300.), SimulatedGpu(650., **kw)], lambda s, c: (s.uses('cuda:0'), load_and_answer(s, c)), tmp_path)['report']
        assert got['energy']['total_wh'] == pytest.approx(300 * 40 / 3600, rel=.002) and not got['energy']['by_device']['gpu1']['counted']
        got = play([SimulatedGpu(300.), SimulatedGpu(650., **kw)], lambda s, c: (s.uses('cuda:1'), load_and_answer(s, c)), tmp_path)['report']
        assert got['energy']['total_wh'] is None and 'gpu1' in got['energy']['reasons']['energy']

@pytest.mark.parametrize('device', ['cpu', 'remote', 'mps', []])
def test_who_works_on_no_gpu_is_charged_none(device, tmp_path):
    "A model on the processor, or elsewhere, on a machine whose GPUs idle or serve others."
    got = play(ours_and_another_job(), lambda s, c: (s.uses(device), load_and_answer(s, c)), tmp_path)['report']
    e, h = got['energy'], got['hardware']
    assert h['gpu_energy_wh'] is None and h['gpu_avg_power_watts'] is None and h['gpu_peak_power_watts'] is None and h['gpu_name'] == '' and h['gpu_device_id'] is None
    assert e['total_wh'] is None and 'no GPU was used' in e['reasons']['energy'] and e['reasons']['gpu'] == 'no GPU was used' and e['method'] == h['gpu_energy_method'] == 'none'
    assert not e['counted'] and h['gpu_vram_total_bytes'] is None and not any(v['counted'] for v in e['by_device'].values())
    got = play(ours_and_another_job(), lambda s, c: (s.uses(device), load_and_answer(s, c)), tmp_path, zones={'package-0': 40.})['report']['energy']
    assert got['total_wh'] == got['cpu']['wh'] == pytest.approx(40 * 40 / 3600, rel=.005) and got['gpu_wh'] is None

def test_a_gpu_that_no_meter_knows(tmp_path):
    "torch works on a GPU, and there is no driver library to read it: unknown, with what would help."
    with simulated_nvml([], driver=None), Session(using=meters([], rapl=tmp_path), watch=False) as s:
        s.uses('cuda:0')
        e, why = s.report()['energy'], s.no_meter()
    assert e['total_wh'] is None and e['reasons']['gpu'] == why and why.startswith('cuda:0: no NVIDIA driver') and 'zeus' in why


def test_model_and_embedder_on_two_cards_are_both_charged(tmp_path):
    "Also where the embedder is opened later than the model."
    def work(s, clock):
        s.uses('cuda:2'); load_and_answer(s, clock); s.uses(['cuda:0'])
    e = play([SimulatedGpu(100.), SimulatedGpu(1000.), SimulatedGpu(30.)], work, tmp_path)['report']['energy']
    assert e['total_wh'] == pytest.approx(130 * 40 / 3600, rel=.005) and e['counted'] == ['gpu0', 'gpu2']

def test_a_used_slice_is_charged_its_whole_card_and_no_other(tmp_path):
    "The power of a MIG slice is that of its card; two slices of one card share its meter, whichever of them works."
    gpus = lambda: [SimulatedGpu(650.), SimulatedGpu(100., mig=2)]
    with simulated_nvml(gpus()): uuids = [g.uuid for g in visible_gpus('MIG-00000000,MIG-00000001')]
    for names in ('cuda:2', [uuids[1]], ['MIG-00000001']):
        e = play(gpus(), lambda s, c: (s.uses(names), load_and_answer(s, c)), tmp_path, shown='0,MIG-00000000,MIG-00000001')['report']['energy']
        assert e['total_wh'] == pytest.approx(100 * 40 / 3600, rel=.01) and e['counted'] == ['gpu1'] and not e['by_device']['gpu0']['counted']

class Torch:
    "A torch that opened CUDA devices in its own order; what would open a context on one is written down. (The real one needs cards.)"
    def __init__(self, uuids, held=()): self.cuda, self.uuids, self.held, self.opened = self, uuids, set(held), set()
    def is_initialized(self): return True
    is_available = is_initialized
    def device_count(self): return len(self.uuids)
    def get_device_properties(self, i): return type('Properties', (), dict(uuid=self.uuids[i].removeprefix('GPU-')))
    def memory_reserved(self, i): return 2**30 * (i in self.held)
    max_memory_allocated = max_memory_reserved = memory_reserved
    def reset_peak_memory_stats(self, i): pass
    def synchronize(self, i=0): self.opened.add(i)
    def mem_get_info(self, i=0): self.opened.add(i); return 0, 0

def test_unlike_cards_in_the_order_of_cuda(tmp_path, monkeypatch):
    "CUDA numbers unlike cards by speed, NVML by slot: what torch opened as cuda:0 is what is charged."
    cards = lambda: [SimulatedGpu(100., name='NVIDIA RTX A2000'), SimulatedGpu(400., name='NVIDIA H100 PCIe')]
    with simulated_nvml(cards()) as driver: uuids = [g.uuid for g in driver.gpus]
    def work(s, clock):
        monkeypatch.setitem(sys.modules, 'torch', Torch(uuids[::-1], held=[0]))
        s.uses('cuda:0'); load_and_answer(s, clock)
    r = play(cards(), work, tmp_path)['report']
    assert r['hardware']['gpu_name'] == 'NVIDIA H100 PCIe' and r['energy']['total_wh'] == pytest.approx(400 * 40 / 3600, rel=.005)
    assert r['memory']['steady']['by_device']['gpu1']['allocated_gb'] == 1 and r['hardware']['gpu_vram_allocated_gb'] == 1
    def hidden(s, clock): # the list of visible devices was read as NVML's numbers before torch's order was known
        monkeypatch.setitem(sys.modules, 'torch', Torch(uuids[1:]))
        s.uses('cuda:0'); load_and_answer(s, clock)
    monkeypatch.delitem(sys.modules, 'torch')
    r = play(cards(), hidden, tmp_path, shown='0')['report']
    assert r['energy']['total_wh'] is None and 'CUDA_DEVICE_ORDER' in r['energy']['reasons']['energy']

def test_no_context_is_opened_on_a_card_that_holds_nothing_of_ours(tmp_path, monkeypatch):
    "A context is half a GB that every other run on the card sees as another process."
    from wattnb.core.hardware import free_memory
    cards = lambda: [SimulatedGpu(100.) for _ in range(4)]
    with simulated_nvml(cards()) as driver: torch = Torch([g.uuid for g in driver.gpus], held=[2])
    monkeypatch.setitem(sys.modules, 'torch', torch)
    play(cards(), lambda s, c: (s.uses('cuda:2'), load_and_answer(s, c), [free_memory(g) for g in visible_gpus()]), tmp_path, idle_seconds=2)
    assert torch.opened == {2}

def test_what_torch_allocates_on_another_card_is_charged_too(tmp_path, monkeypatch):
    "A cross-encoder that is loaded with the first question; what lay there before the session is not of it."
    cards = lambda: [SimulatedGpu(100.), SimulatedGpu(200.), SimulatedGpu(400.)]
    with simulated_nvml(cards()) as driver: torch = Torch([g.uuid for g in driver.gpus], held=[0])
    monkeypatch.setitem(sys.modules, 'torch', torch)
    def work(s, clock):
        s.uses('cuda:2'); torch.held |= {1, 2}; load_and_answer(s, clock)
    assert play(cards(), work, tmp_path)['report']['energy']['counted'] == ['gpu1', 'gpu2']

def test_sessions_of_a_run_are_summed_over_what_each_used(tmp_path):
    "A session that worked on another card, and one that used none because nothing was left to do."
    at = lambda name: play(ours_and_another_job(), lambda s, c: (s.uses(name), load_and_answer(s, c)), tmp_path)['report']
    a, b, none = at('cuda:0'), at('cuda:1'), at([])
    m = merge_segments([a, b, none])
    assert m['energy']['total_wh'] == pytest.approx(950 * 40 / 3600, rel=.002) and m['energy']['gpu_wh'] == m['hardware']['gpu_energy_wh'] == m['energy']['total_wh']
    assert m['energy']['method'] == 'nvml' and 'gpu' not in m['hardware']['reasons'] and m['energy']['counted'] == ['gpu0', 'gpu1']
    assert merge_segments([none, none])['energy']['total_wh'] is None
    went_on = merge_segments([a, at('cpu')])['energy'] # what the processor took is not known
    assert went_on['total_wh'] is None and went_on['measured_wh'] == a['energy']['total_wh'] and went_on['reasons']['energy'].startswith('session 2: no GPU was used')

def test_a_run_on_the_processor_of_a_gpu_machine(ws):
    "The real thread: the extractive baseline beside two busy cards."
    with simulated_nvml(ours_and_another_job(period=.02)):
        plan = plan_run(asked(name='processor'), ws); run_all(plan)
        with pytest.raises(UserError, match='max_wh: no meter works here .no GPU was used'): run_all(plan_run(asked(name='limited', max_wh=1.), ws))
    s = stored_run(plan.run_dir).summary
    assert s['hardware']['gpu_energy_wh'] is None and s['hardware']['gpu_name'] == '' and 'no GPU was used' in s['hardware']['reasons']['gpu']

def test_a_run_on_one_of_two_cards(ws):
    with simulated_nvml(ours_and_another_job(period=.02)):
        plan = plan_run(asked(name='one-of-two'), ws); run_all(plan, Cuda('cuda:0'))
    s = metered_run(plan.run_dir).summary
    assert s['hardware']['gpu_peak_power_watts'] == pytest.approx(300, abs=1) and s['energy']['counted'] == ['gpu0'] and s['hardware']['gpu_avg_power_watts'] < 600
    from wattnb.plots.questions import power_rows
    assert {r['device'] for r in power_rows(plan.run_dir) if r['kind'] == 'sample'} == {'gpu0'}, 'nor is it drawn'


# ---- WattBot

def wattbot_run(folder, n, latency_sum, total, wh):
    folder.mkdir(parents=True)
    lat = latency_sum / n
    (folder / 'summary.json').write_text(json.dumps(dict(name=folder.name, model_id='Qwen/Qwen2.5-14B-Instruct', llm_provider='hf_local', quantization='4bit', num_questions=n, total_time_seconds=total,
        avg_latency_seconds=lat, value_accuracy=.7, ref_overlap=.7, na_accuracy=.7, overall_score=.7, input_tokens=0, output_tokens=0, config_snapshot=dict(max_concurrent=1),
        hardware=dict(gpu_energy_wh=wh, gpu_energy_method='power_sampling', gpu_avg_power_watts=wh * 3600 / total, gpu_count=1))))
    (folder / 'results.json').write_text(json.dumps([dict(id=f'q{i}', question='?', gt_value='1', gt_unit='', gt_ref="['a']", pred_value='1', pred_unit='', pred_ref='["a"]', pred_explanation='',
        raw_response='', value_correct=True, ref_score=1., na_correct=True, weighted_score=1., latency_seconds=lat, error=None) for i in range(n)]))

@pytest.mark.parametrize('name,latencies,total,resumed', [('gb10-14b', 25674, 9022, True), ('gb10-32b', 24791, 16252, True), ('pe-72b', 9755, 7977, True), ('pe-30b', 13278, 10891, True), ('pe-7b', 2760, 2758, False)])
def test_resumed_runs_of_wattbot_are_flagged(name, latencies, total, resumed, tmp_path):
    wattbot_run(tmp_path / 'artifacts/experiments/GB10/train_QA' / name, 282, latencies, total, 160.)
    (tmp_path / 'data').mkdir()
    w = Workspace(tmp_path)
    run = find_runs(w)[0]
    cost = run_cost(run)
    assert cost.energy.factor == pytest.approx(latencies / total if resumed else 1, rel=.01) and (cost.energy.kind == 'extrapolated') == resumed
    flags = [f['message'] for r in audit(w).to_json()['runs'] for f in r['flags']]
    assert any('was resumed' in f for f in flags) == resumed


# ---- the command

def test_doctor_names_the_help(capsys):
    from wattnb.cli.command import main
    assert main(['doctor', '--json']) == 0
    got = json.loads(capsys.readouterr().out)
    assert all({'name', 'available', 'scope', 'reason'} <= set(m) and (m['available'] or m['reason']) for m in got['meters']) and len(got['meters']) >= 5
    with simulated_nvml([SimulatedGpu(100., memory_refused='Insufficient Permissions')]): assert 'memory unknown: Insufficient Permissions' in (text := doctor().to_text()) and 'what is charged' in text and 'CUDA of torch' in text
    with simulated_nvml([SimulatedGpu(100., mig=2)]): d = doctor()
    assert next(m for m in d.meters if m['kind'] == 'counter')['available'] and 'MIG' in d.to_text()


def test_meter_measures_any_command():
    with simulated_nvml([SimulatedGpu(100., period=.02)]):
        m = meter_command([sys.executable, '-c', 'import time; x = bytearray(60 << 20); time.sleep(1.2)'], idle_seconds=.5)
    e, text = m.report['energy'], m.to_text()
    assert m.returncode == 0 and e['total_wh_low'] <= 100 * e['window_s'] / 3600 <= e['total_wh_high'] and e['window_s'] >= 1.2 and e['idle_w'] == pytest.approx(100, rel=.2)
    assert e['total_wh_low'] < e['total_wh'] < e['total_wh_high'] and m.impact.gco2e_low < m.impact.gco2e < m.impact.gco2e_high
    assert None not in (e['idle_before_w'], e['idle_after_w']) and 'the gain of the sensors (±5 %) is not in the intervals' in text and ' counted: gpu' not in text
    assert m.report['memory']['host_rss_peak_gb'] > 60 / 1024 and all(w in text for w in ('energy, J', 'energy, Wh', 'mean power, W', 'gCO2e', 'memory peak', 'net of idle'))


def test_meter_counts_all_visible_gpus_and_notes_it():
    "Which GPUs a command uses is unknown: those of CUDA_VISIBLE_DEVICES are metered."
    with simulated_nvml([SimulatedGpu(100., period=.02), SimulatedGpu(50., period=.02)]):
        m = meter_command([sys.executable, '-c', 'import time; time.sleep(.8)'])
    assert m.report['energy']['counted'] == ['gpu0', 'gpu1'] and 'counted: gpu0, gpu1 (all visible GPUs; CUDA_VISIBLE_DEVICES chooses)' in m.to_text()


def test_meter_command_line(tmp_path):
    code = 'import sys; sys.stdout.write("own output"); sys.exit(3)'
    p = subprocess.run([sys.executable, '-m', 'wattnb.cli', 'meter', '--json', '--', sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path)
    got = json.loads(p.stdout)
    assert p.returncode == 1 and got['returncode'] == 3 and 'own output' in p.stderr and got['energy']['reasons']
    p = subprocess.run([sys.executable, '-m', 'wattnb.cli', 'meter', '--', 'no-such-program'], capture_output=True, text=True, cwd=tmp_path)
    assert p.returncode == 2 and 'cannot run no-such-program' in p.stderr and 'Traceback' not in p.stderr
