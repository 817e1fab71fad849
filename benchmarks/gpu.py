"""One CUDA GPU tried: meters, loading, decode speed, memory, shortages, precisions. Random weights of real shapes, no network.

    python benchmarks/gpu.py --out gpu.json     # at most 8 minutes on one card (--seconds)
    python benchmarks/gpu.py --tiny             # the same logic on a CPU: tiny shapes, a simulated driver and shortage
    python benchmarks/gpu.py --only machine,meters,speed
    python benchmarks/gpu.py --shape llama3-8b  # another local model of the registry, by its shape (wattnb/shapes.toml)

Writes `facts` of each part and `checks` (name, ok: true, false or null where it cannot be told, what was seen, what was wanted) after each
part, so that a stopped process keeps what was measured; a part that takes too long is stopped and named under `skipped`. Prints the table for the page "Compare two machines". Exit status 1 if a check
failed, 2 if a part broke. Needs torch, transformers and accelerate; bitsandbytes for `precisions` and `experts`."""
import argparse, contextlib, gc, importlib.metadata, importlib.util, json, os, random, signal, statistics, subprocess, sys, tempfile, time, traceback
from pathlib import Path

os.environ |= dict(TOKENIZERS_PARALLELISM='false', HF_HUB_OFFLINE='1', WATTNB_PROGRESS='0')
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import torch, transformers
from wattnb.core.hardware import nvml, visible_gpus
from wattnb.core.workspace import WorkError
from wattnb.llm import local
from wattnb.llm.memory import kv_bytes_per_token, plan_checkpoint
from wattnb.llm.loading import Loaded, load_local
from wattnb.llm.protocol import Request
from wattnb.llm.random_weights import class_of, random_model, shape_config
from wattnb.llm.registry import ModelEntry, load_registry
from wattnb.llm.shapes import shape_of
from wattnb.telemetry.power_meters import NvmlCounter, NvmlPower
from wattnb.telemetry.session import Session

transformers.logging.set_verbosity_error(); transformers.logging.disable_progress_bar()
# of the registry (wattnb/shapes.toml), and two that are small enough for a CPU
REGISTRY = load_registry()
TINY = dict(model_type='qwen2', hidden_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, intermediate_size=128, vocab_size=1024,
            max_position_embeddings=32768)
SHAPES = {'tiny': TINY, 'tiny-small': TINY | dict(num_hidden_layers=3)}
rounded = lambda x, n=4: None if x is None else float(f'{x:.{n}g}')


