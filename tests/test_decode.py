"What a local model generates: finite, complete, the same in a batch as alone, and the same as transformers' own `generate`."
import math
from dataclasses import replace

import pytest

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

from test_local import ASKED, PREAMBLE, make, tokenizer # noqa: F401 (`tokenizer` is a fixture)
from wattnb.llm.chat_template import encode_prompt, render_prompt
from wattnb.llm.checkpoint import is_out_of_memory
from wattnb.llm.protocol import Request
from wattnb.llm.local import LocalModel

WAYS = dict(pairs=dict(batch_size=2), batch=dict(), alone=dict(latency_mode=True), sampled=dict(temperature=.7))


def generate(model, tokenizer, entry, request, n=20, **kw):
    "The text that transformers' own `generate` writes to the prompt of a request, read and decoded as wattnb does."
    ids = torch.tensor([encode_prompt(tokenizer, entry, render_prompt(tokenizer, entry, request))])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, pad_token_id=2, **kw)[0, ids.shape[1]:]
    raw = tokenizer.decode([t for t in out.tolist() if t != 2], skip_special_tokens=False)
    for s in tokenizer.all_special_tokens: raw = raw.replace(s, '')
    return raw.strip()


def lively(folder, tokenizer, kind, **over):
    "A tiny model in which what was read matters for what is written: as initialised, some hardly look back."
    entry = make(folder, tokenizer, kind, **over)
    m = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for n, p in m.named_parameters():
            if p.ndim == 2 and 'embed' not in n and 'head' not in n and 'A_log' not in n: p.mul_(8)
    m.save_pretrained(folder)
    return entry


# --- numbers that are none -------------------------------------------------------------------------------------------

@pytest.mark.parametrize('way', WAYS)
def test_a_row_whose_logits_are_not_finite_fails_and_the_others_are_answered(tmp_path, tokenizer, way):
    "One word makes the model overflow. The rows that read it fail with a line; those beside them, and those that take their places, are what they are alone."
    entry = make(tmp_path, tokenizer, 'llama')
    word = tokenizer(' coal', add_special_tokens=False)['input_ids']
    asked = [replace(r, user=r.user + (' coal' if i in (1, 2) else '')) for i, r in enumerate(ASKED)]
    with LocalModel(entry, **WAYS[way]) as m:
        want = {r.id: r.text for r in m.complete(asked)}
        for broken in (math.nan, math.inf):
            with torch.inference_mode(): m.model.get_input_embeddings().weight[word[0]] = broken
            got = m.complete(asked)
            assert [r.ok for r in got] == [True, False, False, True, True, True], broken
            for r in got:
                if r.ok: assert r.text == want[r.id] and all(math.isfinite(p) for _, p in r.logprobs)
                else: assert r.text == '' and r.finish_reason == 'error' and 'not finite after 0 tokens' in r.error and '\n' not in r.error


@pytest.mark.parametrize('way', WAYS)
def test_an_overflow_in_fp16_is_reported_as_one(tmp_path, tokenizer, way):
    "A real one: weights that float16 holds and whose products it does not."
    entry = make(tmp_path, tokenizer, 'llama')
    with LocalModel(entry, precision='fp16', device='cpu', **WAYS[way]) as m:
        with torch.inference_mode(): m.model.lm_head.weight[5] *= torch.tensor(6e4) / m.model.lm_head.weight[5].abs().max()
        with torch.inference_mode(): m.model.model.norm.weight.mul_(100)
        got = m.complete(ASKED)
    bad = [r for r in got if not r.ok]
    assert bad and all('the model overflows in fp16: use bf16' in r.error for r in bad), [r.error or r.text for r in got]
    assert all(math.isfinite(p) for r in got if r.ok for _, p in r.logprobs)


# --- memory ----------------------------------------------------------------------------------------------------------

def scarce(m, when):
    "Forward passes of `m` run out of memory where `when(number of the pass, rows, tokens of each)` is true; returns the sizes that were tried."
    real, tried = m._forward, []
    def forward(ids, *rest):
        tried.append(tuple(ids.shape))
        if when(len(tried), *ids.shape): raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate (simulated)')
        return real(ids, *rest)
    m._forward = forward
    return tried


