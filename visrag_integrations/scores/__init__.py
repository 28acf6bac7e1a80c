"""How well a page fits a query: `exact` (cosine, MaxSim), `lexical` (BM25), `patches` (which parts of a page fit).

`shown` writes a score for people.
"""
