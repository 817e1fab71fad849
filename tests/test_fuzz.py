"""Mutated journals, question files, replies, corpus documents and PDFs, with fixed seeds (`benchmarks/fuzz.py` runs for an hour)."""
import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location('fuzz_benchmark', Path(__file__).resolve().parents[1] / 'benchmarks/fuzz.py')
fuzz = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fuzz)
COUNT = dict(journals=150, questions_files=600, replies=4000, documents=120, pdfs=80)


@pytest.fixture(scope='module')
def kinds(tmp_path_factory): return fuzz.Kinds(tmp_path_factory.mktemp('fuzz'))


@pytest.mark.parametrize('name', fuzz.NAMES)
def test_mutated_inputs_end_with_a_result_or_one_line(kinds, name):
    ends, wrong = [], []
    for n in range(COUNT[name]):
        how, why = fuzz.tried(kinds, name, f'test-{n}')
        ends.append(how)
        if why and not why.endswith(' s'): wrong.append((n, why)) # a slow moment of the machine is for the benchmark to see
    assert not wrong, wrong[:3]
    assert 'taken' in ends, 'no mutated input was read: the mutations are too coarse'
