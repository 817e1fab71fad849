"Packaging from settings.ini: metadata, extras, and the workspace files (data, notebooks) that `wattnb init` hands out."
import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
config = ConfigParser(delimiters=['='])
config.read(here / 'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']

extras = {k.removesuffix('_requirements'): v.split() for k, v in cfg.items() if k.endswith('_requirements')}
extras['all'] = sorted({r for name, reqs in extras.items() if name not in ('dev', 'docling', 'ocr', 'vision', 'amd', 'apple', 'mlflow', 'wandb', 'trackio') for r in reqs})


class build_with_workspace(build_py):
    "Copies the demo data and the notebooks to run and edit into the wheel as `wattnb/_workspace/`; they stay in one place in the repository."
    def run(self):
        super().run()
        dest = Path(self.build_lib) / 'wattnb/_workspace'
        files = ['data/metadata.csv', 'data/demo_QA.csv', 'data/demo2026_QA.csv', *sorted(p.relative_to(here) for p in (here / 'data/pdfs').glob('*.pdf') if self.shipped(p)),
                 'nbs/run_experiment.ipynb', 'nbs/report.ipynb', 'nbs/explore.ipynb']
        for f in map(Path, files):
            if (here / f).exists():
                (dest / f).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(here / f, dest / f)

    def shipped(self, pdf):
        "Only the demo's papers, never ones that a user fetched into the checkout."
        return f'!data/pdfs/{pdf.name}' in (here / '.gitignore').read_text().split()


setup(
    name=cfg['lib_name'], version=cfg['version'], license='Apache-2.0',
    description=cfg['description'], keywords=cfg['keywords'].split(), author=cfg['author'], author_email=cfg['author_email'],
    long_description=(here / 'README.md').read_text('utf-8') if (here / 'README.md').exists() else '',
    long_description_content_type='text/markdown', url=cfg['git_url'],
    packages=find_packages(include=['wattnb', 'wattnb.*']), include_package_data=False, package_data={'wattnb': ['*.toml', '*.csv', '*.json', '*.onnx', '*.css', '*.js', '*/*.toml', 'py.typed']},
    install_requires=cfg['requirements'].split(), extras_require=extras,
    python_requires=f">={cfg['min_python']}", zip_safe=False,
    entry_points={'console_scripts': cfg['console_scripts'].split(), 'nbdev': [f"{cfg['lib_name']}={cfg['lib_path']}._modidx:d"]},
    cmdclass={'build_py': build_with_workspace},
    classifiers=['Development Status :: 4 - Beta', 'Intended Audience :: Science/Research', 'Natural Language :: English',
                 *(f'Programming Language :: Python :: 3.{m}' for m in (11, 12, 13))],
)
