"Loading and planning local models: what is really quantised, what memory it takes, on which device. Tiny random models, a simulated driver and CUDA."
import json, os, re, subprocess, sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

import wattnb.llm.decode as decode
import wattnb.llm.loading as loading
import wattnb.llm.local as local
from test_local import ASKED, COMMON, FAMILIES, SMOL, make, tokenizer # noqa: F401 (`tokenizer` is a fixture)
from wattnb.llm.registry import ModelEntry, load_registry
from wattnb.llm.requirements import check_precision, fits, precision_advice, weights_gb
from wattnb.llm.protocol import check_provider, open_model
from wattnb.llm.batching import sequences_that_fit
from wattnb.llm.checkpoint import compute_dtype, explain_load_error
from wattnb.llm.loading import check_gpus, choose_place, effective_precision, load_local, pipeline_words
from wattnb.llm.local import LocalModel
from wattnb.llm.memory import (BITS_PER_PARAMETER, bytes_per_parameter, checkpoint_tensors, count_weights,
                               kv_bytes_per_token, nominal_bits, plan_checkpoint, weight_bytes, work_bytes)
from wattnb.testing.simulated import SimulatedGpu, simulated_nvml
from wattnb.core.workspace import UserError, WorkError

REG, GB = load_registry(), 1e9
GRANITE_H = dict(num_local_experts=8, num_experts_per_tok=2, layer_types=['mamba', 'attention'], mamba_n_heads=8, mamba_d_head=8, mamba_d_state=8, shared_intermediate_size=32)
MIXTURES = {k: FAMILIES[k] for k in ('qwen3_moe', 'mixtral', 'olmoe', 'gpt_oss', 'qwen3_next')} | {'granitemoehybrid': GRANITE_H}
QWEN7B = dict(hidden_size=3584, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4, intermediate_size=18944, vocab_size=152064, max_position_embeddings=32768)
no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason='a CUDA device is here')


@pytest.fixture
def h100(monkeypatch):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False); monkeypatch.delenv('WATTNB_DEVICE', raising=False)
    with simulated_nvml([SimulatedGpu(name='NVIDIA H100 80GB HBM3', memory_gb=80)]): yield


def cuda(n, capability=(9, 0), **over):
    "A replacement of torch with `n` CUDA devices. `calls` holds what was synchronised; asking torch for memory would open a context, so it fails the test."
    calls = []
    def mem_get_info(i): raise AssertionError(f'a context was opened on card {i}')
    d = dict(is_available=lambda: n > 0, device_count=lambda: n, mem_get_info=mem_get_info, get_device_properties=lambda i: SimpleNamespace(is_integrated=False),
             synchronize=lambda d=None: calls.append(str(d)), get_device_capability=lambda i: capability, set_device=lambda i: calls.append(f'set {i}'), reset_peak_memory_stats=lambda i: None)
    backends = SimpleNamespace(cuda=SimpleNamespace(enable_cudnn_sdp=lambda on: calls.append(f'cuDNN attention {on}')))
    return SimpleNamespace(cuda=SimpleNamespace(**{**d, **over}), backends=backends, device=torch.device, calls=calls, __version__='2.13.0', version=SimpleNamespace(cuda='13.0' if n else None))


def placed(config, free, context=32768, plain=True, attention='sdpa', batch_size=None, free_of=None):
    "A `LocalModel` on a card with so much free memory, without weights."
    m = LocalModel.__new__(LocalModel)
    m.latency_mode, m.batch_size, m.batch_tokens, m.context, m._plain = False, batch_size, None, context, plain
    m.info, m.device, m._devices = dict(effective_dtype='bfloat16', attention=attention), torch.device('cuda:0'), [torch.device('cuda:0')]
    m.model, m.torch = SimpleNamespace(config=config), cuda(1)
    if free is not None: m._free_bytes = lambda: free
    return m


# --- one table ---------------------------------------------------------------------------------------------------------

def test_bits_per_parameter_have_one_table():
    "The bytes of a precision, requested or loaded, are the same everywhere, scales included."
    assert bytes_per_parameter('4bit') == bytes_per_parameter('nf4') == .5625 and bytes_per_parameter('native mxfp4') == .53125 and bytes_per_parameter('auto') is None
    assert all(nominal_bits(k) <= v < nominal_bits(k) + 1.4 for k, v in BITS_PER_PARAMETER.items()) # scales, and wider layers of GGUF
    from wattnb.llm import requirements
    assert requirements.bytes_per_parameter is bytes_per_parameter and not hasattr(requirements, '_BYTES') and not hasattr(loading, '_BYTES')


# --- quantised, or so in name only -----------------------------------------------------------------------------------------