MANY = [Request(f'q{i}', PREAMBLE, 'how much energy and water ' * (1 + i % 5) + str(i), max_tokens=4 + i % 5) for i in range(24)]


def test_a_shortage_while_the_shared_prefix_is_read_costs_no_answer(tmp_path, tokenizer):
    entry = make(tmp_path, tokenizer, 'llama')
    with LocalModel(entry, latency_mode=True) as m: want = [r.text for r in m.complete(MANY[:9])]
    with LocalModel(entry) as m:
        scarce(m, lambda n, rows, tokens: n == 1)
        got = m.complete(MANY[:9])
        assert [r.text for r in got] == want and all(r.ok for r in got) and m.info['out_of_memory'] == 1
        assert m.complete(MANY[:9])[0].cached_tokens > 16 # the next call shares it again


def test_rows_grow_back_after_a_shortage_that_passed(tmp_path, tokenizer):
    "Another process took the memory for a moment. A shortage that stays is met again, but ever more seldom."
    entry = make(tmp_path, tokenizer, 'llama')
    with LocalModel(entry, latency_mode=True) as m: want = [r.text for r in m.complete(MANY)]
    with LocalModel(entry, batch_size=8, batch_tokens=100_000) as m:
        scarce(m, lambda n, rows, tokens: 4 <= n <= 5 and rows * tokens > 1)
        assert [r.text for r in m.complete(MANY)] == want and m.info['out_of_memory'] >= 1
        for _ in range(3): again = m.complete(MANY)
        assert [r.text for r in again] == want and m._most == m.info['batch_rows'] == 8 and m._budget == 100_000
    with LocalModel(entry, batch_size=8, batch_tokens=100_000) as m:
        scarce(m, lambda n, rows, tokens: rows > 4)
        for _ in range(8): assert [r.text for r in m.complete(MANY)] == want
        assert 1 < m.info['out_of_memory'] <= 4 # 192 sequences


def test_a_row_alone_gets_a_second_try_and_one_that_never_fits_fails_alone(tmp_path, tokenizer):
    entry = make(tmp_path, tokenizer, 'llama')
    with LocalModel(entry, latency_mode=True) as m: want = [r.text for r in m.complete(MANY[:6])]
    with LocalModel(entry, latency_mode=True) as m:
        scarce(m, lambda n, rows, tokens: n == 3)
        assert [r.text for r in m.complete(MANY[:6])] == want
    long = replace(MANY[2], user='word ' * 150)
    with LocalModel(entry) as m:
        scarce(m, lambda n, rows, tokens: tokens > 150)
        got = m.complete([*MANY[:2], long, *MANY[3:6]])
        assert [r.ok for r in got] == [True, True, False, True, True, True] and 'does not fit alone' in got[2].error
        assert [r.text for r in got if r.ok] == want[:2] + want[3:]


def test_which_errors_mean_that_memory_ran_out():
    accelerator = getattr(torch, 'AcceleratorError', RuntimeError)
    for text in ('CUDA out of memory. Tried to allocate 2.00 GiB', 'CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`', 'CUBLAS_STATUS_ALLOC_FAILED',
                 'cuDNN error: CUDNN_STATUS_ALLOC_FAILED', 'cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED', "DefaultCPUAllocator: can't allocate memory", 'std::bad_alloc',
                 'MPS backend out of memory', 'HIP out of memory'):
        assert is_out_of_memory(RuntimeError(text)), text
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(torch.OutOfMemoryError('Allocation on device')) and is_out_of_memory(OSError(12, 'Cannot allocate memory'))
    made = accelerator.__new__(accelerator); RuntimeError.__init__(made, 'CUDA error: out of memory')
    assert is_out_of_memory(made)
    for text in ('CUDA error: an illegal memory access was encountered', 'CUDA error: device-side assert triggered', 'CUDA error: unspecified launch failure', 'the shape of memory is wrong'):
        e = accelerator.__new__(accelerator); RuntimeError.__init__(e, text)
        assert not is_out_of_memory(e), text
        e.__context__ = torch.OutOfMemoryError('CUDA out of memory') # a context that broke while a shortage was handled stays broken
        if 'shape' not in text: assert not is_out_of_memory(e), text
    assert not is_out_of_memory(ValueError('out of memory is not a colour')) and not is_out_of_memory(OSError(28, 'No space left on device'))


