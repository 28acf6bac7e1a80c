"""`VisRAGTranslator`: what a `SelfQueryRetriever` understood of a question, as a filter of this library."""

from __future__ import annotations

from typing import Any

from langchain_core.structured_query import Comparator, Comparison, Operation, Operator, StructuredQuery, Visitor

from visrag_integrations.errors import FilterError

_OPERATORS = {
    Comparator.EQ: "eq",
    Comparator.NE: "ne",
    Comparator.GT: "gt",
    Comparator.GTE: "gte",
    Comparator.LT: "lt",
    Comparator.LTE: "lte",
    Comparator.IN: "in",
    Comparator.NIN: "nin",
    Comparator.CONTAIN: "eq",  # a field that is a list has the value if one of its entries is
}


class VisRAGTranslator(Visitor):
    """The structured query of a `SelfQueryRetriever`, for `VisRAGVectorStore`.

    >>> SelfQueryRetriever.from_llm(llm, store, "pages", fields, structured_query_translator=VisRAGTranslator())
    ... # doctest: +SKIP
    """

    allowed_comparators = tuple(_OPERATORS)
    allowed_operators = (Operator.AND, Operator.OR, Operator.NOT)

    def visit_operation(self, operation: Operation) -> dict[str, Any]:
        """Several conditions together.

        >>> both = [Comparison(Comparator.EQ, "org", "a"), Comparison(Comparator.GTE, "year", 2020)]
        >>> VisRAGTranslator().visit_operation(Operation(Operator.AND, both))
        {'$and': [{'org': {'eq': 'a'}}, {'year': {'gte': 2020}}]}
        """
        self._validate_func(operation.operator)
        parts = [argument.accept(self) for argument in operation.arguments]
        if operation.operator == Operator.OR:
            return {"$or": parts}
        if operation.operator == Operator.AND:
            return {"$and": parts}
        # Not: of several arguments, all of them.
        return {"$not": parts[0] if len(parts) == 1 else {"$and": parts}}

    def visit_comparison(self, comparison: Comparison) -> dict[str, Any]:
        """One condition on one key."""
        self._validate_func(comparison.comparator)
        value = comparison.value
        if isinstance(value, dict) and set(value) >= {"date", "type"}:
            value = value["date"]  # {"date": "2024-05-31", "type": "date"}, as LangChain writes dates
        elif isinstance(value, dict) and set(value) >= {"datetime", "type"}:
            value = value["datetime"]
        if isinstance(value, dict):
            raise FilterError(f"The value {value!r} for {comparison.attribute!r} is none that a filter can have.")
        # Models that know langchain-qdrant write "metadata.year".
        attribute = comparison.attribute.removeprefix("metadata.")
        return {attribute: {_OPERATORS[comparison.comparator]: value}}

    def visit_structured_query(self, structured_query: StructuredQuery) -> tuple[str, dict[str, Any]]:
        """The text that is searched, and the arguments of the search."""
        if structured_query.filter is None:
            return structured_query.query, {}
        return structured_query.query, {"filter": structured_query.filter.accept(self)}
