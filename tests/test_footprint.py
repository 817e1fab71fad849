"Carbon and cost: hand-computed vectors, monotonicity, every row of the tables."
import json, math, re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from wattnb.footprint import (ELECTRICITY_USD, Footprint, SETTINGS_FILE, amortised, find_grid, footprint, grid_table, grids, load_footprint,
                              run_footprint)
from wattnb.workspace import UserError, Workspace

amount = st.floats(0, 1e9, allow_nan=False)
anywhere = st.sampled_from([g.code for g in grids()])
settings = st.builds(Footprint, electricity_usd_per_kwh=st.none() | st.floats(0, 10), pue=st.none() | st.floats(1, 3), grid=st.just('') | anywhere,
                     hardware_usd_per_hour=st.none() | st.floats(0, 100))


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
    for code, g in dict(FR=44, DE=344, US=384, GB=211, SE=36, PL=615, IN=708, NO=31).items(): assert abs(find_grid(code).g_per_kwh - g) < 1.1
    assert find_grid('US-CA').g_per_kwh == pytest.approx(394.769 * .45359237, abs=.06) # lb/MWh


def test_grid_names():
    assert find_grid(' france ').code == 'FR'
    assert find_grid('USA').code == 'US' and find_grid('EU27').code == 'EU'
    with pytest.raises(UserError, match='ISO code'): find_grid('@@@')
    with pytest.raises(UserError, match='FR'): find_grid('Frence')
    assert len(grid_table()) == len(grids())


@given(st.text(max_size=60))
def test_any_grid_name_is_a_grid_or_one_line(text):
    try: find_grid(text)
    except UserError as e: assert '\n' not in str(e) and len(str(e)) < 300


# ---- footprint

@pytest.mark.parametrize('wh,low,high,seconds,api,s,want', [
    (1000., None, None, 3600, None, Footprint(grid='FR'), dict(gco2e=44.2, gco2e_low=39.8, gco2e_high=56.0, electricity_usd=.13, hardware_usd=None, total_usd=.13)),
    (250., 240, 260, 1800, None, Footprint(gco2e_per_kwh=400, gco2e_low=300, gco2e_high=500, pue=1.5, electricity_usd_per_kwh=.4, hardware_usd_per_hour=2),
     dict(gco2e=150., gco2e_low=108., gco2e_high=195., electricity_usd=.15, hardware_usd=1., total_usd=1.15, wh_low=240, wh_high=260)),
    (500., None, None, 60, .25, Footprint(gco2e_per_kwh=0, electricity_usd_per_kwh=.1), dict(gco2e=0., gco2e_low=0., gco2e_high=0., electricity_usd=.05, api_usd=.25, total_usd=.3)),
    (0., 0, 0, 60, None, Footprint(grid='PL'), dict(gco2e=0., gco2e_low=0., gco2e_high=0., electricity_usd=0., total_usd=0.)),
    (None, None, None, 7200, None, Footprint(hardware_usd_per_hour=3), dict(wh=None, gco2e=None, electricity_usd=None, hardware_usd=6., total_usd=None)),
])
def test_by_hand(wh, low, high, seconds, api, s, want):
    i = footprint(wh, low, high, seconds, api, s)
    for k, v in want.items(): assert getattr(i, k) == (None if v is None else pytest.approx(v, rel=1e-9)), k


def test_hosted_energy_is_unknown_never_zero():
    i = footprint(12., seconds=60, api_usd=.5, hosted=True)
    assert (i.wh, i.gco2e, i.gco2e_low, i.electricity_usd, i.hardware_usd, i.total_usd, i.total_of) == (None, None, None, None, None, .5, ('api',))
    assert 'provider' in i.reasons['energy']
    free = footprint(None, api_usd=None, hosted=True)
    assert free.total_usd is None and free.reasons['total'] == 'not known: api'


@given(settings, amount, amount, amount)
def test_more_energy_is_never_cheaper_or_cleaner(s, a, b, seconds):
    x, y = (footprint(v, seconds=seconds, settings=s) for v in sorted((a, b)))
    for k in ('gco2e', 'gco2e_low', 'gco2e_high', 'electricity_usd', 'total_usd'): assert getattr(x, k) <= getattr(y, k)


@given(amount, st.floats(1, 3), st.floats(1, 3), anywhere)
def test_a_worse_building_is_never_cleaner(wh, p, q, code):
    x, y = (footprint(wh, settings=Footprint(pue=v, grid=code)) for v in sorted((p, q)))
    assert x.gco2e <= y.gco2e and x.electricity_usd <= y.electricity_usd


@given(amount, anywhere, anywhere)
def test_a_dirtier_grid_is_never_cleaner(wh, a, b):
    x, y = sorted((a, b), key=lambda c: find_grid(c).g_per_kwh)
    assert footprint(wh, settings=Footprint(grid=x)).gco2e <= footprint(wh, settings=Footprint(grid=y)).gco2e


@given(settings, amount, st.floats(0, 1), st.floats(0, 1), amount, st.none() | amount)
def test_intervals_hold_and_parts_sum(s, wh, below, above, seconds, api):
    i = footprint(wh, wh * (1 - below), wh * (1 + above), seconds, api, s)
    assert i.gco2e_low <= i.gco2e * (1 + 1e-12) and i.gco2e <= i.gco2e_high * (1 + 1e-12)
    assert i.total_usd == pytest.approx(sum(getattr(i, f'{k}_usd') for k in i.total_of))
    assert json.loads(json.dumps(i.to_json(), allow_nan=False))['grid']['g_per_kwh'] > 0
    assert i.table(n=7).to_markdown() and i._repr_markdown_()