def test_a_broken_device_is_not_tried_again(tmp_path, tokenizer):
    entry, tried = make(tmp_path, tokenizer, 'llama'), []
    with LocalModel(entry) as m:
        def forward(*a): tried.append(1); raise RuntimeError('CUDA error: an illegal memory access was encountered')
        m._forward = forward
        with pytest.raises(RuntimeError, match='illegal memory access'): m.complete(ASKED)
        assert len(tried) == 1

# --- sequences that join a batch that is running -----------------------------------------------------------------------

def test_who_joins_is_answered_as_alone_with_fewer_passes(tmp_path, tokenizer):
    "The next question takes the place of one that has ended. Its text, its times and what the meter sees are its own, wherever memory runs out in between."
    entry = make(tmp_path, tokenizer, 'llama')
    asked = [replace(r, max_tokens=n) for r, n in zip(MANY, (3, 20, 5, 12, 1, 20, 2, 9, 4, 16, 6, 2))]
    with LocalModel(entry, latency_mode=True) as m: want = [r.text for r in m.complete(asked)]
    with LocalModel(entry, batch_size=4, refill=False) as m:
        plain = scarce(m, lambda *a: False)
        assert [r.text for r in m.complete(asked)] == want and m.info['batches'] == 3
    with LocalModel(entry, batch_size=4) as m:
        real, phases = m._forward, []
        passes = scarce(m, lambda *a: False)
        m.on_phase = lambda *a: phases.append(a)
        got = m.complete(asked)
        assert [r.text for r in got] == want and len({r.batch_id for r in got}) == m.info['batches'] > 3 and len(passes) < .75 * len(plain) and max(r.batch_size for r in got) == 4
        assert all(a[2] <= b[1] for a, b in zip(phases, phases[1:])) and sum(name == 'prefill' for name, *_ in phases) > 4
        for r in got:
            mine = [(name, t0, t1, tokens[ids.index(r.id)]) for name, t0, t1, ids, tokens in phases[1:] if r.id in ids]
            assert [n for name, *_, n in mine if name == 'prefill'] == [r.prompt_tokens - r.cached_tokens] and mine[0][0] == 'prefill'
            assert sum(n for name, *_, n in mine if name == 'decode') == r.completion_tokens - (r.finish_reason == 'stop')
            assert abs(r.started - mine[0][1]) < 1e-6 and r.prefill_seconds == pytest.approx(mine[0][2] - mine[0][1]) and mine[-1][2] == pytest.approx(r.finished)
        for k in range(2, len(passes), 8):
            m._forward, (m._most, m._budget), before = real, m._full, m.info['out_of_memory']
            scarce(m, lambda n, *_: n == k)
            assert [r.text for r in m.complete(asked)] == want and m.info['out_of_memory'] == before + 1, k


def test_columns_are_used_again(tmp_path, tokenizer):
    "However many sequences pass through a batch, a row has no more columns than the longest prompt and the longest reply together."
    entry = make(tmp_path, tokenizer, 'llama')
    asked = [Request(f'q{i}', '', 'water ' * (3 + 7 * (i % 4)), max_tokens=18 - 4 * (i % 3)) for i in range(16)]
    with LocalModel(entry, latency_mode=True) as m: want = [r.text for r in m.complete(asked)]
    with LocalModel(entry, batch_size=4, prefix=False) as m:
        widest, real = [], m._forward
        m._forward = lambda ids, mask, *rest: (widest.append(mask.shape[1]), real(ids, mask, *rest))[1]
        got = m.complete(asked)
        assert [r.text for r in got] == want
        assert max(widest) <= max(r.prompt_tokens for r in got) + 18 + len(m._closing_ids) and len(widest) > 40


# --- positions that depend on the length -----------------------------------------------------------------------------

