"The registry, the price table, and what goes wrong in other people's files."
import json, subprocess, sys, tomllib
from dataclasses import fields

import pytest
from hypothesis import given, settings, strategies as st

from wattnb.llm.protocol import Model, Reply, Request, Usage, fetch_model, open_model, split_thinking
from wattnb.llm.registry import ModelEntry, PROVIDERS, Price, Registry, load_registry
from wattnb.llm.prices import cost_usd, estimate_usd, find_price
from wattnb.llm.requirements import estimate_vram, fits
from wattnb.legacy.wattbot_config import import_wattbot_config
from wattnb.core.workspace import UserError, Workspace

REG = load_registry()
SEED = 'qwen1.5b qwen3b qwen7b qwen14b qwen32b qwen72b llama3-8b gemma2-9b gemma2-27b mixtral-8x7b mistral7b phi3-mini'.split()
WATTBOT = ('qwen1.5-110b qwen3-30b-a3b qwen3-next-80b-a3b qwen3-next-80b-a3b-thinking olmoe-1b7b mixtral-8x22b haiku claude35-haiku sonnet claude37-sonnet '
        'llama3-70b llama4-scout llama4-maverick nova-pro deepseek-r1').split()


def workspace(tmp_path, toml):
    (tmp_path/'data').mkdir(exist_ok=True)
    ws = Workspace(tmp_path)
    ws.models_toml.write_text(toml, 'utf-8')
    return ws


# --- the shipped file ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('key', SEED + WATTBOT + ['smollm2-135m', 'abstain', 'extractive'])
def test_known_models_are_there(key): assert key in REG and REG[key].name


def test_every_entry_is_whole():
    ids = [(e.provider, e.id) for e in REG.values()]
    for e in REG.values():
        assert e.provider in PROVIDERS and e.family
        if e.local: assert e.params_b and e.context and e.vram_4bit_gb and '/' in e.id, e.key
        if e.active_b: assert e.active_b < e.params_b
        if e.prices: assert e.prices.date and e.prices.source and e.prices.output >= e.prices.input > 0, e.key
        if e.thinks: assert e.thinking_tokens > 0
    assert len({i for i in ids}) >= len(ids) - 1 # one hub model is there twice: with and without thinking
    assert all(not REG[k].system_role for k in ('gemma2-2b', 'gemma2-9b', 'gemma2-27b'))
    assert {k: REG[k].vram_4bit_gb for k in ('qwen1.5b', 'qwen7b', 'qwen72b', 'gemma2-27b', 'mixtral-8x22b', 'olmoe-1b7b')} == {
        'qwen1.5b': 2, 'qwen7b': 6, 'qwen72b': 40, 'gemma2-27b': 17, 'mixtral-8x22b': 80, 'olmoe-1b7b': 4}


VRAM = {'qwen1.5b': 2, 'qwen3b': 3, 'qwen7b': 6, 'qwen14b': 10, 'qwen32b': 20, 'qwen72b': 40, 'llama3-8b': 6, 'gemma2-9b': 7, 'gemma2-27b': 17, 'mixtral-8x7b': 26, 'mixtral-8x22b': 80,
        'mistral7b': 6, 'phi3-mini': 3, 'qwen3-30b-a3b': 18, 'qwen3-next-80b-a3b': 40, 'olmoe-1b7b': 4, 'qwen1.5-110b': 60}

def test_the_old_tables_are_kept():
    "WattBot's estimates of memory and sizes, under its keys."
    assert {k: REG[k].vram_4bit_gb for k in VRAM} == VRAM
    sizes = {'qwen7b': (7.6, None), 'qwen3-30b-a3b': (30.5, 3.3), 'qwen3-next-80b-a3b': (80, 3), 'mixtral-8x7b': (46.7, 12.9), 'mixtral-8x22b': (141, 39), 'olmoe-1b7b': (6.9, 1.3), 'phi3-mini': (3.8, None),
             'llama4-scout': (109, 17), 'llama4-maverick': (400, 17), 'haiku': (8, None), 'sonnet': (70, None), 'nova-pro': (40, None), 'llama3.2-3b': (3.2, None), 'gemma2-2b': (2.6, None)}
    for k, (total, active) in sizes.items(): assert (round(REG[k].params_b, 1), REG[k].active_b) == (total, active), k
    assert all(REG[k].estimated for k in ('haiku', 'claude35-haiku', 'sonnet', 'claude37-sonnet', 'nova-pro'))


