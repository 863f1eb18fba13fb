"""The style of a report: light and dark, wide and narrow."""

STYLE = """
:root{--ink:#1b2430;--soft:#5b6675;--paper:#fbfbf9;--line:#d9dde3;--limit:#b4400e;--run:#1f6fb2;
--wait:#7a5195;--good:#2b7a4b;--gold:#8a6d00}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#a3adba;--paper:#14181d;--line:#323a45;
--limit:#ff9d66;--run:#6cb6f5;--wait:#c9a3e6;--good:#74cf98;--gold:#e0c050}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .4rem}
h3{font-size:1rem;margin:1.4rem 0 .2rem;overflow-wrap:anywhere}
p{margin:.3rem 0}
.facts,.remark{color:var(--soft);font-size:.85rem;overflow-wrap:anywhere}
.finding{font-size:1.15rem;border-left:4px solid var(--run);padding:.2rem 0 .2rem .8rem;
margin:1rem 0}
svg{width:100%;height:auto;display:block}
svg text{font:11px system-ui,sans-serif;fill:var(--soft)}
@media(max-width:40rem){svg text{font-size:20px}}
.grid{stroke:var(--line);stroke-width:1}
.line{fill:none;stroke:currentColor;stroke-width:1.6;stroke-linejoin:round}
.area{fill:currentColor;opacity:.15;stroke:none}
.limit,.step2{color:var(--limit)}.running,.step0{color:var(--run)}
.waiting,.step1{color:var(--wait)}.step3{color:var(--good)}.step4{color:var(--gold)}
.line.waiting{stroke-dasharray:5 3}
.line.step1{stroke-dasharray:7 3}.line.step2{stroke-dasharray:2 3}
.line.step3{stroke-dasharray:9 3 2 3}.line.step4{stroke-dasharray:1 2}
.mark{fill:var(--paper);stroke:var(--limit);stroke-width:1.5}
.legend{font-size:.85rem}.legend span{margin-right:1rem}
.legend span::before{content:"";display:inline-block;width:1.1em;height:.25em;margin:0 .4em .2em 0;
background:currentColor}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.85rem;margin:.4rem 0;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft)}
th,td{text-align:left;padding:.15rem .8rem .15rem 0;border-bottom:1px solid var(--line);
vertical-align:top}
th{font-weight:600}summary{cursor:pointer}
"""
"""CSS. Curves differ by their dashes as well as by their colours."""
