"""Batched generation against one question at a time, with the embedded model on this machine's CPU or GPU.

    python benchmarks/generation.py                                  # 64 questions, as the model is shipped
    python benchmarks/generation.py --prompts shipped json closed    # other prompts: the full one with a JSON reply, and no passages
    python benchmarks/generation.py --transformers                   # also transformers' own generate, alone and in padded batches of eight
    python benchmarks/generation.py --precisions fp32 bf16 8bit 4bit # a table of precisions, few questions

Prompts are the real ones: the workspace's index and questions where there is one, else synthetic passages of the same size. All ways run in the
same process on the same prompts, so the ratios are of one run. Batching saves time of decoding only: prefill keeps the processor as busy for
one prompt as for many. The table gives the speed-up that a decode of no time would have, as an upper limit; a prefix that the prompts of a
batch share is prefilled once, which is not part of it.
"""
import argparse, json, random, statistics, time
from dataclasses import replace

from wattnb.llm.registry import load_registry
from wattnb.llm.local import LocalModel
from wattnb.llm.chat_template import encode_prompt
from wattnb.llm.prompts import answer_request, closed_book_request
from wattnb.core.questions import Question, read_questions
from wattnb.retrieval.context import Block, Context
from wattnb.core.tables import ResultTable
from wattnb.core.workspace import UserError, Workspace

# questions → (style of prompt, with passages, tokens of a reply at most (None: the model's own))
SHAPES = dict(shipped=('', True, None), json=('full', True, 192), closed=('full', False, 192))


def synthetic(n, tokens, seed=0):
    "(question, context) pairs over synthetic passages, of uneven length around `tokens`."
    rng = random.Random(seed)
    nouns, sites = 'energy water carbon power cooling memory network storage training inference'.split(), 'Aster Birch Cedar Dune Elm Fjord Grove Heath'.split()
    out = []
    for i in range(n):
        passage = []
        while sum(len(p) for p in passage) < 4.2 * tokens * rng.uniform(.6, 1.4):
            s, a, b = rng.choice(sites), rng.choice(nouns), rng.choice(nouns)
            passage.append(f'At the {s} site the {a} used for {b} was {rng.randint(10, 9999)} units in {rng.randint(2015, 2025)}, {rng.randint(2, 90)} percent of the total.')
        blocks = tuple(Block(f'{rng.choice(sites).lower()}{rng.randint(2015, 2025)}', rng.randint(1, 9), 'Results', p, 1., k + 1, (f'p{k}',)) for k, p in enumerate(passage))
        out.append((Question(f'q{i}', f'What share of the total did {rng.choice(nouns)} take at the {rng.choice(sites)} site?', answer_unit='percent'), Context(blocks)))
    return out


def real(n, tokens):
    "(question, context) pairs of the workspace, as its index finds them."
    from wattnb.index.store import open_index
    from wattnb.retrieval.queries import make_settings
    from wattnb.retrieval.search import retrieve
    ws = Workspace.find()
    questions = list(read_questions(ws.questions()))[:n]
    return [(q, r.context) for q, r in zip(questions, retrieve(open_index(ws), questions, make_settings(max_tokens=tokens)))]


def timed(model, requests):
    "(replies, seconds: total, of the processors, of prefill and decode; tokens per second)"
    phases = []
    model.on_phase = lambda *a: phases.append(a)
    t0, cpu = time.perf_counter(), time.process_time()
    replies = model.complete(requests)
    took, cpu = time.perf_counter() - t0, time.process_time() - cpu
    spans = {k: (sum(t1 - t0 for name, t0, t1, _, _ in phases if name == k), sum(sum(n) for name, *_, n in phases if name == k)) for k in ('prefill', 'decode')}
    rate = lambda k: spans[k][1] / spans[k][0] if spans[k][0] else None
    return replies, dict(seconds=took, cpu_seconds=cpu, prefill_s=spans['prefill'][0], decode_s=spans['decode'][0], prefill_tok_s=rate('prefill'), decode_tok_s=rate('decode'))


def summed(times, share=1.):
    "One record of several of `timed`."
    t = {k: share * sum(x[k] for x in times) for k in ('seconds', 'cpu_seconds', 'prefill_s', 'decode_s')}
    return t | {f'{k}_tok_s': share * sum(x[f'{k}_s'] * (x[f'{k}_tok_s'] or 0) for x in times) / t[f'{k}_s'] if t[f'{k}_s'] else None for k in ('prefill', 'decode')}


def generate(model, requests, rows, limit):
    "transformers' own generate on the same weights: prompts in order, padded by `rows`."
    torch, tok, out = model.torch, model.tokenizer, []
    t0, cpu = time.perf_counter(), time.process_time()
    prompts = [encode_prompt(tok, model.entry, model.prompt_text(r)) for r in requests]
    for i in range(0, len(prompts), rows):
        some = prompts[i:i + rows]
        L = max(map(len, some))
        ids = torch.tensor([[model.pad] * (L - len(p)) + p for p in some], device=model.device)
        mask = torch.tensor([[0] * (L - len(p)) + [1] * len(p) for p in some], device=model.device)
        with torch.inference_mode(): got = model.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=limit, do_sample=False, eos_token_id=sorted(model.eos), pad_token_id=model.pad)
        out += [tok.decode(g[L:], skip_special_tokens=True).strip() for g in got]
    return out, dict(seconds=time.perf_counter() - t0, cpu_seconds=time.process_time() - cpu, prefill_s=None, decode_s=None, prefill_tok_s=None, decode_tok_s=None)