@pytest.mark.parametrize('old, key', [('hf_qwen1_5b', 'qwen1.5b'), ('hf_qwen1_5_110b', 'qwen1.5-110b'), ('hf_qwen3_next_80b_a3b_thinking.py', 'qwen3-next-80b-a3b-thinking'), ('hf_phi3_mini', 'phi3-mini'),
                                      ('bedrock_claude35_haiku', 'claude35-haiku'), ('qwen1.5-110b-bench', 'qwen1.5-110b'), ('hf_gemma2_27b', 'gemma2-27b'), ('olmoe-1b7b-bench', 'olmoe-1b7b')])
def test_configs_and_runs_of_the_old_system_name_a_model(old, key): assert REG.find(old).key == key


def test_the_longest_reply_is_never_more_than_the_model_can_write():
    haiku = REG['haiku']
    assert (haiku.longest(), haiku.longest(9000), REG['o3'].longest(100), REG['qwen7b'].longest(9000)) == (512, 4096, 4196, 9000)
    assert estimate_usd(haiku, [0], 9000)[1] == pytest.approx(4096 * 1.25e-6)


def test_import_is_light():
    p = subprocess.run([sys.executable, '-c', "import sys, wattnb.llm.protocol as l; l.load_registry().find('qwen7b'); "
                        "print([m for m in ('torch', 'transformers', 'pandas', 'matplotlib', 'hnswlib', 'scipy', 'boto3') if m in sys.modules])"], capture_output=True, text=True)
    assert p.stdout.strip() == '[]', p.stdout + p.stderr


# --- a user's own ----------------------------------------------------------------------------------------------------

def test_one_entry_adds_a_model(tmp_path):
    "No other list has to be edited."
    ws = workspace(tmp_path, '[model.my-7b]\nprovider = "hf"\nid = "me/my-7b"\nfamily = "qwen2.5"\nparams_b = 7.6\n')
    reg = load_registry(ws)
    e = reg.find('my-7b')
    assert (e.provider, e.precision, e.origin) == ('hf_local', '4bit', str(ws.models_toml))
    assert e in reg.families()['qwen2.5'] and any(r['key'] == 'my-7b' for r in reg.table(dict(gpu_gb=[], ram_gb=16)))
    assert 'my-7b' not in load_registry()


def test_override_keeps_the_rest(tmp_path):
    reg = load_registry(workspace(tmp_path, '[model."gpt-4o"]\nprices = { in = 1, out = 2, date = "2026-11-01", source = "contract" }\n'))
    assert cost_usd(reg['gpt-4o'], 10**6, 10**6) == 3 and reg['gpt-4o'].context == REG['gpt-4o'].context
    assert cost_usd(reg.find('openai:gpt-4o-2024-08-06'), 10**6, 0, registry=reg) == 1 # versions follow the override


