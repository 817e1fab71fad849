"Runs on a real Ray cluster of several nodes on this machine: work is spread, artefacts come back, a killed node's run is resumed elsewhere."
import json, os, time

import pytest

pytest.importorskip('ray', reason="pip install 'wattnb[ray]'")
pytest.importorskip('papermill')

from conftest import plug, words_workspace
from wattnb.benchmark.plan import BenchmarkSettings, plan_benchmark
from wattnb.benchmark.runner import run_benchmark
from wattnb.benchmark.cluster import Cluster
from wattnb.experiment.settings import RunSettings
from wattnb.experiment.plan import plan_run
from wattnb.experiment.execute import run_all
from wattnb.experiment.stored import verify
from wattnb.experiment.journal import read_journal
from wattnb.core.workspace import read_json

SLOW = plug('SLOW_MODEL', '''
def stream(self, requests):
    import time
    for r in real(self, requests): time.sleep(float(os.environ['SLOW_MODEL'])); yield r
''')


def answers(run_dir):
    return {r['id']: (r['pred_value'], r['pred_ref']) for r in json.loads((run_dir / 'results.json').read_text())}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    "A head without work and two worker nodes of one CPU each; runs there answer slowly, so that there is a middle to be killed in."
    import ray
    from ray.cluster_utils import Cluster as Nodes
    plug = tmp_path / 'plug'; plug.mkdir(); (plug / 'sitecustomize.py').write_text(SLOW)
    for k in ('IN_TEST', 'RAY_ADDRESS'): monkeypatch.delenv(k, raising=False)
    for k, v in dict(PYTHONPATH=str(plug), SLOW_MODEL='0.4', WATTNB_CACHE=str(tmp_path / 'cache'), WATTNB_PROGRESS='0', RAY_DISABLE_IMPORT_WARNING='1',
                     RAY_USAGE_STATS_ENABLED='0', RAY_raylet_start_wait_time_s='120', RAY_health_check_period_ms='1000', RAY_health_check_failure_threshold='3').items():
        monkeypatch.setenv(k, v)
    try:
        nodes = Nodes(initialize_head=True, head_node_args=dict(num_cpus=0, include_dashboard=False))
        workers = [nodes.add_node(num_cpus=1) for _ in range(2)]
        nodes.wait_for_nodes()
    except Exception as e: # Ray raises no narrower one
        if 'timed out during startup' not in str(e): raise
        pytest.skip(f"Ray's own nodes do not start within its 15 seconds on a machine as busy as this one: {str(e).splitlines()[0]}")
    yield nodes, workers
    ray.shutdown(); nodes.shutdown()



def test_two_nodes_and_one_is_killed_in_the_middle(cluster, tmp_path):
    nodes, workers = cluster
    ws = words_workspace(tmp_path / 'ws')
    s = BenchmarkSettings(models=('extractive', 'abstain'), preset='words', env='ray', limit=30)
    os.environ.pop('SLOW_MODEL')
    calm = {m: plan_run(RunSettings(m, env='calm', preset='words', limit=30), ws) for m in s.models}
    for p in calm.values(): run_all(p)
    home = Cluster(nodes.address, ws, ws.questions(), shared=False)
    runs, killed, seen = plan_benchmark(s, ws), {}, set()
    by_id = {w.node_id: w for w in workers}
    def watch(b):
        for r in b.runs:
            if r.state == 'run': seen.add((r.model, r.where))
        x = next((r for r in b.runs if r.model == 'extractive'), None)
        if not killed and x.state == 'run' and x.done >= 5:
            node = next(i for i in by_id if f'({i[:6]})' in x.where)
            killed.update(done=x.done, node=node, journal=(x.run_dir / 'journal.jsonl').read_bytes())
            nodes.remove_node(by_id[node], allow_graceful=False)
    t0 = time.monotonic()
    b = run_benchmark(runs, s, watch, poll=.2, executors=[home])
    took = time.monotonic() - t0
    assert killed and 5 <= killed['done'] < 30, 'a node was killed in the middle'
    assert [r.state for r in b.runs] == ['pass', 'pass'], b
    assert len({w for _, w in seen}) == 2, 'both nodes had work'
    x = next(r for r in b.runs if r.model == 'extractive')
    assert x.lost == 1 and x.where.endswith(')')
    journal = read_journal(x.run_dir / 'journal.jsonl')
    assert (x.run_dir / 'journal.jsonl').read_bytes().startswith(killed['journal']), 'what was home before the kill is kept'
    firsts = [a['id'] for a in journal.of('attempt') if a['attempt'] == 1]
    assert len(firsts) == len(set(firsts)) == 30, 'none lost, none asked twice'
    assert len({s['session'] for s in journal.of('session')}) == 2
    for m, p in calm.items():
        r = next(r for r in b.runs if r.model == m)
        assert answers(r.run_dir) == answers(p.run_dir)
        assert (r.run_dir / 'run_experiment.ipynb').exists() and read_json(r.run_dir / 'summary.json')['machine']['hostname']
        assert all(c['result'] == 'passed' for c in verify(r.run_dir)), verify(r.run_dir)
    saved = read_json(x.run_dir.parent / 'benchmark.json')
    assert {r['model']: r['lost'] for r in saved['runs']}['extractive'] == 1
    assert not list(ws.artifacts.glob('.cluster-*'))
    assert len(list((tmp_path / 'cache/cluster').glob('run-*'))) <= 1, 'only a lost node keeps what it had; the others have sent all home'
    assert all(r.state == 'skip' for r in plan_benchmark(s, ws)), 'the same command has nothing left to do'
    print(f'{took:.0f} s')
