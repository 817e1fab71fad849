"The direction of the imports: a package imports only from packages before it, a module only from modules before it in its package."
import ast, importlib, re, sys
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
ORDER = ['core', 'index', 'retrieval', 'llm', 'telemetry', 'scoring', 'experiment', 'benchmark', 'ensemble', 'compare', 'plots', 'legacy', 'cli', 'testing']
bare = lambda name: re.sub(r'^\d+_', '', name)
NOTEBOOKS = {(bare(p.parent.name), bare(p.stem)): p for p in sorted((root / 'nbs').glob('*/*.ipynb')) if '#| default_exp' in p.read_text('utf-8')}
MODULES = [m for package in ORDER for m in NOTEBOOKS if m[0] == package]


def imported(package, module):
    "(package, module) of every import of the library in a module, those inside functions too."
    for n in ast.walk(ast.parse((root / f'wattnb/{package}/{module}.py').read_text('utf-8'))):
        if isinstance(n, ast.ImportFrom) and (n.level or (n.module or '').startswith('wattnb.')):
            parts = ((package if n.level == 1 else '') + '.' + (n.module or '').removeprefix('wattnb.')).strip('.').split('.')
            yield from [parts] if len(parts) > 1 else [[*parts, a.name] for a in n.names]


@pytest.mark.parametrize('package, module', MODULES)
def test_imports_lead_backwards(package, module):
    at = MODULES.index((package, module))
    for other in map(tuple, imported(package, module)):
        if other in MODULES: assert MODULES.index(other) < at, f'{package}.{module} imports {".".join(other)}, which comes after it'
        elif other[0] in ORDER: pytest.fail(f'{package}.{module} imports {".".join(other)}: name the module')


def test_the_path_of_a_module_is_the_path_of_its_notebook():
    assert {m[0] for m in NOTEBOOKS} == set(ORDER)
    written = {(p.parent.name, p.stem) for p in (root / 'wattnb').glob('*/*.py') if not p.stem.startswith('__')}
    assert written == set(NOTEBOOKS)
    for (package, module), p in NOTEBOOKS.items(): assert f'nbs/{p.parent.name}/{p.name}' in (root / f'wattnb/{package}/{module}.py').read_text('utf-8')


@pytest.mark.parametrize('package', ORDER)
def test_faces_offer_every_public_name_once(package):
    "A name of one module neither hides another module of its package nor the same name of another."
    face, owner = importlib.import_module(f'wattnb.{package}'), {}
    for p, m in MODULES:
        if p != package or (package, m) == ('cli', 'explorer'): continue
        module = importlib.import_module(f'wattnb.{p}.{m}')
        assert getattr(face, m) is module, f'a public name of {package} hides its module {m}'
        for name in module.__all__:
            assert getattr(face, name) is getattr(module, name), f'{package}.{name}: {m} and {owner.get(name)}'
            owner[name] = m


@pytest.mark.parametrize('old, names', [
    ('local', 'Loaded LocalModel Weights _gpus bytes_per_token encode_prompt load_local weights_need'),
    ('machine', 'Gpu nvml visible_gpus'), ('meters', 'NvmlCounter NvmlPower Rapl'), ('scripted', 'ScriptedGpu scripted_nvml')])
def test_modules_of_the_first_version(old, names):
    "Scripts that were written for the flat layout find the module and its names, and can replace them there."
    module = importlib.import_module(f'wattnb.{old}')
    assert not [n for n in names.split() if not hasattr(module, n)]
    assert module is sys.modules[module.__name__]