@pytest.mark.parametrize('precision', ['4bit', '8bit'])
@pytest.mark.parametrize('kind', MIXTURES)
def test_a_mixture_of_experts_is_not_quantised_in_name_only(tmp_path, tokenizer, kind, precision):
    "bitsandbytes leaves experts at 16 bit, which transformers 5 keeps as three-dimensional parameters: refused from the config alone, in one line that names what works; planning refuses it alike."
    entry = make(tmp_path, tokenizer, kind, **GRANITE_H if kind == 'granitemoehybrid' else {})
    with pytest.raises(WorkError, match='in name only') as planned: check_provider(entry, precision)
    assert fits(entry, precision, dict(gpu_gb=[80.], ram_gb=100.)) == 'no' and fits(entry, 'bf16', dict(gpu_gb=[80.], ram_gb=100.)) == 'GPU'
    (tmp_path/'model.safetensors').unlink() # it is refused before any weights are read
    with pytest.raises(WorkError, match=rf'{entry.key} at {precision} would be {precision} in name only: bitsandbytes quantises \d+ % .*--precision bf16.*vLLM.*openai') as e: load_local(entry, precision, device='cpu')
    assert '\n' not in str(e.value) + str(planned.value)


def test_a_mixture_of_the_hub_is_refused_before_it_is_fetched(tmp_path, tokenizer):
    "Its config is enough: one that the registry does not know either."
    make(tmp_path/'made', tokenizer, 'qwen3_moe')
    snapshot = tmp_path/'home/hub/models--org--mixture/snapshots'/('a' * 40)
    snapshot.mkdir(parents=True); (snapshot.parent.parent/'refs').mkdir()
    (snapshot.parent.parent/'refs/main').write_text('a' * 40)
    (snapshot/'config.json').write_text((tmp_path/'made/config.json').read_text())
    code = "from wattnb.llm.protocol import open_model\nfrom wattnb.core.workspace import WorkError\ntry: open_model('hf:org/mixture', precision='4bit', device='cpu')\nexcept WorkError as e: print(e)"
    env = {**{k: v for k, v in os.environ.items() if not k.startswith(('HF_', 'TRANSFORMERS_'))}, 'HF_HOME': str(tmp_path/'home'), 'HF_HUB_OFFLINE': '1'}
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env)
    assert p.stdout.startswith('mixture at 4bit would be 4bit in name only'), p.stdout + p.stderr[-1500:]


def test_planning_knows_what_a_precision_is_worth(tmp_path, monkeypatch):
    "The plan of a run and of a benchmark refuse a mixture at 4 bit before anything is fetched, and state what 4 bit costs where bf16 fits."
    from conftest import words_workspace
    from wattnb.benchmark.plan import BenchmarkSettings, plan_benchmark
    from wattnb.experiment.settings import RunSettings
    from wattnb.experiment.plan import plan_run
    ws = words_workspace(tmp_path)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    with pytest.raises(WorkError, match='olmoe-1b7b at 4bit would be 4bit in name only'): plan_run(RunSettings(model='olmoe-1b7b', preset='words'), ws)
    (r,) = plan_benchmark(BenchmarkSettings(models=('olmoe-1b7b',), preset='words'), ws)
    assert r.state == 'skip' and 'in name only' in r.reason
    with simulated_nvml([SimulatedGpu(name='NVIDIA H100 80GB HBM3', memory_gb=80)]):
        said = plan_run(RunSettings(model='qwen7b', preset='words'), ws).table.to_text()
        assert 'bf16 fits this GPU' in said and 'bf16 fits' not in plan_run(RunSettings(model='qwen7b', precision='bf16', preset='words'), ws).table.to_text()


@pytest.mark.parametrize('precision, bits', [('4bit', 4), ('8bit', 8), ('bf16', None), ('fp32', None)])
def test_what_is_quantised_is_counted(tmp_path, tokenizer, precision, bits):
    "From the types of the parameters, without embeddings and output layer; the bytes of the weights are those that the tensors' list promised."
    pytest.importorskip('bitsandbytes')
    entry = make(tmp_path, tokenizer, 'qwen2', hidden_size=128, intermediate_size=256, tie_word_embeddings=False)
    plan = plan_checkpoint(tmp_path, precision, dtype='bfloat16')
    got = load_local(entry, precision, device='cpu')
    i = got.info
    packed = [p for p in got.model.parameters() if type(p).__name__ in ('Params4bit', 'Int8Params')]
    assert (i['quantized_bits'], i['quantized_share'], bool(packed)) == (bits, pytest.approx(1. if bits else 0., abs=.01), bool(bits))
    assert i['weights_bytes'] == pytest.approx(plan.weights_bytes, rel=.01) == i['planned_weights_bytes'] and i['weights_bytes'] == sum(i['bytes_by_dtype'].values())
    assert i['embedding_parameters'] == 49152 * 128 and i['tied_embeddings'] is False and i['requested_precision'] == precision
    assert i['kv_bytes_per_token'] == 2 * 2 * 2 * 32 * (4 if precision == 'fp32' else 2)
    assert {'torch', 'transformers', 'accelerate', 'bitsandbytes'} <= set(i['versions'])


