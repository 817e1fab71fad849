"Carbon and cost: hand-computed vectors, monotonicity, every row of the tables."
import json, math, re

import pytest
from hypothesis import given, settings as examples, strategies as st

from wattnb.telemetry.energy import energy_of, joules_per_token
from wattnb.telemetry.footprints import (ELECTRICITY_USD, Footprint, SETTINGS_FILE, find_grid, footprint,
                                         footprint_table, grids, load_footprint, run_footprint)
from wattnb.core.workspace import UserError, Workspace

amount = st.floats(0, 1e9, allow_nan=False)
anywhere = st.sampled_from([g.code for g in grids()])
settings = st.builds(Footprint, electricity_usd_per_kwh=st.none() | st.floats(0, 10), pue=st.none() | st.floats(1, 3),
                     grid=st.just('') | anywhere, hardware_usd_per_hour=st.none() | st.floats(0, 100),
                     wue_l_per_kwh=st.none() | st.floats(0, 5), grid_water_l_per_kwh=st.none() | st.floats(0, 20))


# ---- the grid table

def test_every_grid():
    gs = grids()
    assert len([g for g in gs if g.iso3]) >= 60
    assert len({g.code for g in gs}) == len(gs)
    for g in gs:
        assert 0 < g.low <= g.g_per_kwh <= g.high < 1500, g
        assert 2022 <= g.year <= 2026 and g.basis in ('lifecycle', 'operational') and len(g.source) > 10 and g.name, g
        assert re.fullmatch(r'[A-Z]{2}(-[A-Z]{2})?|WORLD', g.code), g
        assert g.low <= .91 * g.g_per_kwh and g.high >= 1.09 * g.g_per_kwh, g # never a narrower range than 10 %
        assert find_grid(g.code) == g and find_grid(g.code.lower()) == g
        if g.iso3: assert find_grid(g.iso3) == g


def test_known_figures():
    "Figures that anyone can look up: Ember 2025 (year 2024), eGRID2023."
    for code, g in dict(FR=44, DE=344, US=384, GB=211, SE=36, PL=615, IN=708, NO=31).items():
        assert abs(find_grid(code).g_per_kwh - g) < 1.1
    assert find_grid('US-CA').g_per_kwh == pytest.approx(394.769 * .45359237, abs=.06) # lb/MWh


def test_grid_names():
    assert find_grid(' france ').code == 'FR'
    assert find_grid('USA').code == 'US' and find_grid('EU27').code == 'EU'
    with pytest.raises(UserError, match='ISO code'): find_grid('@@@')
    with pytest.raises(UserError, match='FR'): find_grid('Frence')


@given(st.text(max_size=60))
def test_any_grid_name_is_a_grid_or_one_line(text):
    try: find_grid(text)
    except UserError as e: assert '\n' not in str(e) and len(str(e)) < 300


# ---- footprint

OWN = Footprint(gco2e_per_kwh=400, gco2e_low=300, gco2e_high=500, pue=1.5, electricity_usd_per_kwh=.4,
                hardware_usd_per_hour=2)
CLEAN = Footprint(gco2e_per_kwh=0, electricity_usd_per_kwh=.1)

@pytest.mark.parametrize('wh,low,high,seconds,api,s,want', [
    (1000., None, None, 3600, None, Footprint(grid='FR'),
     dict(gco2e=44.2, gco2e_low=39.8, gco2e_high=56.0, electricity_usd=.13, hardware_usd=None, total_usd=.13,
          wh_low=None)),
    (250., 240, 260, 1800, None, OWN,
     dict(gco2e=150., gco2e_low=108., gco2e_high=195., electricity_usd=.15, hardware_usd=1., total_usd=1.15,
          wh_high=260)),
    (500., None, None, 60, .25, CLEAN, dict(gco2e=0., gco2e_low=0., gco2e_high=0., electricity_usd=.05, api_usd=.25,
                                            total_usd=.3)),
    (0., 0, 0, 60, None, Footprint(grid='PL'), dict(gco2e=0., gco2e_low=0., gco2e_high=0., electricity_usd=0.,
                                                    total_usd=0.)),
    (None, None, None, 7200, None, Footprint(hardware_usd_per_hour=3),
     dict(wh=None, gco2e=None, electricity_usd=None, hardware_usd=6., total_usd=None)),
])
def test_by_hand(wh, low, high, seconds, api, s, want):
    i = footprint(wh, low, high, seconds, api, s)
    for k, v in want.items(): assert getattr(i, k) == (None if v is None else pytest.approx(v, rel=1e-9)), k


