"Models that run here: real small models of many architectures, made on the spot, and the embedded one."
import json, os, subprocess, sys, textwrap, time
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

from wattnb.llm.registry import ModelEntry, load_registry
from wattnb.llm.protocol import Request, open_model
from wattnb.llm.batching import SequenceState, token_budget
from wattnb.llm.chat_template import encode_prompt, render_prompt
from wattnb.llm.checkpoint import Weights, explain_load_error, is_out_of_memory, local_weights
from wattnb.llm.loading import choose_place, effective_precision, load_local
from wattnb.llm.decode import BatchedModel
from wattnb.llm.local import LocalModel
from wattnb.core.workspace import UserError, WorkError

SMOL = load_registry()['smollm2-135m'].on_engine('transformers')
COMMON = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=49152, max_position_embeddings=512,
              bos_token_id=1, eos_token_id=2, pad_token_id=2)
FAMILIES = {
    'llama': {}, 'qwen2': {}, 'qwen3': dict(head_dim=8), 'mistral': dict(sliding_window=16), 'phi3': dict(pad_token_id=2), 'granite': {},
    'gemma2': dict(head_dim=8, sliding_window=16, query_pre_attn_scalar=8), 'gemma3_text': dict(head_dim=8, sliding_window=16, query_pre_attn_scalar=8),
    'mixtral': dict(num_local_experts=4, num_experts_per_tok=2), 'olmoe': dict(num_experts=4, num_experts_per_tok=2), 'smollm3': {},
    'olmo2': {}, 'gpt_oss': dict(head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=16),
    'qwen3_moe': dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, head_dim=8),
    'qwen3_next': dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=32, head_dim=8, num_hidden_layers=4,
                       linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8),
}
PREAMBLE = 'You answer questions about papers on the energy use of computers. Be brief, give a number with its unit, name the paper, and say so when it is not known. ' * 2
TEXTS = ['How much water?', 'How much energy does it take to train a model of 175 billion parameters, in MWh?', 'Why?', 'Which of the two machines needs less power when idle?',
         'True or false: a larger batch uses less energy per token.', 'What is the PUE of the site in the north?']
ASKED = [Request(f'q{i}', PREAMBLE, t) for i, t in enumerate(TEXTS)]


@pytest.fixture(scope='session')
def tokenizer():
    return transformers.AutoTokenizer.from_pretrained(local_weights(SMOL).path)


def make(folder, tokenizer, kind, dtype=torch.float32, **over):
    try: config = transformers.AutoConfig.for_model(kind, **{**COMMON, **FAMILIES.get(kind, {}), **over})
    except (ValueError, KeyError): pytest.skip(f'this transformers has no {kind}')
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config).to(dtype)
    model.save_pretrained(folder); tokenizer.save_pretrained(folder)
    return ModelEntry(f'tiny-{kind}', 'hf_local', str(folder), precision='fp32', max_new_tokens=20)