def test_a_label_of_quantisation_is_not_believed(tmp_path, tokenizer):
    "A config and flags for 4 bit, weights that are not: the effective precision is that of the weights."
    make(tmp_path, tokenizer, 'llama')
    m = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    m.is_loaded_in_4bit, m.config.quantization_config = True, dict(quant_method='bitsandbytes', load_in_4bit=True, bnb_4bit_quant_type='nf4')
    assert effective_precision(m) == ('bfloat16', 'none') and count_weights(m)['quantized_share'] == 0


def test_the_share_counts_numbers_not_bytes():
    "Packed formats of several makers: each parameter counts what it holds."
    class Model(torch.nn.Module):
        def __init__(self, **tensors):
            super().__init__()
            for k, v in tensors.items(): self.register_buffer(k, v)
    ints = lambda *s, t=torch.int32: torch.zeros(*s, dtype=t)
    awq = count_weights(Model(qweight=ints(64, 8), scales=torch.zeros(1, 64, dtype=torch.float16), qzeros=ints(1, 8)))
    assert (awq['quantized_bits'], awq['quantized_share']) == (4, pytest.approx(64 * 64 / (64 * 64 + 64)))
    fp8 = count_weights(Model(weight=torch.zeros(64, 64).to(torch.float8_e4m3fn), other=torch.zeros(64, 64)))
    assert (fp8['quantized_bits'], fp8['quantized_share']) == (8, .5)
    assert count_weights(Model(gate_up_proj_blocks=ints(4, 64, 2, 16, t=torch.uint8)))['quantized_bits'] == 4
    from transformers.integrations.mxfp4 import Mxfp4GptOssExperts
    experts = Mxfp4GptOssExperts(SimpleNamespace(num_local_experts=2, intermediate_size=64, hidden_size=64))
    got = count_weights(experts)
    assert got['quantized_bits'] == 4 and got['quantized_share'] > .95
    for n in ('gate_up_proj', 'down_proj'): delattr(experts, n) # as the kernels of a GPU leave them
    assert count_weights(experts)['quantized_bits'] == 4