@pytest.mark.parametrize('toml, why', [
    ('[model.x]\nprovider = "hf_local"\n', r'\[model.x\]: id is missing'),
    ('[model.x]\nid = "a/b"\n', 'provider is missing'),
    ('[model.x]\nprovider = "hf_local"\nid = "a/b"\nparams = 7\n', "unknown key 'params': did you mean params_b"),
    ('[model.x]\nprovider = "hf_local"\nid = "a/b"\ncontext = "big"\n', "context must be a whole number, not 'big'"),
    ('[model.x]\nprovider = "hf_local"\nid = "a/b"\nparams_b = true\n', 'params_b must be a number, not True'),
    ('[model.x]\nprovider = "hf_local"\nid = "a/b"\nmax_new_tokens = -1\n', 'max_new_tokens must not be -1'),
    ('[model.x]\nprovider = "hf_local"\nid = "a/b"\nparams_b = nan\n', 'params_b must not be nan'),
    ('[model.x]\nprovider = "azure"\nid = "a/b"\n', "unknown provider 'azure'"),
    ('[model.x]\nprovider = "openai"\nid = "b"\nopenai_api_key = "sk-abc"\n', 'openai_api_key does not belong into a file'),
    ('[model.x]\nprovider = "openai"\nid = "b"\noptions = { api_key = "sk-abc" }\n', 'api_key does not belong into a file'),
    ('[model.x]\nprovider = "openai"\nid = "b"\nprices = { in = 1, out = 2, per = "day" }\n', "prices: unknown key 'per'"),
    ('[modle.x]\nprovider = "openai"\n', r'unknown table \[modle\]'),
    ('model = 3\n', r'\[model\] must hold tables'),
    ('model.x = 3\n', r'\[model\] must hold tables'),
    ('[model.x]\nprovider = "hf_local', 'not valid TOML'),
])
def test_bad_entries_are_one_line(tmp_path, toml, why):
    ws = workspace(tmp_path, toml)
    with pytest.raises(UserError, match=why) as e: load_registry(ws)
    assert str(ws.models_toml) in str(e.value) and '\n' not in str(e.value) and 'sk-abc' not in str(e.value)


def test_file_as_model(tmp_path):
    one = tmp_path/'one.toml'; one.write_text('[model.a]\nprovider = "openai"\nid = "served"\noptions = { base_url = "http://127.0.0.1:8000/v1" }\n', 'utf-8')
    assert REG.find(str(one)).options['base_url'].startswith('http') and REG.find(f'{one}#a').key == 'a'
    with pytest.raises(UserError, match=r'no \[model.b\]'): REG.find(f'{one}#b')
    two = tmp_path/'two.toml'; two.write_text(one.read_text() + '[model.b]\nprovider = "openai"\nid = "x"\n', 'utf-8')
    with pytest.raises(UserError, match='declares 2 models: name one'): REG.find(str(two))
    assert REG.find(f'{two}#b').id == 'x'
    none = tmp_path/'none.toml'; none.write_text('', 'utf-8')
    with pytest.raises(UserError, match='declares no model'): REG.find(str(none))
    latin = tmp_path/'latin.toml'; latin.write_bytes(b'# caf\xe9')
    with pytest.raises(UserError, match='not UTF-8'): REG.find(str(latin))
    part = tmp_path/'part.toml'; part.write_text('[model.qwen7b]\nprecision = "bf16"\n', 'utf-8') # overrides a shipped one
    assert (REG.find(str(part)).precision, REG.find(str(part)).id) == ('bf16', REG['qwen7b'].id)


@pytest.mark.parametrize('spec, key', [('QWEN7B', 'qwen7b'), ('Qwen2.5 7B', 'qwen7b'), ('qwen/qwen2.5-7b-instruct', 'qwen7b'), ('hf_local:Qwen/Qwen2.5-7B-Instruct', 'qwen7b'),
                                       ('smollm3', 'smollm3-3b'), ('openrouter:openai/gpt-4o', 'gpt-4o'), ('baseline:extractive', 'extractive')])
def test_find(spec, key): assert REG.find(spec).key == key


@pytest.mark.parametrize('spec, why', [('qwen77b', 'did you mean qwen7b'), ('gemma2', 'is ambiguous'), ('zzzz', 'wattnb models'), ('baseline:guess', 'unknown baseline'), ('gpt:x', 'unknown provider'),
                                       (None, 'no model given'), ('owner/new', 'write hf:owner/new')])
def test_not_found(spec, why):
    with pytest.raises(UserError, match=why): REG.find(spec)


