"""Text that shows what it is: characters that do not print, or that turn the text around them, are spelled out."""

from __future__ import annotations

import re

HIDDEN = re.compile("[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
"""Control characters except tab and line ends, which a page shows as space; marks and overrides of the direction of writing (Unicode
Bidirectional Algorithm, UAX 9, section 2); characters without width."""


def visible(text: str) -> str:
    r"""The text with each hidden character as its code.

    >>> print(visible("a\u202eb\x00"))
    a\u202eb\u0000
    """
    return HIDDEN.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
