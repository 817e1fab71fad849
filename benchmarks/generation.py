"""Batched generation against one question at a time, with the embedded model on this machine's CPU or GPU.

    python benchmarks/generation.py                     # 24 questions of the demo set, batched and one by one
    python benchmarks/generation.py --questions 60 --precisions fp32 bf16 8bit 4bit

Prompts are the real ones: the workspace's index and questions where there is one, else invented passages of the same
size. Both ways run in the same process on the same prompts, alternately, so the ratio is of one run.
"""
import argparse, json, random, statistics, time

from wattnb.llm import Request, load_registry
from wattnb.local import LocalModel
from wattnb.workspace import ResultTable, UserError, Workspace

SYSTEM = ('You answer questions about research papers. Use only the passages you are given. Reply with one JSON object with the keys "explanation", "answer_value" '
          'and "ref_id". Write numbers without thousands separators and without their unit, ranges as [low,high], true as 1 and false as 0. If the passages do not '
          'answer the question, "answer_value" is "is_blank" and "ref_id" is an empty list. Never use what you know from elsewhere.')


def invented(n, tokens, seed=0):
    "Requests over invented passages, of uneven length around `tokens`."
    rng = random.Random(seed)
    nouns, sites = 'energy water carbon power cooling memory network storage training inference'.split(), 'Aster Birch Cedar Dune Elm Fjord Grove Heath'.split()
    out = []
    for i in range(n):
        passage = []
        while sum(len(p) for p in passage) < 4.2 * tokens * rng.uniform(.6, 1.4):
            s, a, b = rng.choice(sites), rng.choice(nouns), rng.choice(nouns)
            passage.append(f'At the {s} site the {a} used for {b} was {rng.randint(10, 9999)} units in {rng.randint(2015, 2025)}, {rng.randint(2, 90)} percent of the total.')
        text = '\n'.join(f'[{rng.choice(sites).lower()}{rng.randint(2015, 2025)}, page {rng.randint(1, 9)}] {p}' for p in passage)
        out.append(Request(f'q{i}', SYSTEM, f'Passages:\n\n{text}\n\nQuestion: What share of the total did {rng.choice(nouns)} take at the {rng.choice(sites)} site?'))
    return out


def real(n, tokens, entry):
    "Requests of the workspace's questions, with the passages that its index finds."
    from wattnb.index import open_index
    from wattnb.prompts import answer_request
    from wattnb.questions import read_questions
    from wattnb.retrieval import make_settings, retrieve
    ws = Workspace.find()
    questions = list(read_questions(ws.questions()))[:n]
    settings = make_settings(**({'max_tokens': tokens} if tokens else {}))
    return [answer_request(q, r.context, entry) for q, r in zip(questions, retrieve(open_index(ws), questions, settings))]


def rates(replies, phases):
    pre = sum(t1 - t0 for name, t0, t1, _, _ in phases if name == 'prefill')
    dec = sum(t1 - t0 for name, t0, t1, _, _ in phases if name == 'decode')
    read = sum(sum(tokens) for name, _, _, _, tokens in phases if name == 'prefill')
    wrote = sum(sum(tokens) for name, _, _, _, tokens in phases if name == 'decode')
    return dict(prefill_s=pre, decode_s=dec, prefill_tok_s=read / pre if pre else None, decode_tok_s=wrote / dec if dec else None)


def timed(model, requests):
    phases = []
    model.on_phase = lambda *a: phases.append(a)
    t0, cpu = time.perf_counter(), time.process_time()
    replies = model.complete(requests)
    return replies, dict(seconds=time.perf_counter() - t0, cpu_seconds=time.process_time() - cpu, **rates(replies, phases))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--model', default='smollm2-135m')
    p.add_argument('--questions', type=int, default=24)
    p.add_argument('--context-tokens', type=int, default=0, help="size of the passages; default the workspace's settings, or 320 invented tokens")
    p.add_argument('--max-new-tokens', type=int, help="longest reply; default the model's, as in a run")
    p.add_argument('--batch-size', type=int)
    p.add_argument('--repeat', type=int, default=1, help='pairs of runs; the median ratio is reported')
    p.add_argument('--invented', action='store_true', help='invented passages even where there is a workspace')
    p.add_argument('--precisions', nargs='*', default=['bf16', '8bit', '4bit'], help='for the second table (6 questions each)')
    p.add_argument('--json', action='store_true')
    a = p.parse_args()
    entry = load_registry().find(a.model)
    try:
        if a.invented: raise UserError('asked for')
        requests, what = real(a.questions, a.context_tokens, entry), 'questions of this workspace'
    except UserError as e:
        requests, what = invented(a.questions, a.context_tokens or 320), f'invented questions ({e})'
    many = LocalModel(entry, precision='fp32', max_new_tokens=a.max_new_tokens, batch_size=a.batch_size)
    one = LocalModel(entry, precision='fp32', max_new_tokens=a.max_new_tokens, latency_mode=True)
    for m in (many, one): m.complete(requests[:1])
    runs = []
    for _ in range(a.repeat):
        batched, b = timed(many, requests)
        single, s = timed(one, requests)
        runs.append(dict(batched=b, single=s, ratio=s['seconds'] / b['seconds'], same=sum(x.text == y.text for x, y in zip(batched, single)), n=len(requests)))
    mid = sorted(runs, key=lambda r: r['ratio'])[len(runs) // 2]
    lengths, ratios = [r.prompt_tokens for r in single], ', '.join(f'{r["ratio"]:.2f}' for r in runs)
    rows = [(name, r['seconds'], 60 * len(requests) / r['seconds'], r['prefill_s'], r['decode_s'], r['prefill_tok_s'], r['decode_tok_s'])
            for name, r in (('one at a time', mid['single']), (f'batched, up to {many.info["batch_rows"]}', mid['batched']))]
    main_table = ResultTable(['way', 'seconds', 'questions/min', 'prefill s', 'decode s', 'prefill tok/s', 'decode tok/s'], rows, digits=1,
                             title=f'{len(requests)} {what}, {entry.name}, float32 on {many.info["device"]} ({many.info["threads"]} threads)',
                             notes=(f'{mid["ratio"]:.2f} times as fast ({ratios}), with {mid["single"]["cpu_seconds"] / mid["batched"]["cpu_seconds"]:.2f} times less processor time; {mid["same"]} of {mid["n"]} replies identical; prompts '
                                    f'{min(lengths)}–{max(lengths)} tokens (median {statistics.median(lengths):.0f}), of which {batched[0].cached_tokens} shared and read once',))
    wanted = [r.text for r in single]
    many.close(); one.close()
    few, rows = requests[:6], []
    for precision in ['fp32', *[x for x in a.precisions if x != 'fp32']]:
        m = LocalModel(entry, precision=precision, device='cpu' if many.info['device'] == 'cpu' else None, max_new_tokens=24)
        replies, t = timed(m, few)
        rows.append((precision, f"{m.info['effective_dtype']}, {m.info['quantization']}", m.info['memory_bytes'] / 1e6, t['seconds'], t['prefill_tok_s'], t['decode_tok_s'],
                     sum(r.text == w[:len(r.text)] for r, w in zip(replies, wanted))))
        m.close()
    second = ResultTable(['precision', 'effective', 'weights MB', 'seconds', 'prefill tok/s', 'decode tok/s', 'as float32 (of 6)'], rows, digits=1, title='Precisions, 6 questions of 24 tokens, one batch')
    if a.json: print(json.dumps(dict(runs=runs, prompts=lengths, precisions=second.to_json())))
    else: print(main_table.to_text(), second.to_text(), sep='\n\n')


if __name__ == '__main__': main()
