"""The whole demo against a real llama.cpp server (`xllamacpp`, the embedded model): windows and slots that people have, and no failed question.

    python benchmarks/llamacpp_demo.py                                        # 87 questions, windows 2,048 and 8,192, 1 and 4 slots
    python benchmarks/llamacpp_demo.py --full --windows 2048 --limit 20       # the model under a name that nobody knows: whole contexts of 1,500 tokens
    python benchmarks/llamacpp_demo.py --threads 2 --max-new-tokens 24

The server is asked through `--model openai:...` as any other. Without `--full` the model is found by the name of its file, and its prompts are short.
With it, contexts are as long as those of large models, and they fill a window of 2,048 tokens. Prints a line for each window and number of slots;
exit status 1 where a question failed, was cut by the server, or the slots and the window were not those of the server.
"""
import argparse, tempfile, time
from contextlib import contextmanager
from pathlib import Path

from wattnb.cli.command import init_workspace
from wattnb.core.tables import ResultTable
from wattnb.core.workspace import Workspace, read_json
from wattnb.experiment.execute import run_all
from wattnb.experiment.plan import plan_run
from wattnb.experiment.settings import RunSettings
from wattnb.index.corpus import build_corpus
from wattnb.index.store import build_index
from wattnb.llm.protocol import fetch_model
from wattnb.testing.server import environment

NAMED, UNKNOWN = 'openai:SmolLM2-135M-Instruct.Q4_1.gguf', 'openai:local'


def weights(): return str(fetch_model('smollm2-135m'))


@contextmanager
def serving(window, slots, threads=1):
    "A server with so many tokens per slot; OPENAI_BASE_URL is its address. One thread: several wait for each other where others are at work."
    import xllamacpp as llama
    p = llama.CommonParams()
    p.model.path, p.n_ctx, p.n_parallel, p.port, p.warmup, p.verbosity = weights(), window * slots, slots, 0, False, -1
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = threads
    server = llama.Server(p)
    try:
        with environment(OPENAI_BASE_URL=f'{server.listening_address}/v1', OPENAI_API_KEY=None): yield server.listening_address
    finally: del server


def row(ws, window, slots, a):
    "(a line of the table, whether all is well)"
    settings = RunSettings(model=UNKNOWN if a.full else NAMED, name=f'w{window}-s{slots}', preset='words', max_retries=0, limit=a.limit, max_new_tokens=a.max_new_tokens)
    t = time.perf_counter()
    with serving(window, slots, a.threads):
        plan = plan_run(settings, ws)
        summary = run_all(plan).summary
    seconds, records = time.perf_counter() - t, read_json(plan.run_dir/'results.json')
    by, effective = summary['by_status'], summary['effective']
    prompts = [r['tokens']['prompt'] or 0 for r in records]
    cut = sum((r['context_tokens'] or 0) > n for r, n in zip(records, prompts, strict=True))
    good = not (by['failed'] or cut) and [effective[k] for k in ('slots', 'context')] == [slots, window] and max(prompts) < window
    queue = summary['timing'].get('queue_seconds') or 0.
    return (window, slots, len(records), by['answered'], by['abstained'], by['unparsed'], by['failed'], max(prompts), seconds, seconds / len(records), queue), good


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--windows', type=int, nargs='+', default=[2048, 8192]); p.add_argument('--slots', type=int, nargs='+', default=[1, 4])
    p.add_argument('--limit', type=int, help='only the first questions'); p.add_argument('--max-new-tokens', type=int, default=48)
    p.add_argument('--threads', type=int, default=1); p.add_argument('--full', action='store_true', help='contexts of 1,500 tokens, whole prompts')
    a = p.parse_args()
    weights() # unpacked before the clock starts
    with tempfile.TemporaryDirectory() as tmp:
        init_workspace(Path(tmp)/'ws', demo=True)
        ws = Workspace.find(Path(tmp)/'ws')
        build_index(ws, embedder='none', corpus=build_corpus(ws))
        rows, good = zip(*(row(ws, w, s, a) for w in a.windows for s in a.slots), strict=True)
    columns = ['window', 'slots', 'questions', 'answered', 'abstained', 'unparsed', 'failed', 'longest prompt', 'seconds', 's/question', 'queue s/question']
    print(ResultTable(columns, rows, title=f'llama.cpp, {"whole" if a.full else "short"} prompts, {a.max_new_tokens} tokens at most, {a.threads} thread(s)', digits=1).to_text())
    return 0 if all(good) else 1


if __name__ == '__main__': raise SystemExit(main())
