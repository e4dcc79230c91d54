"""The style of the page: system type, one column, colours that only repeat what the words say."""

from __future__ import annotations

import base64
import hashlib

CSS = """
:root{color-scheme:light dark;--ink:#1c2024;--soft:#5b6470;--line:#dfe3e8;--page:#fff;--raised:#f6f7f9;--link:#0b57b0;
--good:#116329;--good-bg:#e3f4e7;--bad:#a40e1a;--bad-bg:#fdeaea;--broken:#7a1fa2;--broken-bg:#f6e9fb;
--wait:#7a4b00;--wait-bg:#fbf0dc;--none:#4a525c;--none-bg:#eceff2;--answer:#0b4a8f;--answer-bg:#e5effa;
--s0:#1f6fd1;--s1:#c2410c;--s2:#15803d;--s3:#9333ea;--s4:#0e7490;--s5:#be185d}
@media(prefers-color-scheme:dark){:root{--ink:#e3e6ea;--soft:#9aa4b0;--line:#333a43;--page:#14171a;--raised:#1c2025;--link:#7db4f5;
--good:#7fd896;--good-bg:#14301c;--bad:#ff9a97;--bad-bg:#3d1719;--broken:#dfa5f5;--broken-bg:#33193f;
--wait:#f0c274;--wait-bg:#352710;--none:#b4bcc6;--none-bg:#2a3037;--answer:#9cc7f7;--answer-bg:#152c47;
--s0:#6aa9f4;--s1:#f59e5b;--s2:#5cc97c;--s3:#c79bf7;--s4:#5cc3d8;--s5:#f286b4}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:64rem;padding:2.5rem 1.25rem 4rem;background:var(--page);color:var(--ink);
font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;overflow-wrap:break-word}
h1{font-size:1.75rem;line-height:1.25;font-weight:650;letter-spacing:-.01em;margin:.25rem 0 1rem}
h2{font-size:1.125rem;font-weight:650;margin:2.75rem 0 .5rem}
p{margin:.35rem 0}
a{color:var(--link);text-underline-offset:.15em}
code{font:.8125rem/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.soft,.kicker{color:var(--soft)}
.kicker{font-size:.875rem;margin:0}
.counts{list-style:none;display:flex;flex-wrap:wrap;gap:.5rem;margin:.5rem 0;padding:0}
.v{display:inline-flex;align-items:baseline;gap:.4em;white-space:nowrap;border-radius:.3rem;padding:.1rem .5rem;
font-size:.8125rem;font-weight:650;letter-spacing:.015em}
.good{color:var(--good);background:var(--good-bg)}.bad{color:var(--bad);background:var(--bad-bg)}
.broken{color:var(--broken);background:var(--broken-bg)}.wait{color:var(--wait);background:var(--wait-bg)}
.none{color:var(--none);background:var(--none-bg)}.answer{color:var(--answer);background:var(--answer-bg)}
table{width:100%;border-collapse:collapse;margin:.75rem 0}
th{text-align:left;font-size:.8125rem;font-weight:600;color:var(--soft);padding:.35rem .75rem .35rem 0}
td{vertical-align:top;padding:.6rem .75rem .6rem 0;border-top:1px solid var(--line)}
td:first-child{width:10.5rem}
td.figures{width:19rem;padding-right:0}
td p:first-child{margin-top:0}
.figures{font-variant-numeric:tabular-nums;font-size:.9375rem}
.figures p{margin:0}
.why{color:var(--soft);font-size:.9375rem}
.note{border-left:3px solid var(--answer);padding:.1rem 0 .1rem .85rem;margin:.85rem 0;max-width:44rem}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1.5rem}
.chart{margin:.5rem 0;min-width:0}
.chart figcaption{font-weight:600}
.chart svg{display:block;width:100%;height:auto}
.chart text{fill:var(--soft);font-size:12px;font-family:inherit;font-variant-numeric:tabular-nums}
.chart ul{list-style:none;display:flex;flex-wrap:wrap;gap:.15rem 1.25rem;margin:.35rem 0 0;padding:0;font-size:.875rem}
.chart .figures{color:var(--soft);font-size:.875rem}
.chart svg.swatch{display:inline-block;width:24px;height:8px;margin-right:.5rem;vertical-align:middle}
.grid{stroke:var(--line);fill:none}
.line{fill:none;stroke-width:1.75;stroke-linejoin:round}
.dot{stroke:none}
.s0{stroke:var(--s0)}.s1{stroke:var(--s1);stroke-dasharray:6 3}.s2{stroke:var(--s2);stroke-dasharray:2 3}
.s3{stroke:var(--s3);stroke-dasharray:9 3 2 3}.s4{stroke:var(--s4);stroke-dasharray:12 4}
.s5{stroke:var(--s5);stroke-dasharray:4 2 1 2}
.dot.s0{fill:var(--s0)}.dot.s1{fill:var(--s1)}.dot.s2{fill:var(--s2)}
.dot.s3{fill:var(--s3)}.dot.s4{fill:var(--s4)}.dot.s5{fill:var(--s5)}
details{border-top:1px solid var(--line)}
details:last-of-type{border-bottom:1px solid var(--line)}
summary{cursor:pointer;padding:.6rem 0}
summary .v{margin-right:.5rem}
.body{padding:0 0 1rem 1.1rem;scroll-margin-top:4rem}
dl{display:grid;grid-template-columns:minmax(7rem,max-content) minmax(0,1fr);
gap:.2rem 1.25rem;margin:.5rem 0;font-size:.9375rem}
dt{color:var(--soft)}
dd{margin:0;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
@media(max-width:44rem){body{padding-top:1.25rem}h1{font-size:1.4rem}thead{display:none}
table,tbody,tr,td,td:first-child,td.figures{display:block;width:auto}
tr{border-top:1px solid var(--line);padding:.7rem 0}td{border:0;padding:.15rem 0}
dl{grid-template-columns:minmax(0,1fr);gap:0}dd{margin-bottom:.45rem}.body{padding-left:0}}
@media print{body{max-width:none}a{color:inherit}}
""".strip()

HASH = "sha256-" + base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src '{HASH}'; base-uri 'none'; form-action 'none'"
"""Only this very style is allowed; scripts, images, fonts, frames and requests are not."""
