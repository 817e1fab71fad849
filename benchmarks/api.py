"""Many questions over an API that fails: wall time with 30 % faults of all kinds against none, in one run.

    python benchmarks/api.py                              # 300 questions, 50 ms, 30 % faults, 10 at a time
    python benchmarks/api.py --providers bedrock --share .5

The server is a local one on real sockets (`wattnb.testing`), so the figures are of the client alone. The allowance is 1.5
times the run without faults plus the waits that `Retry-After` demanded. A hanging call costs the client's timeout.
"""
import argparse, time

from wattnb.llm.registry import ModelEntry
from wattnb.llm.protocol import Request, open_model
from wattnb.testing.server import FAULTS, FakeServer, environment
from wattnb.core.tables import ResultTable

KEYS = dict(OPENAI_API_KEY='sk-benchmark-not-a-key', OPENROUTER_API_KEY='sk-benchmark-not-a-key', AWS_ACCESS_KEY_ID='benchmark-not-an-id',
            AWS_SECRET_ACCESS_KEY='benchmark-not-a-key', AWS_PROFILE=None)


def run(provider, n, at_once, timeout, **server):
    "(seconds, replies, server) of `n` questions."
    asked = [Request(f'q{i}', 'Be brief.', f'Question {i}?', max_tokens=64) for i in range(n)]
    with FakeServer(lambda p: p, **server) as s, environment(**s.env(), **KEYS):
        with open_model(ModelEntry('m', provider, 'some/model', max_concurrent=at_once), timeout=timeout) as m:
            m.complete(asked[:0])
            t = time.perf_counter()
            got = list(m.stream(asked))
            seconds = time.perf_counter() - t
    assert sorted(r.id for r in got) == sorted(r.id for r in asked), 'a question was lost or came twice'
    assert all(r.text == f'Question {r.id[1:]}?' for r in got if r.ok), 'a reply went to another question'
    assert s.most <= at_once, f'{s.most} calls at once'
    return seconds, got, s


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--providers', nargs='+', default=['openai', 'openrouter', 'bedrock'])
    p.add_argument('--questions', type=int, default=300)
    p.add_argument('--at-once', type=int, default=10)
    p.add_argument('--latency', type=float, default=.05, help='seconds of each answer')
    p.add_argument('--share', type=float, default=.3, help='share of calls with a fault')
    p.add_argument('--retry-after', type=float, default=.5, help='seconds that a rate limit asks for')
    p.add_argument('--timeout', type=float, default=1., help='seconds until a call is given up')
    p.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    a = p.parse_args()
    rows, good = [], True
    for provider in a.providers:
        for seed in a.seeds:
            args = provider, a.questions, a.at_once, a.timeout
            clean, _, _ = run(*args, latency=a.latency)
            faulty, got, s = run(*args, latency=a.latency, share=a.share, retry_after=a.retry_after, kinds=FAULTS, hang=60, seed=seed)
            allowed = 1.5 * clean + s.asked_wait
            good &= faulty <= allowed
            rows.append((provider, seed, clean, faulty, s.asked_wait, faulty / clean, faulty / allowed, sum(r.ok for r in got), sum(not r.ok for r in got), s.calls, s.given.count('hang'), s.most))
    columns = ['provider', 'seed', 'no faults (s)', 'faults (s)', 'waits demanded (s)', 'ratio', 'of allowance', 'answered', 'failed', 'calls', 'hung', 'at once']
    print(ResultTable(columns, rows, title=f'{a.questions} questions, {a.latency * 1e3:.0f} ms, {a.share:.0%} faults, {a.at_once} at a time', digits=2).to_text())
    return 0 if good else 1


if __name__ == '__main__': raise SystemExit(main())
