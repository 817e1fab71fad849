"""Makes the demo corpus: `python data/demo_source/make.py` writes data/pdfs/*.pdf, data/metadata.csv, the questions data/demo_QA.csv (shape of WattBot
2025) and data/demo2026_QA.csv (WattBot 2026), and their evidence from the texts beside this file. The same input gives the same bytes. Needs reportlab, pyphen and pypdf (extra `dev`)."""
import csv, io, re, sys
from pathlib import Path

from reportlab import rl_config
from reportlab.graphics.charts.barcharts import VerticalBarChart
from reportlab.graphics.shapes import Drawing
from reportlab.lib import colors
from reportlab.lib.enums import TA_CENTER, TA_JUSTIFY
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import cm
from reportlab.platypus import BaseDocTemplate, Frame, FrameBreak, HRFlowable, KeepTogether, NextPageTemplate, PageTemplate, Paragraph, Spacer, Table, TableStyle

here = Path(__file__).resolve().parent
data = here.parent
sys.path.insert(0, str(here))
from papers_a import PAPERS as FIRST
from papers_b import PAPERS as SECOND
from questions import QUESTIONS
from questions2026 import QUESTIONS as QUESTIONS_2026

rl_config.invariant = 1 # no dates and random ids in the files
PAPERS = sorted(FIRST + SECOND, key=lambda p: p['id'])
REFUSAL = 'Unable to answer with confidence based on the provided documents.'
MARGIN, GAP = 2.3 * cm, .8 * cm

body = ParagraphStyle('body', fontName='Times-Roman', fontSize=12, leading=17, alignment=TA_JUSTIFY, spaceAfter=6, firstLineIndent=10, hyphenationLang='en_US',
                      hyphenationMinWordLength=6, embeddedHyphenation=1)
title = ParagraphStyle('title', fontName='Times-Bold', fontSize=17, leading=21, alignment=TA_CENTER, spaceAfter=8)
author = ParagraphStyle('author', fontName='Times-Italic', fontSize=11, leading=14, alignment=TA_CENTER, spaceAfter=10)
head = ParagraphStyle('head', fontName='Times-Bold', fontSize=12, leading=15, spaceBefore=8, spaceAfter=4, keepWithNext=1)
abstract = ParagraphStyle('abstract', parent=body, fontName='Times-Roman', fontSize=10, leading=12.5, leftIndent=14, rightIndent=14, firstLineIndent=0)
caption = ParagraphStyle('caption', fontName='Times-Italic', fontSize=9, leading=11, spaceBefore=3, spaceAfter=4)
note = ParagraphStyle('note', fontName='Times-Roman', fontSize=8.2, leading=10, spaceAfter=5)
reference = ParagraphStyle('reference', fontName='Times-Roman', fontSize=9, leading=11, leftIndent=12, firstLineIndent=-12, spaceAfter=2)
cell = ParagraphStyle('cell', fontName='Times-Roman', fontSize=9, leading=10.5)
cell_head = ParagraphStyle('cell_head', parent=cell, fontName='Times-Bold')


def table(item, width):
    _, cap, header, rows = item
    first = .40 if len(header) <= 3 else .31
    widths = [width * first] + [width * (1 - first) / (len(header) - 1)] * (len(header) - 1)
    t = Table([[Paragraph(h, cell_head) for h in header]] + [[Paragraph(c, cell) for c in r] for r in rows], colWidths=widths)
    t.setStyle(TableStyle([('LINEABOVE', (0, 0), (-1, 0), .8, colors.black), ('LINEBELOW', (0, 0), (-1, 0), .5, colors.black), ('LINEBELOW', (0, -1), (-1, -1), .8, colors.black),
                           ('TOPPADDING', (0, 0), (-1, -1), 2), ('BOTTOMPADDING', (0, 0), (-1, -1), 2), ('LEFTPADDING', (0, 0), (-1, -1), 2), ('VALIGN', (0, 0), (-1, -1), 'TOP')]))
    return KeepTogether([Paragraph(cap, caption), t, Spacer(1, 8)])


