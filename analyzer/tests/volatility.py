#!/usr/bin/env python3
"""Loads a symbol table (ISF) with Volatility 3, validation against its schema included, and prints what it sees as JSON.

    volatility.py TABLE
"""
import json
import sys
from pathlib import Path

import jsonschema  # Volatility skips the validation silently where this is missing
from volatility3.framework import contexts
from volatility3.framework.symbols import intermed

url = Path(sys.argv[1]).resolve().as_uri()
table = intermed.IntermediateSymbolTable(contexts.Context(), "", "table", url, validate=True)
types = {}
for name in table.types:
    template = table.get_type(name)
    if "members" in template.vol:
        members = {member: template.relative_child_offset(member) for member in template.vol.members}
        types[name] = {"size": template.size, "members": members}
print(json.dumps({
    "types": types,
    "enums": {name: table.get_enumeration(name).vol.choices for name in table.enumerations},
    "symbols": {name: table.get_symbol(name).address for name in table.symbols},
}))