def test_size_on_disk_is_of_the_revision_used_and_counts_links_once(tmp_path, tokenizer):
    "A hub cache as the hub's client lays it out: two revisions that share a blob, files that are links into `blobs`."
    make(tmp_path / 'made', tokenizer, 'llama')
    repo = tmp_path / 'home/hub/models--org--tiny-llama'
    blobs, size = repo / 'blobs', (tmp_path / 'made/model.safetensors').stat().st_size
    blobs.mkdir(parents=True); (repo / 'refs').mkdir()
    (repo / 'refs/main').write_text('b' * 40)
    for commit in ('a' * 40, 'b' * 40):
        folder = repo / 'snapshots' / commit
        folder.mkdir(parents=True)
        for f in (tmp_path / 'made').iterdir():
            blob = blobs / (f'{commit[0]}-{f.name}' if f.suffix == '.safetensors' else f.name)
            if not blob.exists(): blob.write_bytes(f.read_bytes())
            (folder / f.name).symlink_to(Path('../../blobs') / blob.name)
        (folder / 'again.safetensors').symlink_to(Path('../../blobs') / f'{commit[0]}-model.safetensors')
    code = """
        import json
        from wattnb.llm.registry import ModelEntry
        from wattnb.llm.checkpoint import local_weights
        for revision in (None, 'a' * 40):
            w = local_weights(ModelEntry('tiny', 'hf_local', 'org/tiny-llama', revision=revision))
            print(json.dumps([w.source, w.revision[0], w.bytes]))"""
    env = {**{k: v for k, v in os.environ.items() if not k.startswith(('HF_', 'TRANSFORMERS_'))}, 'HF_HOME': str(tmp_path / 'home'), 'HF_HUB_OFFLINE': '1'}
    out = subprocess.run([sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True, env=env, check=True).stdout.split('\n')
    assert [json.loads(x) for x in out if x] == [['hub', 'b', size], ['hub', 'a', size]]


@pytest.mark.parametrize('kind', FAMILIES)
def test_batch_alone_and_generate_agree(tmp_path, tokenizer, kind):
    "Greedy, float32: the same text in a batch, alone, and from transformers' own generate, for every kind of cache."
    entry = make(tmp_path, tokenizer, kind)
    with LocalModel(entry) as many: together = many.complete(ASKED)
    with LocalModel(entry, latency_mode=True) as one: alone = one.complete(ASKED)
    assert [r.text for r in together] == [r.text for r in alone]
    assert all(r.ok for r in together) and max(r.batch_size for r in together) == 6 and all(r.batch_size == 1 and r.cached_tokens == 0 for r in alone)
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    for req, got in zip(ASKED, alone):
        ids = torch.tensor([encode_prompt(tokenizer, entry, render_prompt(tokenizer, entry, req))])
        out = reference.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False, pad_token_id=2)[0, ids.shape[1]:]
        raw = tokenizer.decode([t for t in out.tolist() if t != 2], skip_special_tokens=False)
        for s in tokenizer.all_special_tokens: raw = raw.replace(s, '')
        assert raw.strip() == got.text


@pytest.mark.parametrize('way', [{}, dict(latency_mode=True), dict(temperature=.7)])
def test_log_probabilities_are_the_models_own(tmp_path, tokenizer, way):
    "of each token of the answer, as one pass over prompt and reply gives them, whatever the way of batching or drawing."
    entry = make(tmp_path, tokenizer, 'llama')
    asked = [replace(r, max_tokens=8) for r in ASKED[:3]]
    with LocalModel(entry, **way) as m:
        got, m2 = m.complete(asked), m.model
        for req, r in zip(asked, got):
            ids = encode_prompt(tokenizer, entry, render_prompt(tokenizer, entry, req))
            assert 0 < len(r.logprobs) <= 8 and ''.join(t for t, _ in r.logprobs).strip() == r.text
            known = [tokenizer(t, add_special_tokens=False)['input_ids'] for t, _ in r.logprobs]
            if any(len(k) != 1 for k in known): continue # a piece that is not one token again
            with torch.inference_mode(): logits = m2(torch.tensor([ids + [k[0] for k in known]])).logits[0, len(ids) - 1:-1].float().log_softmax(-1)
            assert [p for _, p in r.logprobs] == pytest.approx([logits[i, k[0]].item() for i, k in enumerate(known)], abs=1e-4)


def test_prefix_is_read_once(tmp_path, tokenizer):
    entry = make(tmp_path, tokenizer, 'llama')
    phases = []
    with LocalModel(entry, batch_size=2) as m:
        m.on_phase = lambda *a: phases.append(a)
        a = m.complete(ASKED)
        prefix = m._prefix
        assert len(prefix[0]) > 50 and {r.cached_tokens for r in a} == {len(prefix[0])}
        first = len(phases)
        m.complete(ASKED[:3])
        assert m._prefix is prefix # kept for the next stage
    computed = sum(sum(p[4]) for p in phases[:first] if p[0] == 'prefill')
    assert computed == pytest.approx(sum(r.prompt_tokens - r.cached_tokens for r in a) + len(prefix[0]))
    with LocalModel(entry, prefix=False) as m: b = m.complete(ASKED)
    assert [r.text for r in a] == [r.text for r in b] and {r.cached_tokens for r in b} == {0}


