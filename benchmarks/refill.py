"""Continuous batching against batches that nobody joins, and against transformers' own, on this machine's CPU or GPU.

    python benchmarks/refill.py                                  # 64 questions of the demo, as the model is shipped
    python benchmarks/refill.py --rows 8 --replies 8 160         # eight at a time, longest reply of each question drawn between these
    python benchmarks/refill.py --transformers                   # also transformers' `generate_batch`

All ways answer the same questions in one process, by turns, so the ratios are of one run. Seconds of the
processors are given beside the clock, because a machine may be shared."""
import argparse, functools, random, statistics, time
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO

from wattnb.core.tables import ResultTable
from wattnb.core.workspace import UserError
from wattnb.llm.local import LocalModel
from wattnb.llm.chat_template import encode_prompt
from wattnb.llm.prompts import answer_request
from wattnb.llm.registry import load_registry

from generation import real, synthetic, timed


def answered(model):
    "A function of requests: their texts, and what it took; `passes` counts what a GPU, bound by launches, spends its time on."
    passes, forward = [], model._forward
    model._forward = lambda *args: (passes.append(1), forward(*args))[1]
    def way(requests):
        passes.clear()
        replies, took = timed(model, requests)
        return [r.text for r in replies], took | dict(passes=len(passes))
    return way


def generate_batch(model, requests, rows=None):
    "The same prompts through transformers' paged cache. It knows one longest reply for all; each is cut to its own."
    import torch
    from transformers import GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig
    tok, limit = model.tokenizer, max(r.max_tokens or model.max_new_tokens for r in requests)
    prompts = [encode_prompt(tok, model.entry, model.prompt_text(r)) for r in requests]
    config = GenerationConfig(max_new_tokens=limit, do_sample=False, eos_token_id=sorted(model.eos), pad_token_id=model.pad)
    sizes = dict(page_size=32, num_blocks=(rows or 32) * (max(map(len, prompts)) + limit + 32) // 32, max_batch_tokens=512) if model.device.type == 'cpu' else {} # by memory
    t0, cpu = time.perf_counter(), time.process_time()
    with torch.inference_mode(), redirect_stderr(StringIO()): out = model.model.generate_batch(inputs=prompts, generation_config=config, continuous_batching_config=ContinuousBatchingConfig(**sizes), progress_bar=False)
    took = dict(seconds=time.perf_counter() - t0, cpu_seconds=time.process_time() - cpu)
    replies = sorted(out.values(), key=lambda r: int(r.request_id.rsplit('_', 1)[-1]))
    return [tok.decode(r.generated_tokens[:q.max_tokens or limit], skip_special_tokens=True).strip() for r, q in zip(replies, requests)], took


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--model', default='smollm2-135m'); p.add_argument('--questions', type=int, default=64); p.add_argument('--rows', type=int); p.add_argument('--context-tokens', type=int, help="size of the passages; default the model's own, else 1500")
    p.add_argument('--replies', type=int, nargs=2, metavar=('MIN', 'MAX')); p.add_argument('--turns', type=int, default=3)
    p.add_argument('--transformers', action='store_true'); p.add_argument('--synthetic', action='store_true', help='synthetic passages even where there is a workspace')
    a = p.parse_args()
    entry, rng = load_registry().find(a.model), random.Random(1)
    size = a.context_tokens or entry.context_tokens or 1500
    try:
        if a.synthetic: raise UserError('requested')
        pairs = real(a.questions, size)
    except UserError: pairs = synthetic(a.questions, size)
    requests = [answer_request(q, c, entry) for q, c in pairs]
    if a.replies: requests = [replace(r, max_tokens=rng.randint(*a.replies)) for r in requests]
    ways = {name: answered(LocalModel(entry, precision='fp32', batch_size=a.rows, refill=name == 'refilled')) for name in ('batches', 'refilled')}
    if a.transformers: ways['generate_batch'] = functools.partial(generate_batch, LocalModel(entry, precision='fp32'), rows=a.rows)
    for way in ways.values(): way(requests[:2]) # the first call of each is not counted
    found = {k: [] for k in ways}
    for i in range(a.turns):
        for k in ways if i % 2 else reversed(ways):
            found[k].append(ways[k](requests))
            print(i + 1, k, {x: round(y, 2) for x, y in found[k][-1][1].items() if y is not None}, flush=True)
    want = found['batches'][0][0]
    ratio = lambda k, what: statistics.median(x[1][what] / y[1][what] for x, y in zip(found['batches'], found[k]))
    rows = [(k, *(statistics.median(x[1].get(w, 0) for x in v) for w in ('seconds', 'cpu_seconds', 'passes')), ratio(k, 'seconds'), ratio(k, 'cpu_seconds'), f'{sum(x == y for x, y in zip(v[0][0], want))} of {len(want)}') for k, v in found.items()]
    print(ResultTable(['way', 'seconds', 'processor seconds', 'forward passes', 'times as fast', 'by processor time', 'same replies'], rows, digits=2, title=f'{len(requests)} questions, {entry.name}, rows {a.rows or "by memory"}').to_text())


if __name__ == '__main__': main()
