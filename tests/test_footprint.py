"Carbon and cost: hand-computed vectors, monotonicity, every row of the tables."
import json, math, re
from pathlib import Path

import pytest
from hypothesis import given, settings as examples, strategies as st

from wattnb.footprint import (energy_of, BYTES, ELECTRICITY_USD, Device, Footprint, SETTINGS_FILE, Work, amortised, device_of,
                              device_table, devices, find_device, find_grid, footprint, footprint_table, grid_table,
                              grids, load_footprint, measure_cpu, roofline, run_footprint, run_roofline)
from wattnb.workspace import UserError, Workspace

amount = st.floats(0, 1e9, allow_nan=False)
anywhere = st.sampled_from([g.code for g in grids()])
settings = st.builds(Footprint, electricity_usd_per_kwh=st.none() | st.floats(0, 10), pue=st.none() | st.floats(1, 3),
                     grid=st.just('') | anywhere, hardware_usd_per_hour=st.none() | st.floats(0, 100))


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
    assert len(grid_table()) == len(grids())


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
    assert {i.wh, i.gco2e, i.gco2e_low, i.gco2e_high, i.electricity_usd, i.hardware_usd} == {None}
    assert (i.total_usd, i.total_of) == (.5, ('api',))
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
        each = math.fsum(getattr(footprint(p, settings=s), k) for p in parts)
        assert getattr(whole, k) == pytest.approx(each, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize('bad', [
    dict(energy_wh=-1.), dict(energy_wh=math.nan), dict(energy_wh=math.inf), dict(energy_wh=1., seconds=-1.),
    dict(energy_wh=1., api_usd=-.1), dict(energy_wh=1., wh_low=2., wh_high=3.),
    dict(energy_wh=5., wh_low=2., wh_high=3.)])
def test_impossible_figures(bad):
    with pytest.raises(UserError): footprint(**bad)


# ---- settings

@pytest.mark.parametrize('bad', [
    dict(pue=.5), dict(pue='1'), dict(pue=True), dict(electricity_usd_per_kwh=-1), dict(grid='FR', gco2e_per_kwh=1),
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


def test_amortised():
    assert amortised(35_064, years=4, use=1) == pytest.approx(1)
    assert amortised(100, use=.25) == 2 * amortised(100, use=.5)
    for bad in ((-1,), (1, 0), (1, 1, 0), (1, 1, 1.1)):
        with pytest.raises(UserError): amortised(*bad)


# ---- from a summary

PEER = dict(llm_provider='hf_local', quantization='4bit', total_time_seconds=3600., estimated_cost_usd=0,
            hardware=dict(gpu_energy_wh=100., gpu_energy_method='nvml'))
OURS = dict(PEER, schema_version=1, quantization='bf16', cost_usd=0.,
            energy=dict(total_wh=130., cpu=dict(wh=30.), reasons={}))
UNMETERED = dict(OURS, hardware=dict(gpu_energy_wh=None, gpu_energy_method='none',
                                     reasons=dict(gpu='no NVIDIA driver')),
                 energy=dict(total_wh=None, cpu=dict(wh=None)))


def test_summaries():
    assert run_footprint(PEER).wh == 100 and 'GPUs alone' in run_footprint(PEER).reasons['scope']
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


@examples(max_examples=300, deadline=None)
@given(_SUMMARY)
def test_any_summary_says_what_kind_of_number_its_energy_is(s):
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
    s = dict(PEER, num_questions=100, avg_latency_seconds=72., avg_retrieval_seconds=1., avg_generation_seconds=53.)
    i = run_footprint(s, Footprint(grid='FR', hardware_usd_per_hour=1.))
    assert (i.wh, i.wh_low, i.wh_high) == pytest.approx((200, 150 / 1.1, 220)) and i.electricity_usd == pytest.approx(.2 * ELECTRICITY_USD) and i.hardware_usd == pytest.approx(2.)
    assert i.energy_is == 'extrapolated ×2.00 [1.36–2.20]' and 'extrapolated' in i.table().to_text()
    two = run_footprint(dict(s, hardware=dict(PEER['hardware'], gpu_count=2)))
    assert two.energy_is.startswith('at least: 1 of 2 GPUs metered') and two.wh == pytest.approx(150 / 1.1) and two.gco2e_high is None and 'lower bound' in footprint_table({'r': two}).to_text()


# ---- the devices

NAMES = { # what drivers say -> the row it must be
    'NVIDIA H100 80GB HBM3': 'SXM', 'NVIDIA H100 PCIe': 'H100 PCIe', 'NVIDIA H100 NVL': 'H100 NVL',
    'NVIDIA H200': 'H200 (SXM)', 'NVIDIA H200 NVL': 'H200 NVL',
    'NVIDIA A100-SXM4-80GB': 'A100-SXM4-80GB', 'NVIDIA A100-SXM4-40GB': 'A100-SXM4-40GB',
    'NVIDIA A100-PCIE-40GB': 'A100-PCIE-40GB',
    'NVIDIA A100 80GB PCIe': 'A100 80GB PCIe', 'NVIDIA L40S': 'L40S', 'NVIDIA L4': 'L4', 'NVIDIA A10': 'A10',
    'NVIDIA A10G': 'A10G', 'NVIDIA A40': 'A40',
    'NVIDIA RTX A6000': 'RTX A6000', 'NVIDIA RTX 6000 Ada Generation': 'RTX 6000 Ada',
    'NVIDIA GeForce RTX 3090': 'RTX 3090',
    'NVIDIA GeForce RTX 4090': 'RTX 4090', 'NVIDIA GeForce RTX 5090': 'RTX 5090', 'Tesla T4': 'T4',
    'Tesla V100-SXM2-16GB': 'V100-SXM2-16GB',
    'Tesla V100-PCIE-32GB': 'V100-PCIE', 'NVIDIA B200': 'B200', 'NVIDIA GH200 480GB': 'GH200 96GB',
    'NVIDIA GB10': 'GB10',
    'NVIDIA RTX PRO 6000 Blackwell Server Edition': 'Server',
    'NVIDIA RTX PRO 6000 Blackwell Workstation Edition': 'Workstation',
    'AMD Instinct MI300X': 'MI300X', 'AMD Instinct MI250X / MI250': 'MI250X',
    'NVIDIA Jetson AGX Orin Developer Kit': 'AGX Orin', 'Apple M1 Max': 'M1 Max',
    'Apple M4': 'M4', 'Apple M4 Pro': 'M4 Pro', 'AMD EPYC 9654 96-Core Processor': 'EPYC 9654',
    'AMD EPYC 7763 64-Core Processor': 'EPYC 7763',
    'Intel(R) Xeon(R) Platinum 8480+': '8480', '13th Gen Intel(R) Core(TM) i9-13900K': '13900K'}
UNKNOWN = ('', 'AMD EPYC', 'NVIDIA H20', 'NVIDIA H800', 'NVIDIA GB200', 'NVIDIA B300',
           'NVIDIA GeForce RTX 4090 Laptop GPU', 'NVIDIA GeForce RTX 4090 D',
           'NVIDIA GeForce RTX 4080 SUPER', 'NVIDIA A100-SXM4-80GB MIG 1g.10gb', 'GRID A100-40C', 'NVIDIA A40-48Q',
           'NVIDIA L40S-48C', 'Apple M4 Max',
           'Apple M1', 'Tesla V100S-PCIE-32GB', 'NVIDIA A10M', 'NVIDIA A800-SXM4-80GB')


def test_every_device():
    ds = devices()
    assert len([d for d in ds if d.kind != 'cpu']) >= 25 and any(d.kind == 'cpu' for d in ds)
    assert len({d.name for d in ds}) == len(ds)
    for d in ds:
        assert d.kind in ('gpu', 'soc', 'cpu') and 40 <= d.bandwidth_gbs <= 10_000, d
        assert 2017 <= d.year <= 2026 and len(d.source) > 10, d
        assert not d.measured and (d.tdp_w is None or 10 <= d.tdp_w <= 1500), d
        if d.kind == 'gpu': assert d.fp16_tflops and d.fp32_tflops and d.memory_gb and d.tdp_w, d
        if d.fp16_tflops and d.int8_tops: assert 1 <= d.int8_tops / d.fp16_tflops <= 4.1, d # dense against dense
        if d.fp16_tflops: assert d.fp16_tflops / d.fp32_tflops > 1.9, d
    assert len(device_table()) == len(ds)


@pytest.mark.parametrize('name,row', NAMES.items())
def test_names_of_drivers(name, row): assert row in find_device(name).name


@pytest.mark.parametrize('name', UNKNOWN)
def test_no_device_is_better_than_a_wrong_one(name): assert find_device(name) is None


def test_every_row_is_reached_by_its_own_name():
    for d in devices():
        if '(one CPU)' not in d.name: assert find_device(d.name) == d, d.name


def test_where_the_model_is():
    assert device_of('cuda:0', 'NVIDIA L4')[0].name == 'NVIDIA L4'
    assert device_of('cuda:0', 'Orin (nvgpu)', 'NVIDIA Jetson AGX Orin Developer Kit')[0].kind == 'gpu'
    assert device_of('mps', '', 'Apple M2 Max')[0].bandwidth_gbs == 400
    found, why = device_of('cuda:0', 'NVIDIA Future', 'AMD EPYC 9654 96-Core Processor')
    assert found is None and why == 'NVIDIA Future is not in the table of devices'
    assert device_of('cpu', 'NVIDIA L4', 'AMD EPYC')[1].startswith('AMD EPYC is not in the table')
    assert device_of('cpu, cuda:0', 'NVIDIA L4')[1] == 'the model is partly on the CPU'
    assert device_of('cpu', '', 'AMD EPYC 9654 96-Core Processor')[0].bandwidth_gbs == 460.8


def test_a_measured_cpu():
    d = measure_cpu('mine', mb=64)
    assert d.measured and 'measured' in d.source and .1 < d.bandwidth_gbs < 5000 and .0005 < d.fp32_tflops < 1000
    assert measure_cpu('mine', mb=64) is d and device_of('cpu', measure=True)[0].measured


# ---- the floors

H100, L4 = find_device('NVIDIA H100 80GB HBM3'), find_device('NVIDIA L4')
SEVEN = dict(params=7.62e9, weight_bytes=15.24e9)


def test_floors_by_hand():
    r = roofline(Work(**SEVEN, prompt_tokens=3000, prompt_passes=1, reply_tokens=200, reply_passes=200,
                      prefill_seconds=.1, decode_seconds=2., prefill_joules=60., decode_joules=900.), H100)
    p, d = r['prefill'], r['decode']
    assert p.bandwidth_s == pytest.approx(15.24e9 / 3350e9)
    assert p.flops_s == pytest.approx(4.572e13 / 989.4e12) and p.bound == 'flops'
    assert p.share == pytest.approx(.46210, rel=1e-4) and p.tokens_per_s == 30_000 and p.joules_per_token == .02
    assert d.floor_s == pytest.approx(200 * 15.24 / 3350) and d.bound == 'bandwidth'
    assert d.share == pytest.approx(.454925, rel=1e-5)
    assert d.floor_tokens_per_s == pytest.approx(219.816, rel=1e-5) and d.joules_per_token == 4.5
    assert d.floor_joules_per_token == pytest.approx(15.24 / 3350 * 700)


def test_the_ceilings_of_the_literature():
    "Qwen2.5-7B at 16 bit, one reply at a time: 316 tokens/s on an H200, 18 on a GB10."
    w = Work(**SEVEN, reply_tokens=1, reply_passes=1)
    assert roofline(w, find_device('NVIDIA H200'))['decode'].floor_tokens_per_s == pytest.approx(316, rel=.01)
    assert roofline(w, find_device('NVIDIA GB10'))['decode'].floor_tokens_per_s == pytest.approx(18, rel=.01)


def test_keys_values_embeddings_experts():
    base = Work(**SEVEN, reply_tokens=100, reply_passes=100)
    kv = Work(**SEVEN, reply_tokens=100, reply_passes=100, kv_bytes=57_344, context=3000)
    assert kv.decode_bytes - base.decode_bytes == 100 * 3000 * 57_344
    ten = dict(SEVEN, embedding=545e6, prompt_tokens=10, prompt_passes=1, reply_tokens=10, reply_passes=10)
    untied, tied = Work(**ten), Work(**ten, tied=True)
    assert untied.bytes_per_pass == 15.24e9 - 2 * 545e6 # the input table is not read
    assert untied.prefill_flops == 20 * (7.62e9 - 2 * 545e6) and untied.decode_flops == 20 * (7.62e9 - 545e6)
    assert tied.bytes_per_pass == 15.24e9
    assert tied.decode_flops == 20 * 7.62e9 and tied.prefill_flops == 20 * (7.62e9 - 545e6)
    moe = Work(30.5e9, 61e9, active=3.3e9, reply_tokens=1, reply_passes=1)
    assert moe.bytes_per_pass == pytest.approx(6.6e9) and moe.decode_flops == 6.6e9


def test_what_is_not_known():
    w = Work(**SEVEN, reply_tokens=10, reply_passes=10, decode_seconds=1.)
    r = roofline(w, None)
    assert r.phases == () and r.reasons == {'device': 'the device is not known'} and r.to_json()['device'] is None
    cpu = roofline(w, find_device('AMD EPYC 9654 96-Core Processor'))
    assert cpu['decode'].flops_s is None and cpu['decode'].bound == 'bandwidth'
    assert 'FP16' in cpu.reasons['flops'] and cpu.reasons['prefill'] == 'no tokens'
    apple = roofline(w, find_device('Apple M2 Max'))
    assert apple['decode'].floor_joules_per_token is None
    free = roofline(Work(**SEVEN, reply_tokens=10, reply_passes=10), L4)
    assert free['decode'].share is None and free['decode'].tokens_per_s is None
    assert free.reasons['decode'] == 'its time was not measured'
    fast = roofline(Work(**SEVEN, reply_tokens=10, reply_passes=10, decode_seconds=1e-3), L4)
    assert fast['decode'].share > 1 and 'faster than its floor' in fast.reasons['decode']
    for bad in (Work(0, 1), Work(1, 0), Work(1, 1, active=2), Work(1, 1, active=0), Work(1, 1, embedding=1)):
        with pytest.raises(UserError): roofline(bad, L4)


seconds = st.none() | st.floats(1e-3, 1e6)
work = st.builds(Work, params=st.floats(1e6, 1e12), weight_bytes=st.floats(1e6, 4e12), kv_bytes=st.floats(0, 1e6),
                 context=st.floats(0, 1e5), prompt_tokens=st.integers(1, 10**7), prompt_passes=st.floats(1, 1e4),
                 reply_tokens=st.integers(1, 10**6), reply_passes=st.floats(1, 1e6), prefill_seconds=seconds,
                 decode_seconds=seconds, compute=st.sampled_from(['fp16', 'fp32', 'int8']))
COUNTS = ('params', 'weight_bytes', 'prompt_tokens', 'prompt_passes', 'reply_tokens', 'reply_passes', 'context')
any_device = st.sampled_from(devices())


@given(work, any_device, st.integers(1, 8))
def test_floors_hold_together(w, d, n):
    r = roofline(w, d, n)
    for p in r.phases:
        assert p.floor_s == max(p.bandwidth_s, p.flops_s or 0) > 0
        assert p.tokens / p.floor_s == pytest.approx(p.floor_tokens_per_s)
        if p.share is not None: assert p.share == pytest.approx(p.tokens_per_s / p.floor_tokens_per_s)
    one = roofline(w, d)
    for p, q in zip(r.phases, one.phases): assert p.floor_s * n == pytest.approx(q.floor_s)
    json.dumps(r.to_json(), allow_nan=False)
    assert r._repr_markdown_()


@given(work, any_device, st.floats(1, 10), st.sampled_from(COUNTS))
def test_more_work_is_never_faster(w, d, k, what):
    from dataclasses import replace
    more = replace(w, **{what: type(getattr(w, what))(getattr(w, what) * k)})
    for p, q in zip(roofline(w, d).phases, roofline(more, d).phases): assert p.floor_s <= q.floor_s * (1 + 1e-12)


@given(work, st.floats(1, 10), st.floats(1, 10))
def test_a_better_device_is_never_slower(w, k, m):
    a = Device('a', 'gpu', 100., 10., 20., 5., 8., 50., 2024)
    b = Device('b', 'gpu', 100. * k, 10. * m, 20. * m, 5. * m, 8., 50., 2024)
    for p, q in zip(roofline(w, a).phases, roofline(w, b).phases): assert q.floor_s <= p.floor_s * (1 + 1e-12)


# ---- a run's roofline

def a_run(n=16, batch=16, prompt=1500, completion=120, cached=0, **effective):
    call = dict(attempt=1, status='answered', tokens=dict(prompt=prompt, completion=completion, cached=cached),
                batch=dict(id=1, size=batch))
    energy = dict(prefill=dict(joules=14.), decode=dict(joules=55.))
    loaded = dict(memory_bytes=6e9, effective_dtype='bfloat16', quantization='none', device='cuda:0') | effective
    summary = dict(llm_provider='hf_local', precision='bf16', effective=loaded,
                   hardware=dict(gpu_name='NVIDIA H100 80GB HBM3', cpu_model='AMD EPYC'),
                   model=dict(params_b=3., active_b=None), timing=dict(seconds_by_stage=dict(prefill=.5, decode=4.)))
    return summary, [dict(id=f'q{i}', attempts=[call], energy=energy) for i in range(n)]


def test_a_run():
    r = run_roofline(*a_run())
    assert r['prefill'].tokens == 24_000
    assert r['prefill'].flops_s == pytest.approx(2 * 3e9 * 24_000 / 989.4e12)
    assert r['prefill'].bandwidth_s == pytest.approx(6e9 / 3350e9) # one pass for the batch of 16
    assert r['decode'].tokens == 16 * 119 and r['decode'].bandwidth_s == pytest.approx(119 * 6e9 / 3350e9)
    assert r['decode'].share == pytest.approx(119 * 6e9 / 3350e9 / 4)
    assert r['decode'].joules_per_token == pytest.approx(55 / 119)
    alone = run_roofline(*a_run(batch=1))
    assert alone['decode'].bandwidth_s == pytest.approx(16 * r['decode'].bandwidth_s)
    assert run_roofline(*a_run(cached=500))['prefill'].tokens == 16_000
    assert run_roofline(*a_run(device='cuda:0, cuda:1')).n_devices == 2
    assert run_roofline(*a_run(kv_bytes_per_token=36_864))['decode'].bandwidth_s > r['decode'].bandwidth_s
    assert json.loads(json.dumps(r.to_json(), allow_nan=False))['phases']['decode']['bound'] == 'bandwidth'


def test_arithmetic_of_precisions():
    flops = lambda **e: run_roofline(*a_run(**e))['prefill'].flops_s
    assert flops(quantization='nf4') == flops() # NF4 is unpacked to 16 bit before it is multiplied
    assert flops(quantization='int8') == pytest.approx(flops() * 989.4 / 1978.9)
    assert flops(effective_dtype='float32') == pytest.approx(flops() * 989.4 / 67)
    s, r = a_run(memory_bytes=None)
    got = run_roofline(dict(s, precision='4bit'), r)
    assert got['decode'].bandwidth_s == pytest.approx(119 * 3e9 * BYTES['4bit'] / 3350e9)
    assert '4bit' in got.reasons['weights']


def test_runs_without_a_roofline():
    s, r = a_run()
    why = lambda **change: run_roofline(dict(s, **change), r).reasons
    assert why(llm_provider='openai') == {'model': 'hosted model: its machine is not known'}
    assert why(llm_provider='baseline') == {'model': 'no language model was run'}
    assert why(timing=None) == {'phases': 'the run did not time prefill and decode apart'}
    assert why(hardware=dict(gpu_name='NVIDIA H20')) == {'device': 'NVIDIA H20 is not in the table of devices'}
    assert why(model={}) == {'model': 'the number of its parameters is not known'}
    assert run_roofline(s, []).reasons == {'tokens': 'not all replies counted their tokens'}
    assert run_roofline({}, []).phases == ()
    r[3] = dict(r[3], energy=dict(r[3]['energy'], decode=dict(joules=None)))
    got = run_roofline(s, r)
    assert got['decode'].joules_per_token is None and got['prefill'].joules_per_token is not None


def test_a_run_on_a_measured_cpu():
    s, r = a_run(device='cpu', effective_dtype='float32')
    assert 'was not measured in the run' in run_roofline(s, r).reasons['device']
    noted = Device('AMD EPYC', 'cpu', 20., fp32_tflops=.1, measured=True, source='measured: 256 MB')
    stored = json.loads(json.dumps(run_roofline(s, r, noted).to_json()))['device']
    again = run_roofline(s, r, stored)
    assert again.device == noted and again['decode'].bandwidth_s == pytest.approx(119 * 6e9 / 20e9)


def test_runs_side_by_side():
    run = run_roofline(*a_run())
    t = footprint_table({'a': footprint(10., settings=Footprint(grid='FR')), 'b': footprint(None, api_usd=1., hosted=True)},
                        {'a': run, 'b': run_roofline({}, []).to_json()})
    a, b = t
    assert a['gCO2e'] == pytest.approx(.442) and a['decode reaches'] == run['decode'].share
    assert b['Wh'] is None and b['total, USD'] == 1 and b['decode reaches'] is None
    assert any('provider' in n and n.endswith('(b)') for n in t.notes)
    assert list(footprint_table({'c': footprint(1.)}))[0]['prefill reaches'] is None and len(footprint_table({})) == 0


def test_light_import():
    import subprocess, sys
    heavy = ('torch', 'numpy', 'pandas', 'scipy', 'matplotlib')
    code = f'import sys, wattnb.footprint; print([m for m in {heavy} if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip() == '[]'
