"""Find a text in a column, exactly: LIKE takes letters of either case for equal in one database and not in another."""

from typing import Any

from sqlalchemy import Integer
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class position(FunctionElement[int]):
    """`position(text, part)`: where a part begins in a text, from 1 on; 0 when it is not there."""

    type = Integer()
    inherit_cache = True


@compiles(position)
def _in_sql(element: position, compiler: Any, **options: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **options)})"


@compiles(position, "sqlite")
def _in_sqlite(element: position, compiler: Any, **options: Any) -> str:
    return f"instr({compiler.process(element.clauses, **options)})"
