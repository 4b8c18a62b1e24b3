"""The profiles that ship with the package, made again from their sources: ``python -m chipassay.runners.shipped``."""
