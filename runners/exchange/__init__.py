"""What `chipassay equate` answers: exchanges of several chips and models, told as text, tables, JSON and pictures."""
