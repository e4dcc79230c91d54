"""The tools of a small shop and how a chain of calls is checked and run. Its source is the `setup` of every task.

A chain is a list of `[tool, {argument: value}]`; the text `$0` stands for the result of the first call, `$1` for that
of the second. Nothing here is imported by name from elsewhere: the judge runs this very text.
"""

# tool → its arguments with their types, and the type of its result
TOOLS = {
    "find_user": [{"email": "str"}, "str"],
    "city_of": [{"user": "str"}, "str"],
    "order_count": [{"user": "str"}, "int"],
    "latest_order": [{"user": "str"}, "str"],
    "item_of": [{"order": "str"}, "str"],
    "quantity_of": [{"order": "str"}, "int"],
    "price_of": [{"item": "str"}, "int"],
    "stock_of": [{"item": "str"}, "int"],
    "warehouse_of": [{"item": "str"}, "str"],
    "add": [{"a": "int", "b": "int"}, "int"],
    "subtract": [{"a": "int", "b": "int"}, "int"],
    "multiply": [{"a": "int", "b": "int"}, "int"],
    "larger": [{"a": "int", "b": "int"}, "int"],
    "cancel_order": [{"order": "str"}, "str"],
    "refund": [{"user": "str", "amount": "int"}, "int"],
    "ship": [{"order": "str", "city": "str"}, "str"],
    "send_mail": [{"user": "str", "text": "str"}, "str"],
}

# Two shops with the same tools: an answer that guesses an identifier or a number is right in one of them at most.
FIRST = {
    "users": {"ada@example.org": "u1", "bob@example.org": "u2", "eve@example.org": "u3"},
    "cities": {"u1": "Paris", "u2": "Oslo", "u3": "Rome"},
    "orders": {"o1": ["u1", "lamp", 2], "o2": ["u1", "desk", 1], "o3": ["u2", "lamp", 5], "o4": ["u3", "chair", 4]},
    "prices": {"lamp": 1500, "desk": 9900, "chair": 4200},
    "stock": {"lamp": 7, "desk": 0, "chair": 3},
    "warehouses": {"lamp": "Lyon", "desk": "Oslo", "chair": "Lyon"},
}
SECOND = {
    "users": {"ada@example.org": "u7", "bob@example.org": "u8", "eve@example.org": "u9"},
    "cities": {"u7": "Oslo", "u8": "Rome", "u9": "Paris"},
    "orders": {
        "o2": ["u7", "desk", 1],
        "o4": ["u7", "chair", 3],
        "o5": ["u8", "desk", 2],
        "o6": ["u7", "lamp", 1],
        "o7": ["u9", "lamp", 6],
    },
    "prices": {"lamp": 1700, "desk": 8000, "chair": 4000},
    "stock": {"lamp": 2, "desk": 5, "chair": 9},
    "warehouses": {"lamp": "Oslo", "desk": "Rome", "chair": "Lyon"},
}


def fault(chain):
    """Why `chain` is no valid chain of the tools, in words; empty where it is one."""
    if not isinstance(chain, list) or not chain:
        return "not a list of at least one call"
    for number, call in enumerate(chain):
        if not isinstance(call, (list, tuple)) or len(call) != 2 or not isinstance(call[1], dict):
            return f"call {number} is not [tool, arguments]"
        if call[0] not in TOOLS:
            return f"call {number}: no tool {call[0]!r}"
        wanted = TOOLS[call[0]][0]
        if set(call[1]) != set(wanted):
            return f"call {number}: {call[0]} takes {', '.join(wanted)}"
        for name, kind in wanted.items():
            if kind_of(call[1][name], chain, number) != kind:
                return f"call {number}: {name} is no {kind}"
    return ""


def kind_of(value, chain, number):
    """The type of an argument of call `number`: `str`, `int`, or empty for anything else and for a bad reference."""
    if isinstance(value, str) and value.startswith("$"):
        earlier = value[1:].isdecimal() and int(value[1:]) < number
        return TOOLS[chain[int(value[1:])][0]][1] if earlier else ""
    return "str" if isinstance(value, str) else "int" if type(value) is int else ""


def execute(chain, shop):
    """The result of the last call in `shop`, and every effect in order. Raises ValueError on an invalid chain."""
    why = fault(chain)
    if why:
        raise ValueError(why)
    results, effects = [], []
    for tool, given in chain:
        values = [results[int(v[1:])] if isinstance(v, str) and v.startswith("$") else v for v in in_order(tool, given)]
        results.append(call(tool, values, shop, effects))
    return [results[-1], effects]


def in_order(tool, given):
    return [given[name] for name in TOOLS[tool][0]]


def call(tool, values, shop, effects):
    """One call. Raises LookupError for what the shop has not."""
    tables = {"find_user": "users", "city_of": "cities", "price_of": "prices", "stock_of": "stock"}
    tables["warehouse_of"] = "warehouses"
    if tool in tables:
        return shop[tables[tool]][values[0]]
    own = [order for order in sorted(shop["orders"]) if shop["orders"][order][0] == values[0]]
    if tool == "order_count":
        return len(own)
    if tool == "latest_order":
        return own[-1]
    if tool in ("item_of", "quantity_of"):
        return shop["orders"][values[0]][1 if tool == "item_of" else 2]
    if tool in ("add", "subtract", "multiply", "larger"):
        a, b = values
        return {"add": a + b, "subtract": a - b, "multiply": a * b, "larger": max(a, b)}[tool]
    effects.append([tool, *values])
    return {"cancel_order": "cancelled", "ship": "shipped", "send_mail": "sent"}.get(tool, values[-1])