def mxfp4_checkpoint(folder, tokenizer):
    "A tiny gpt-oss whose experts are packed as the published ones are: 32 numbers of 4 bit and a byte of scale."
    from safetensors.torch import load_file, save_file
    entry = make(folder, tokenizer, 'gpt_oss', dtype=torch.bfloat16, hidden_size=64, intermediate_size=64, num_attention_heads=4)
    tensors = load_file(folder/'model.safetensors')
    for name in [n for n in tensors if n.endswith(('gate_up_proj', 'down_proj'))]:
        x = tensors.pop(name) # experts x in x out
        e, i, o = x.shape
        tensors[f'{name}_blocks'], tensors[f'{name}_scales'] = torch.randint(0, 255, (e, o, i // 32, 16), dtype=torch.uint8), torch.full((e, o, i // 32), 120, dtype=torch.uint8)
    save_file(tensors, folder/'model.safetensors', metadata=dict(format='pt'))
    config = json.loads((folder/'config.json').read_text())
    config['quantization_config'] = dict(quant_method='mxfp4', modules_to_not_convert=['model.layers.*.self_attn', 'model.layers.*.mlp.router', 'model.embed_tokens', 'lm_head'])
    (folder/'config.json').write_text(json.dumps(config))
    return entry


def test_mxfp4_that_is_unpacked_is_planned_and_recorded_so(tmp_path, tokenizer, caplog):
    "Without its kernels (here: on a CPU) gpt-oss becomes bfloat16: planned at that size, reported, and recorded as bfloat16; as 4 bit it is refused."
    entry = mxfp4_checkpoint(tmp_path, tokenizer)
    plan = plan_checkpoint(tmp_path, 'auto', on_gpu=False)
    packed = weight_bytes(checkpoint_tensors(tmp_path), 'auto', native='mxfp4')
    assert plan.weights_bytes > packed and 'are unpacked, because a CPU' in plan.notes[0]
    with caplog.at_level('WARNING', 'wattnb'): got = load_local(entry, 'auto', device='cpu')
    per = {'float32': 2, 'bfloat16': 1}[got.info['effective_dtype']]
    assert got.info['quantization'] == 'none' and got.info['quantized_share'] == 0 and got.info['weights_bytes'] == pytest.approx(plan.weights_bytes * per, rel=.02)
    assert 'are unpacked' in caplog.text and got.info['notes'] == list(plan.notes)
    asked = load_local(entry, 'bf16', device='cpu')
    assert (asked.info['effective_dtype'], asked.info['quantization']) == ('bfloat16', 'none') and asked.info['weights_bytes'] == pytest.approx(asked.info['planned_weights_bytes'], rel=.02)
    with pytest.raises(WorkError, match='at 4bit: its MXFP4 weights are unpacked, because .*--precision bf16'): load_local(entry, '4bit', device='cpu')


# --- memory ----------------------------------------------------------------------------------------------------------------

def test_weights_at_4_bit_keep_their_embeddings_at_16():
    "Arithmetic of published shapes, GB: half a byte for each parameter would be wrong by 26 to 160 %."
    wanted = {'qwen7b': 5.85, 'llama3-8b': 6.03, 'gemma2-2b': 2.32, 'qwen0.5b': .47, 'gemma3-270m': .39}
    assert {k: weights_gb(REG[k], '4bit') for k in wanted} == {k: pytest.approx(v, rel=.02) for k, v in wanted.items()}


def test_mixtures_are_planned_at_16_bit_and_native_formats_at_their_own():
    "Published sizes: experts count 2 bytes with bitsandbytes; gpt-oss keeps 4 bit of its own and fits the card that it was made for."
    wanted = {'qwen3-30b-a3b': 60, 'mixtral-8x7b': 92, 'olmoe-1b7b': 13.5, 'qwen3-next-80b-a3b': 157}
    assert {k: weights_gb(REG[k], '4bit') for k in wanted} == {k: pytest.approx(v, rel=.03) for k, v in wanted.items()}
    for k in wanted:
        with pytest.raises(WorkError, match='in name only'): check_precision(REG[k], '4bit')
    h100 = dict(gpu_gb=[85.9], ram_gb=128.)
    assert fits(REG['gpt-oss-120b'], machine=h100) == 'GPU' and weights_gb(REG['gpt-oss-20b']) == pytest.approx(13.7, abs=.2) and weights_gb(REG['gpt-oss-20b'], 'bf16') > 40
    assert fits(REG['qwen3-30b-a3b'], 'bf16', dict(gpu_gb=[48.], ram_gb=32.)) == 'no' == fits(REG['mixtral-8x7b'], '4bit', dict(gpu_gb=[48.], ram_gb=32.))


@pytest.mark.parametrize('line, words', [('params_b = 7\nembedding_b = 4\nexperts_b = 5', 'parts of params_b'), ('params_b = 7\nnative = "int3"', "native must be one of .*not 'int3'"), ('params_b = 7\nembedding_b = -1', 'must not be -1')])
def test_sizes_of_an_entry_must_add_up(tmp_path, line, words):
    (tmp_path/'m.toml').write_text(f'[model.m]\nprovider = "hf"\nid = "me/m"\n{line}\n')
    with pytest.raises(UserError, match=words): REG.find(str(tmp_path/'m.toml'))


def test_every_shipped_model_can_be_planned():
    for e in REG.values():
        if not e.local: continue
        four, eight, half, full = (weights_gb(e, p) for p in ('4bit', '8bit', 'bf16', 'fp32'))
        assert 0 < four <= eight <= half < full and e.embedding_b and e.embedding_b + (e.experts_b or 0) < e.params_b, e.key
        if e.active_b: assert e.experts_b, e.key


def test_the_cost_of_4_bit_is_reported_where_bf16_fits():
    assert 'bf16 fits this GPU' in precision_advice(REG['qwen7b'], machine=dict(gpu_gb=[80.], ram_gb=1.)) and not precision_advice(REG['qwen7b'], machine=dict(gpu_gb=[12.], ram_gb=1.))
    assert not precision_advice(REG['qwen7b'], 'bf16', dict(gpu_gb=[80.], ram_gb=1.)) and 'recommended' in ' '.join(REG.table(dict(gpu_gb=[80.], ram_gb=1.)).notes)


def test_a_folder_is_planned_from_its_headers(tmp_path):
    "Names and shapes are at the beginning of a safetensors file, so a plan needs no weights: a folder that the registry does not know has a size and fits, or not."
    tensors = {'model.embed_tokens.weight': (1000, 64), 'lm_head.weight': (1000, 64), 'model.layers.0.mlp.up_proj.weight': (256, 64), 'model.layers.0.input_layernorm.weight': (64,)}
    for i, part in enumerate(({k: tensors[k] for k in list(tensors)[:2]}, {k: tensors[k] for k in list(tensors)[2:]})):
        head = json.dumps({k: dict(dtype='BF16', shape=s, data_offsets=[0, 2 * (s[0] * (s[1] if len(s) > 1 else 1))]) for k, s in part.items()}).encode()
        (tmp_path/f'model-{i}.safetensors').write_bytes(len(head).to_bytes(8, 'little') + head)
    (tmp_path/'model.safetensors.index.json').write_text(json.dumps(dict(weight_map={k: f'model-{int(i > 1)}.safetensors' for i, k in enumerate(tensors)})))
    (tmp_path/'consolidated.safetensors').write_bytes(b'not of this checkpoint')
    (tmp_path/'config.json').write_text(json.dumps(dict(QWEN7B, num_hidden_layers=1)))
    assert [t.name for t in checkpoint_tensors(tmp_path)] == list(tensors)
    plan = plan_checkpoint(tmp_path, '4bit')
    assert plan.weights_bytes == 2 * 128_000 + 256 * 64 * .5625 + 128
    entry = REG.find(f'hf:{tmp_path}')
    assert weights_gb(entry, 'bf16') == pytest.approx(2 * (128_000 + 256 * 64 + 64) / 1e9) and fits(entry, 'bf16', dict(gpu_gb=[80.], ram_gb=8.)) == 'GPU'
    (tmp_path/'model-0.safetensors').write_bytes(b'\xff' * 40); (tmp_path/'model-1.safetensors').write_bytes(b'')
    assert checkpoint_tensors(tmp_path) == []


def test_need_is_no_property_of_the_card(tmp_path, tokenizer):
    "Weights, keys and values per token, load peak and steady peak (of one batch of fixed size) are the same whatever batch is allowed."
    entry = make(tmp_path, tokenizer, 'llama')
    keys = ('weights_bytes', 'kv_bytes_per_token', 'load_peak_bytes', 'steady_peak_bytes')
    got = []
    for size in (1, 32):
        with LocalModel(entry, device='cpu', batch_size=size, batch_tokens=600 * size) as m: got.append({k: m.info[k] for k in keys})
    assert got[0] == got[1] and all(v > 0 for v in got[0].values()) and got[0]['steady_peak_bytes'] > got[0]['weights_bytes'] + 8192 * got[0]['kv_bytes_per_token']


def test_a_batch_is_as_large_as_keys_and_values_allow():
    "Qwen2.5-7B's shape with 62 GB free: activations are needed for one chunk of the prefill, not for every token."
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(**QWEN7B))
    assert kv_bytes_per_token(config) == 57_344
    rows = lambda m, prompt, reply: sequences_that_fit(prompt, reply, *reversed(m._batch_limits()))
    m = placed(config, 62 * GB)
    assert (rows(m, 2000, 512), rows(m, 2000, 8704)) == (128, 57)
    assert m._batch_limits()[1] * 57_344 + work_bytes(config, 2, 8192, 4096, 128) <= .6 * 62 * GB # and it fits
    assert rows(placed(config, 62 * GB, plain=False), 2000, 512) < 70 # caches of transformers' own are read whole
    assert placed(config, 12 * GB, attention='eager')._batch_limits()[1] < placed(config, 12 * GB)._batch_limits()[1] # its scores are work space, too


def test_layers_without_keys_take_none():
    c = SimpleNamespace(**QWEN7B, layer_types=['linear_attention', 'linear_attention', 'linear_attention', 'full_attention'] * 7)
    assert kv_bytes_per_token(c) == 57_344 // 4


def test_prompts_are_read_in_chunks(tmp_path, tokenizer, monkeypatch):
    "No pass reads more tokens than a chunk has, and the replies are those of prompts that are read whole."
    entry, sizes = make(tmp_path, tokenizer, 'llama'), []
    real = LocalModel._forward
    def watch(self, ids, *a): sizes.append(ids.numel()); return real(self, ids, *a)
    with LocalModel(entry, device='cpu') as m: whole = m.complete(ASKED)
    monkeypatch.setattr(LocalModel, '_forward', watch); monkeypatch.setattr(decode, 'CHUNK_TOKENS', 60)
    for way in (dict(), dict(prefix=False)):
        sizes.clear()
        with LocalModel(entry, device='cpu', **way) as m: got = m.complete(ASKED)
        assert [r.text for r in got] == [r.text for r in whole]
        assert way.get('prefix', True) or max(sizes) <= 60 # a shared prefix is one prompt, read once


def test_positions_that_depend_on_the_longest_text_are_read_whole(tmp_path, tokenizer, monkeypatch):
    "A longrope model takes other factors from some length on: keys of one prompt must not be made with both."
    entry = make(tmp_path, tokenizer, 'phi3', max_position_embeddings=512, original_max_position_embeddings=32, initializer_range=.2,
                 rope_parameters=dict(rope_type='longrope', rope_theta=1e4, short_factor=[1.] * 4, long_factor=[32.] * 4, original_max_position_embeddings=32))
    sure = lambda m: [p for r in m.complete(ASKED) for _, p in r.logprobs]
    with LocalModel(entry, device='cpu', prefix=False) as m: whole = sure(m)
    monkeypatch.setattr(decode, 'CHUNK_TOKENS', 60)
    with LocalModel(entry, device='cpu', prefix=False) as m: assert sure(m) == pytest.approx(whole, abs=1e-4)
    monkeypatch.setattr(LocalModel, '_in_chunks', True)
    with LocalModel(entry, device='cpu', prefix=False) as m: assert sure(m) != pytest.approx(whole, abs=1e-4) # in chunks they would differ


# --- the device -------------------------------------------------------------------------------------------------------------

@no_cuda
def test_a_gpu_that_torch_cannot_use_is_an_error(tmp_path, tokenizer, h100, monkeypatch):
    "The driver shows an H100 and torch is a build for the CPU: a run would be slow and be charged the idle GPU. Each way to ask for the CPU is honoured."
    entry = make(tmp_path, tokenizer, 'llama')
    for device in (None, 'cuda', 'cuda:0'):
        with pytest.raises(UserError, match=r'driver 580.142 shows NVIDIA H100.*torch.version.cuda is None.*WATTNB_DEVICE=cpu') as e: open_model(entry, **(dict(device=device) if device else {}))
        assert '\n' not in str(e.value)
    with open_model(entry, device='cpu') as m: assert m.info['device'] == 'cpu'
    with open_model(replace(entry, options=dict(device='cpu'))) as m: assert m.info['device'] == 'cpu'
    monkeypatch.setenv('WATTNB_DEVICE', 'cpu')
    with open_model(entry) as m: assert m.info['device'] == 'cpu'
    monkeypatch.setenv('WATTNB_DEVICE', 'gpu')
    with pytest.raises(UserError, match="unknown device 'gpu'"): open_model(entry)
    monkeypatch.delenv('WATTNB_DEVICE'); monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    with open_model(entry) as m: assert m.info['device'] == 'cpu'


def test_a_driver_that_is_too_old_is_named(h100):
    old = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False), version=SimpleNamespace(cuda='13.2'), __version__='2.14')
    with pytest.raises(UserError, match='built for CUDA 13.2, and driver 580.142 serves CUDA 13.0 at most: install a build of torch for CUDA 13.0 or earlier'): check_gpus(old, 'm')


