"""The report: rows and a profile become one HTML page that opens anywhere. Needs the extra ``report`` only when it is written."""

from .page import write_report
from .summary import Card, Input, Summary

__all__ = ["Card", "Input", "Summary", "write_report"]