def test_many_questions_in_batches_of_any_size(tmp_path, tokenizer):
    "One pass at a time, never two of one model side by side: every reply is what it is alone."
    import random
    rng = random.Random(3)
    entry = make(tmp_path, tokenizer, 'llama')
    asked = [Request(f'q{i}', PREAMBLE, 'how much energy and water ' * rng.randint(1, 12), max_tokens=rng.choice((1, 2, 5, 9, 20))) for i in range(40)]
    with LocalModel(entry, latency_mode=True) as m: alone = m.complete(asked)
    phases = []
    with LocalModel(entry) as m:
        m.on_phase = lambda name, t0, t1, ids, tokens: phases.append((name, t0, t1, ids, tokens))
        for size in (1, 3, 7):
            m._most, m._full, batches = size, (size, m._budget), m.info['batches']
            got = m.complete(asked)
            assert [r.text for r in got] == [r.text for r in alone] and [r.finish_reason for r in got] == [r.finish_reason for r in alone]
            assert max(r.batch_size for r in got) == size and len({r.batch_id for r in got}) == m.info['batches'] - batches <= 40
            assert sum(sum(p[4]) for p in phases if p[0] == 'decode') == sum(r.completion_tokens - (r.finish_reason == 'stop') for r in got)
            assert all(a[2] <= b[1] + 1e-9 for a, b in zip(phases, phases[1:])) # stages do not overlap: energy is not counted twice
            phases.clear()


def test_finished_sequences_leave_and_the_rest_is_unchanged(tmp_path, tokenizer):
    entry = make(tmp_path, tokenizer, 'llama')
    uneven = [replace(r, max_tokens=n) for r, n in zip(ASKED, (1, 3, 20, 7, 20, 2))]
    order = []
    with LocalModel(entry) as m:
        replies = []
        for r in m.stream(uneven): order.append(r.id); replies.append(r)
        full = {r.id: r for r in m.complete(ASKED)}
    assert order[0] == 'q0' and set(order[:4]) == {'q0', 'q1', 'q3', 'q5'} and set(order[-2:]) == {'q2', 'q4'}
    for r in replies:
        assert r.completion_tokens <= 20 and full[r.id].text.startswith(r.text)
        assert 0 < r.prefill_seconds <= r.ttft_seconds <= r.seconds + 1e-9 and r.decode_seconds >= 0 and r.started < r.finished


@pytest.mark.parametrize('places', [32, 2])
def test_a_slow_consumer_does_not_count_as_generation(tmp_path, tokenizer, places):
    entry = make(tmp_path, tokenizer, 'llama')
    with LocalModel(entry, batch_size=places) as m:
        list(m.stream(ASKED[:2])) # warm
        uneven = [replace(r, max_tokens=n) for r, n in zip(ASKED, (1, 10, 20))]
        phases = []
        m.on_phase = lambda name, t0, t1, ids, tokens: phases.append(t1 - t0)
        last, began = None, time.monotonic()
        for last in m.stream(uneven): time.sleep(.3) # noqa: B007 (read after the loop)
        worked = time.monotonic() - began - len(uneven) * .3
    assert last.seconds <= worked + .05 and sum(phases) <= worked + .05 # all that was not spent waiting for the consumer


def test_stopping_early_leaves_a_model_that_works(tmp_path, tokenizer):
    entry = make(tmp_path, tokenizer, 'llama')
    with LocalModel(entry) as m:
        want = m.complete(ASKED[:1])
        for _ in m.stream([replace(a, max_tokens=n) for a, n in zip(ASKED, (1, 20))]): break
        with pytest.raises(KeyboardInterrupt):
            for _ in m.stream(ASKED[:2]): raise KeyboardInterrupt
        assert m.complete(ASKED[:1])[0].text == want[0].text
    m.close()
    with pytest.raises(WorkError, match='is closed'): m.complete(ASKED[:1])


