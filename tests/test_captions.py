"Figures described by a vision model: asked once, kept in the paper's JSON, found by the index; a model that fails costs no paper."
import io, os

os.environ.setdefault('WATTNB_PROGRESS', '0')
import pytest

from wattnb.captions import caption_figures
from wattnb.corpus import build_corpus, load_document
from wattnb.index import build_index, open_index
from wattnb.testing import FakeServer, environment
from wattnb.workspace import UserError, Workspace


@pytest.fixture
def ws(tmp_path):
    "One paper of text with a picture on its page."
    canvas, image = pytest.importorskip('reportlab.pdfgen.canvas'), pytest.importorskip('PIL.Image')
    from reportlab.lib.utils import ImageReader
    ws = Workspace(tmp_path); ws.pdfs.mkdir(parents=True)
    raw = io.BytesIO(); image.new('RGB', (200, 120), 'navy').save(raw, 'PNG')
    c = canvas.Canvas(str(ws.pdfs / 'lee2030.pdf'))
    for k in range(20): c.drawString(72, 780 - 15 * k, f'Line {k} of a paper that says little about the energy of its chart.')
    c.drawImage(ImageReader(raw), 72, 200); c.save()
    ws.metadata.write_text('id,title,url\nlee2030,A chart,\n')
    ws.models_toml.write_text("[model.eye]\nprovider = 'openai'\nid = 'eye-1'\n")
    return ws


def test_a_figure_is_described_once_and_found(ws):
    with FakeServer('A bar chart of the turbine park. The tallest bar stands at 731 MWh.') as server, environment(OPENAI_API_KEY='k', **server.env()):
        corpus = build_corpus(ws)
        r = caption_figures(ws, 'eye', list(corpus.ok))
        assert (r.described, r.known, r.failed) == (1, 0, [])
        text, picture = server.bodies[-1]['messages'][-1]['content']
        assert text['type'] == 'text' and picture['image_url']['url'].startswith('data:image/jpeg;base64,')
        calls = server.calls
        assert caption_figures(ws, 'eye', list(corpus.ok)).known == 1 and server.calls == calls, 'nothing is paid for twice'
    p = load_document(ws.corpus / 'lee2030.json').paragraphs[-1]
    assert p.is_image and p.metadata['caption_source'] == 'vision_model' and p.metadata['image_storage_key'] == 'img:lee2030:p1:i1' and '731 MWh' in p.text
    assert build_corpus(ws).parsed == 0, 'the description stays'
    build_index(ws, embedder='none')
    ix = open_index(ws, 'none')
    assert '731 MWh' in ix.passages[int(ix.lexical(['tallest bar of the turbine park'])[0].argmax())].text


def test_a_picture_that_fails_is_a_line(ws):
    with FakeServer('', errors={400: {'error': {'message': 'no pictures here'}}}) as server, environment(OPENAI_API_KEY='k', **server.env()):
        r = caption_figures(ws, 'eye', list(build_corpus(ws).ok))
    assert r.described == 0 and [f['id'] for f in r.failed] == ['lee2030:p1:i1'] and 'no caption' in r.failed[0]['reason']


def test_a_model_that_cannot_see_is_one_line(ws):
    with pytest.raises(UserError, match='cannot be shown pictures'): caption_figures(ws, 'extractive', ['lee2030'])