HALF = 4 # of a head's 8 numbers: those that turn
LONGROPE = dict(rope_scaling=dict(type='longrope', short_factor=[1. + .1 * i for i in range(HALF)], long_factor=[4. + 3 * i for i in range(HALF)]), original_max_position_embeddings=96)
AROUND = [Request(f'q{i}', PREAMBLE[:len(PREAMBLE) // 2], 'how much energy and water ' * n + str(i), max_tokens=3 if i in (2, 5) else 20) for i, n in enumerate((0, 2, 5, 6, 8, 9, 10, 12, 16))]


@pytest.mark.parametrize('kind, over', [('phi3', LONGROPE), ('llama', dict(rope_scaling=dict(type='dynamic', factor=4.), max_position_embeddings=96))])
def test_rows_on_both_sides_of_a_change_of_positions(tmp_path, tokenizer, kind, over):
    "Prompts below 96 tokens, above, and rows that pass 96 while they are written: each equals its reply alone and that of `generate` (for longrope: with the whole text processed for each token), whatever its batch."
    entry = replace(lively(tmp_path, tokenizer, kind, **over), context=512)
    lengths = [len(encode_prompt(tokenizer, entry, render_prompt(tokenizer, entry, r))) for r in AROUND]
    assert min(lengths) + 20 < 96 < max(lengths) and any(n <= 96 < n + 20 for n in lengths), lengths
    want = []
    for r in AROUND: # loaded anew for each: dynamic positions remember the longest text so far
        reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
        want.append(generate(reference, tokenizer, entry, r, r.max_tokens, do_sample=False, **({} if kind == 'llama' else dict(use_cache=False)))) # without a cache: 5.17 drops it at the switch too late
    def check(m):
        phases = []
        m.on_phase = lambda name, t0, t1, ids, tokens: phases.append((name, t0, t1, sum(tokens)))
        for order in (AROUND, AROUND[::-1]):
            got = {r.id: r for r in m.complete(order)}
            assert [got[r.id].text for r in AROUND] == want, (m.latency_mode, m._most, m.options)
        assert all(a[2] <= b[1] + 1e-9 for a, b in zip(phases, phases[1:]))
        for r in got.values(): assert 0 < r.prefill_seconds <= r.ttft_seconds <= r.seconds + 1e-9 and 0 <= r.decode_seconds <= r.seconds
        assert [got[r.id].prompt_tokens for r in AROUND] == lengths
        wrote = sum(r.completion_tokens - (r.finish_reason == 'stop') for r in got.values())
        assert 2 * (wrote - 2 * len(AROUND)) <= sum(p[3] for p in phases if p[0] == 'decode') <= 2 * wrote # a token that is chosen right after reading may count as reading's
    for latency in (True, False):
        with LocalModel(entry, latency_mode=latency) as m:
            for most, prefix in ((1, True),) if latency else ((32, True), (3, True), (32, False)):
                m._most, m._prefix, m.options = most, None, dict(prefix=prefix)
                check(m)


def test_a_shortage_around_a_change_of_positions(tmp_path, tokenizer):
    "wherever it comes, with rows that leave at the change and others that take their places"
    entry = replace(lively(tmp_path, tokenizer, 'phi3', **LONGROPE), context=512)
    with LocalModel(entry, latency_mode=True) as m: want = [r.text for r in m.complete(AROUND)]
    with LocalModel(entry, batch_size=4) as m:
        real = m._forward
        for k in (2, 20, 34):
            m._forward, m._prefix, (m._most, m._budget), before = real, None, m._full, m.info['out_of_memory']
            scarce(m, lambda n, rows, tokens: n in (k, k + 3))
            assert [r.text for r in m.complete(AROUND)] == want and m.info['out_of_memory'] == before + 2, k


# --- how a token is chosen -------------------------------------------------------------------------------------------

OWN = dict(repetition_penalty=1.3, do_sample=True, temperature=.7, top_k=20, top_p=.8)

def with_settings(folder, tokenizer, **kw):
    "A tiny model whose checkpoint has a generation_config of its own, like Qwen2.5's; its logits differ enough for it to matter."
    entry = make(folder, tokenizer, 'qwen2')
    m = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad(): m.lm_head.weight.mul_(20)
    m.generation_config.update(**kw)
    m.save_pretrained(folder)
    return entry


@pytest.mark.parametrize('penalty', [1.05, 1.3])
def test_the_checkpoints_repetition_penalty_as_generate_applies_it(tmp_path, tokenizer, penalty):
    "`generate` applies it to greedy replies by default. Here it is applied only on request, in the same way, and recorded otherwise."
    entry = with_settings(tmp_path, tokenizer, repetition_penalty=penalty)
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    want = [generate(reference, tokenizer, entry, r, do_sample=False) for r in ASKED]
    plain = [generate(reference, tokenizer, entry, r, do_sample=False, repetition_penalty=1.) for r in ASKED]
    assert want != plain
    for latency in (True, False):
        with LocalModel(entry, sampling='model', latency_mode=latency) as m:
            for m._most in (1,) if latency else (2, 32): assert [r.text for r in m.complete(ASKED)] == want, (latency, m._most)
            assert m.info['sampling'] == dict(of='model', temperature=0., top_k=0, top_p=1., min_p=0., repetition_penalty=penalty, ignored={})
    with LocalModel(entry) as m:
        assert [r.text for r in m.complete(ASKED)] == plain
        assert m.info['sampling'] == dict(of='run', temperature=0., top_k=0, top_p=1., min_p=0., repetition_penalty=1., ignored=dict(repetition_penalty=penalty))


@pytest.mark.parametrize('settings', [OWN, dict(do_sample=True), dict(do_sample=True, min_p=.1, top_k=0, temperature=1.5), dict(do_sample=True, top_k=3, no_repeat_ngram_size=0)])
def test_sampled_replies_are_drawn_from_the_distribution_of_generate(tmp_path, tokenizer, settings):
    "The same probability for each token as transformers' own chain of processors gives, at every step of every reply."
    entry = with_settings(tmp_path, tokenizer, **settings)
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with LocalModel(entry, sampling='model') as m:
        seen, draw = [], m._draw
        def watch(logits, rows):
            seen.extend((r.all_ids, p) for r, p in zip(rows, m._probabilities(logits)) if not r.finish)
            return draw(logits, rows)
        m._draw = watch
        got = m.complete([replace(r, max_tokens=6) for r in ASKED[:4]])
        assert all(r.ok for r in got) and m.info['sampling']['of'] == 'model' and 'sampled' in m.info['determinism']
        assert [r.text for r in m.complete([replace(r, max_tokens=6) for r in ASKED[:2]])] == [r.text for r in got[:2]] # seeded
    assert len(seen) >= 20
    for ids, mine in seen[:24]:
        x = torch.tensor([ids])
        out = reference.generate(x, attention_mask=torch.ones_like(x), max_new_tokens=1, pad_token_id=2, return_dict_in_generate=True, output_scores=True)
        theirs = out.scores[0][0].double().softmax(-1)
        assert torch.allclose(mine, theirs, atol=1e-4) and ((mine > 0) == (theirs > 0)).all()


def test_what_a_checkpoint_asks_for_and_does_not_get_is_recorded(tmp_path, tokenizer):
    from wattnb.llm.batching import checkpoint_sampling, Sampling
    from wattnb.core.workspace import UserError
    G = transformers.GenerationConfig
    assert checkpoint_sampling(G()) == (Sampling(), {})
    assert checkpoint_sampling(G(**OWN), .3) == (Sampling(.3), OWN)
    assert checkpoint_sampling(G(**OWN), 0., 'model')[0] == Sampling(.7, 20, .8, 0., 1.3)
    assert checkpoint_sampling(G(**OWN), .3, 'model')[0].temperature == .3
    assert checkpoint_sampling(G(no_repeat_ngram_size=3, temperature=.6), 0., 'model') == (Sampling(), dict(no_repeat_ngram_size=3)) # greedy: a temperature means nothing to `generate` either
    assert checkpoint_sampling(G(do_sample=True, typical_p=.9, suppress_tokens=[5]), 0., 'model')[1] == dict(typical_p=.9, suppress_tokens=[5])
    with pytest.raises(UserError, match="unknown sampling 'theirs'"): LocalModel(make(tmp_path, tokenizer, 'llama'), sampling='theirs')


def test_whose_sampling_is_part_of_a_runs_identity(tmp_path, tokenizer):
    "A run with the checkpoint's own settings is another run than the greedy one, and records their origin; the hash of each prompt is of what the model read."
    from conftest import words_workspace
    from wattnb.experiment.settings import RunSettings
    from wattnb.experiment.plan import plan_run
    from wattnb.experiment.execute import run_all
    from wattnb.experiment.journal import read_journal
    from wattnb.core.workspace import UserError
    with_settings(tmp_path / 'tiny', tokenizer, repetition_penalty=9., do_sample=True, temperature=3.)
    (tmp_path / 'tiny/config.json').write_text((tmp_path / 'tiny/config.json').read_text().replace('"max_position_embeddings": 512', '"max_position_embeddings": 4096'))
    ws = words_workspace(tmp_path / 'ws', models_toml=f'[model.tiny]\nprovider = "hf_local"\nid = "{tmp_path / "tiny"}"\nprecision = "fp32"\nmax_new_tokens = 8\n')
    plan = lambda **kw: plan_run(RunSettings(**{'model': 'tiny', 'preset': 'words', 'limit': 2, 'max_retries': 0, 'fail_on_error': 1., 'idle_seconds': 0, **kw}), ws)
    assert 'sampling' not in plan().identity
    own, theirs = plan(name='own'), plan(name='theirs', sampling='model')
    assert theirs.identity['sampling'] == 'model' and {k: v for k, v in theirs.identity.items() if k != 'sampling'} == own.identity
    for p in (own, theirs): run_all(p)
    own, theirs = (read_journal(p.run_dir / 'journal.jsonl') for p in (own, theirs))
    of = lambda j: next(iter(j.of('load')))['model']['sampling']
    assert of(own)['ignored'] == {'do_sample': True, 'repetition_penalty': 9., 'temperature': 3.} and of(theirs)['repetition_penalty'] == 9. and of(theirs)['of'] == 'model'
    a, b = list(own.of('attempt')), list(theirs.of('attempt'))
    assert [x['prompt_hash'] for x in a] == [x['prompt_hash'] for x in b] and [x['raw'] for x in a] != [x['raw'] for x in b]
    with LocalModel(plan().entry) as m: assert len({m._sequence(Request('q', 'a', t)).prompt_hash for t in 'xyz'}) == 3
    with pytest.raises(UserError, match='unknown sampling'): plan(sampling='mine')
    with pytest.raises(UserError, match='from the checkpoint'): plan(model='extractive', sampling='model')


# --- every kind of cache ---------------------------------------------------------------------------------------------

STATES = dict(mamba=dict(state_size=8, expand=2, time_step_rank=4), mamba2=dict(num_heads=8, head_dim=8, state_size=8, n_groups=1, expand=2, chunk_size=16), falcon_mamba=dict(state_size=8, time_step_rank=4))
COLUMNS = dict(mpt=dict(d_model=32, n_heads=4, n_layers=2, max_seq_len=512), gpt_neo=dict(num_layers=2, num_heads=4, attention_types=[[['global', 'local'], 1]], window_size=16), bloom=dict(n_head=4, n_layer=2),
               falcon=dict(alibi=True), gpt2=dict(n_embd=32, n_layer=2, n_head=4, n_positions=512), gptj=dict(n_embd=32, n_layer=2, n_head=4, n_positions=512, rotary_dim=4))
HYBRID = dict(jamba=dict(num_experts=2, mamba_d_state=8, attn_layer_period=2, attn_layer_offset=1, use_mamba_kernels=False), lfm2=dict(layer_types=['conv', 'full_attention'], block_multiple_of=8), bamba=dict(mamba_n_heads=8, mamba_d_head=8, attn_layer_indices=[1]),
              granitemoehybrid=dict(mamba_n_heads=8, mamba_d_head=8, layer_types=['mamba', 'attention'], num_local_experts=2, num_experts_per_tok=1, shared_intermediate_size=32))

@pytest.mark.parametrize('kind', [*STATES, *COLUMNS, *HYBRID])
def test_other_kinds_of_models_agree_with_generate(tmp_path, tokenizer, kind):
    "State-space models, models that count distance in columns of the cache, hybrids: in one batch, with two places of which the next takes what one leaves, and alone the same text as from transformers' `generate`."
    entry = lively(tmp_path, tokenizer, kind, **{**STATES, **COLUMNS, **HYBRID}[kind])
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    asked = [replace(r, max_tokens=n) for r, n in zip(ASKED, (20, 4, 9, 20, 2, 14))]
    want = [generate(reference, tokenizer, entry, r, r.max_tokens, do_sample=False) for r in asked]
    assert len(set(want)) > 1
    with LocalModel(entry, latency_mode=True) as m: alone = m.complete(asked)
    with LocalModel(entry) as m:
        together = m.complete(asked)
        m._most = 2
        for got in (alone, together, pairs := m.complete(asked)):
            assert [r.text for r in got] == want
            assert [p for r in got for _, p in r.logprobs] == pytest.approx([p for r in alone for _, p in r.logprobs], abs=2e-3)
        assert m.info['self_test'] < 1e-4 and {r.batch_size for r in pairs} == {2} and (len({r.batch_id for r in pairs}) > 3) == (kind in COLUMNS)


@pytest.mark.parametrize('kind, over', [('rwkv', dict(attention_hidden_size=32, context_length=512)), ('recurrent_gemma', dict(lru_width=32, head_dim=8, attention_window_size=64, num_hidden_layers=3)),
                                        ('openai-gpt', dict(n_embd=32, n_layer=2, n_head=4, n_positions=512)), ('xlstm', dict(num_heads=4))])
def test_a_model_that_keeps_no_cache_we_know_is_refused_when_it_is_loaded(tmp_path, tokenizer, kind, over):
    from wattnb.core.workspace import WorkError
    with pytest.raises(WorkError) as e: LocalModel(make(tmp_path, tokenizer, kind, **over))
    assert '\n' not in str(e.value) and f'tiny-{kind} ({kind})' in str(e.value) and ('returns no cache' in str(e.value) or 'cannot continue' in str(e.value))


@pytest.mark.parametrize('kind, precision', [('mamba', 'fp32'), ('mamba', 'bf16'), ('llama', 'fp32'), ('llama', 'bf16'), ('qwen2', 'fp16')])
def test_a_cache_that_is_wrong_is_found_when_a_model_is_loaded(tmp_path, tokenizer, monkeypatch, kind, precision):
    "What would be wrong from the second token on, silently: a whole mask for one token of a state-space model, positions that are off, a cache that is empty."
    import wattnb.llm.decode
    from wattnb.core.workspace import WorkError
    entry, real = lively(tmp_path, tokenizer, kind, **STATES.get(kind, {})), LocalModel._forward
    LocalModel(entry, precision, device='cpu').close()
    def forgets(self, ids, mask, positions, cache):
        if ids.shape[1] == 1: return real(self, ids, mask[:, -1:], positions, None)
        return real(self, ids, mask, positions, cache)
    if kind == 'mamba': monkeypatch.setattr(wattnb.llm.decode, 'only_states', lambda model: False)
    else: monkeypatch.setattr(LocalModel, '_forward', forgets)
    with pytest.raises(WorkError, match='generates other text with its cache than without'): LocalModel(entry, precision, device='cpu')


def test_a_model_that_takes_padding_for_text_answers_one_at_a_time(tmp_path, tokenizer, monkeypatch, caplog):
    entry, real = lively(tmp_path, tokenizer, 'llama'), LocalModel._forward
    with LocalModel(entry, latency_mode=True) as m: want = [r.text for r in m.complete(ASKED)]
    monkeypatch.setattr(LocalModel, '_forward', lambda self, ids, mask, positions, cache: real(self, ids, torch.ones_like(mask), positions, cache))
    with LocalModel(entry) as m:
        got = m.complete(ASKED)
        assert [r.text for r in got] == want and {r.batch_size for r in got} == {1} and 'treats padding as text' in m.info['padding'] and m.info['batch_rows'] == 1


def test_a_cap_on_attention_scores_is_never_left_out(tmp_path, tokenizer, monkeypatch):
    "Gemma 2, also where transformers would choose an attention that has no cap."
    from transformers.models.gemma2 import modeling_gemma2
    from wattnb.core.workspace import UserError
    entry = lively(tmp_path / 'capped', tokenizer, 'gemma2', attn_logit_softcapping=.5)
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'capped', attn_implementation='eager').eval()
    want = [generate(reference, tokenizer, entry, r, do_sample=False) for r in ASKED]
    monkeypatch.setattr(modeling_gemma2.Gemma2PreTrainedModel, '_supports_sdpa', True)
    with LocalModel(entry) as m: assert m.info['attention'] == 'eager' and [r.text for r in m.complete(ASKED)] == want
    with pytest.raises(UserError, match='caps its attention scores at 0.5, which sdpa leaves out'): LocalModel(entry, attention='sdpa')
    with LocalModel(lively(tmp_path / 'plain', tokenizer, 'gemma2', attn_logit_softcapping=None)) as m: assert m.info['attention'] == 'sdpa'