def test_sampling_is_seeded_per_question(tmp_path, tokenizer):
    entry = make(tmp_path, tokenizer, 'llama')
    with LocalModel(entry, seed=1, temperature=1.) as m:
        a = {r.id: r.text for r in m.stream(ASKED)}
        m._most = 2
        assert a == {r.id: r.text for r in m.stream(ASKED[::-1])}
    with LocalModel(entry, seed=1, temperature=1., latency_mode=True) as m: assert a == {r.id: r.text for r in m.stream(ASKED)}
    with LocalModel(entry, seed=2, temperature=1.) as m: assert all(a[r.id] != r.text for r in m.stream(ASKED))


# --- out of memory ---------------------------------------------------------------------------------------------------

def _linux(script, *args):
    "What a script of its own printed, as JSON: one thread, one heap, so that its memory can be counted and limited."
    if sys.platform != 'linux': pytest.skip('needs /proc and RLIMIT_AS')
    p = subprocess.run([sys.executable, '-c', textwrap.dedent(script), *args], capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1', 'MALLOC_ARENA_MAX': '1'})
    assert p.returncode == 0, p.stderr[-2000:]
    return json.loads(p.stdout.strip().splitlines()[-1])


def test_out_of_memory_halves_the_batch_and_remembers(tmp_path, tokenizer):
    "A real shortage: the process may map only so much more, and the first batch wants more than that."
    make(tmp_path, tokenizer, 'llama', num_key_value_heads=4, hidden_size=256, intermediate_size=1024, max_position_embeddings=8192)
    got = _linux(f'''
        import json, resource, sys
        import torch; torch.set_num_threads(1)
        from wattnb.llm.registry import ModelEntry
        from wattnb.llm.protocol import Request
        from wattnb.llm.local import LocalModel, log
        short = []
        log.addFilter(lambda r: short.append(r.args[0]) or True)
        m = LocalModel(ModelEntry('tiny', 'hf_local', {str(tmp_path)!r}, precision='fp32', max_new_tokens=4), batch_size=16, batch_tokens=10**9, prefix=False)
        asked = [Request(str(i), '', 'word ' * (500 + i)) for i in range(16)]
        want = LocalModel(m.entry, latency_mode=True).complete(asked[:2])
        used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
        limit = used + 70_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        first = m.complete(asked)
        halved, rows = m.info['out_of_memory'], m.info['batch_rows']
        second = m.complete(asked[:8])
        print(json.dumps(dict(ok=[r.ok for r in first + second], order=[r.id for r in first], halved=halved, rows=rows, short=short,
                              same=[a.text == b.text for a, b in zip(first, want)], n=len(second))))
    ''')
    assert all(got['ok']) and got['order'] == [str(i) for i in range(16)] and all(got['same'])
    assert got['halved'] >= 1 and got['rows'] < 16 and got['n'] == 8
    assert got['short'] == sorted(set(got['short']), reverse=True) # remembered: what was too much once is not tried again


def test_batches_respect_the_budget():
    "Who joins fits beside those that run, prompts and longest replies counted, one chunk at a time; a batch that is nearly full is left alone."
    m, made = BatchedModel(), lambda *lengths: [SequenceState(Request(f'{i}', '', ''), [0] * n, 100) for i, n in enumerate(lengths)]
    m._budget, m._most, seen, waiting = 3000, 4, [], made(*sorted([100, 2000, 350, 350, 800, 50, 1200, 600, 90, 400], reverse=True))
    while waiting: seen.append([s.length for s in m._next([], waiting)])
    assert seen == [[2000], [1200, 800], [600, 400, 350, 350], [100, 90, 50]]
    m._budget, m._most = 16_000, 16
    assert [len(m._next(made(*[900] * n), waiting)) for n in (16, 13, 12, 9) if (waiting := made(*[900] * 20))] == [0, 0, 4, 7]
    assert [len(m._next(made(*[900] * 9), made(*[900] * n))) for n in (2, 0)] == [2, 0] # the last ones do not wait for company
    m._budget = 10**6
    assert len(m._next(made(100), made(*[3000] * 9))) == 2 and len(m._next([], made(*[3000] * 9))) == 9 and len(m._next(made(100), made(9000))) == 1
    assert token_budget(1000, 1e9) == 600_000 and token_budget(10**9, 1e6) == 256


# --- thinking --------------------------------------------------------------------------------------------------------

THINK_TEMPLATE = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
                  "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}{% endif %}")