@given(settings, st.lists(amount, min_size=1, max_size=6))
def test_parts_add_up(s, parts):
    "A run cut into segments has the sum of their footprints."
    whole = footprint(math.fsum(parts), settings=s)
    for k in ('gco2e', 'gco2e_low', 'gco2e_high', 'electricity_usd'):
        assert getattr(whole, k) == pytest.approx(math.fsum(getattr(footprint(p, settings=s), k) for p in parts), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize('bad', [dict(energy_wh=-1.), dict(energy_wh=math.nan), dict(energy_wh=math.inf), dict(energy_wh=1., seconds=-1.), dict(energy_wh=1., api_usd=-.1),
                                 dict(energy_wh=1., wh_low=2., wh_high=3.), dict(energy_wh=5., wh_low=2., wh_high=3.)])
def test_impossible_figures(bad):
    with pytest.raises(UserError): footprint(**bad)


# ---- settings

@pytest.mark.parametrize('bad', [dict(pue=.5), dict(pue='1'), dict(pue=True), dict(electricity_usd_per_kwh=-1), dict(grid='FR', gco2e_per_kwh=1), dict(gco2e_high=3),
                                 dict(gco2e_per_kwh=5, gco2e_low=6), dict(gco2e_per_kwh=math.inf), dict(grid=None), dict(grid='Atlantis'), dict(hardware_usd_per_hour=math.nan)])
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
    f.write_text('\ufeff[footprint]\ngrid = "Germany"\n[footprint.env.lab]\npue = 1.4\n[footprint.env."a b"]\ngrid = "FR"\n', 'utf-8')
    assert load_footprint(ws).intensity.code == 'DE'
    assert load_footprint(ws, 'lab') == Footprint(grid='Germany', pue=1.4)
    assert load_footprint(ws, 'a b').intensity.code == 'FR'
    assert load_footprint(ws, 'unheard of') == load_footprint(ws)
    f.write_text('[footprint]\ngco2e_per_kwh = 20\ngco2e_high = 30\n[footprint.env.x]\ngrid = "FR"\n')
    assert load_footprint(ws, 'x') == Footprint(grid='FR') # one place replaces the other, range and all


@pytest.mark.parametrize('text,says', [('[footprint]\nelectricty_usd_per_kwh = 1', 'electricity_usd_per_kwh'), ('[footprint]\ngrid = "DX"', 'unknown grid'),
                                       ('[footprint.env]\nx = 1', 'must be a table'), ('[footprint.env.x]\npue = 0.1', 'at least 1'), ('[Footprint]', 'did you mean footprint'),
                                       ('[footprint', 'not valid TOML'), ('[footprint]\nzzz = 1', 'known: electricity')])
def test_faults_of_the_file(tmp_path, text, says):
    (tmp_path/SETTINGS_FILE).write_text(text)
    with pytest.raises(UserError, match=re.escape(says)) as e: load_footprint(Workspace(tmp_path), 'other')
    assert SETTINGS_FILE in str(e.value) and '\n' not in str(e.value)


def test_not_utf8(tmp_path):
    (tmp_path/SETTINGS_FILE).write_bytes(b'[footprint]\ngrid = "\xff"')
    with pytest.raises(UserError, match='UTF-8'): load_footprint(Workspace(tmp_path))


def test_amortised():
    assert amortised(35_064, years=4, use=1) == pytest.approx(1)
    assert amortised(100, use=.25) == 2 * amortised(100, use=.5)
    for bad in ((-1,), (1, 0), (1, 1, 0), (1, 1, 1.1)):
        with pytest.raises(UserError): amortised(*bad)


# ---- from a summary

PEER = dict(llm_provider='hf_local', quantization='4bit', total_time_seconds=3600., estimated_cost_usd=0, hardware=dict(gpu_energy_wh=100., gpu_energy_method='nvml'))
OURS = dict(schema_version=1, llm_provider='hf_local', quantization='bf16', total_time_seconds=3600., cost_usd=0., hardware=dict(gpu_energy_wh=100., gpu_energy_method='nvml'),
            energy=dict(total_wh=130., cpu=dict(wh=30.), reasons={}))


def test_summaries():
    assert run_footprint(PEER).wh == 100 and 'GPUs alone' in run_footprint(PEER).reasons['scope']
    assert run_footprint(OURS).wh == 130 and 'scope' not in run_footprint(OURS).reasons
    ranged = dict(OURS, energy=dict(OURS['energy'], total_wh_low=125., total_wh_high=140.))
    assert (run_footprint(ranged).wh_low, run_footprint(ranged).wh_high) == (125, 140)
    none = run_footprint(dict(OURS, hardware=dict(gpu_energy_wh=None, gpu_energy_method='none', reasons=dict(gpu='no NVIDIA driver')), energy=dict(total_wh=None, cpu=dict(wh=None))))
    assert none.wh is None and none.reasons['energy'] == 'no NVIDIA driver'
    hosted = run_footprint(dict(OURS, llm_provider='openai', quantization='api', cost_usd=1.5))
    assert (hosted.wh, hosted.gco2e, hosted.total_usd) == (None, None, 1.5)
    assert run_footprint({}).wh is None


def test_light_import():
    import subprocess, sys
    code = 'import sys, wattnb.footprint; print([m for m in ("torch", "numpy", "pandas", "scipy", "matplotlib") if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip() == '[]'