def test_free_memory_comes_from_the_driver(monkeypatch):
    "In CUDA's order and choice, without a context on any card; a device without memory of its own counts what the system has free."
    import psutil
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    with simulated_nvml([SimulatedGpu(memory_gb=48, used_gb=40), SimulatedGpu(memory_gb=48, used_gb=2)]):
        assert [round(f / 2**30) for f, _ in loading._gpus(cuda(2))] == [8, 46]
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '1')
        assert [round(f / 2**30) for f, _ in loading._gpus(cuda(1))] == [46]
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    with simulated_nvml([SimulatedGpu(name='NVIDIA GB10', memory_gb=None)]):
        (free, total), = loading._gpus(cuda(1))
        assert total == psutil.virtual_memory().total and free == pytest.approx(psutil.virtual_memory().available, rel=.2)
    with simulated_nvml([], driver=None): # no library: torch is used
        assert loading._gpus(cuda(1, mem_get_info=lambda i: (5, 9))) == [(5, 9)]


def test_unified_memory_has_one_view(monkeypatch):
    "The budget of a batch is cut from the same free memory as the choice of the place: not what cudaMemGetInfo leaves beside the page cache."
    import psutil
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(**QWEN7B))
    monkeypatch.setattr(psutil, 'virtual_memory', lambda: SimpleNamespace(available=100e9, total=128e9))
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    with simulated_nvml([SimulatedGpu(name='NVIDIA GB10', memory_gb=None)]):
        m = placed(config, None)
        assert m._free_bytes() == loading._gpus(m.torch)[0][0] == 100e9 and m._batch_limits() == placed(config, 100e9)._batch_limits()