def test_thinking_has_a_budget_and_must_end(tmp_path, tokenizer):
    "A model that never stops thinking is made to: the closing mark is written for it, and then it answers."
    kept = tokenizer.chat_template
    try:
        tokenizer.chat_template = THINK_TEMPLATE
        entry = replace(make(tmp_path, tokenizer, 'llama'), thinking='on', thinking_tokens=30, max_new_tokens=10)
    finally: tokenizer.chat_template = kept
    with LocalModel(entry) as m:
        r = m.complete(ASKED[:2])[0]
        closing = len(m._marks[1])
        assert 30 <= r.reasoning_tokens <= 30 + len(m._closing_ids) and r.completion_tokens - r.reasoning_tokens <= 10 and r.completion_tokens > r.reasoning_tokens
        assert r.reasoning and r.text and '</think>' not in r.text and '<think>' not in r.text and closing
    with LocalModel(replace(entry, thinking='off', thinking_tokens=0)) as m:
        r = m.complete(ASKED[:1])[0]
        assert r.reasoning_tokens == 0 and r.completion_tokens <= 10 and m.prompt_text(ASKED[0]).rstrip().endswith('</think>')


# --- prompts ---------------------------------------------------------------------------------------------------------

def test_no_second_bos(tokenizer):
    "a template that begins with BOS is not given another; a model whose template forgets it can have it added."
    import copy
    tok = copy.deepcopy(tokenizer)
    tok.add_special_tokens({'bos_token': '<s>', 'eos_token': '</s>'})
    tok.chat_template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
    ids = encode_prompt(tok, SMOL, render_prompt(tok, SMOL, ASKED[0]))
    assert ids.count(tok.bos_token_id) == 1 and ids[0] == tok.bos_token_id
    tok.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
    text = render_prompt(tok, SMOL, ASKED[0])
    assert tok.bos_token_id not in encode_prompt(tok, SMOL, text)
    assert encode_prompt(tok, replace(SMOL, bos='add'), text)[0] == tok.bos_token_id


def test_templates_without_system_role_and_without_template(tokenizer):
    import copy
    tok = copy.deepcopy(tokenizer)
    tok.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{{ messages[0].content }}"
    assert render_prompt(tok, SMOL, Request('q', 'Be brief.', 'Why?')) == 'Be brief.\n\nWhy?'
    tok.chat_template = "{{ raise_exception('broken') }}"
    with pytest.raises(Exception, match='broken'): render_prompt(tok, SMOL, Request('q', 'Be brief.', 'Why?'))
    tok.chat_template = None
    assert render_prompt(tok, SMOL, Request('q', 'Be brief.', 'Why?')) == 'SYSTEM: Be brief.\n\nUSER: Why?\n\nASSISTANT:'


def test_window_is_never_cut_silently(tmp_path, tokenizer):
    entry = replace(make(tmp_path, tokenizer, 'llama'), context=200)
    with LocalModel(entry) as m:
        long, short = m.complete([Request('long', '', 'word ' * 300), ASKED[2]])
        assert 'tokens and the window of tiny-llama 200' in long.error and long.text == '' and long.prompt_tokens > 300
        assert short.ok


