"""The rows of a group: their columns, and the form that each dtype has wherever rows are kept or sent.

`schema.RowSchema` says which columns there are; `forms` is the one table of dtypes; `polars_schema` puts the two
together for frames. What a row means, and who may see it, is decided elsewhere.
"""