def test_the_device_that_works_is_waited_for():
    "Not the current one: every device that holds a part of the model, and Apple's too."
    m = LocalModel.__new__(LocalModel)
    m.torch, m._devices = cuda(4), [torch.device('cuda:1'), torch.device('cuda:3')]
    m._sync()
    assert m.torch.calls == ['cuda:1', 'cuda:3']
    waited = []
    m.torch, m._devices = SimpleNamespace(mps=SimpleNamespace(synchronize=lambda: waited.append('mps'))), [torch.device('mps')]
    m._sync()
    assert waited == ['mps']


def test_the_chosen_card_becomes_the_current_one():
    t = cuda(3, (7, 5))
    assert loading._use_devices(t, dict(device_map={'': 2}), False) == (7, 5) and t.calls == ['set 2', 'cuDNN attention False']
    with pytest.raises(UserError, match='no cuda:3 here: torch sees 3 GPUs'): loading._use_devices(cuda(3), dict(device_map={'': 'cuda:3'}), False)
    assert loading._use_devices(cuda(3), dict(device_map={'': 'cuda:1'}), False) == (9, 0) and loading._use_devices(t, dict(device_map={'': 'cpu'}), True) is None
    assert loading._use_devices(cuda(2), dict(device_map='auto', max_memory={0: 1, 1: 1, 'cpu': 0}), False) == (9, 0)