def test_hosted_energy_is_unknown_never_zero():
    i = footprint(12., seconds=60, api_usd=.5, hosted=True)
    assert {i.wh, i.gco2e, i.gco2e_low, i.gco2e_high, i.water_l, i.water_l_high, i.electricity_usd, i.hardware_usd} == {None}
    assert (i.total_usd, i.total_of) == (.5, ('api',))
    assert 'provider' in i.reasons['energy']
    free = footprint(None, api_usd=None, hosted=True)
    assert free.total_usd is None and free.reasons['total'] == 'not known: api'


@given(settings, amount, amount, amount)
def test_more_energy_is_never_cheaper_or_cleaner(s, a, b, seconds):
    x, y = (footprint(v, seconds=seconds, settings=s) for v in sorted((a, b)))
    for k in ('gco2e', 'gco2e_low', 'gco2e_high', 'water_l', 'water_l_low', 'water_l_high', 'electricity_usd', 'total_usd'): assert getattr(x, k) <= getattr(y, k)


@given(amount, st.floats(1, 3), st.floats(1, 3), anywhere)
def test_a_worse_building_is_never_cleaner(wh, p, q, code):
    x, y = (footprint(wh, settings=Footprint(pue=v, grid=code)) for v in sorted((p, q)))
    assert x.gco2e <= y.gco2e and x.water_l <= y.water_l and x.electricity_usd <= y.electricity_usd


@given(amount, anywhere, anywhere)
def test_a_dirtier_grid_is_never_cleaner(wh, a, b):
    x, y = sorted((a, b), key=lambda c: find_grid(c).g_per_kwh)
    assert footprint(wh, settings=Footprint(grid=x)).gco2e <= footprint(wh, settings=Footprint(grid=y)).gco2e


@given(settings, amount, st.floats(0, 1), st.floats(0, 1), amount, st.none() | amount)
def test_intervals_hold_and_parts_sum(s, wh, below, above, seconds, api):
    i = footprint(wh, wh * (1 - below), wh * (1 + above), seconds, api, s)
    assert i.gco2e_low <= i.gco2e * (1 + 1e-12) and i.gco2e <= i.gco2e_high * (1 + 1e-12)
    assert i.water_l_low <= i.water_l * (1 + 1e-12) and i.water_l <= i.water_l_high * (1 + 1e-12)
    assert i.total_usd == pytest.approx(sum(getattr(i, f'{k}_usd') for k in i.total_of))
    assert json.loads(json.dumps(i.to_json(), allow_nan=False))['grid']['g_per_kwh'] > 0
    assert i.table().to_markdown() and i._repr_markdown_()