class Bench:
    "Settings, the models of random weights, and what was found."
    def __init__(self, a):
        self.tiny, self.seconds, self.out, self.t0 = a.tiny, a.seconds, a.out, time.monotonic()
        self.cuda = torch.cuda.is_available() and not a.tiny
        self.device, self.dtype = torch.device('cuda:0' if self.cuda else 'cpu'), torch.bfloat16 if self.cuda else torch.float32
        self.big, self.small = a.shape or ('tiny' if a.tiny else 'qwen7b'), 'tiny-small' if a.tiny else 'qwen0.5b'
        self.prompt, self.reply = (120, 12) if a.tiny else (1500, 96)
        self.rows = [1, 4, 8] if a.tiny else [1, 8, 32, 64]
        self.text = '\n'.join(p.read_text('utf-8') for p in [ROOT/'README.md', *sorted((ROOT/'wattnb/llm').glob('*.py'))])[:200_000]
        self.tokenizer, self.model = self._tokenizer(), None
        self.found = dict(tiny=a.tiny, started=time.strftime('%F %T'), shape=self.big, facts={}, checks=[], broke={}, skipped={}, seconds={})

    def left(self): return self.seconds - (time.monotonic() - self.t0)
    def check(self, name, ok, seen=None, wanted=''):
        self.found['checks'].append(dict(name=name, ok=None if ok is None else bool(ok), seen=seen, wanted=wanted))
    def sync(self): torch.cuda.synchronize() if self.cuda else None
    def free(self):
        gc.collect()
        if self.cuda: torch.cuda.empty_cache()
    def save(self):
        self.found['total_s'] = round(time.monotonic() - self.t0, 1)
        if self.out: Path(self.out).write_text(json.dumps(self.found, indent=1, default=str))

    def _tokenizer(self):
        "A byte-level BPE of the project's own texts, with the marks of a chat template."
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
        t = Tokenizer(models.BPE())
        t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        marks = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', '<think>', '</think>']
        t.train_from_iterator([self.text], trainers.BpeTrainer(vocab_size=900, special_tokens=marks, show_progress=False,
                                                               initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=t, eos_token='<|im_end|>', pad_token='<|endoftext|>',
            chat_template='{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}'
                          '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}')

    def config(self, shape, **more):
        "The config of a shape, untied so that embeddings can be wide, with the tokens of this tokenizer."
        sizes = SHAPES[shape] if shape in SHAPES else shape_of(REGISTRY[shape])
        return shape_config({**sizes, **dict(tie_word_embeddings=False, eos_token_id=self.tokenizer.eos_token_id, bos_token_id=None,
                                             pad_token_id=self.tokenizer.pad_token_id), **more})

    def random_model(self, config, dtype=None):
        return random_model(config, str(dtype or self.dtype).removeprefix('torch.'), self.device)

    def big_model(self):
        if self.model is None: self.model = self.random_model(self.config(self.big))
        return self.model

    def local(self, model, precision='auto', **options):
        "A `LocalModel` around a model that is in memory already: all is wattnb's own but the loading."
        dtype = str(next(model.parameters()).dtype).removeprefix('torch.')
        info = dict(provider='hf_local', id='random', source='folder', effective_dtype=dtype, quantization='none', determinism='',
                    attention=model.config._attn_implementation, device=str(self.device))
        loaded = Loaded(model, self.tokenizer, info)
        class InMemory(local.LocalModel):
            def _load(self): return loaded
        return InMemory(ModelEntry('random', 'hf_local', 'random', precision=precision, context=32768), precision, **options)

    def folder(self, model):
        path = Path(tempfile.mkdtemp(prefix='wattnb-gpu-'))/'model'
        model.save_pretrained(path); self.tokenizer.save_pretrained(path)
        return path

    def requests(self, n, tokens=None, reply=None, spread=.25):
        "Prompts that begin alike, of uneven length around `tokens`."
        rng, tokens, reply = random.Random(0), tokens or self.prompt, reply or self.reply
        ids = self.tokenizer(self.text, add_special_tokens=False)['input_ids']
        out, system = [], self.tokenizer.decode(ids[:tokens // 5])
        for i in range(n):
            k, at = max(8, int(tokens * .8 * rng.uniform(1 - spread, 1 + spread)) - 20), rng.randrange(len(ids) // 2)
            out.append(Request(f'q{i}', system, self.tokenizer.decode(ids[at:at + k]), max_tokens=max(1, int(reply * (rng.uniform(.5, 1) if spread else 1)))))
        return out

    def measured(self, model, requests, meter=True) -> tuple[list, dict]:
        "Replies, and what they took: seconds and tokens by phase, ms per decode step, memory, energy."
        phases, steps, real = [], [], model._forward
        def forward(ids, *rest):
            steps.append((time.perf_counter(), ids.shape[1]))
            return real(ids, *rest)
        if self.cuda: torch.cuda.reset_peak_memory_stats(); self.sync()
        with (Session() if meter else contextlib.nullcontext()) as s:
            def on_phase(name, t0, t1, ids, tokens):
                phases.append((name, t1 - t0, sum(tokens)))
                if s: s.share(name, t0, t1, dict(zip(ids, tokens)))
            model.on_phase, model._forward = on_phase, forward
            t = time.perf_counter(); got = model.complete(requests); self.sync(); took = time.perf_counter() - t
            report = s.report() if s else None
            energy = report and report['energy']
        model.on_phase, model._forward = None, real
        f = dict(rows=max(r.batch_size for r in got), seconds=rounded(took), errors=[r.error for r in got if r.error][:2])
        for k in ('prefill', 'decode'):
            seconds, tokens = sum(t for n, t, _ in phases if n == k), sum(x for n, _, x in phases if n == k)
            f[f'{k}_tokens_per_s'] = rounded(tokens / seconds) if seconds else None
            wh = energy and (energy['by_phase'].get(k) or {}).get('wh')
            f[f'joules_per_{k}_token'] = rounded(wh * 3600 / tokens) if wh is not None and tokens else None
        decode = [b - a for (a, u), (b, v) in zip(steps, steps[1:]) if u == v == 1]
        f['ms_per_step'] = rounded(1e3 * statistics.median(decode)) if decode else None
        if self.cuda and report: # the session has read and reset torch's own statistics
            f['peak_gb'] = rounded(max(d['allocated_gb'] or 0 for k in ('load', 'steady') for d in report['memory'][k]['by_device'].values()) * 1.0737)
        if energy: f |= dict(method=energy['method'], sampler=energy['sampler'], warnings=energy['warnings'], reasons=energy['reasons'])
        return got, f


# ---- the parts ----------------------------------------------------------------------------------------------------------------------
def machine(b):
    "The card as torch and as NVML see it, and how long the calls of NVML take."
    names = ('torch', 'transformers', 'accelerate', 'bitsandbytes', 'tokenizers', 'nvidia-ml-py', 'psutil', 'numpy')
    found = {}
    for n in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError): found[n] = importlib.metadata.version(n)
    nv, gpus = nvml(), visible_gpus()
    f = dict(python=sys.version.split()[0], versions=found, gpus=[g.to_json() for g in gpus], reason=nv.reason, calls={})
    for name, args in dict(DeviceGetTotalEnergyConsumption=(), DeviceGetPowerUsage=(), DeviceGetFieldValues=([186],), DeviceGetMemoryInfo=(),
                           DeviceGetUtilizationRates=(), DeviceGetTemperature=(0,), DeviceGetClockInfo=(1,), DeviceGetComputeRunningProcesses=()).items():
        took, why = [], ''
        for _ in range(30 if gpus else 0):
            t = time.perf_counter(); _, why = nv.ask(name, gpus[0].handle, *args); took.append(time.perf_counter() - t)
        if took: f['calls'][name] = dict(microseconds=rounded(1e6 * statistics.median(took), 3), longest=rounded(1e6 * max(took), 3), why=why)
    if b.cuda:
        p = torch.cuda.get_device_properties(0)
        f['torch'] = dict(name=p.name, cuda=torch.version.cuda, capability=torch.cuda.get_device_capability(), total_gb=rounded(p.total_memory / 1e9))
        b.check('NVML and torch mean the same card', gpus and gpus[0].uuid.endswith(str(p.uuid)), [gpus and gpus[0].uuid, str(p.uuid)])
    b.check('NVML shows a GPU', bool(gpus), len(gpus), '>= 1')
    return f


def meters(b):
    "The energy counter against polled power: at rest, under matrix products, under copies."
    gpus = visible_gpus()[:1]
    if not gpus: return dict(skipped='no GPU')
    x = torch.randn(*(2 * [8192 if b.cuda else 256]), device=b.device, dtype=b.dtype)
    work = dict(idle=lambda: time.sleep(.05), products=lambda: [x @ x for _ in range(8)], copies=lambda: [x.clone() for _ in range(40)])
    f = {}
    for kind, seconds in dict(idle=4, products=8, copies=6).items():
        end = time.monotonic() + (1.5 if b.tiny else seconds)
        with Session() as s:
            with s.stage('decode', ids=['x']):
                while time.monotonic() < end: work[kind](); b.sync()
            r, traces = s.report(), dict(s.sampler.traces)
        e, d = r['energy'], next(iter(r['energy']['by_device'].values()))
        counter = next((t for (name, _), t in traces.items() if name == NvmlCounter.name), None)
        gaps = [b - a for a, b in zip(counter.at, counter.at[1:])] if counter is not None else []
        f[kind] = dict(watts=rounded((e['gpu_wh'] or 0) * 3600 / r['seconds']), method=e['method'], counter_j=rounded((d.get('counter_wh') or 0) * 3600) or None,
                       polled_j=rounded((d.get('polled_wh') or 0) * 3600) or None, counter_moves_ms=rounded(1e3 * statistics.median(gaps)) if gaps else None,
                       instant_power=NvmlPower(gpus).instant, sampler=e['sampler'])
    c, p = f['products']['counter_j'], f['products']['polled_j']
    b.check('counter and polled power agree under load', abs(p / c - 1) < .1 if c and p else None, [c, p], 'within 10 %')
    moves = f['products']['counter_moves_ms']
    b.check('the counter is seen to move ten times a second', moves <= 110 if moves else None, moves, '<= 110 ms')
    b.check('load draws more than idle', f['products']['watts'] > 1.3 * f['idle']['watts'] if b.cuda else None, [f['idle']['watts'], f['products']['watts']])
    return f


def loading(b):
    "`load_local` from a folder, at full and half precision: seconds, the peak while loading, and the memory that was predicted."
    path, f = b.folder(b.random_model(b.config(b.small))), {}
    for precision in ('bf16', 'fp32') if b.cuda else ('fp32',): f[precision] = _loaded(b, path, precision)
    return f


def _loaded(b, path, precision) -> dict:
    b.free()
    if b.cuda: torch.cuda.reset_peak_memory_stats()
    base = torch.cuda.memory_allocated() if b.cuda else 0
    l = load_local(ModelEntry('m', 'hf_local', str(path), precision=precision, context=32768), precision, device=None if b.cuda else 'cpu')
    need = plan_checkpoint(path, precision, l.model.config).weights_bytes
    f = dict(seconds=l.info['load_seconds'], dtype=l.info['effective_dtype'], quantization=l.info['quantization'], predicted_gb=rounded(need / 1e9))
    if b.cuda:
        f |= dict(allocated_gb=rounded((torch.cuda.memory_allocated() - base) / 1e9), peak_gb=rounded((torch.cuda.max_memory_allocated() - base) / 1e9))
        b.check(f'{precision}: the memory of the weights is predicted', abs(f['predicted_gb'] / f['allocated_gb'] - 1) < .15, [f['predicted_gb'], f['allocated_gb']], 'within 15 %')
        if precision in ('bf16', 'fp32'): b.check(f'{precision}: loading peaks near what stays', f['peak_gb'] < 1.25 * f['allocated_gb'], [f['peak_gb'], f['allocated_gb']], '< 1.25 x')
    return f


def _same(ref, got) -> int:
    of = lambda r: (r.error, r.completion_tokens, r.finish_reason, r.text)
    return sum(of(x) == of(y) for x, y in zip(ref, got))


def equality(b):
    "In float32 a reply does not depend on the batch that it is in."
    if b.cuda: torch.backends.cuda.matmul.allow_tf32 = False
    model, requests, f = b.random_model(b.config(b.small), torch.float32), b.requests(12, b.prompt // 3, 24), {}
    ref = b.local(model, 'fp32', latency_mode=True).complete(requests)
    for name, options in dict(batch={}, batch_of_3=dict(batch_size=3), no_prefix=dict(prefix=False)).items():
        f[name] = _same(ref, b.local(model, 'fp32', **options).complete(requests))
        b.check(f'fp32: {name} = alone', f[name] == len(ref), f'{f[name]} of {len(ref)}', 'all')
    return f


def speed(b):
    "One at a time against batches: tokens/s, ms per step, joules per token, memory, and the share of what the memory's speed allows."
    model, c = b.big_model(), b.big_model().config
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    per, bandwidth = kv_bytes_per_token(c, 2 if b.cuda else 4), None
    if b.cuda: # by copies; bytes read and written
        x = torch.empty(2 ** 31, dtype=torch.uint8, device=b.device); y = torch.empty_like(x); y.copy_(x); b.sync()
        t = time.perf_counter(); [y.copy_(x) for _ in range(10)]; b.sync()
        bandwidth = 20 * x.numel() / (time.perf_counter() - t); del x, y; b.free()
    lm = b.local(model)
    f = dict(weights_gb=rounded(weights / 1e9), kv_bytes_per_token=per, bandwidth_gb_s=bandwidth and rounded(bandwidth / 1e9), rows_by_memory=lm._most, tokens_by_memory=lm._budget, runs={})
    lm.complete(b.requests(2, 64, 4)) # warm
    for n in b.rows:
        if b.left() < 90 and n > 1: b.found['skipped'][f'speed {n}'] = 'no time'; continue
        got, g = b.measured(b.local(model, batch_size=n), b.requests(max(n, 2)))
        if b.cuda:
            seen = statistics.mean(r.prompt_tokens for r in got) + b.reply / 2
            g['ideal_ms'] = rounded((weights + g['rows'] * seen * per) / bandwidth * 1e3)
            g['of_bandwidth'] = rounded(g['ideal_ms'] / g['ms_per_step']) if g['ms_per_step'] else None
            extra, plan = g['peak_gb'] - weights / 1e9, g['rows'] * (max(r.prompt_tokens for r in got) + b.reply) * per / 1e9
            b.check(f'batch of {n}: the peak stays within the plan', extra <= max(1.5, 1.1 * plan), [rounded(extra), rounded(plan)], 'GB')
        b.check(f'batch of {n}: all replies', not g['errors'] and len(got) == max(n, 2), g['errors'])
        f['runs'][str(n)] = g; b.free()
    alone, best = f['runs'].get('1'), max(f['runs'].values(), key=lambda r: r['decode_tokens_per_s'] or 0)
    if alone and alone['decode_tokens_per_s']:
        f['gain'] = rounded(best['decode_tokens_per_s'] / alone['decode_tokens_per_s'])
        b.check('a batch decodes at least eight times as fast as one by one', f['gain'] >= 8 if b.cuda else None, f['gain'], '>= 8')
    if b.cuda: b.check('a decode step reaches a quarter of what the memory allows', (best['of_bandwidth'] or 0) >= .25, best['of_bandwidth'], '>= .25')
    return f


def attention(b):
    "A small model in bfloat16, alone: ms per step with and without cuDNN's attention, which plans for every length."
    model, f = b.random_model(b.config(b.small)), {}
    switch = torch.backends.cuda.enable_cudnn_sdp
    for name, on in dict(without=False, with_cudnn=True).items():
        switch(on)
        lm = b.local(model, latency_mode=True); lm.complete(b.requests(1, 64, 4))
        f[name] = b.measured(lm, b.requests(2, b.prompt // 3, b.reply // 2, spread=0), meter=False)[1]['ms_per_step']
    switch(False)
    if b.cuda: b.check("cuDNN's attention is rightly off", f['without'] <= 1.05 * f['with_cudnn'], f, 'not slower')
    return f


def sampler(b):
    "How much slower a decode step gets under the sampler: the same work in turns."
    requests, f = b.requests(b.rows[1], b.prompt // 3, b.reply // 2, spread=0), {True: [], False: []}
    lm = b.local(b.big_model(), batch_size=len(requests)); lm.complete(requests)
    for i in range(2 if b.tiny else 4):
        for meter in (True, False) if i % 2 else (False, True): f[meter].append(b.measured(lm, requests, meter)[1]['ms_per_step'])
    slower = rounded(statistics.median(f[True]) / statistics.median(f[False]) - 1)
    b.check('the sampler slows a step by less than 2 %', slower < .02 if b.cuda else None, slower, '< .02')
    return dict(with_sampler=f[True], without=f[False], slower=slower)


def shortage(b):
    "Too little memory: fewer rows at a time, no reply lost, the same text."
    model, requests, f = b.random_model(b.config(b.small), torch.float32), b.requests(24, b.prompt // 2, 16), {}
    ref = b.local(model, 'fp32', latency_mode=True).complete(requests); b.free()
    for name, calls in dict(batch=(3, 9, 14), prefix=(1,)).items():
        lm = b.local(model, 'fp32', batch_size=24, batch_tokens=10 ** 7)
        if b.cuda and name == 'batch': # room for a third of the batch
            room = torch.cuda.memory_reserved() + 24 * (b.prompt // 2 * 1.3 + 16) * kv_bytes_per_token(model.config, 4) / 3 + 3e8
            torch.cuda.set_per_process_memory_fraction(min(1., room / torch.cuda.get_device_properties(0).total_memory))
        else:
            real, n = lm._forward, [0]
            def short(*x, real=real, n=n, calls=calls):
                n[0] += 1
                if n[0] in calls: raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate (simulated)')
                return real(*x)
            lm._forward = short
        try: same, found = _same(ref, lm.complete(requests)), lm.info['out_of_memory']
        finally:
            if b.cuda: torch.cuda.set_per_process_memory_fraction(1.)
        f[name] = dict(shortages=found, rows_then=lm._most, same=same, of=len(ref))
        b.check(f'{name}: a shortage loses no reply', same == len(ref) and found, f[name], 'all as alone, after at least one shortage')
        del lm; b.free()
    return f


def precisions(b):
    "4 and 8 bit: what is quantised, memory, and tokens/s beside bfloat16 of the same shape."
    if importlib.util.find_spec('bitsandbytes') is None: return dict(skipped='no bitsandbytes')
    model = b.random_model(b.config(b.small)); path, f, requests = b.folder(model), {}, b.requests(8, b.prompt // 3, b.reply // 2, spread=0)
    f['as_is'] = b.measured(b.local(model, batch_size=8), requests)[1]; del model
    for precision in ('4bit', '8bit'):
        f[precision] = _loaded(b, path, precision)
        lm = local.LocalModel(ModelEntry('m', 'hf_local', str(path), precision=precision, context=32768), precision, device=None if b.cuda else 'cpu', batch_size=8)
        f[precision]['run'] = b.measured(lm, requests)[1]
        b.check(f'{precision}: all replies', not f[precision]['run']['errors'], f[precision]['run']['errors'])
        lm.close(); del lm
    return f


def experts(b):
    "A mixture of experts is refused at 4 bit where its experts would stay at 16 bit."
    if importlib.util.find_spec('bitsandbytes') is None: return dict(skipped='no bitsandbytes')
    c = b.config(b.small, model_type='qwen3_moe', num_experts=8, num_experts_per_tok=2, moe_intermediate_size=128 if b.tiny else 512,
                 head_dim=16 if b.tiny else 64, decoder_sparse_step=1, mlp_only_layers=[])
    path = b.folder(b.random_model(c))
    try: said = f"loaded as {load_local(ModelEntry('moe', 'hf_local', str(path), precision='4bit', context=4096), '4bit', device=None if b.cuda else 'cpu').info['quantization']}"
    except WorkError as e: said = str(e)
    b.check('4 bit in name only is refused', 'in name only' in said, said)
    return dict(said=said)


_VLLM = """
import json, sys, time
from vllm import LLM, SamplingParams
path, dtype, longest, rows, reply = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
llm = LLM(model=path, load_format='dummy', dtype=dtype, max_model_len=longest, gpu_memory_utilization=.85, enable_prefix_caching=False)
prompts = [dict(prompt_token_ids=[(7 * i + 31 * j) % 1000 + 10 for j in range(longest - reply - 1)]) for i in range(rows)]
took = []
for n in (1, reply): # the first is mostly prefill
    t = time.perf_counter(); out = llm.generate(prompts, SamplingParams(temperature=0, max_tokens=n, ignore_eos=True)); took.append(time.perf_counter() - t)
print('RESULT', json.dumps(dict(prefill_s=took[0], seconds=took[1], tokens=sum(len(o.outputs[0].token_ids) for o in out))))
"""

def engines(b):
    "vLLM with random weights of the same shape, where it is installed: tokens/s beside those of `speed`. In a process of its own, whose memory ends with it."
    if not b.cuda or importlib.util.find_spec('vllm') is None: return dict(skipped='no vLLM' if b.cuda else 'no GPU')
    path, n = Path(tempfile.mkdtemp(prefix='wattnb-vllm-'))/'model', b.rows[-1]
    config = b.config(b.big); config.architectures = [class_of(config).__name__]
    config.save_pretrained(path); b.tokenizer.save_pretrained(path)
    b.model = None; b.free()
    with Session() as s:
        with s.stage('decode', ids=['vllm']):
            p = subprocess.run([sys.executable, '-c', _VLLM, path, 'bfloat16', str(b.prompt + b.reply + 8), str(n), str(b.reply)], capture_output=True, text=True, timeout=max(20, b.left() - 10))
        energy = s.report()['energy']
    line = next((l for l in p.stdout.splitlines() if l.startswith('RESULT ')), None)
    b.check('vLLM answers with random weights', line is not None, (p.stderr or p.stdout)[-300:] if line is None else None)
    if line is None: return dict(rc=p.returncode)
    f = json.loads(line[7:])
    return f | dict(rows=n, decode_tokens_per_s=rounded(f['tokens'] / max(f['seconds'] - f['prefill_s'], 1e-9)), gpu_wh_with_start=energy.get('gpu_wh'))


PARTS = (machine, meters, loading, equality, speed, attention, sampler, shortage, precisions, experts, engines)
SECONDS = dict(speed=150, engines=170, shortage=60) # a part may take; the others 45

class OutOfTime(BaseException): "A part has used its time; no `except Exception` of the code under test takes it."

@contextlib.contextmanager
def limited(seconds):
    "Raise `OutOfTime` in the block after so many seconds, where the platform can."
    def stop(*_): raise OutOfTime
    if not hasattr(signal, 'SIGALRM'): yield; return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(1., seconds))
    try: yield
    finally: signal.setitimer(signal.ITIMER_REAL, 0); signal.signal(signal.SIGALRM, before)

def table(found) -> str:
    "The measurements as rows of the page that lists the cards on which wattnb was tried."
    f, rows = found['facts'], []
    m, meter, s = f.get('machine') or {}, f.get('meters') or {}, f.get('speed') or {}
    for k in ('idle', 'products', 'copies'):
        if k in meter: rows.append((f'power, {k}', f"{meter[k]['watts']} W: counter {meter[k]['counter_j']} J, polled {meter[k]['polled_j']} J"))
    for n, r in (s.get('runs') or {}).items():
        ideal = f" (by the memory's speed at least {r['ideal_ms']})" if 'ideal_ms' in r else ''
        rows.append((f"{found['shape']}, batch of {n}", f"{r['decode_tokens_per_s']} tokens/s, {r['ms_per_step']} ms per step{ideal}, {r['joules_per_decode_token']} J per token"))
    v = f.get('engines') or {}
    if 'decode_tokens_per_s' in v: rows.append((f"{found['shape']}, batch of {v['rows']}, vLLM", f"{v['decode_tokens_per_s']} tokens/s"))
    if 'sampler' in f: rows.append(('sampler', f"{100 * f['sampler']['slower']:.1f} % of a step"))
    name = (m.get('torch') or {}).get('name') or 'CPU'
    versions = ', '.join(f'{k} {v}' for k, v in (m.get('versions') or {}).items() if k in ('torch', 'transformers', 'bitsandbytes'))
    return '\n'.join([f'| {name} | {versions} |', '|:--|:--|', *(f'| {a} | {b} |' for a, b in rows)])


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--tiny', action='store_true'); p.add_argument('--seconds', type=float, default=440); p.add_argument('--out', default='')
    p.add_argument('--shape', default='', choices=['', *SHAPES, *(k for k, e in REGISTRY.items() if shape_of(e))], metavar='MODEL', help='a local model of the registry'); p.add_argument('--only', default=','.join(f.__name__ for f in PARTS))
    a = p.parse_args()
    if not a.tiny and not torch.cuda.is_available(): sys.exit('no CUDA device: --tiny tries the logic on a CPU')
    b = Bench(a)
    with contextlib.ExitStack() as stack:
        if a.tiny:
            from wattnb.testing.simulated import SimulatedGpu, simulated_nvml
            stack.enter_context(simulated_nvml([SimulatedGpu(watts=220., name='NVIDIA H100 80GB HBM3', memory_gb=80, limit_w=700)]))
        for part in (f for f in PARTS if f.__name__ in a.only.split(',')):
            name, t = part.__name__, time.monotonic()
            if b.left() < 20: b.found['skipped'][name] = 'no time'; continue
            limit = min(SECONDS.get(name, 45) * (4 if a.tiny else 1), b.left())
            try:
                with limited(limit): b.found['facts'][name] = part(b)
            except OutOfTime: b.found['skipped'][name] = f'stopped after {limit:.0f} s'
            except Exception as e: b.found['broke'][name] = f'{type(e).__name__}: {str(e)[:300]}'; traceback.print_exc()
            b.found['seconds'][name] = round(time.monotonic() - t, 1)
            b.free(); b.save()
    print(table(b.found))
    ok = [c['ok'] for c in b.found['checks']]
    print(f"{ok.count(True)} passed, {ok.count(False)} failed, {ok.count(None)} could not be told; broke: {', '.join(b.found['broke']) or 'none'}; {b.found['total_s']} s")
    for c in b.found['checks']:
        if c['ok'] is False: print('FAILED', c['name'], c['seen'], c['wanted'])
    return 2 if b.found['broke'] else 1 if False in ok else 0

if __name__ == '__main__': sys.exit(main())
