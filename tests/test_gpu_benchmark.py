"The logic of `benchmarks/gpu.py` without a GPU: every part runs, and nothing that can be told on a CPU fails."
import json, subprocess, sys
from pathlib import Path

root = Path(__file__).resolve().parents[1]


def test_the_gpu_benchmark_runs_tiny(tmp_path):
    p = subprocess.run([sys.executable, root / 'benchmarks/gpu.py', '--tiny', '--out', tmp_path / 'gpu.json'], capture_output=True, text=True, timeout=600)
    found = json.loads((tmp_path / 'gpu.json').read_text())
    assert p.returncode == 0 and not found['broke'] and not found['skipped'], (p.stdout[-1000:], found['broke'])
    assert list(found['facts']) == 'machine meters loading equality speed attention sampler shortage precisions experts engines'.split()
    assert all(c['ok'] is not False for c in found['checks']) and sum(c['ok'] is True for c in found['checks']) >= 13
    assert '| tiny, batch of 8 |' in p.stdout


def test_a_part_that_takes_too_long_is_stopped(tmp_path):
    "And keeps what the parts before it found. The shape is one of the registry."
    code = f"""
import sys, time; sys.argv = ['gpu.py', '--tiny', '--only', 'machine,meters', '--out', {str(tmp_path / 'gpu.json')!r}]; sys.path.insert(0, {str(root / 'benchmarks')!r})
import gpu
gpu.SECONDS['meters'] = .5
assert gpu.shape_of(gpu.REGISTRY['qwen7b'])['num_hidden_layers'] == 28 # what --shape takes
sys.exit(gpu.main())"""
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=300)
    found = json.loads((tmp_path / 'gpu.json').read_text())
    assert p.returncode == 0 and found['skipped'] == dict(meters='stopped after 2 s') and list(found['facts']) == ['machine'], (found['skipped'], p.stderr[-800:])