def bar_label(values): return lambda v: f'{v:,.2f}' if max(values) < 3 else f'{v:,.0f}' if float(v).is_integer() else f'{v:,.1f}'


def figure(item, width):
    _, cap, labels, values = item
    d = Drawing(width, 165)
    c = VerticalBarChart()
    c.x, c.y, c.width, c.height, c.data = 34, 22, width - 48, 126, [values]
    c.valueAxis.valueMin, c.valueAxis.labels.fontName, c.valueAxis.labels.fontSize = 0, 'Times-Roman', 8
    c.categoryAxis.categoryNames, c.categoryAxis.labels.fontName, c.categoryAxis.labels.fontSize = labels, 'Times-Roman', 8
    c.bars[0].fillColor, c.barLabels.fontName, c.barLabels.fontSize, c.barLabels.nudge = colors.Color(.35, .48, .62), 'Times-Roman', 8, 6
    c.barLabelFormat = bar_label(values)
    d.add(c)
    return KeepTogether([Spacer(1, 4), d, Paragraph(cap, caption), Spacer(1, 4)])


def build(p):
    out = io.BytesIO()
    w, h = A4
    inner = w - 2 * MARGIN
    col = inner if p['columns'] == 1 else (inner - GAP) / 2
    def furniture(canvas, doc):
        canvas.setFont('Times-Roman', 8.5)
        canvas.drawString(MARGIN, h - 1.2 * cm, f"{p['authors'].split(',')[0]} et al.: {p['title'][:70]}" if ',' in p['authors'] else f"{p['authors']}: {p['title'][:70]}")
        canvas.drawCentredString(w / 2, 1.1 * cm, str(doc.page))
    pad = dict(leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0)
    opening = [Paragraph(p['title'], title), Paragraph(p['authors'], author), Paragraph('Abstract', head), Paragraph(p['abstract'], abstract)]
    top = sum(x.wrap(inner, h)[1] + x.getSpaceBefore() + x.getSpaceAfter() for x in opening) + 8
    def frames(height):
        if p['columns'] == 1: return [Frame(MARGIN, MARGIN, inner, height, **pad)]
        return [Frame(MARGIN + i * (col + GAP), MARGIN, col, height, **pad) for i in (0, 1)]
    first = PageTemplate('first', [Frame(MARGIN, h - MARGIN - top, inner, top, **pad), *frames(h - 2 * MARGIN - top)], onPage=furniture)
    later = PageTemplate('later', frames(h - 2 * MARGIN), onPage=furniture)
    doc = BaseDocTemplate(out, pagesize=A4, pageTemplates=[first, later], title=p['title'], author=p['authors'])
    story = [NextPageTemplate('later'), *opening, FrameBreak()]
    for heading, items in p['sections']:
        story.append(Paragraph(heading, head))
        for item in items:
            if isinstance(item, str): story.append(Paragraph(item, body))
            elif item[0] == 'table': story.append(table(item, col))
            elif item[0] == 'figure': story.append(figure(item, min(col, 11 * cm)))
            else: story += [HRFlowable(width='30%', thickness=.4, hAlign='LEFT', spaceBefore=2, spaceAfter=2), Paragraph(f'<super>1</super> {item[1]}', note)]
    story += [Paragraph('References', head)] + [Paragraph(r, reference) for r in p['references']]
    doc.build(story)
    return out.getvalue()


def plain(text): return re.sub(r'[^a-z0-9]+', '', re.sub(r'-\s*\n\s*', '', text).lower())


def write(path, columns, rows, bom=False):
    out = io.StringIO(newline='')
    w = csv.writer(out, lineterminator='\n'); w.writerow(columns); w.writerows(rows)
    path.write_bytes(out.getvalue().encode('utf-8-sig' if bom else 'utf-8'))