def test_another_provider_for_the_same_model():
    assert (REG.find('llama3-8b', provider='openrouter').id, REG.find('llama3-8b', provider='openrouter').prices) == ('meta-llama/llama-3.1-8b-instruct', None)
    assert REG.find('qwen7b', provider='hf') == REG['qwen7b']
    with pytest.raises(UserError, match='qwen7b is not known at bedrock'): REG.find('qwen7b', provider='bedrock')
    with pytest.raises(UserError, match="unknown provider 'nowhere'"): REG.find('qwen7b', provider='nowhere')
    assert REG.find('my-served-model', provider='openai').provider == 'openai'


@given(st.text(max_size=40))
@settings(max_examples=300)
def test_any_spec_is_an_entry_or_one_line(spec):
    try: assert isinstance(REG.find(spec), ModelEntry)
    except UserError as e: assert '\n' not in str(e)


@given(st.dictionaries(st.sampled_from([f.name for f in fields(ModelEntry)] + ['x']), st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
       st.lists(st.text(max_size=3), max_size=2), st.dictionaries(st.sampled_from(['in', 'out', 'x']), st.one_of(st.floats(), st.text(max_size=3)), max_size=3)), max_size=6))
@settings(max_examples=400)
def test_any_table_is_an_entry_or_one_line(table):
    try: e = Registry([]).with_tables({'k': dict(provider='openai', id='x') | table}, 'f.toml')['k']
    except UserError as err: assert str(err).startswith('f.toml, [model.k]') and '\n' not in str(err)
    else: assert Registry([]).with_tables(tomllib.loads(e.to_toml())['model'], 'g')['k'] == e; json.dumps(e.to_json())


# --- money -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('spec, usd', [
    ('openai:gpt-4o-mini', .75), ('openai:gpt-4o', 12.5), ('openai:gpt-4o-mini-2024-07-18', .75), ('openai:gpt-4o-latest', 12.5), ('openai:gpt-4.1-mini', 2.),
    ('openrouter:anthropic/claude-3.5-sonnet', 18), ('openrouter:openai/gpt-4o-mini', .75), ('openrouter:anthropic/claude-3-haiku', 1.5),
    ('bedrock:us.anthropic.claude-3-haiku-20240307-v1:0', 1.5), ('bedrock:eu.anthropic.claude-3-haiku-20240307-v1:0', 1.5), ('bedrock:anthropic.claude-3-opus-20240229-v1:0', 90),
    ('bedrock:us.meta.llama3-3-70b-instruct-v1:0', 1.44), ('bedrock:us.amazon.nova-pro-v1:0', 4.), ('bedrock:us.deepseek.r1-v1:0', 6.75),
    ('openai:gpt-4o-audio-preview', None), ('openai:gpt-40', None), ('openrouter:deepseek/deepseek-chat', None), ('openrouter:meta-llama/llama-3.3-70b-instruct', None),
    ('bedrock:amazon.nova-premier-v1:0', None), ('openai:o3-mini', None), ('openai:qwen2.5-7b', None)])
def test_prices(spec, usd):
    "The longest name, whole; an unknown price is none, never 0, and never a neighbour's."
    got = cost_usd(REG.find(spec), 10**6, 10**6)
    assert got == (pytest.approx(usd) if usd is not None else None)


def test_own_server_has_no_known_price():
    e = Registry([]).with_tables({'mine': dict(provider='openai', id='gpt-4o', options=dict(base_url='http://127.0.0.1:1/v1'))})['mine']
    assert find_price(e) is None and cost_usd(e, 1, 1) is None


def test_cached_and_reasoning_tokens():
    p = Price(2., 8., cached=.5)
    assert p.usd(1000, 100, 400) == pytest.approx((600 * 2 + 400 * .5 + 100 * 8) / 1e6)
    assert p.usd(100, 0, 400) == pytest.approx(100 * .5 / 1e6) # a server that counts wrongly cannot make it negative
    assert Price(2., 8.).usd(1000, 0, 400) == pytest.approx(.002)


def test_unknown_price_warns_once(caplog):
    e = REG.find('openai:brand-new-model')
    with caplog.at_level('WARNING', 'wattnb'):
        for _ in range(3): assert cost_usd(e, 5, 5) is None
    assert sum('no price known for openai:brand-new-model' in r.message for r in caplog.records) <= 1


