#!/usr/bin/env bash
# typer 0.29.2 depends on pydantic, 0.28.0 did not. `import typer` does not show it: 139 and 142 modules are there after it. The first
# option that is parsed imports pydantic, 115 modules more, some compiled, whatever the option's type: a command that does
# nothing took 0.14 CPU s with 0.29.2 and 0.06 with 0.28.0. Who keeps an eye on how fast a command starts measures
# a parsed command, not the import.
#
# Seen on 2026-11-27, Python 3.11. It exits with 1 where 0.28.0 imports pydantic or 0.29.2 does not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/app.py" <<'PYTHON'
import sys
import time

import typer

imported = len(sys.modules)


def main(loud: bool = False) -> None:
    pass


app = typer.Typer(add_completion=False)
app.command()(main)
app([], standalone_mode=False)
print(imported, len(sys.modules), "pydantic" in sys.modules, f"{time.process_time():.3f}")
PYTHON
status=0
for version in 0.28.0 0.29.2; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -q "typer==$version" 'rich==15.0.0'
    "$folder/$version/bin/python" "$folder/app.py" > /dev/null  # makes the bytecode
    read -r imported parsed pydantic seconds < <("$folder/$version/bin/python" "$folder/app.py")
    echo "typer $version: $imported modules after the import, $parsed after parsing, pydantic: $pydantic, $seconds CPU s in all"
    [ "$version $pydantic" = "0.28.0 False" ] || [ "$version $pydantic" = "0.29.2 True" ] || status=1
done
exit $status
