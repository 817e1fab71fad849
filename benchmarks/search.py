"""Search speed: python benchmarks/search.py [--million] [--graph FILE] [--json FILE]

1. 1,200 queries in one batch over 25,000 vectors of 384 dimensions, beside the bare float32 matrix product.
2. Single queries, one after another.
3. Exact and HNSW for growing indexes: where they cross (`wattnb.index.store.HNSW_FROM`).
4. With --million: HNSW over 1,000,000 vectors, recall@10 against the exact search, and queries per second, by the clock and by CPU time
   (the second is what idle cores would do); --graph keeps the graph, or takes it from there.

The vectors are made here to lie as sentence embeddings do: 2,000 topics, and inside a topic a cloud of 24 dimensions with a little
noise in all 384 (MiniLM's passages of the 32 papers have about 20). Queries are made the same way and are not in the index."""
import json, os, platform, sys, time

import numpy as np
from wattnb.index.store import HNSW_FROM, _make_graph, exact_search

DIM, TOPICS, INNER = 384, 2000, 24


def unit(v): return v / np.linalg.norm(v, axis=1, keepdims=True)


def made(n, seed, space=np.random.default_rng(7)): # noqa: B008 (one generator for all calls)
    "n unit vectors; the topics are the same for every seed."
    if not hasattr(made, 'centres'):
        made.centres = unit(space.normal(size=(TOPICS, DIM)).astype(np.float32))
        made.maps = space.normal(size=(64, INNER, DIM)).astype(np.float32) / np.sqrt(DIM)
    rng, out = np.random.default_rng(seed), np.empty((n, DIM), np.float32)
    for a in range(0, n, 50_000):
        m = min(50_000, n - a)
        topic = rng.integers(0, TOPICS, m)
        part = made.centres[topic] + .15 * rng.normal(size=(m, DIM)).astype(np.float32) / np.sqrt(DIM)
        z = rng.normal(size=(m, INNER)).astype(np.float32) / np.sqrt(INNER)
        for k in range(64):
            pick = topic % 64 == k
            part[pick] += z[pick] @ made.maps[k]
        out[a:a + m] = unit(part)
    return out


def best(f, reps=5):
    t = []
    for _ in range(reps): a = time.perf_counter(); f(); t.append(time.perf_counter() - a)
    return min(t)


def both(f, reps=3):
    "(least seconds by the clock, least CPU seconds of all threads)"
    t = []
    for _ in range(reps): a, c = time.perf_counter(), time.process_time(); f(); t.append((time.perf_counter() - a, time.process_time() - c))
    return min(x for x, _ in t), min(x for _, x in t)


def recall(found, true): return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), true.tolist())]))


def batch():
    v, q = made(25_000, 1), made(1200, 2)
    product, search = best(lambda: q @ v.T), best(lambda: exact_search(v, q, 60))
    one = best(lambda: [exact_search(v, q[i:i + 1], 60) for i in range(200)], 3) / 200
    print(f'1,200 queries over 25,000 x 384, one batch: product {product:.3f} s, search for 60 each {search:.3f} s, ratio {search / product:.2f}; {1200 / search:,.0f} queries/s')
    print(f'single queries over 25,000 x 384: {1 / one:,.0f} queries/s')
    return dict(product_s=product, search_s=search, ratio=search / product, batch_qps=1200 / search, single_qps=1 / one)


def crossed(rows, kind):
    "The size at which HNSW passes the exact search, between the two sizes around it on logarithmic scales; None where it does not."
    lead = [(np.log(r['n']), np.log(r[f'hnsw_{kind}'] / r[f'exact_{kind}'])) for r in rows]
    if lead[0][1] > 0: return float(np.exp(lead[0][0]))
    return next((float(np.exp(a + (b - a) * x / (x - y))) for (a, x), (b, y) in zip(lead, lead[1:]) if x <= 0 < y), None)


def crossing():
    rows = []
    q = made(1200, 2)
    for n in (5_000, 25_000, 50_000, 100_000, 200_000):
        v = made(n, 1)
        t = time.perf_counter(); g = _make_graph(v); build = time.perf_counter() - t
        g.set_ef(120)
        rows.append(dict(n=n, exact_batch=1200 / best(lambda: exact_search(v, q, 60), 3), hnsw_batch=1200 / best(lambda: g.knn_query(q, 60), 3),
                         exact_single=100 / best(lambda: [exact_search(v, q[i:i + 1], 60) for i in range(100)], 2),
                         hnsw_single=100 / best(lambda: [g.knn_query(q[i:i + 1], 60) for i in range(100)], 2),
                         recall=recall(g.knn_query(q[:300], 60)[0], exact_search(v, q[:300], 60)[1]), build_s=build))
        r = rows[-1]
        print(f"{n:>9,} vectors: batch exact {r['exact_batch']:>8,.0f} HNSW {r['hnsw_batch']:>8,.0f} queries/s; single exact {r['exact_single']:>7,.0f} HNSW {r['hnsw_single']:>7,.0f}; "
              f"recall@60 {r['recall']:.3f}; graph built in {build:,.0f} s", flush=True)
    where = {kind: crossed(rows, kind) for kind in ('batch', 'single')}
    print('HNSW is faster ' + ', '.join(f'from about {n:,.0f} vectors on for {kind} queries' if n else f'nowhere for {kind} queries' for kind, n in where.items()) + f'; the index uses it from {HNSW_FROM:,} on')
    return dict(rows=rows, crossing=where, used_from=HNSW_FROM)


def million(n=1_000_000):
    v, q = made(n, 1), made(2000, 2)
    kept = sys.argv[sys.argv.index('--graph') + 1] if '--graph' in sys.argv else None
    if kept and os.path.exists(kept):
        import hnswlib
        g = hnswlib.Index(space='ip', dim=DIM); g.load_index(kept); build = None
    else:
        t = time.perf_counter(); g = _make_graph(v); build = time.perf_counter() - t
        print(f'{n:,} vectors: graph built in {build:,.0f} s', flush=True)
        if kept: g.save_index(kept)
    true = exact_search(v, q[:500], 10)[1]
    del v
    rows = []
    for ef in (20, 40, 50, 60, 80, 120, 200):
        g.set_ef(ef)
        clock, cpu = both(lambda: g.knn_query(q, 10))
        rows.append(dict(ef=ef, recall_at_10=recall(g.knn_query(q[:500], 10)[0], true), qps=len(q) / clock, qps_by_cpu=len(q) * os.cpu_count() / cpu))
        r = rows[-1]
        print(f"  ef {ef:>3}: recall@10 {r['recall_at_10']:.4f}, {r['qps']:,.0f} queries/s by the clock, {r['qps_by_cpu']:,.0f} by CPU time on {os.cpu_count()} cores", flush=True)
    return dict(n=n, build_s=build, rows=rows)


if __name__ == '__main__':
    print(f'{os.cpu_count()} cores, {platform.processor() or platform.machine()}, numpy {np.__version__}')
    out = dict(million=million()) if '--million' in sys.argv else dict(batch=batch(), crossing=crossing())
    if '--json' in sys.argv: open(sys.argv[sys.argv.index('--json') + 1], 'w').write(json.dumps(out, indent=1))