def test_estimates():
    assert estimate_usd(REG['gpt-4o-mini'], [1000] * 10, 100) == pytest.approx((.0015, .0015 + 1000 * .6e-6))
    assert estimate_usd(REG.find('openai:brand-new-model'), [1]) is None and estimate_usd(REG['qwen7b'], [1000]) == (0, 0)


def test_usage_adds_up():
    e = REG['gpt-4o-mini']
    replies = [Reply('a', prompt_tokens=1000, completion_tokens=100, cached_tokens=500, reasoning_tokens=20), Reply('b'), Reply('c', error='timeout')]
    u = sum(Usage.of(r, e) for r in replies)
    assert (u.prompt, u.completion, u.cached, u.reasoning, u.calls, u.uncounted, u.total, u.complete) == (1000, 100, 500, 20, 3, 2, 1100, False)
    assert u.usd == pytest.approx(cost_usd(e, 1000, 100, 500)) and '2 of 3 calls reported no tokens' in u._repr_markdown_()
    assert sum([]) == 0 and Usage() + Usage(1, 2) == Usage(1, 2)


# --- memory ----------------------------------------------------------------------------------------------------------

def test_memory_is_that_of_the_visible_gpus(monkeypatch):
    "One enumeration of devices for the meters and for what fits: CUDA's order and choice, MIG slices, memory shared with the CPU (GB10)."
    import psutil
    from wattnb.core.hardware import memory_here
    from wattnb.testing.simulated import SimulatedClock, SimulatedGpu, simulated_nvml
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    ram = psutil.virtual_memory().total / 1e9
    with simulated_nvml([SimulatedGpu(memory_gb=48.), SimulatedGpu(name='NVIDIA H100 80GB HBM3', memory_gb=80.)], SimulatedClock()):
        assert memory_here() == dict(gpu_gb=[pytest.approx(48 * 1.073741824), pytest.approx(80 * 1.073741824)], ram_gb=ram)
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '1')
        assert memory_here()['gpu_gb'] == [pytest.approx(85.9, abs=.1)] and fits(REG['qwen72b'], '4bit', memory_here()) == 'GPU'
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
        assert memory_here() == dict(gpu_gb=[], ram_gb=ram)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    with simulated_nvml([SimulatedGpu(name='NVIDIA GB10', memory_gb=None)], SimulatedClock()): assert memory_here() == dict(gpu_gb=[ram], ram_gb=ram)
    assert fits(REG['qwen7b']) == '?' and fits(REG['gpt-4o']) == 'API' # no machine was given


def test_what_fits():
    big, none = dict(gpu_gb=[80., 80.], ram_gb=500.), dict(gpu_gb=[], ram_gb=24.)
    assert fits(REG['qwen72b'], '4bit', big) == 'GPU' and fits(REG['qwen72b'], 'bf16', big) in ('2 GPUs', 'CPU')
    assert fits(REG['smollm2-135m'], machine=none) == 'CPU' and fits(REG['qwen72b'], machine=none) == 'no'
    assert fits(REG['gpt-4o'], machine=none) == 'API' and fits(REG['abstain'], machine=none) == 'yes'
    assert fits(REG.find('hf:me/unknown-size'), machine=none) == '?' and estimate_vram(REG['gpt-4o']) is None
    with pytest.raises(UserError, match='unknown precision'): estimate_vram(REG['qwen7b'], '3bit')
    assert len(REG.table(none)) == len(REG) and '| qwen7b |' in REG.table(big).to_markdown()


# --- WattBot's configs -----------------------------------------------------------------------------------------------