def test_before_ampere_float16_takes_the_place_of_bfloat16():
    "T4 and V100 only emulate bfloat16. A precision requested by name stays."
    for old in ((7, 0), (7, 5)):
        assert [compute_dtype(p, 'bfloat16', old) for p in ('auto', '4bit', '8bit', 'bf16', 'fp32')] == ['float16', 'float16', 'float16', 'bfloat16', 'float32']
    assert [compute_dtype(p, 'bfloat16', (8, 6)) for p in ('auto', '4bit', 'fp16')] == ['bfloat16', 'bfloat16', 'float16'] and compute_dtype('auto', 'float32', (7, 5)) == 'float32'
    assert loading._bitsandbytes('4bit', torch, transformers, 'float16').bnb_4bit_compute_dtype is torch.float16


def test_several_cards_are_one_pipeline_and_say_so():
    place = choose_place(100 * GB, [(79 * GB, 80 * GB), (60 * GB, 80 * GB)], 500 * GB, 'm', 'bf16')
    assert place['device_map'] == 'auto' and place['max_memory']['cpu'] == 0 and set(place['max_memory']) == {0, 1, 'cpu'}
    assert pipeline_words(['cuda:0', 'cuda:1', 'cuda:2']).startswith('3 cards as one pipeline') and pipeline_words(['cuda:0']) is None is pipeline_words(['cpu'])


def test_a_pipeline_holds_what_its_fullest_card_allows(monkeypatch):
    m = placed(SimpleNamespace(get_text_config=lambda: SimpleNamespace(**QWEN7B)), None)
    m.model.hf_device_map = {'model.embed_tokens': 0, **{f'model.layers.{i}': int(i >= 21) for i in range(28)}, 'lm_head': 1}
    m._devices = [torch.device('cuda:0'), torch.device('cuda:1')]
    monkeypatch.setattr(local, '_gpus', lambda t: [(30 * GB, 80 * GB), (60 * GB, 80 * GB)])
    assert m._free_bytes() == pytest.approx(30 * GB / .75) # three quarters of the layers lie on the first


def test_a_misfit_is_one_line_with_a_way_out():
    "What bitsandbytes and accelerate raise when a part would go to the RAM or the disk; no advice to take what was tried."
    e = ModelEntry('m', 'hf_local', 'owner/m')
    for text in ('Some modules are dispatched on the CPU or the disk. Make sure you have enough GPU RAM', 'The current `device_map` had weights offloaded to the disk. Please provide an `offload_folder` for them.'):
        got = explain_load_error(ValueError(text), e, '4bit')
        assert isinstance(got, WorkError) and 'does not fit the GPUs' in str(got) and '--precision' not in str(got) and '\n' not in str(got)
    assert '--precision bf16' in str(explain_load_error(MemoryError(), e, 'fp32'))


def test_the_outlier_threshold_of_int8_is_an_option_and_recorded(tmp_path, tokenizer):
    pytest.importorskip('bitsandbytes')
    entry = make(tmp_path, tokenizer, 'llama', hidden_size=64)
    with LocalModel(entry, precision='8bit', device='cpu', int8_threshold=0.) as m:
        assert m.info['int8_threshold'] == 0. and {x.state.threshold for x in m.model.modules() if type(x).__name__ == 'Linear8bitLt'} == {0.}
    assert load_local(entry, '8bit', device='cpu').info['int8_threshold'] == 6. and 'int8_threshold' not in load_local(entry, 'fp32', device='cpu').info


# --- kinds of models ----------------------------------------------------------------------------------------------------------