@given(settings, st.lists(amount, min_size=1, max_size=6))
def test_parts_add_up(s, parts):
    "A run cut into segments has the sum of their footprints."
    whole = footprint(math.fsum(parts), settings=s)
    for k in ('gco2e', 'gco2e_low', 'gco2e_high', 'water_l', 'water_l_low', 'water_l_high', 'electricity_usd'):
        each = math.fsum(getattr(footprint(p, settings=s), k) for p in parts)
        assert getattr(whole, k) == pytest.approx(each, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize('s,factors,said', [
    (Footprint(), (3.908, 1.8877, 9.5932), {'water', 'grid_water'}),
    (Footprint(wue_l_per_kwh=1.8), (5.708, 1.62 + 1.8877, 1.98 + 9.5932), {'grid_water'}),
    (Footprint(grid_water_l_per_kwh=2, grid_water_low=1, grid_water_high=3, pue=1.5), (3., 1.5, 4.5), {'water'}),
    (Footprint(wue_l_per_kwh=.3, wue_low=.1, wue_high=.5, grid_water_l_per_kwh=2, grid_water_low=1, grid_water_high=3, pue=1.5),
     (3.3, 1.6, 5.), set())])
def test_water_by_hand(s, factors, said):
    "WUE + PUE × water of the grid, times kWh of the machine; what is not stated is said."
    i = footprint(2000., 1000., 3000., settings=s)
    assert (i.water_l, i.water_l_low, i.water_l_high) == pytest.approx((2 * factors[0], factors[1], 3 * factors[2]))
    assert i.water_l_per_kwh == pytest.approx(factors[0])
    assert said == {'water', 'grid_water'} & set(i.reasons)
    row = footprint_table({'x': i}).to_json()[0]
    assert (row['water, L'], row['water low'], row['water high']) == (i.water_l, i.water_l_low, i.water_l_high)
    assert 'embodied' in footprint_table({'x': i}).to_text() and 'embodied' in i.table().to_text()


@pytest.mark.parametrize('bad', [
    dict(energy_wh=-1.), dict(energy_wh=math.nan), dict(energy_wh=math.inf), dict(energy_wh=1., seconds=-1.),
    dict(energy_wh=1., api_usd=-.1), dict(energy_wh=1., wh_low=2., wh_high=3.),
    dict(energy_wh=5., wh_low=2., wh_high=3.)])
def test_impossible_figures(bad):
    with pytest.raises(UserError): footprint(**bad)


# ---- settings

@pytest.mark.parametrize('bad', [
    dict(pue=.5), dict(pue='1'), dict(pue=True), dict(electricity_usd_per_kwh=-1), dict(grid='FR', gco2e_per_kwh=1),
    dict(wue_l_per_kwh=-1), dict(wue_high=2), dict(grid_water_l_per_kwh=2, grid_water_low=3), dict(grid_water_l_per_kwh='2'),
    dict(gco2e_high=3), dict(gco2e_per_kwh=5, gco2e_low=6), dict(gco2e_per_kwh=math.inf), dict(grid=None),
    dict(grid='Atlantis'),
    dict(hardware_usd_per_hour=math.nan)])
def test_impossible_settings(bad):
    with pytest.raises(UserError): Footprint(**bad)


def test_the_unstated_place_is_wide():
    g = Footprint().intensity
    assert g.low < 150 < 450 < g.g_per_kwh < 500 < 600 < g.high
    assert 'grid' in footprint(1.).reasons and 'grid' not in footprint(1., settings=Footprint(grid='FR')).reasons
    assert footprint(1000.).electricity_usd == ELECTRICITY_USD and 'price' in footprint(1.).reasons


def test_workspace_file(tmp_path):
    ws, f = Workspace(tmp_path), tmp_path/SETTINGS_FILE
    assert load_footprint(ws) == load_footprint() == Footprint()
    f.write_text('\ufeff[footprint]\ngrid = "Germany"\n[footprint.env.lab]\npue = 1.4\n'
                 '[footprint.env."a b"]\ngrid = "FR"\n', 'utf-8')
    assert load_footprint(ws).intensity.code == 'DE'
    assert load_footprint(ws, 'lab') == Footprint(grid='Germany', pue=1.4)
    assert load_footprint(ws, 'a b').intensity.code == 'FR'
    assert load_footprint(ws, 'unheard of') == load_footprint(ws)
    f.write_text('[footprint]\ngco2e_per_kwh = 20\ngco2e_high = 30\n[footprint.env.x]\ngrid = "FR"\n')
    assert load_footprint(ws, 'x') == Footprint(grid='FR') # one place replaces the other, range and all


@pytest.mark.parametrize('text,says', [
    ('[footprint]\nelectricty_usd_per_kwh = 1', 'electricity_usd_per_kwh'),
    ('[footprint]\ngrid = "DX"', 'unknown grid'),
    ('[footprint.env]\nx = 1', 'must be a table'), ('[footprint.env.x]\npue = 0.1', 'at least 1'),
    ('[Footprint]', 'did you mean footprint'), ('[footprint', 'not valid TOML'),
    ('[footprint]\nzzz = 1', 'known: electricity')])
def test_faults_of_the_file(tmp_path, text, says):
    (tmp_path/SETTINGS_FILE).write_text(text)
    with pytest.raises(UserError, match=re.escape(says)) as e: load_footprint(Workspace(tmp_path), 'other')
    assert SETTINGS_FILE in str(e.value) and '\n' not in str(e.value)


def test_not_utf8(tmp_path):
    (tmp_path/SETTINGS_FILE).write_bytes(b'[footprint]\ngrid = "\xff"')
    with pytest.raises(UserError, match='UTF-8'): load_footprint(Workspace(tmp_path))


# ---- from a summary

WATTBOT = dict(llm_provider='hf_local', quantization='4bit', total_time_seconds=3600., estimated_cost_usd=0,
            hardware=dict(gpu_energy_wh=100., gpu_energy_method='nvml'))
OURS = dict(WATTBOT, schema_version=1, quantization='bf16', cost_usd=0.,
            energy=dict(total_wh=130., cpu=dict(wh=30.), reasons={}))
UNMETERED = dict(OURS, hardware=dict(gpu_energy_wh=None, gpu_energy_method='none',
                                     reasons=dict(gpu='no NVIDIA driver')),
                 energy=dict(total_wh=None, cpu=dict(wh=None)))


def test_summaries():
    assert run_footprint(WATTBOT).wh == 100 and 'GPUs alone' in run_footprint(WATTBOT).reasons['scope']
    assert run_footprint(OURS).wh == 130 and 'scope' not in run_footprint(OURS).reasons
    ranged = dict(OURS, energy=dict(OURS['energy'], total_wh_low=125., total_wh_high=140.))
    assert (run_footprint(ranged).wh_low, run_footprint(ranged).wh_high) == (125, 140)
    none = run_footprint(UNMETERED)
    assert none.wh is None and none.reasons['energy'] == 'no NVIDIA driver'
    hosted = run_footprint(dict(OURS, llm_provider='openai', quantization='api', cost_usd=1.5))
    assert (hosted.wh, hosted.gco2e, hosted.total_usd) == (None, None, 1.5)
    assert run_footprint({}).wh is None


# ---- what kind of number an energy is

_WILD = st.one_of(st.none(), st.booleans(), st.text(max_size=3), st.integers(-5, 10**6), st.floats(allow_nan=True, allow_infinity=True), st.lists(st.integers(), max_size=2))
_NUMBER = st.floats(.01, 1e5)
_SUMMARY = st.fixed_dictionaries({}, optional=dict(
    schema_version=st.just(1), llm_provider=st.sampled_from(['hf_local', 'openai', 'baseline', None]), quantization=st.sampled_from(['4bit', 'api', None]), num_questions=st.one_of(_WILD, st.integers(1, 300)),
    avg_latency_seconds=st.one_of(_WILD, _NUMBER), avg_retrieval_seconds=st.one_of(_WILD, _NUMBER), avg_generation_seconds=st.one_of(_WILD, _NUMBER), total_time_seconds=st.one_of(_WILD, _NUMBER),
    config_snapshot=st.one_of(_WILD, st.fixed_dictionaries({}, optional=dict(max_concurrent=st.one_of(_WILD, st.integers(1, 8))))),
    effective=st.one_of(_WILD, st.fixed_dictionaries({}, optional=dict(device=st.sampled_from(['cpu', 'cuda:0', 'cuda:0, cuda:1'])))),
    hardware=st.one_of(_WILD, st.fixed_dictionaries({}, optional=dict(gpu_energy_wh=st.one_of(_WILD, _NUMBER), gpu_energy_method=st.sampled_from(['nvml', 'power_sampling', 'none', None]), gpu_count=st.one_of(_WILD, st.integers(0, 4))))),
    energy=st.one_of(_WILD, st.fixed_dictionaries({}, optional=dict(total_wh=st.one_of(_WILD, _NUMBER), method=st.sampled_from(['nvml', 'members']), by_device=st.one_of(_WILD, st.dictionaries(
        st.text(max_size=3), st.fixed_dictionaries(dict(part=st.sampled_from(['gpu', 'cpu']), wh=st.one_of(st.none(), _NUMBER))), max_size=3)))))))


@examples(max_examples=300)
@given(_SUMMARY)
def test_any_summary_has_the_kind_of_its_energy(s):
    "Damaged summaries raise nothing; a number lies in its interval, its absence has a reason, a lower bound has no upper end, and the footprint takes the same number."
    x = energy_of(s)
    assert x.kind in ('measured', 'extrapolated', 'at least', 'members', 'not measured') and (x.wh is None) == (x.kind == 'not measured') and (x.wh is not None or x.reason)
    if x.wh is not None:
        assert x.wh >= 0 and x.factor_low <= x.factor <= x.factor_high * (1 + 1e-12) and x.wh == pytest.approx(x.reported * x.factor)
        if x.low is not None and x.high is not None: assert x.low <= x.wh * (1 + 1e-12) and x.wh <= x.high * (1 + 1e-12)
        assert (x.kind == 'at least') == bool(x.metered) == (not x.ranked) and (x.kind != 'at least' or x.high is None)
        assert (x.kind == 'extrapolated') <= (x.factor > 1.1) and (x.factor == 1 or f'×{x.factor:.2f}' in x.is_)
    i = run_footprint(s)
    assert i.wh in (x.wh, None) and (i.wh is None or i.energy_is == x.is_)


def test_a_resumed_run_costs_its_whole_time_and_energy():
    "Grams, electricity and the price of the hardware follow the extrapolated number, with its interval."
    s = dict(WATTBOT, num_questions=100, avg_latency_seconds=72., avg_retrieval_seconds=1., avg_generation_seconds=53.)
    i = run_footprint(s, Footprint(grid='FR', hardware_usd_per_hour=1.))
    assert (i.wh, i.wh_low, i.wh_high) == pytest.approx((200, 150 / 1.1, 220)) and i.electricity_usd == pytest.approx(.2 * ELECTRICITY_USD) and i.hardware_usd == pytest.approx(2.)
    assert i.energy_is == 'extrapolated ×2.00 [1.36–2.20]' and 'extrapolated' in i.table().to_text()
    two = run_footprint(dict(s, hardware=dict(WATTBOT['hardware'], gpu_count=2)))
    assert two.energy_is.startswith('at least: 1 of 2 GPUs metered') and two.wh == pytest.approx(150 / 1.1) and two.gco2e_high is None and two.water_l_high is None and two.water_l > 0 and 'lower bound' in footprint_table({'r': two}).to_text()


# ---- runs side by side

def test_runs_side_by_side():
    t = footprint_table({'a': footprint(10., settings=Footprint(grid='FR')), 'b': footprint(None, api_usd=1., hosted=True)}, {'a': .46})
    a, b = t
    assert a['gCO2e'] == pytest.approx(.442) and a['J/token generated'] == .46
    assert b['Wh'] is None and b['total, USD'] == 1 and b['J/token generated'] is None
    assert any('provider' in n and n.endswith('(b)') for n in t.notes)
    assert list(footprint_table({'c': footprint(1.)}))[0]['J/token generated'] is None and len(footprint_table({})) == 0


def test_joules_per_token_count_decoded_tokens_of_first_attempts():
    call = lambda attempt, n, status='answered': dict(attempt=attempt, status=status, tokens=dict(completion=n))
    one = dict(energy=dict(prefill=dict(joules=14.), decode=dict(joules=55.)), attempts=[call(1, 120), call(2, 300)])
    assert joules_per_token([one] * 16) == pytest.approx(55 / 119)
    assert joules_per_token([one, dict(one, attempts=[call(1, 50, 'failed')])]) == pytest.approx(110 / 119)
    assert joules_per_token([one, dict(one, energy=dict(decode=dict(joules=None)))]) is None
    assert joules_per_token([]) is None and joules_per_token([dict(one, energy=None)]) is None


def test_light_import():
    import subprocess, sys
    heavy = ('torch', 'pandas', 'scipy', 'matplotlib')
    code = f'import sys, wattnb.telemetry.footprints; print([m for m in {heavy} if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip() == '[]'