FLAGS = dict(Q='Quote', T='Table', F='Figure', M='Math', C='CrossPaper', R='Reconcile')
BASE = ['id', 'question', 'answer', 'answer_value', 'answer_unit', 'ref_id', 'ref_url', 'supporting_materials', 'explanation']


def url(id_): return f'https://papers.example.org/{id_}.pdf'


def bar_text(paper, proof):
    "What a page says of a bar: all printed values, then all labels, in the order of the bars. Stops if the figure has no such bar."
    cap, label, value = proof.split(' | ')
    _, _, labels, values = next(x for p in PAPERS if p['id'] == paper for _, items in p['sections'] for x in items if not isinstance(x, str) and x[:2] == ('figure', cap))
    printed = [bar_label(values)(v) for v in values]
    if printed[labels.index(label)] != value: raise SystemExit(f'{paper}: {proof!r} is not in the figure')
    return ''.join(printed + labels)


def proof_text(paper, kind, proof):
    "The texts that one page of the paper must have."
    if kind == 'cell': return [proof.split(' | ')[0], proof.split(' | ')[-1]]
    return [proof.split(' | ')[0], bar_text(paper, proof)] if kind == 'bar' else [proof]


def question_rows(questions, prefix, flags, pages, split=True):
    "(rows of the question file, rows of its evidence). `flags`: the letters that the file has columns for; `split`: with the column Usage."
    rows, proofs = [], []
    for n, q in enumerate(questions, 1):
        id_, usage = f'{prefix}{n:03}', ['Private' if n % 3 == 0 else 'Public'] * split
        if len(q) == 5: # unanswerable
            rows.append((id_, q[0], REFUSAL, 'is_blank', q[4], 'is_blank', 'is_blank', 'is_blank', 'is_blank', *usage, *[0] * len(flags), 1)); continue
        text, answer, value, unit, refs, has, evidence, *formula = q
        refs = refs.split()
        for doc, kind, proof in evidence:
            on = [i for i, t in enumerate(pages[doc], 1) if all(plain(x) in t for x in proof_text(doc, kind, proof))]
            if not on: raise SystemExit(f'{id_}: {doc} does not say {proof!r}')
            proofs.append((id_, doc, on[0], kind, proof))
        support = '; '.join(f'"{t}"' if k == 'quote' else t for _, k, t in evidence)
        why = ', '.join(w for f, w in FLAGS.items() if f in has) + (f': {formula[0]}' if formula else '')
        rows.append((id_, text, answer, value, unit, str(refs).replace(' ', ''), str([url(r) for r in refs]).replace(' ', ''), support, why, *usage, *(int(f in has) for f in flags), 0))
    return rows, proofs


def main(dest=data):
    import pypdf
    (dest / 'pdfs').mkdir(parents=True, exist_ok=True)
    pages = {}
    for p in PAPERS:
        pdf = build(p)
        (dest / f"pdfs/{p['id']}.pdf").write_bytes(pdf)
        pages[p['id']] = [plain(x.extract_text()) for x in pypdf.PdfReader(io.BytesIO(pdf)).pages]
    write(dest / 'metadata.csv', ['id', 'type', 'title', 'year', 'citation', 'url'],
          [(p['id'], 'paper', p['title'], p['year'], f"{p['authors']}. ({p['year']}). {p['title']}. {url(p['id'])}", url(p['id'])) for p in PAPERS])
    for name, questions, prefix, flags, split in (('demo', QUESTIONS, 'd', 'QTFM', True), ('demo2026', QUESTIONS_2026, 'e', 'QTFMCR', False)):
        rows, proofs = question_rows(questions, prefix, flags, pages, split)
        write(dest / f'{name}_QA.csv', [*BASE, *['Usage'] * split, *(FLAGS[f] for f in flags), 'is_NA'], rows, bom=True)
        write(dest / f'{name}_evidence.csv', ['id', 'document_id', 'page', 'kind', 'evidence'], proofs)


if __name__ == '__main__': main()