VISION = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
TEXT = {**COMMON, 'head_dim': 8}
ROPE = dict(rope_scaling=dict(rope_type='default', type='mrope', mrope_section=[1, 1, 2]))
SEEING = {'mistral3': dict(text_config=dict(model_type='mistral', **TEXT), vision_config=dict(model_type='pixtral', **VISION)),
          'qwen2_5_vl': dict(text_config={**TEXT, **ROPE}, vision_config=dict(depth=1, hidden_size=32, num_heads=2, intermediate_size=64, out_hidden_size=32)),
          'gemma3': dict(text_config=dict(**TEXT, sliding_window=16, query_pre_attn_scalar=8), vision_config=dict(**VISION, vision_use_head=False), mm_tokens_per_image=4),
          'llava': dict(text_config=dict(model_type='llama', **TEXT), vision_config=dict(model_type='clip_vision_model', projection_dim=32, **VISION))}

@pytest.mark.parametrize('kind', SEEING)
def test_models_that_see_answer_text(tmp_path, tokenizer, kind):
    "Checkpoints of class ImageTextToText: the same text in a batch, alone, and from transformers' own generate."
    from wattnb.llm.chat_template import encode_prompt, render_prompt
    torch.manual_seed(7)
    model = transformers.AutoModelForImageTextToText.from_config(transformers.AutoConfig.for_model(kind, **SEEING[kind]))
    model.save_pretrained(tmp_path); tokenizer.save_pretrained(tmp_path)
    entry = ModelEntry('seeing', 'hf_local', str(tmp_path), precision='fp32', max_new_tokens=8)
    with LocalModel(entry, device='cpu') as m: together, name = m.complete(ASKED[:3]), type(m.model).__name__
    with LocalModel(entry, device='cpu', latency_mode=True) as m: alone = m.complete(ASKED[:3])
    reference = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    assert 'ForConditionalGeneration' in name and all(r.ok for r in together) and [r.text for r in together] == [r.text for r in alone]
    for req, got in zip(ASKED, alone):
        ids = torch.tensor([encode_prompt(tokenizer, entry, render_prompt(tokenizer, entry, req))])
        out = reference.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=2)[0, ids.shape[1]:]
        assert tokenizer.decode([t for t in out.tolist() if t != 2], skip_special_tokens=True).strip() == got.text


@pytest.mark.parametrize('kind, config, words', [('t5', dict(d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=2), 'encoder-decoder model'), ('bart', dict(d_model=32), 'encoder-decoder model'),
                                                ('bert', dict(architectures=['BertForMaskedLM']), 'writes no text'), ('vit', {}, 'writes no text')])
def test_models_that_do_not_write_are_refused_in_a_line(tmp_path, tokenizer, kind, config, words):
    transformers.AutoConfig.for_model(kind, **config).save_pretrained(tmp_path); tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=words) as e: load_local(ModelEntry('m', 'hf_local', str(tmp_path)), 'fp32', device='cpu')
    assert '\n' not in str(e.value)


# --- the commands ---------------------------------------------------------------------------------------------------------------

def test_models_counts_what_it_shows(capsys):
    from wattnb.cli.command import main
    for part, n in (('qwen7b', 1), ('olmo', 4)):
        assert main(['models', part]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f'{n} model') and sum(l.startswith(part) for l in text.splitlines()) == n
    assert 'need --precision bf16: olmoe-1b7b.' in text


def test_doctor_lists_the_libraries_of_local_models(h100, capsys):
    "And a GPU that torch cannot use."
    from wattnb.cli.command import main
    assert main(['doctor', '--json']) == 0
    got = json.loads(capsys.readouterr().out)
    assert {'torch', 'transformers', 'bitsandbytes'} <= set(got['local']['versions']) and {'meters', 'extras', 'models_cached', 'keys'} <= set(got)
    if torch.version.cuda is None: assert got['local']['gpu_problem'] == 'the driver shows NVIDIA H100 80GB HBM3, and this torch is built without CUDA'


# --- versions ---------------------------------------------------------------------------------------------------------------

def test_floors_are_versions_that_work():
    "What settings.ini allows, and both ends of it in CI's matrix."
    root = Path(__file__).resolve().parent.parent
    ini, ci = (root/'settings.ini').read_text(), (root/'.github/workflows/test.yml').read_text()
    floor = lambda name: re.search(rf'\b{name}(?:\[\w+\])?>=([\d.]+)', ini)[1]
    assert {n: floor(n) for n in ('transformers', 'accelerate', 'bitsandbytes', 'pypdf')} == dict(transformers='5.17', accelerate='1.1', bitsandbytes='0.49', pypdf='6.20')
    assert re.search(r'transformers>=5\.17,<6', ini) and 'floor' in ci and 'newest' in ci