# --- precision and place ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize('precision, dtype, quantization', [('fp32', 'float32', 'none'), ('bf16', 'bfloat16', 'none'), ('fp16', 'float16', 'none'), ('4bit', None, 'nf4'), ('8bit', None, 'int8')])
def test_precisions_are_read_from_the_model(tmp_path, tokenizer, precision, dtype, quantization):
    if precision in ('4bit', '8bit'): pytest.importorskip('bitsandbytes')
    entry = make(tmp_path, tokenizer, 'llama', hidden_size=128, intermediate_size=256)
    with LocalModel(entry, precision=precision, device='cpu') as m:
        assert m.info['quantization'] == quantization and (dtype is None or m.info['effective_dtype'] == dtype)
        assert ('do not depend' in m.info['determinism']) == (precision == 'fp32')
        r = m.complete(ASKED[:2])
        assert all(x.ok and x.completion_tokens for x in r)


def test_auto_on_a_cpu_is_float32(tmp_path, tokenizer):
    from wattnb.llm.checkpoint import cpu_bf16_is_native
    entry = make(tmp_path, tokenizer, 'llama', dtype=torch.float16)
    got = load_local(entry, 'auto', device='cpu')
    assert got.info['effective_dtype'] == 'float32' and got.info['requested_precision'] == 'auto'
    assert isinstance(cpu_bf16_is_native(), bool)


def test_prequantised_checkpoints_keep_their_own(tmp_path, tokenizer):
    pytest.importorskip('bitsandbytes')
    entry = make(tmp_path/'plain', tokenizer, 'llama', hidden_size=128, intermediate_size=256)
    m = transformers.AutoModelForCausalLM.from_pretrained(tmp_path/'plain', device_map={'': 'cpu'},
        quantization_config=transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type='fp4'))
    try: m.save_pretrained(tmp_path/'fp4')
    except Exception as e: pytest.skip(f'this bitsandbytes cannot save on a CPU: {e}')
    tokenizer.save_pretrained(tmp_path/'fp4')
    with LocalModel(replace(entry, id=str(tmp_path/'fp4')), precision='8bit', device='cpu') as q:
        assert q.info['quantization'] == 'fp4' and q.complete(ASKED[:1])[0].ok


def test_places():
    GB = 1e9
    one, two = [(79 * GB, 80 * GB)], [(79 * GB, 80 * GB), (60 * GB, 80 * GB)]
    assert choose_place(15 * GB, two, 0, 'm', 'bf16') == {'device_map': {'': 0}} # a model that fits one GPU is not spread
    assert choose_place(100 * GB, two, 0, 'm', 'bf16')['device_map'] == 'auto'
    with pytest.raises(WorkError, match='needs about .* of GPU memory'): choose_place(100 * GB, one, 500 * GB, 'm', 'bf16')
    with pytest.raises(WorkError, match='of memory and 8.0 GB are free'): choose_place(15 * GB, [], 8 * GB, 'm', 'bf16')
    assert choose_place(100 * GB, one, 0, 'm', 'bf16', device='cpu') == {'device_map': {'': 'cpu'}}


# --- what goes wrong on the way --------------------------------------------------------------------------------------

def test_errors_have_one_line_and_a_way_out(tmp_path, monkeypatch):
    e = ModelEntry('m', 'hf_local', 'owner/model')
    chained = lambda name, text='', base=OSError: type(name, (base,), {})(text)
    assert isinstance(explain_load_error(chained('GatedRepoError'), e), UserError) and 'HF_TOKEN' in str(explain_load_error(chained('GatedRepoError'), e))
    assert 'no model owner/model on the model hub' in str(explain_load_error(chained('RepositoryNotFoundError'), e))
    monkeypatch.delenv('HF_HUB_OFFLINE', raising=False)
    assert 'cannot be reached: run `wattnb models --fetch hf:owner/model`' in str(explain_load_error(chained('LocalEntryNotFoundError'), e))
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    assert 'HF_HUB_OFFLINE is set' in str(explain_load_error(chained('LocalEntryNotFoundError'), e))
    assert 'has no revision abc' in str(explain_load_error(chained('RevisionNotFoundError'), replace(e, revision='abc')))
    assert 'does not fit into memory' in str(explain_load_error(RuntimeError('CUDA out of memory. Tried to allocate'), e))
    assert 'no space left' in str(explain_load_error(OSError(28, 'No space left on device'), e))
    assert 'newer transformers' in str(explain_load_error(ValueError('Transformers does not recognize this architecture.'), e))
    for x in (RuntimeError('boom\nsecond line'), KeyError('x')): assert '\n' not in str(explain_load_error(x, e))
    assert is_out_of_memory(MemoryError()) and not is_out_of_memory(RuntimeError('shape'))


