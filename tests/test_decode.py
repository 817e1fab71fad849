"What a local model writes is what it should write: finite, complete, the same in company as alone, and as transformers' own `generate` writes it."
import math, random
from dataclasses import replace

import pytest

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

from test_local import ASKED, COMMON, PREAMBLE, make, tokenizer
from wattnb.llm import Request
from wattnb.local import LocalModel, encode_prompt, is_out_of_memory, render_prompt

WAYS = dict(flow=dict(refill=True, batch_size=2), batch=dict(refill=False), alone=dict(latency_mode=True), sampled=dict(temperature=.7))


def generate(model, tokenizer, entry, request, n=20, **kw):
    "The text that transformers' own `generate` writes to the prompt of a request, read and decoded as wattnb does."
    ids = torch.tensor([encode_prompt(tokenizer, entry, render_prompt(tokenizer, entry, request))])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, pad_token_id=2, **kw)[0, ids.shape[1]:]
    raw = tokenizer.decode([t for t in out.tolist() if t != 2], skip_special_tokens=False)
    for s in tokenizer.all_special_tokens: raw = raw.replace(s, '')
    return raw.strip()


# --- numbers that are none -------------------------------------------------------------------------------------------

@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('broken', [math.nan, math.inf])
def test_a_row_whose_logits_are_not_finite_fails_and_the_others_are_answered(tmp_path, tokenizer, way, broken):
    "One word makes the model overflow. The rows that read it fail with a line; those beside them, and those that take their places, are what they are alone."
    entry = make(tmp_path, tokenizer, 'llama')
    word = tokenizer(' coal', add_special_tokens=False)['input_ids']
    asked = [replace(r, user=r.user + (' coal' if i in (1, 2) else '')) for i, r in enumerate(ASKED)]
    with LocalModel(entry, **WAYS[way]) as m:
        want = {r.id: r.text for r in m.complete(asked)}
        with torch.inference_mode(): m.model.get_input_embeddings().weight[word[0]] = broken
        got = m.complete(asked)
    assert [r.ok for r in got] == [True, False, False, True, True, True]
    for r in got:
        if r.ok: assert r.text == want[r.id] and all(math.isfinite(p) for _, p in r.logprobs)
        else: assert r.text == '' and r.finish_reason == 'error' and 'not finite after 0 tokens' in r.error and '\n' not in r.error


@pytest.mark.parametrize('way', WAYS)
def test_an_overflow_in_fp16_is_told_as_one(tmp_path, tokenizer, way):
    "A real one: weights that float16 holds and whose products it does not."
    entry = make(tmp_path, tokenizer, 'llama')
    with LocalModel(entry, precision='fp16', device='cpu', **WAYS[way]) as m:
        with torch.inference_mode(): m.model.lm_head.weight[5] *= torch.tensor(6e4) / m.model.lm_head.weight[5].abs().max()
        with torch.inference_mode(): m.model.model.norm.weight.mul_(100)
        got = m.complete(ASKED)
    bad = [r for r in got if not r.ok]
    assert bad and all('the model overflows in fp16: use bf16' in r.error for r in bad), [r.error or r.text for r in got]
    assert all(math.isfinite(p) for r in got if r.ok for _, p in r.logprobs)