def compare(entry, pairs, a, shape, what):
    "All ways on one kind of prompt. Returns (table, record)."
    style, passages, limit = SHAPES[shape]
    e = replace(entry, prompt=style or entry.prompt)
    requests = [answer_request(q, c, e) if passages else closed_book_request(q) for q, c in pairs]
    limit = a.max_new_tokens or limit or entry.max_new_tokens
    many, one = (LocalModel(e, precision='fp32', max_new_tokens=limit, **k) for k in (dict(batch_size=a.batch_size), dict(latency_mode=True)))
    for m in (many, one): m.complete(requests[:1])
    replies, alone, together, batched, size = [], [], [], [], -(-len(requests) // a.turns)
    for k in range(a.turns): # in turns, so that a machine that slows down or speeds up does so for both
        for model, some, texts, times in ((one, requests[k * size:(k + 1) * size], replies, alone), (many, requests, together, batched)):
            got, t = timed(model, some)
            texts += got
            times.append(t)
    alone, batched = summed(alone), summed(batched, 1 / a.turns)
    got = {'one at a time': ([r.text for r in replies], alone), f'batched, {max(r.batch_size for r in together)} rows': ([r.text for r in together[-len(requests):]], batched)}
    if a.transformers: got |= {'generate, one at a time': generate(one, requests, 1, limit), 'generate, padded by 8': generate(one, requests, 8, limit)}
    want, lengths, written = [r.text for r in replies], [r.prompt_tokens for r in replies], [r.completion_tokens for r in replies]
    same = lambda texts: sum(x == y for x, y in zip(texts, want))
    rows = [(k, t['seconds'], 60 * len(requests) / t['seconds'], alone['seconds'] / t['seconds'], t['prefill_s'], t['decode_s'], t['prefill_tok_s'], t['decode_tok_s'],
             f'{same(texts)} of {len(want)}') for k, (texts, t) in got.items()]
    bound = alone['seconds'] / (alone['seconds'] - alone['decode_s'])
    table = ResultTable(['way', 'seconds', 'questions/min', 'times as fast', 'prefill s', 'decode s', 'prefill tokens/s', 'decode tokens/s', 'same replies'], rows, digits=2,
                        title=f'{shape}: {len(requests)} {what}, {entry.name}, float32 on {many.info["device"]} ({many.info["threads"]} threads)',
                        notes=(f'prompts of {min(lengths)}–{max(lengths)} tokens (median {statistics.median(lengths):.0f}; in a batch {statistics.mean(r.cached_tokens for r in together):.0f} of them come from the shared prefix), replies of up to {limit} (mean {statistics.mean(written):.0f})',
                               f'batched takes {alone["cpu_seconds"] / batched["cpu_seconds"]:.2f} times less processor time; without any time for decoding it would be {bound:.2f} times as fast as one at a time'))
    for m in (many, one): m.close()
    return table, dict(shape=shape, ways={k: t for k, (_, t) in got.items()}, ratio=alone['seconds'] / batched['seconds'], bound=bound, prompts=lengths, replies=written,
                       same={k: same(texts) for k, (texts, _) in got.items()})


def precisions(entry, pairs, names):
    few, rows, wanted = [answer_request(q, c, entry) for q, c in pairs[:6]], [], None
    for precision in ['fp32', *[x for x in names if x != 'fp32']]:
        m = LocalModel(entry, precision=precision, max_new_tokens=24)
        replies, t = timed(m, few)
        wanted = wanted or [r.text for r in replies]
        rows.append((precision, f"{m.info['effective_dtype']}, {m.info['quantization']}", m.info['memory_bytes'] / 1e6, t['seconds'], t['prefill_tok_s'], t['decode_tok_s'], sum(r.text == w for r, w in zip(replies, wanted))))
        m.close()
    return ResultTable(['precision', 'effective', 'weights MB', 'seconds', 'prefill tokens/s', 'decode tokens/s', 'as float32 (of 6)'], rows, digits=1, title='Precisions, 6 questions of 24 tokens, one batch')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--model', default='smollm2-135m')
    p.add_argument('--questions', type=int, default=64)
    p.add_argument('--prompts', nargs='*', choices=SHAPES, default=['shipped'])
    p.add_argument('--context-tokens', type=int, help="size of the passages; default the model's own, else 1500")
    p.add_argument('--max-new-tokens', type=int, help="longest reply; default the model's, as in a run, and 192 for JSON replies")
    p.add_argument('--batch-size', type=int)
    p.add_argument('--turns', type=int, default=2, help='one at a time and batched take turns: the batch so often, the single questions in so many parts')
    p.add_argument('--transformers', action='store_true', help="also transformers' generate")
    p.add_argument('--synthetic', action='store_true', help='synthetic passages even where there is a workspace')
    p.add_argument('--precisions', nargs='*', default=[])
    p.add_argument('--json', action='store_true')
    a = p.parse_args()
    entry = load_registry().find(a.model).on_engine('transformers')
    tokens = a.context_tokens or entry.context_tokens or 1500
    try:
        if a.synthetic: raise UserError('requested')
        pairs, what = real(a.questions, tokens), 'questions of this workspace'
    except UserError as e: pairs, what = synthetic(a.questions, tokens), f'synthetic questions ({e})'
    out = []
    for shape in a.prompts:
        table, record = compare(entry, pairs, a, shape, what)
        out.append(record)
        if not a.json: print(table.to_text(), flush=True)
    more = precisions(entry, pairs, a.precisions) if a.precisions else None
    if a.json: print(json.dumps(dict(shapes=out, precisions=more and more.to_json())))
    elif more: print(more.to_text())


if __name__ == '__main__': main()
