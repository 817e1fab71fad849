"The logic of `benchmarks/gpu.py` without a GPU: every part runs, and nothing that can be told on a CPU fails."
import json, subprocess, sys
from pathlib import Path

root = Path(__file__).resolve().parents[1]


def test_the_gpu_benchmark_runs_tiny(tmp_path):
    p = subprocess.run([sys.executable, root / 'benchmarks/gpu.py', '--tiny', '--out', tmp_path / 'gpu.json'], capture_output=True, text=True, timeout=600)
    found = json.loads((tmp_path / 'gpu.json').read_text())
    assert p.returncode == 0 and not found['broke'] and not found['skipped'], (p.stdout[-1000:], found['broke'])
    assert list(found['facts']) == 'machine meters loading equality speed attention sampler shortage precisions experts'.split()
    assert all(c['ok'] is not False for c in found['checks']) and sum(c['ok'] is True for c in found['checks']) >= 13
    assert '| tiny, batch of 8 |' in p.stdout
