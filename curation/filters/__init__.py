"""One file per filter. A filter measures columns from pixels (in `annotate`), judges columns (in `select`),
or both.

A rule returns, for every row of a table, the reason to reject it, or null. It looks at columns only, and only
at those that `curation.columns` names.
"""