def test_hub_offline_is_one_line(tmp_path):
    "Really offline: the hub's client raises what it raises, and one line comes out."
    script = "from wattnb.llm.protocol import open_model\nfrom wattnb.core.workspace import WorkError, UserError\ntry: open_model('hf:owner-x/model-y')\nexcept WorkError as e: print(e)"
    env = {**os.environ, 'HF_HUB_OFFLINE': '1', 'HF_HOME': str(tmp_path)}
    p = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, env=env)
    assert p.stdout.strip().startswith('owner-x/model-y is not in the cache and HF_HUB_OFFLINE is set'), p.stdout + p.stderr[-1500:]


def test_wrong_names_and_options(tmp_path, tokenizer):
    with pytest.raises(UserError, match='is not a folder with a model'): local_weights(ModelEntry('m', 'hf_local', './nowhere'))
    with pytest.raises(UserError, match='unknown precision'): LocalModel(SMOL, precision='5bit')
    with pytest.raises(UserError, match="source must be"): local_weights(SMOL, 'web')
    entry = make(tmp_path, tokenizer, 'llama')
    with pytest.raises(UserError, match='unknown option speed of a local model'): open_model(entry, speed=11)
    open_model(entry, tuned=False).close() # an option of earlier versions has no effect
    with LocalModel(entry) as m, pytest.raises(ValueError, match="two requests have the id 'q0'"): m.complete([ASKED[0], ASKED[0]])
    (tmp_path/'model.safetensors').write_bytes(b'not weights')
    with pytest.raises(WorkError, match='cannot load'): LocalModel(entry)


def test_constraint_hook(tmp_path, tokenizer):
    "Each request can bring a function that masks its next token."
    entry = make(tmp_path, tokenizer, 'llama')
    digits = [tokenizer(str(d), add_special_tokens=False)['input_ids'][0] for d in range(10)]
    def only_digits(tok, request):
        def mask(generated, logits):
            out = torch.full_like(logits, float('-inf')); out[digits] = logits[digits]
            return out
        return mask
    with LocalModel(entry, constrain=only_digits) as m: assert all(r.text.isdigit() and len(r.text) == 20 for r in m.complete(ASKED))


# --- the embedded model ----------------------------------------------------------------------------------------------

def test_embedded_model_batch_equals_alone():
    "Greedy, float32, real prompts of uneven length: the batch changes nothing."
    prompts = [Request(str(i), PREAMBLE, ('The site used %d MWh in 2023 and its PUE was 1.%d. ' % (100 * i, i)) * (1 + 3 * i) + TEXTS[i]) for i in range(4)]
    with LocalModel(SMOL, max_new_tokens=16, batch_size=4, precision='fp32') as m:
        together = m.complete(prompts)
    with LocalModel(SMOL, max_new_tokens=16, latency_mode=True, precision='fp32') as m: alone = m.complete(prompts)
    assert [r.text for r in together] == [r.text for r in alone]
    assert together[0].prompt_tokens == alone[0].prompt_tokens and together[0].cached_tokens > 32


def test_embedded_model_is_found_where_it_was_put_the_first_time(monkeypatch):
    local_weights(SMOL)
    from wattnb.llm import checkpoint
    for name in ('fetch_pypi_weights', '_convert_gguf'): monkeypatch.setattr(checkpoint, name, lambda *a, **k: pytest.fail('fetched or unpacked again'))
    assert Weights(local_weights(SMOL).path, 'pypi').bytes == local_weights(SMOL).bytes > 5e8
    m = load_local(SMOL, 'fp32').model
    assert effective_precision(m) == ('float32', 'none')
