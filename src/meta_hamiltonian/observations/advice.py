"""What errors of files advise to type, for `train.py` too."""

import re

# An option that such an error advises to give, such as `--columns 'q=angle (deg)'`.
_OPTION = re.compile(r"--(columns|units) ('[^'=]+=[^']*'|[^\s;,:=]+=[^\s;,:]+(?:,[^\s;,:]+)*)")


def in_keys(advice: str) -> str:
    """Advice to give an option of commands that read one system, as the key that says the same of a family."""

    def key(match: re.Match[str]) -> str:
        said = [one.partition("=") for one in match[2].strip("'").split(",")]
        values = (f"{name}: {value}" if value.isalnum() else f'{name}: "{value}"' for name, _, value in said)
        return f"data.{match[1]}='{{{', '.join(values)}}}'"

    return _OPTION.sub(key, advice).replace("--columns", "data.columns").replace("--units", "data.units")