def test_config_is_never_executed(tmp_path):
    trap = tmp_path/'ran'
    p = tmp_path/'hf_gemma2_9b.py'
    p.write_text(f'import os\nopen({str(trap)!r}, "w").write("x")\nllm_provider = "hf_local"\nhf_model_id: str = "google/gemma-2-9b-it"\nhf_dtype = "bf16"\n'
                 'top_k = 8\nno_overlap = True\nmax_concurrent = 2\nhf_temperature = 0.2\nopenai_api_key = "sk-secret"\nhome = os.environ["HOME"]\n_private = 1\n', 'utf-8')
    got = import_wattbot_config(p)
    assert not trap.exists()
    assert (got.entry.key, got.entry.precision, got.entry.max_concurrent, got.entry.system_role) == ('gemma2-9b', 'bf16', 2, False)
    assert got.settings == {'top_k': 8, 'hf_temperature': .2} and set(got.unknown) == {'no_overlap', 'openai_api_key'} and got.not_constant == ('home',)
    assert got.secrets == ('openai_api_key',) and 'sk-secret' not in repr(got) + ' '.join(got.notes) + got.entry.to_toml()
    assert tomllib.loads(got.entry.to_toml())['model']['gemma2-9b']['precision'] == 'bf16'


@pytest.mark.parametrize('text, why', [('llm_provider = "bedrock"\n', 'names no model'), ('x = (\n', 'not valid Python'), ('llm_provider = "azure"\nmodel = "m"\n', 'unknown llm_provider'),
                                       ('hf_model_id = "a/b"\nhf_dtype = "int3"\n', 'hf_dtype must be one of'), ('x = "\x00"', 'not')])
def test_bad_configs(tmp_path, text, why):
    p = tmp_path/'c.py'; p.write_text(text, 'utf-8')
    with pytest.raises(UserError, match=why): import_wattbot_config(p)


def test_configs_of_apis(tmp_path):
    p = tmp_path/'bedrock_claude35_haiku.py'
    p.write_text('llm_provider = "bedrock"\nbedrock_model = "us.anthropic.claude-3-5-haiku-20241022-v1:0"\nbedrock_region = "us-east-2"\n', 'utf-8')
    got = import_wattbot_config(p).entry
    assert (got.key, got.options, got.precision) == ('claude35-haiku', {'region': 'us-east-2'}, 'auto')
    q = tmp_path/'openrouter_new_model.py'
    q.write_text('model = "vendor/new-model"\n', 'utf-8')
    assert (import_wattbot_config(q).entry.provider, import_wattbot_config(q).entry.id) == ('openrouter', 'vendor/new-model')
    with pytest.raises(UserError, match='no such file'): import_wattbot_config(tmp_path/'none.py')


# --- protocol --------------------------------------------------------------------------------------------------------

class Echo(Model):
    def stream(self, requests):
        for r in reversed(requests):
            if r.id != 'lost': yield Reply(r.id, r.user)


def test_complete_is_in_order_and_loses_nothing():
    m = Echo(REG['abstain'])
    got = m.complete([Request('a', '', '1'), Request('lost', '', '2'), Request('b', '', '3')])
    assert [r.id for r in got] == ['a', 'lost', 'b'] and [r.ok for r in got] == [True, False, True]
    with pytest.raises(ValueError): m.complete([Request('a', '', ''), Request('a', '', '')])
    with pytest.raises(UserError, match='temperature'): Echo(REG['abstain'], temperature=-1)
    with pytest.raises(UserError, match='batch_size must be at least 1'): Echo(REG['abstain'], batch_size=0)
    assert m.count_tokens('') == 0 and m.count_tokens('abcde') == 2


def test_baselines_open_by_name():
    with open_model('abstain') as m: assert m.complete([Request('q', 's', 'u')])[0].ok


def test_fetch_is_for_local_models():
    with pytest.raises(UserError, match='no weights to fetch'): fetch_model('gpt-4o')


@given(st.lists(st.sampled_from(list('ab<>/{}" ') + ['<think>', '</think>', '[THINK]', '<|channel|>final<|message|>']), max_size=40).map(''.join), st.booleans())
@settings(max_examples=500)
def test_split_thinking_is_total(text, opened):
    thoughts, answer = split_thinking(text, opened)
    assert '</think>' not in answer and len(thoughts) + len(answer) <= len(text)
